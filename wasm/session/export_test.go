package session

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// TestExport trains, writes every format, and opens each again: the adapters score exactly as the trained one, the merged models as well as their
// weights' type allows.
func TestExport(t *testing.T) {
	for _, arch := range []string{"llama", "qwen2", "gemma3"} {
		t.Run(arch, func(t *testing.T) { exports(t, arch) })
	}
}

func exports(t *testing.T, arch string) {
	c := tinyOf(t, arch, "f32")
	dir := t.TempDir()
	out := filepath.Join(dir, "run 1")
	c.must("train", small(params{"out": out}))
	var want evalResult
	c.getTask("eval", params{"split": "val"}, &want)
	for format, name := range map[string]string{"peft": "peft", "gguf-adapter": "new/a.gguf", "gguf-f16": "f16.gguf", "gguf-q8_0": "q8.gguf", "card": "card.md"} {
		var r exportResult
		p := params{"format": format, "path": filepath.Join(dir, name)}
		if format == "card" {
			p["run"] = out
		}
		c.getTask("export", p, &r)
		if r.Bytes <= 0 {
			t.Errorf("%s: %d bytes", format, r.Bytes)
		}
	}
	eval := func() (got evalResult) {
		c.getTask("eval", params{"split": "val"}, &got)
		return got
	}
	for _, name := range []string{"peft", "new/a.gguf"} {
		c.get("adapter.clear", params{}, &struct{}{})
		if eval().Loss == want.Loss {
			t.Fatal("the adapter changes nothing")
		}
		c.get("adapter.load", params{"path": filepath.Join(dir, name)}, &struct{}{})
		if got := eval(); got.Loss != want.Loss {
			t.Errorf("%s: loss %v, trained %v", name, got.Loss, want.Loss)
		}
	}
	_, data := tinyFilesOf(t, arch)
	for name, tolerance := range map[string]float64{"f16.gguf": 1e-3, "q8.gguf": 2e-2} {
		c.must("model.open", params{"path": filepath.Join(dir, name), "dtype": "f32"})
		c.must("data.open", dataOf(data))
		if got := eval(); math.Abs(got.Loss-want.Loss) > tolerance*want.Loss {
			t.Errorf("%s: loss %v, with the adapter %v", name, got.Loss, want.Loss)
		}
	}
	card := read(t, filepath.Join(dir, "card.md"))
	for _, s := range []string{"# run 1", "| Before training |", "SHA-256 of the file", "| Rank | `4` |", "| Seed of the run | `7` |", "base_model: \"tiny\""} {
		if !strings.Contains(card, s) {
			t.Errorf("the card lacks %q:\n%s", s, card)
		}
	}
	for _, e := range []struct {
		p    params
		want string
	}{
		{params{"format": "zip", "path": "x"}, "format"}, {params{"format": "card", "path": "x"}, "run"}, {params{"format": "peft"}, "path"},
		{params{"format": "gguf-adapter", "path": filepath.Join(dir, "x.gguf")}, "no adapter"},
	} {
		if _, _, err := c.task("export", e.p); err == nil || !strings.Contains(err.Message, e.want) {
			t.Errorf("%v: %v", e.p, err)
		}
	}
}

// TestCardEscapes puts names into the card that would end its cells.
func TestCardEscapes(t *testing.T) {
	st := runState{Model: modelInfo{Name: "a`|\n# <script>"}}
	st.Config.Extra = []byte(`{"template":"x|y\n{text}"}`)
	card := st.card("n\n# two")
	for _, bad := range []string{"<script>", "\n# two", "a`|", "x|y"} {
		if strings.Contains(strings.ReplaceAll(card, "`a'/ # <script>`", ""), bad) {
			t.Errorf("%q is in the card:\n%s", bad, card)
		}
	}
}
