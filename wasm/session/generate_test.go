package session

import (
	"encoding/json"
	"testing"

	"tabtune/engine"
	"tabtune/internal/assets"
)

// whole is generation without a cache: every token from the whole sequence.
func whole(t *testing.T, c *client, prompt string, tokens int) []int32 {
	t.Helper()
	m := c.se.model
	ids := m.tok.Encode(prompt, false)
	if m.tok.AddBOS() {
		ids = append([]int32{m.tok.BOS()}, ids...)
	}
	r, err := c.se.loadRunner(c.se.inferenceSpec(m, len(ids)+tokens))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if c.se.adapter != nil {
		var bs [][]float32
		for _, a := range c.se.adapter.peft.Modules {
			bs = append(bs, a.B)
		}
		if err := r.writeB(bs); err != nil {
			t.Fatal(err)
		}
	}
	start := len(ids)
	for len(ids) < start+tokens {
		logits, err := r.logits([]row{{ids: ids}})
		if err != nil {
			t.Fatal(err)
		}
		id := sample(logits[:m.tok.Len()], 0, nil)
		if id == m.tok.EOS() || m.endOfTurn(id) {
			break
		}
		ids = append(ids, id)
	}
	return ids[start:]
}

// logits returns the scores [rows, vocabulary] of all tokens behind each row, of
// which there are at most spec.LogitRows.
func (r *runner) logits(rows []row) ([]float32, error) {
	width, err := r.fill("logits", rows, 1)
	if err != nil {
		return nil, err
	}
	if err := set(r.s.dev, r.rt, "logits", 1, engine.Int64s(last(rows, 1, width), len(rows))); err != nil {
		return nil, err
	}
	out, err := r.rt.Call("logits", len(rows), r.spec.Model.Vocab)
	if err != nil {
		return nil, err
	}
	return r.s.floats(out), nil
}

// TestGenerateOverTheCache compares the tokens of a greedy generation with those that the whole sequence gives each time.
func TestGenerateOverTheCache(t *testing.T) {
	model, _ := tinyFiles(t)
	for _, dt := range []string{"f32", "int8", "q4"} {
		c := limited(t, 1<<30)
		c.must("model.open", params{"path": model, "dtype": dt})
		sameTokens(t, c, "good bad good", 24)
	}
}

// TestGenerateOverTheCacheOnSmolLM2 is the same on the real model.
func TestGenerateOverTheCacheOnSmolLM2(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the model")
	}
	c := newClient(t)
	c.must("model.open", params{"path": assets.Need(t, assets.Model), "dtype": "int8"})
	sameTokens(t, c, "The three largest planets of the solar system are", 16)
}

func sameTokens(t *testing.T, c *client, prompt string, tokens int) {
	t.Helper()
	want := whole(t, c, prompt, tokens)
	value, events, e := c.task("generate", params{"prompt": prompt, "maxTokens": tokens})
	if e != nil {
		t.Fatal(e)
	}
	var got []int32
	for _, ev := range events {
		if ev["type"] == "token" {
			got = append(got, int32(ev["id"].(float64)))
		}
	}
	var res generateResult
	if err := json.Unmarshal(value, &res); err != nil {
		t.Fatal(err)
	}
	t.Logf("%q", res.Text)
	if len(got) != len(want) || len(got) != res.Tokens {
		t.Fatalf("%d tokens, want %d: %v, %v", len(got), len(want), got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("token %d is %d, want %d", i, got[i], want[i])
		}
	}
}
