package task

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"tabtune/lora/gguf"
	"tabtune/lora/tokenizer"
)

// The sentiment protocol with the real tokenizer: one-token verbalizers, prompts
// that end where they should, and what the report finds in the real rows.
func TestReviewsWithRealTokenizer(t *testing.T) {
	dir := os.Getenv("TABTUNE_ASSETS")
	if dir == "" {
		dir = filepath.Join("..", "..", "cache", "assets")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "movieReviewSnippets_GroundTruth.txt"))
	if err != nil {
		t.Skipf("%v; fetch the assets or set TABTUNE_ASSETS", err)
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
	var train, val bytes.Buffer
	if err := WriteReviewsCSV(bytes.NewReader(raw), &train, &val); err != nil {
		t.Fatal(err)
	}
	a, err := ReadTable(&train, "train.csv", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadTable(&val, "val.csv", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Build(a, b, tok, Options{Labels: []string{"negative", "positive"}, Verbalizers: []string{"terrible", "great"}, Window: 64})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Train) != 1000 || len(d.Val) != 500 {
		t.Errorf("%d and %d examples", len(d.Train), len(d.Val))
	}
	was := tok.Encode(" was", false)
	for _, e := range append(d.Train, d.Val...) {
		if len(e.IDs) > 64 || e.IDs[len(e.IDs)-1] != was[0] {
			t.Fatalf("row %d: %d tokens, the last is %d", e.Row, len(e.IDs), e.IDs[len(e.IDs)-1])
		}
	}
	if len(d.Warnings) != 1 || d.Warnings[0].Code != "too-long" || len(d.Warnings[0].Rows) != 2 {
		t.Errorf("warnings %+v", d.Warnings)
	}
	if d.Labels[0].Verbalizer != " terrible" || d.Labels[0].Token != 13321 || d.Labels[1].Token != 1109 {
		t.Errorf("labels %+v", d.Labels)
	}
	// Batches by length: at most a fifth of the positions is padding.
	s, err := NewSampler(Lengths(d.Train), 8, 0)
	if err != nil {
		t.Fatal(err)
	}
	tokens, positions := 0, 0
	for step := int64(0); step < s.PerEpoch(); step++ {
		batch, err := s.Batch(step)
		if err != nil {
			t.Fatal(err)
		}
		longest := 0
		for _, i := range batch {
			tokens += len(d.Train[i].IDs)
			longest = max(longest, len(d.Train[i].IDs))
		}
		positions += longest * len(batch)
	}
	if tokens*5 < positions*4 {
		t.Errorf("%d tokens in %d positions", tokens, positions)
	}
}
