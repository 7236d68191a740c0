package session

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"tabtune/engine"
	"tabtune/engine/pte"
)

// TestBuildSingle compares a program with its weights in it with the one that has them beside it.
func TestBuildSingle(t *testing.T) {
	for _, dtype := range []string{"f32", "int8", "q4"} {
		c := tiny(t, dtype)
		dir := t.TempDir()
		one, two := filepath.Join(dir, "one.pte"), filepath.Join(dir, "two.pte")
		var r struct{ Data string }
		c.getTask("build", small(params{"out": one, "single": true}), &r)
		if _, err := os.Stat(filepath.Join(dir, "one.ptd")); err == nil || r.Data != "" {
			t.Errorf("weights beside a single file: %q", r.Data)
		}
		c.getTask("build", small(params{"out": two}), &r)
		hidden := func(path, data string) []byte {
			t.Helper()
			file, err := pte.Decode(bytes.NewReader([]byte(read(t, path))), path)
			if err != nil {
				t.Fatal(err)
			}
			var opt engine.Options
			if data != "" {
				d, err := pte.DecodeData(bytes.NewReader([]byte(read(t, data))), data)
				if err != nil {
					t.Fatal(err)
				}
				opt.Data = append(opt.Data, ptd{d})
			}
			p, err := engine.Load(c.se.dev, file, opt)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			m, err := p.Method("prefix")
			if err != nil {
				t.Fatal(err)
			}
			if err := m.SetInput(0, engine.Int64s([]int64{1, 5, 9, 2}, 1, 4)); err != nil {
				t.Fatal(err)
			}
			if err := m.Execute(context.Background()); err != nil {
				t.Fatal(err)
			}
			v, err := m.Output(0)
			if err != nil {
				t.Fatal(err)
			}
			return p.Read(v).Data
		}
		if got, want := hidden(one, ""), hidden(two, r.Data); !bytes.Equal(got, want) {
			t.Errorf("%s: prefix of the single file differs (%d and %d bytes)", dtype, len(got), len(want))
		}
	}
}
