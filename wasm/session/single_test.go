package session

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tabtune/engine"
	"tabtune/engine/pte"
)

// TestBuildDefault has labelled data open and asks for nothing: the program is one
// to train adapters with, as prge does by default.
func TestBuildDefault(t *testing.T) {
	for _, estimator := range []string{"", "auto"} {
		c := tiny(t, "int8")
		out := filepath.Join(t.TempDir(), "p.pte")
		var r struct{ Replicas int }
		c.getTask("build", params{"out": out, "estimator": estimator}, &r)
		file, err := pte.Decode(bytes.NewReader([]byte(read(t, out))), out)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.Index(methodNames(file), "forward")
		if i < 0 {
			t.Fatalf("%q: methods %q", estimator, methodNames(file))
		}
		plan := file.Plans[i]
		seeds := plan.Values[plan.Inputs[3]].(*pte.Tensor)
		rows := plan.Values[plan.Inputs[1]].(*pte.Tensor)
		if len(plan.Inputs) != 7 || seeds.Sizes[0] != 4 || rows.Sizes[0] != 4*8 || r.Replicas != 8 {
			t.Errorf("%q: %d inputs, %v seeds, %v rows, %d copies; want 7, 4, 32 and 8", estimator, len(plan.Inputs), seeds.Sizes, rows.Sizes, r.Replicas)
		}
	}
}

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
