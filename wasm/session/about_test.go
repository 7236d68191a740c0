package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/lora/gguf"
)

func TestAboutModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	w := gguf.NewWriter()
	for key, v := range map[string]any{"general.name": "A \x1b[31mname", "general.architecture": "mamba", "general.license": strings.Repeat("mit ", 100)} {
		if err := w.Set(key, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		name  string
		typ   gguf.Type
		shape []int64
	}{{"a", gguf.Q4_1, []int64{4, 64}}, {"b", gguf.Q8_0, []int64{2, 64}}, {"c", gguf.F32, []int64{64}}} {
		n := int64(1)
		for _, d := range x.shape {
			n *= d
		}
		if err := w.AddF32(x.name, x.typ, x.shape, make([]float32, n)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c := limited(t, 0)
	var r aboutResult
	c.get("model.about", params{"path": path}, &r)
	want := aboutResult{Name: "A  [31mname", Architecture: "mamba", License: strings.Repeat("mit ", 25) + "…", Quantization: "Q4_1, Q8_0", Parameters: 7 * 64, FileBytes: r.FileBytes}
	if st, err := os.Stat(path); err != nil || r != want || r.FileBytes != st.Size() {
		t.Errorf("%+v, want %+v", r, want)
	}
	write(t, path, "GGUF\x03\x00\x00\x00")
	if _, e := c.call("model.about", params{"path": path}); e == nil || !strings.Contains(e.Message, "m.gguf") {
		t.Errorf("a file cut short: %v", e)
	}
}
