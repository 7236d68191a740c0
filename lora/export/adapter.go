// Package export writes trained adapters for llama.cpp and programs built on it: as a GGUF adapter, to be loaded beside the model's own file,
// and merged into a copy of that file. It reads GGUF adapters too.
//
// A GGUF adapter has general.type "adapter", adapter.type "lora", adapter.lora.alpha, and for each adapted tensor T of the model T.lora_a
// ([r, in]) and T.lora_b ([out, r]); what is added to T is alpha/r B A. The rows of B are in the order of T's rows, which for q and k of the
// llama architecture is not Hugging Face's.
package export

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"tabtune/lora"
	"tabtune/lora/gguf"
	"tabtune/lora/peft"
)

const (
	suffixA, suffixB = ".lora_a", ".lora_b"
	maxRank          = 1 << 12
)

// Adapter writes a as a GGUF adapter for the model c. Every module must be one of the model's, with the adapter's own rank and alpha: the format
// has one alpha.
func Adapter(w io.Writer, c *lora.Checkpoint, a *peft.Adapter) error {
	if err := a.Validate(); err != nil {
		return err
	}
	mods, err := modulesOf(c, a)
	if err != nil {
		return err
	}
	out := gguf.NewWriter()
	for _, kv := range []struct {
		key   string
		value any
	}{
		{"general.architecture", c.Config.Architecture}, {"general.type", "adapter"}, {"general.name", a.BaseModel + " adapter"},
		{"adapter.type", "lora"}, {"adapter.lora.alpha", float32(a.Alpha)},
	} {
		if err := out.Set(kv.key, kv.value); err != nil {
			return err
		}
	}
	for _, t := range c.GGUFTensors() {
		m := mods[t.Module]
		if m == nil {
			continue
		}
		if m.Rank != 0 && m.Rank != a.Rank || m.Alpha != 0 && m.Alpha != a.Alpha {
			return fmt.Errorf("export: module %s has a rank or alpha of its own, which a GGUF adapter cannot say", m.Name)
		}
		b := make([]float32, len(m.B))
		for i := range t.Out {
			copy(b[i*a.Rank:(i+1)*a.Rank], m.B[t.Row(i)*a.Rank:])
		}
		if err := out.AddF32(t.Name+suffixA, gguf.F32, []int64{int64(a.Rank), int64(t.In)}, m.A); err != nil {
			return err
		}
		if err := out.AddF32(t.Name+suffixB, gguf.F32, []int64{int64(t.Out), int64(a.Rank)}, b); err != nil {
			return err
		}
	}
	_, err = out.WriteTo(w)
	return err
}

// modulesOf finds the adapter's modules by name and checks that the model has each with the same size.
func modulesOf(c *lora.Checkpoint, a *peft.Adapter) (map[string]*peft.Module, error) {
	mods := map[string]*peft.Module{}
	for i := range a.Modules {
		m := &a.Modules[i]
		if m.Name == lora.HeadName {
			if zero(m.A) || zero(m.B) {
				continue // it changes nothing
			}
			return nil, errors.New("export: a LoRA on the output head cannot be written as GGUF; train with --estimator prge, or export peft")
		}
		mods[m.Name] = m
	}
	if len(mods) == 0 {
		return nil, errors.New("export: the adapter changes nothing")
	}
	left := len(mods)
	for _, t := range c.GGUFTensors() {
		if m := mods[t.Module]; m != nil {
			if m.In != t.In || m.Out != t.Out {
				return nil, fmt.Errorf("export: module %s is %d x %d, in this model %d x %d", m.Name, m.Out, m.In, t.Out, t.In)
			}
			left--
		}
	}
	if left > 0 {
		return nil, fmt.Errorf("export: %d of the adapter's %d modules are not in this model", left, len(mods))
	}
	return mods, nil
}

func zero(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x != 0 })
}

// ReadAdapter reads a GGUF adapter for the model c.
func ReadAdapter(path string, c *lora.Checkpoint) (*peft.Adapter, error) {
	f, closer, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer closer.Close() // read only
	// Models often state no type.
	if kind, err := f.Metadata.String("general.type"); f.Has("token_embd.weight") && (err != nil || kind != "adapter") {
		return nil, fmt.Errorf("%s: tensor token_embd.weight: this is a whole model, not an adapter; it is opened as the model", path)
	}
	for _, want := range []struct{ key, value string }{{"general.type", "adapter"}, {"adapter.type", "lora"}, {"general.architecture", c.Config.Architecture}} {
		got, err := f.Metadata.String(want.key)
		if err != nil {
			return nil, err
		}
		if got != want.value {
			return nil, fmt.Errorf("%s: %s is %q, want %q", path, want.key, got, want.value)
		}
	}
	alpha, err := f.Metadata.Float("adapter.lora.alpha")
	if err != nil {
		return nil, err
	}
	if !(alpha > 0) || math.IsInf(alpha, 0) {
		return nil, fmt.Errorf("%s: adapter.lora.alpha is %v, want a positive number", path, alpha)
	}
	a := &peft.Adapter{Alpha: alpha}
	used := 0
	for _, t := range c.GGUFTensors() {
		if !f.Has(t.Name+suffixA) && !f.Has(t.Name+suffixB) {
			continue
		}
		ta, err := f.Tensor(t.Name + suffixA)
		if err != nil {
			return nil, err
		}
		tb, err := f.Tensor(t.Name + suffixB)
		if err != nil {
			return nil, err
		}
		r := ta.Rows()
		if r < 1 || r > maxRank || a.Rank != 0 && r != int64(a.Rank) {
			return nil, fmt.Errorf("%s: tensor %s has rank %d, want the same for all, 1 to %d", path, ta.Name, r, maxRank)
		}
		a.Rank = int(r)
		if ta.Cols() != int64(t.In) || tb.Rows() != int64(t.Out) || tb.Cols() != r {
			return nil, fmt.Errorf("%s: tensor %s: %d x %d times %d x %d, the layer is %d x %d", path, t.Name, tb.Rows(), tb.Cols(), r, ta.Cols(), t.Out, t.In)
		}
		m := peft.Module{Name: t.Module, In: t.In, Out: t.Out, A: make([]float32, a.Rank*t.In), B: make([]float32, a.Rank*t.Out)}
		if err := ta.ReadRows(m.A, 0, r); err != nil {
			return nil, err
		}
		rows := make([]float32, len(m.B))
		if err := tb.ReadRows(rows, 0, tb.Rows()); err != nil {
			return nil, err
		}
		for i := range t.Out {
			copy(m.B[t.Row(i)*a.Rank:], rows[i*a.Rank:(i+1)*a.Rank])
		}
		a.Modules = append(a.Modules, m)
		used += 2
	}
	if used != len(f.Tensors) {
		var other []string
		for _, t := range f.Tensors {
			if base := strings.TrimSuffix(strings.TrimSuffix(t.Name, suffixA), suffixB); !slices.ContainsFunc(c.GGUFTensors(), func(g lora.GGUFTensor) bool { return g.Name == base }) {
				other = append(other, t.Name)
			}
		}
		return nil, fmt.Errorf("%s: %d of its %d tensors are adapted layers of this model; not %s", path, used, len(f.Tensors), strings.Join(other[:min(3, len(other))], ", "))
	}
	if used == 0 {
		return nil, fmt.Errorf("%s: it has no tensors", path)
	}
	return a, a.Validate()
}
