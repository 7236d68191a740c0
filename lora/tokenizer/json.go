package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxJSON bounds a tokenizer.json; those of 250,000-token vocabularies take 35 MB.
const maxJSON = 64 << 20

// FromJSON reads a Hugging Face tokenizer.json holding a byte-level BPE model, or one that SentencePiece's was made into
// (byte_fallback, spaces as U+2581). What it holds beyond the families that the package knows is refused with
// an error that names the field; name stands for the file in errors.
//
// The file does not say which tokens begin and end a text, but for a post_processor
// that adds them: those are BOS, EOS, AddBOS and AddEOS. Else they are None; look
// the names in tokenizer_config.json up with ID.
func FromJSON(name string, data []byte) (*Tokenizer, error) {
	t, err := fromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

type jsonFile struct {
	AddedTokens   []jsonAdded     `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         *jsonModel      `json:"model"`
}

type jsonAdded struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type jsonModel struct {
	Type         string           `json:"type"`
	Dropout      *float64         `json:"dropout"`
	Unknown      *string          `json:"unk_token"`
	Prefix       *string          `json:"continuing_subword_prefix"`
	Suffix       *string          `json:"end_of_word_suffix"`
	FuseUnknown  bool             `json:"fuse_unk"`
	ByteFallback bool             `json:"byte_fallback"`
	IgnoreMerges bool             `json:"ignore_merges"`
	Vocab        map[string]int64 `json:"vocab"`
	Merges       json.RawMessage  `json:"merges"`
}

// jsonStep is a normalizer, pre-tokenizer or post-processor: the fields of those that are known.
type jsonStep struct {
	Type             string            `json:"type"`
	Normalizers      []json.RawMessage `json:"normalizers"`
	PreTokenizers    []json.RawMessage `json:"pretokenizers"`
	Processors       []json.RawMessage `json:"processors"`
	IndividualDigits bool              `json:"individual_digits"`
	AddPrefixSpace   *bool             `json:"add_prefix_space"`
	UseRegex         *bool             `json:"use_regex"`
	Behavior         string            `json:"behavior"`
	Invert           bool              `json:"invert"`
	Pattern          struct{ Regex, String *string }
	Content          string            `json:"content"`
	Prepend          string            `json:"prepend"`
	Replacement      string            `json:"replacement"`
	PrependScheme    string            `json:"prepend_scheme"`
	Split            *bool             `json:"split"`
	Start            int               `json:"start"`
	Stop             int               `json:"stop"`
	Decoders         []json.RawMessage `json:"decoders"`
	Single           []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		}
		Sequence *struct{}
	} `json:"single"`
}

func fromJSON(data []byte) (*Tokenizer, error) {
	if len(data) > maxJSON {
		return nil, fmt.Errorf("%d bytes, at most %d", len(data), maxJSON)
	}
	var f jsonFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, jsonError(err)
	}
	m := f.Model
	switch {
	case m == nil:
		return nil, errors.New("model: missing")
	case m.Type != "BPE" && m.Type != "":
		return nil, fmt.Errorf("model.type: %.40q is not supported (known: BPE)", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, errors.New("model.dropout: not supported")
	case m.Prefix != nil && *m.Prefix != "":
		return nil, errors.New("model.continuing_subword_prefix: not supported")
	case m.Suffix != nil && *m.Suffix != "":
		return nil, errors.New("model.end_of_word_suffix: not supported")
	case m.Unknown != nil && *m.Unknown != "" && m.FuseUnknown && !m.ByteFallback:
		return nil, errors.New("model.fuse_unk: not supported")
	}
	tokens, err := jsonTokens(m.Vocab, f.AddedTokens)
	if err != nil {
		return nil, err
	}
	t, err := newTokenizer(tokens, "model.vocab")
	if err != nil {
		return nil, err
	}
	if err := t.jsonMerges(m.Merges); err != nil {
		return nil, err
	}
	t.ignore = m.IgnoreMerges
	if m.Unknown != nil && *m.Unknown != "" {
		id, ok := t.ids[*m.Unknown]
		if !ok {
			return nil, fmt.Errorf("model.unk_token: %.60q is not in the vocabulary", *m.Unknown)
		}
		t.unknown = id
	}
	for i, a := range f.AddedTokens {
		field := ""
		switch {
		case a.Content == "":
			continue // as Hugging Face does
		case a.SingleWord:
			field = "single_word"
		case a.LStrip:
			field = "lstrip"
		case a.RStrip:
			field = "rstrip"
		}
		if field != "" {
			return nil, fmt.Errorf("added_tokens[%d].%s: not supported", i, field)
		}
		if err := t.addToken(int32(a.ID), a.Content, a.Special, a.Normalized); err != nil {
			return nil, fmt.Errorf("added_tokens[%d]: %w", i, err)
		}
	}
	if m.ByteFallback {
		return t, t.jsonMarked(f)
	}
	if t.nfc, err = jsonNormalizer(f.Normalizer); err != nil {
		return nil, err
	}
	if t.nfc {
		// Hugging Face looks for the normalised form of these tokens in normalised text.
		t.norm = added{}
		for _, a := range f.AddedTokens {
			if a.Normalized && a.Content != "" {
				t.norm.insert(nfc(a.Content), int32(a.ID))
			}
		}
	}
	if t.pre, err = jsonPre(f.PreTokenizer); err != nil {
		return nil, err
	}
	if !isNull(f.Decoder) {
		s, err := step(f.Decoder, "decoder")
		if err != nil {
			return nil, err
		}
		if s.Type != "ByteLevel" {
			return nil, fmt.Errorf("decoder.type: %.40q is not supported (known: ByteLevel)", s.Type)
		}
	}
	return t, t.jsonPost(f.PostProcessor)
}

// jsonError adds the offset that encoding/json knows.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("offset %d: %w", syntax.Offset, err)
	case errors.As(err, &typ):
		return fmt.Errorf("%s: offset %d: %w", typ.Field, typ.Offset, err)
	}
	return err
}

// jsonTokens lists the tokens by id.
func jsonTokens(vocab map[string]int64, extra []jsonAdded) ([]string, error) {
	n := int64(0)
	check := func(field string, id int64) error {
		if id < 0 || id >= maxVocab {
			return fmt.Errorf("%s: id %d is outside 0..%d", field, id, maxVocab-1)
		}
		n = max(n, id+1)
		return nil
	}
	for text, id := range vocab {
		if err := check(fmt.Sprintf("model.vocab[%.60q]", text), id); err != nil {
			return nil, err
		}
	}
	for i, a := range extra {
		if err := check(fmt.Sprintf("added_tokens[%d].id", i), a.ID); err != nil {
			return nil, err
		}
	}
	tokens := make([]string, n)
	for text, id := range vocab {
		if tokens[id] != "" {
			return nil, fmt.Errorf("model.vocab[%.60q]: id %d is taken by %.60q", text, id, tokens[id])
		}
		tokens[id] = text
	}
	for i, a := range extra {
		if old := tokens[a.ID]; old != "" && old != a.Content {
			return nil, fmt.Errorf("added_tokens[%d].id: %d is taken by %.60q", i, a.ID, old)
		}
		tokens[a.ID] = a.Content
	}
	return tokens, nil
}

// jsonMerges reads both spellings of merges: "left right" and ["left", "right"].
func (t *Tokenizer) jsonMerges(raw json.RawMessage) error {
	t.merges = map[uint64]merge{}
	if isNull(raw) {
		return nil
	}
	var pairs [][]string
	if json.Unmarshal(raw, &pairs) != nil {
		var lines []string
		if err := json.Unmarshal(raw, &lines); err != nil {
			return errors.New(`model.merges: want a list of "left right" or of ["left", "right"]`)
		}
		pairs = make([][]string, len(lines))
		for i, s := range lines {
			left, right, ok := splitMerge(s)
			if !ok {
				return fmt.Errorf("model.merges[%d]: %.60q is not two tokens with a space between", i, s)
			}
			pairs[i] = []string{left, right}
		}
	}
	if len(pairs) > maxVocab {
		return fmt.Errorf("model.merges: %d entries, at most %d", len(pairs), maxVocab)
	}
	for i, p := range pairs {
		if len(p) != 2 {
			return fmt.Errorf("model.merges[%d]: %d tokens instead of 2", i, len(p))
		}
		if err := t.addMerge(i, p[0], p[1]); err != nil {
			return fmt.Errorf("model.merges[%d]: %w", i, err)
		}
	}
	return nil
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

func step(raw json.RawMessage, field string) (s jsonStep, err error) {
	if err = json.Unmarshal(raw, &s); err != nil {
		err = fmt.Errorf("%s: %w", field, err)
	}
	return s, err
}

// jsonSteps are the steps of a Sequence, or the one step that there is, with their fields for messages; none of null.
func jsonSteps(raw json.RawMessage, field string) (steps []jsonStep, fields []string, err error) {
	if isNull(raw) {
		return nil, nil, nil
	}
	s, err := step(raw, field)
	if err != nil {
		return nil, nil, err
	}
	if s.Type != "Sequence" {
		return []jsonStep{s}, []string{field}, nil
	}
	list, of := s.Normalizers, "normalizers"
	switch field {
	case "pre_tokenizer":
		list, of = s.PreTokenizers, "pretokenizers"
	case "post_processor":
		list, of = s.Processors, "processors"
	case "decoder":
		list, of = s.Decoders, "decoders"
	}
	for i, r := range list {
		name := fmt.Sprintf("%s.%s[%d]", field, of, i)
		if s, err = step(r, name); err != nil {
			return nil, nil, err
		}
		steps, fields = append(steps, s), append(fields, name)
	}
	return steps, fields, nil
}

// jsonNormalizer reports whether text is normalised to NFC.
func jsonNormalizer(raw json.RawMessage) (nfc bool, err error) {
	if isNull(raw) {
		return false, nil
	}
	s, err := step(raw, "normalizer")
	if err != nil {
		return false, err
	}
	switch {
	case s.Type == "NFC":
		return true, nil
	case s.Type == "Sequence" && len(s.Normalizers) == 0:
		return false, nil
	case s.Type == "Sequence" && len(s.Normalizers) == 1:
		if s, err = step(s.Normalizers[0], "normalizer.normalizers[0]"); err != nil || s.Type == "NFC" {
			return s.Type == "NFC", err
		}
	}
	return false, fmt.Errorf("normalizer.type: %.40q is not supported (known: NFC)", s.Type)
}

// jsonPre recognises the four pre-tokenizers.
func jsonPre(raw json.RawMessage) (preKind, error) {
	if isNull(raw) {
		return 0, errors.New("pre_tokenizer: missing (known: ByteLevel and Sequences of Digits, Split and ByteLevel)")
	}
	steps, field, err := jsonSteps(raw, "pre_tokenizer")
	if err != nil {
		return 0, err
	}
	if len(steps) > 8 {
		return 0, fmt.Errorf("pre_tokenizer.pretokenizers: %d entries are not supported", len(steps))
	}
	var kind preKind
	for i, s := range steps {
		switch s.Type {
		case "Digits":
			if i != 0 || !s.IndividualDigits {
				return 0, fmt.Errorf("%s: Digits is supported as the first step with individual_digits only", field[i])
			}
			kind = preSmolLM
		case "Split":
			if i != 0 || s.Invert || s.Behavior != "Isolated" || s.Pattern.Regex == nil {
				return 0, fmt.Errorf("%s: Split is supported as the first step, by a Regex, with behavior Isolated, not inverted", field[i])
			}
			switch *s.Pattern.Regex {
			case patternGPT2, patternGPT2b:
				kind = preGPT2
			case patternLlama3:
				kind = preLlama3
			case patternQwen2:
				kind = preQwen2
			default:
				return 0, fmt.Errorf("%s.pattern.Regex: %.200q is not one of the known expressions (GPT-2, Llama-3, Qwen2)", field[i], *s.Pattern.Regex)
			}
		case "ByteLevel":
			regex := s.UseRegex == nil || *s.UseRegex // on unless said otherwise
			switch {
			case s.AddPrefixSpace == nil || *s.AddPrefixSpace:
				return 0, fmt.Errorf("%s.add_prefix_space: not supported", field[i])
			case i != len(steps)-1:
				return 0, fmt.Errorf("%s: ByteLevel must be the last step", field[i])
			case i == 0 && regex:
				return preGPT2, nil
			case i == 1 && regex == (kind == preSmolLM):
				return kind, nil
			}
			return 0, fmt.Errorf("%s.use_regex: %t is not supported here", field[i], regex)
		default:
			return 0, fmt.Errorf("%s.type: %.40q is not supported (known: Digits, Split, ByteLevel, Sequence)", field[i], s.Type)
		}
	}
	return 0, errors.New("pre_tokenizer: has no ByteLevel step")
}

// jsonPost learns which tokens the model wants in front of a text and behind it.
func (t *Tokenizer) jsonPost(raw json.RawMessage) error {
	steps, _, err := jsonSteps(raw, "post_processor")
	if err != nil {
		return err
	}
	for _, s := range steps {
		switch s.Type {
		case "ByteLevel": // offsets only
		case "TemplateProcessing":
			seen := false
			for _, p := range s.Single {
				if p.SpecialToken == nil {
					seen = seen || p.Sequence != nil
					continue
				}
				id, ok := t.ids[p.SpecialToken.ID]
				if !ok {
					return fmt.Errorf("post_processor.single: token %.60q is not in the vocabulary", p.SpecialToken.ID)
				}
				if seen {
					t.eos, t.addEOS = id, true
				} else {
					t.bos, t.addBOS = id, true
				}
			}
		default:
			return fmt.Errorf("post_processor.type: %s is not supported (known: ByteLevel, TemplateProcessing)", strings.TrimSpace(fmt.Sprintf("%.40q", s.Type)))
		}
	}
	return nil
}
