// Package peft reads and writes LoRA adapters as the Hugging Face PEFT library
// stores them: a folder with adapter_model.safetensors, whose keys are
// base_model.model.<module>.lora_A.weight ([r, in]) and .lora_B.weight
// ([out, r]), and adapter_config.json.
//
// An adapted linear layer computes W x + (alpha/r) B A x. What else PEFT's
// configuration can say and this package does not compute (DoRA, biases, saved
// modules, embeddings, transposed weights) is refused when reading, by name,
// rather than ignored.
package peft

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// File names inside an adapter folder.
const (
	WeightsFile = "adapter_model.safetensors"
	ConfigFile  = "adapter_config.json"
)

// Limits on adapters.
const (
	maxRank    = 1 << 12
	maxDim     = 1 << 24
	maxModules = 1 << 14
	maxName    = 1 << 10
	maxConfig  = 1 << 20
)

// Adapter is a LoRA adapter.
type Adapter struct {
	Rank      int
	Alpha     float64
	BaseModel string // name or path of the model it was trained on; may be empty
	Modules   []Module
}

// Module is one adapted linear layer.
type Module struct {
	Name    string // as in the base model: model.layers.26.self_attn.q_proj
	In, Out int
	Rank    int       // 0: the adapter's. Read always fills it
	Alpha   float64   // 0: the adapter's. Read always fills it
	A       []float32 // [rank, in]
	B       []float32 // [out, rank]
}

// rank and alpha resolve the defaults.
func (m *Module) rank(a *Adapter) int {
	if m.Rank != 0 {
		return m.Rank
	}
	return a.Rank
}

func (m *Module) alpha(a *Adapter) float64 {
	if m.Alpha != 0 {
		return m.Alpha
	}
	return a.Alpha
}

// Scale is the factor alpha/r in front of B A for a module of the adapter.
func (a *Adapter) Scale(m *Module) float64 { return m.alpha(a) / float64(m.rank(a)) }

// Validate checks names, sizes and that every value is finite. Write and Read
// call it.
func (a *Adapter) Validate() error {
	if a.Rank < 1 || a.Rank > maxRank {
		return fmt.Errorf("rank %d is outside 1 to %d", a.Rank, maxRank)
	}
	if !(a.Alpha > 0) || math.IsInf(a.Alpha, 0) {
		return fmt.Errorf("alpha %v is not a positive number", a.Alpha)
	}
	if len(a.Modules) == 0 || len(a.Modules) > maxModules {
		return fmt.Errorf("%d modules (1 to %d are valid)", len(a.Modules), maxModules)
	}
	seen := make(map[string]bool, len(a.Modules))
	for i := range a.Modules {
		m := &a.Modules[i]
		if !validName(m.Name) {
			return fmt.Errorf("module %d: %q is not a module path", i, m.Name)
		}
		if seen[m.Name] {
			return fmt.Errorf("module %q appears twice", m.Name)
		}
		seen[m.Name] = true
		if err := m.validate(a); err != nil {
			return fmt.Errorf("module %q: %w", m.Name, err)
		}
	}
	return nil
}

func (m *Module) validate(a *Adapter) error {
	r := m.rank(a)
	if r < 1 || r > maxRank {
		return fmt.Errorf("rank %d is outside 1 to %d", r, maxRank)
	}
	if al := m.alpha(a); !(al > 0) || math.IsInf(al, 0) {
		return fmt.Errorf("alpha %v is not a positive number", al)
	}
	if m.In < 1 || m.In > maxDim || m.Out < 1 || m.Out > maxDim {
		return fmt.Errorf("size %d x %d is outside 1 to %d", m.Out, m.In, maxDim)
	}
	if len(m.A) != r*m.In {
		return fmt.Errorf("A has %d values, [%d, %d] needs %d", len(m.A), r, m.In, r*m.In)
	}
	if len(m.B) != m.Out*r {
		return fmt.Errorf("B has %d values, [%d, %d] needs %d", len(m.B), m.Out, r, m.Out*r)
	}
	for which, vals := range [][]float32{m.A, m.B} {
		for i, x := range vals {
			if x-x != 0 {
				return fmt.Errorf("%c[%d] is %v", 'A'+which, i, x)
			}
		}
	}
	return nil
}

// validName accepts dotted paths of letters, digits, '_' and '-'.
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, part := range strings.Split(s, ".") {
		if part == "" {
			return false
		}
		for _, c := range part {
			if !(c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
				return false
			}
		}
	}
	return true
}

// layerOf splits model.layers.26.self_attn.q_proj into 26 and q_proj.
func layerOf(name string) (layer int, last string, ok bool) {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if p == "layers" && i+2 < len(parts) {
			n, err := strconv.Atoi(parts[i+1])
			return n, parts[len(parts)-1], err == nil && n >= 0
		}
	}
	return 0, "", false
}

// compareNames orders dotted paths part by part, numbers by value, so that layer
// 9 comes before layer 10.
func compareNames(a, b string) int {
	pa, pb := strings.Split(a, "."), strings.Split(b, ".")
	return slices.CompareFunc(pa, pb, func(x, y string) int {
		nx, ex := strconv.Atoi(x)
		ny, ey := strconv.Atoi(y)
		if ex == nil && ey == nil && nx != ny {
			return cmp.Compare(nx, ny)
		}
		return cmp.Compare(x, y)
	})
}
