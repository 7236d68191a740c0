package task

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/lora/gguf"
	"tabtune/lora/tokenizer"
)

// The templates with a real tokenizer: every label has a word of one token, no
// token spans prompt and answer, and what is scored is the answer.
func TestTaskTemplatesWithRealTokenizer(t *testing.T) {
	dir := os.Getenv("TABTUNE_ASSETS")
	if dir == "" {
		dir = filepath.Join("..", "..", "cache", "assets")
	}
	f, closer, err := gguf.Open(filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		t.Skipf("%v; fetch the assets or set TABTUNE_ASSETS", err)
	}
	defer closer.Close()
	vocab, err := tokenizer.FromMetadata(&f.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.New(vocab)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "tasks", "*.[jt]s*"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, info := range Tasks() {
		for _, path := range files {
			if base := filepath.Base(path); strings.TrimSuffix(base, filepath.Ext(base)) != strings.TrimSuffix(info.Name, "-letters") {
				continue
			}
			seen++
			d, err := Build(readTask(t, filepath.Base(path)), nil, tok, Options{Task: info.Name, Window: 256})
			if err != nil {
				t.Errorf("%s: %v", info.Name, err)
				continue
			}
			for _, w := range d.Warnings {
				t.Errorf("%s: %s", info.Name, w.Message)
			}
			for _, e := range d.Train {
				if d.Kind == KindLabels {
					continue
				}
				for k, s := range e.Sequences {
					prompt := tok.Decode(s.IDs[:s.At[0]+1])
					answer := tok.Decode(s.Targets)
					whole := tok.Encode(prompt+answer, false)
					if n := len(s.IDs) + 1; len(whole) != n {
						t.Errorf("%s, row %d, option %d: %q + %q are %d tokens together, %d apart", info.Name, e.Row, k, prompt, answer, len(whole), n)
					}
				}
			}
		}
	}
	if seen < len(Tasks()) {
		t.Errorf("%d files for %d templates", seen, len(Tasks()))
	}
}
