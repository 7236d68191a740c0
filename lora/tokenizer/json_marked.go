package tokenizer

import "fmt"

// jsonMarked finishes a tokenizer whose vocabulary was SentencePiece's: spaces are U+2581 and characters without a token become
// their bytes' tokens. How a file says so differs between models: Llama 2 normalises by Prepend and Replace, Gemma by Replace
// alone, newer conversions have the pre-tokenizer Metaspace.
func (t *Tokenizer) jsonMarked(f jsonFile) error {
	prefix, marks := false, false
	steps, _, err := jsonSteps(f.Normalizer, "normalizer")
	if err != nil {
		return err
	}
	for i, s := range steps {
		switch {
		case s.Type == "Prepend" && s.Prepend == spaceMark && !marks:
			prefix = true
		case s.Type == "Replace" && s.Pattern.String != nil && *s.Pattern.String == " " && s.Content == spaceMark:
			marks = true
		default:
			return fmt.Errorf("normalizer: step %d, %.40q, is not supported with byte_fallback (known: Prepend of U+2581, Replace of a space by U+2581)", i, s.Type)
		}
	}
	if steps, _, err = jsonSteps(f.PreTokenizer, "pre_tokenizer"); err != nil {
		return err
	}
	for i, s := range steps {
		switch {
		case s.Type == "Metaspace" && s.Replacement == spaceMark && !marks && s.Split != nil && !*s.Split:
			switch s.PrependScheme {
			case "always", "first":
				prefix = true
			case "never":
			default:
				return fmt.Errorf("pre_tokenizer: prepend_scheme %.40q is not supported (known: always, first, never)", s.PrependScheme)
			}
			marks = true
		case s.Type == "Split" && marks && s.Pattern.String != nil && *s.Pattern.String == " ": // there are no spaces any more
		default:
			return fmt.Errorf("pre_tokenizer: step %d, %.40q, is not supported with byte_fallback (known: Metaspace that does not split, Split by a space)", i, s.Type)
		}
	}
	if !marks {
		return fmt.Errorf("normalizer: with byte_fallback a Replace of a space by U+2581 is wanted")
	}
	if steps, _, err = jsonSteps(f.Decoder, "decoder"); err != nil {
		return err
	}
	for i, s := range steps {
		switch s.Type {
		case "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace": // Strip takes a text's first space, which Decode keeps
		default:
			return fmt.Errorf("decoder: step %d, %.40q, is not supported with byte_fallback", i, s.Type)
		}
	}
	t.meta = t.newMarked(prefix, func(id int) bool { return t.kinds[id] == 0 })
	return t.jsonPost(f.PostProcessor)
}
