// Package lora builds the programs that fine-tune a model of the llama, qwen2 or gemma3 architecture by
// forward passes only: MP-LoRA (MobiZO, arXiv 2409.15520) as ExecuTorch methods.
//
// A program has three methods. prefix runs the embedding and the frozen layers
// below the lowest adapted one; forward applies the last update to every
// adapter matrix B, perturbs it once for each replica and returns the negative
// log-likelihood at the scored positions; logits is inference with the current
// adapter (a fourth, decode, is the same over a cache). A is frozen (LoRA-FA), B is a mutable buffer that the methods share.
// The seeded normal that perturbs B is part of the graph, so a runtime needs no
// random numbers of its own.
package lora

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Config is a model's shape. Architectures are llama; qwen2, which adds a bias to q, k and v; and gemma3 (arXiv 2503.19786): q and k
// normalised head by head, a norm behind attention and MLP as well, GeGLU, the embedding times sqrt(dim), and in five of six
// layers a sliding window with a rotary base of its own.
type Config struct {
	Architecture string `json:"architecture"` // Llama, Qwen2 or Gemma3
	Layers       int    `json:"layers"`
	Dim          int    `json:"dim"`
	FFN          int    `json:"ffn"`
	Heads        int    `json:"heads"`
	KVHeads      int    `json:"kvHeads"`
	HeadDim      int    `json:"headDim"`
	Vocab        int    `json:"vocab"`
	// Context is the most tokens that the model reads; of gemma3 those of its sliding window, up to which all its layers see
	// everything.
	Context   int     `json:"context"`
	NormEps   float64 `json:"normEps"`
	RopeBase  float64 `json:"ropeBase"`
	RopeLocal float64 `json:"ropeLocal,omitempty"` // rotary base of the layers with a sliding window; 0: all have RopeBase
	Global    int     `json:"global,omitempty"`    // with RopeLocal: every so many-th layer, counted from 1, has RopeBase
	TiedHead  bool    `json:"tiedHead"`
}

// The architectures, by GGUF's names.
const (
	Llama  = "llama"
	Qwen2  = "qwen2"
	Gemma3 = "gemma3"
)

var architectures = []string{Llama, Qwen2, Gemma3}

// knownArchitecture refuses an architecture that Build does not make.
func knownArchitecture(arch string) error {
	if !slices.Contains(architectures, arch) {
		return fmt.Errorf("architecture %.40q is not supported (supported: %s)", arch, strings.Join(architectures, ", "))
	}
	return nil
}

// gemma: the parts of gemma3.
func (c *Config) gemma() bool { return c.Architecture == Gemma3 }

// biased: module m adds a bias.
func (c *Config) biased(m string) bool {
	return c.Architecture == Qwen2 && (m == "q" || m == "k" || m == "v")
}

// ropeBase is the rotary base of layer l.
func (c *Config) ropeBase(l int) float64 {
	if c.RopeLocal != 0 && (l+1)%c.Global != 0 {
		return c.RopeLocal
	}
	return c.RopeBase
}

// Validate checks that the sizes fit together and are within what the engine
// runs; the error names the field.
func (c *Config) Validate() error {
	check := func(name string, v, lo, hi int) error {
		if v < lo || v > hi {
			return fmt.Errorf("model config: %s is %d, want %d to %d", name, v, lo, hi)
		}
		return nil
	}
	for _, e := range []error{
		check("layers", c.Layers, 1, 512), check("dim", c.Dim, 1, 1<<16), check("ffn", c.FFN, 1, 1<<18),
		check("heads", c.Heads, 1, 1024), check("kvHeads", c.KVHeads, 1, 1024), check("headDim", c.HeadDim, 2, 512),
		check("vocab", c.Vocab, 1, 1<<21), check("context", c.Context, 1, 1<<24),
	} {
		if e != nil {
			return e
		}
	}
	if c.Heads%c.KVHeads != 0 {
		return fmt.Errorf("model config: heads %d is not a multiple of kvHeads %d", c.Heads, c.KVHeads)
	}
	if c.HeadDim%2 != 0 {
		return fmt.Errorf("model config: headDim %d is odd", c.HeadDim)
	}
	if !(c.NormEps > 0 && c.NormEps < 1) {
		return fmt.Errorf("model config: normEps is %g", c.NormEps)
	}
	if !(c.RopeBase > 1 && c.RopeBase < 1e12) {
		return fmt.Errorf("model config: ropeBase is %g", c.RopeBase)
	}
	if c.RopeLocal != 0 && !(c.RopeLocal > 1 && c.RopeLocal < 1e12) {
		return fmt.Errorf("model config: ropeLocal is %g", c.RopeLocal)
	}
	if c.RopeLocal != 0 && c.Global < 1 {
		return fmt.Errorf("model config: global is %d, want at least 1", c.Global)
	}
	if err := knownArchitecture(c.Architecture); err != nil {
		return fmt.Errorf("model config: %w", err)
	}
	return nil
}

// Params returns the number of weights of the model.
func (c *Config) Params() int64 {
	per := int64(0)
	for _, m := range AllModules {
		in, out := c.moduleSize(m)
		per += int64(in) * int64(out)
	}
	per += 2 * int64(c.Dim)
	switch c.Architecture {
	case Qwen2:
		per += int64(c.Heads+2*c.KVHeads) * int64(c.HeadDim)
	case Gemma3:
		per += 2*int64(c.Dim) + 2*int64(c.HeadDim)
	}
	n := int64(c.Layers)*per + int64(c.Vocab)*int64(c.Dim) + int64(c.Dim)
	if !c.TiedHead {
		n += int64(c.Vocab) * int64(c.Dim)
	}
	return n
}

// AllModules are the linear layers that an adapter can sit on, in the order of
// the forward pass.
var AllModules = []string{"q", "k", "v", "o", "gate", "up", "down"}

var modulePaths = map[string]string{
	"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
	"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}

// moduleSize returns a linear layer's input and output features.
func (c *Config) moduleSize(m string) (in, out int) {
	switch m {
	case "q":
		return c.Dim, c.Heads * c.HeadDim
	case "k", "v":
		return c.Dim, c.KVHeads * c.HeadDim
	case "o":
		return c.Heads * c.HeadDim, c.Dim
	case "gate", "up":
		return c.Dim, c.FFN
	case "down":
		return c.FFN, c.Dim
	}
	panic("lora: module " + m)
}

// ModuleName is a linear layer's name in the checkpoint, such as
// "model.layers.26.self_attn.q_proj".
func ModuleName(layer int, module string) string {
	return fmt.Sprintf("model.layers.%d.%s", layer, modulePaths[module])
}

// Sides says how many perturbed copies of B a query has.
type Sides int

// Replicas R for q queries: 2q, q+1 and 1.
const (
	TwoSided Sides = iota // B+eps z_j for every j, then B-eps z_j for every j
	OneSided              // B, then B+eps z_j for every j
	Single                // B+eps z_0 only: one replica, for sequential estimators
)

// String returns "two", "one" or "single".
func (s Sides) String() string { return [...]string{"two", "one", "single"}[s] }

// DType is how linear layers keep their weights.
type DType string

// The weight formats. Norms are f32 in all of them; with Q4 the embedding is int8.
const (
	F32  DType = "f32"
	Int8 DType = "int8" // symmetric, one scale an output channel
	Q4   DType = "q4"   // groups of 32 with f16 scale and minimum (GGUF Q4_1's layout)
)

// Noise is the distribution of the directions z.
type Noise string

// The distributions, both of mean 0 and variance 1.
const (
	Normal     Noise = "" // the standard normal
	Rademacher Noise = "rademacher"
)

// Spec says which program to build.
type Spec struct {
	Model   Config
	DType   DType
	Modules []string // of AllModules; empty: no adapter
	Top     int      // adapted layers, counted from the top; prefix runs the others
	Rank    int
	Alpha   float64
	Queries int
	Sides   Sides
	Noise   Noise
	Seed    int64   // of A
	Window  int     // upper bound of T
	Rows    int     // upper bound of n in forward
	Scored  int     // upper bound of m in forward
	Labels  []int32 // label tokens; nil scores over the vocabulary
	// A replaces the matrices that Seed stands for (one f32[Rank,in] an adapter, in
	// the order of Adapters), for adapters that were trained elsewhere.
	A [][]float32
	// Head is a LoRA on the output head, Classifier a head of its own for the
	// labels below the final norm; nil: none. Neither is trained by forward.
	Head       *HeadAdapter
	Classifier *Classifier
	Features   bool // with a method features
	Inputs     bool // with a method inputs
	// Past is what was trained before in other subspaces; nil: nothing.
	Past *Stack
	// PrefixRows and LogitRows bound n in prefix and logits (default 8 and 1).
	PrefixRows, LogitRows int
	NoLogits              bool // without the method logits, which training does not call
	Decode                bool // with the method decode: generation over a cache of keys and values
}

// Replicas returns R.
func (s *Spec) Replicas() int {
	switch {
	case len(s.Modules) == 0 || s.Sides == Single:
		return 1
	case s.Sides == OneSided:
		return s.Queries + 1
	}
	return 2 * s.Queries
}

// Adapted is one linear layer with an adapter.
type Adapted struct {
	Name    string // as ModuleName
	In, Out int
	Base    int64 // index of B's first element in the run's stream of normals
}

// Adapters lists the adapted layers, bottom layer first, each layer's modules in
// the order of AllModules. The order fixes Base, so it never changes.
func (s *Spec) Adapters() []Adapted {
	var out []Adapted
	base := int64(0)
	for l := s.Model.Layers - s.Top; l < s.Model.Layers; l++ {
		for _, m := range AllModules {
			if !slices.Contains(s.Modules, m) {
				continue
			}
			in, o := s.Model.moduleSize(m)
			out = append(out, Adapted{Name: ModuleName(l, m), In: in, Out: o, Base: base})
			base += int64(o) * int64(s.Rank)
		}
	}
	return out
}

// Trainable returns the number of elements of all B.
func (s *Spec) Trainable() int64 {
	var n int64
	for _, a := range s.Adapters() {
		n += int64(a.Out) * int64(s.Rank)
	}
	return n
}

// Validate fills defaults in and checks s; the error names the field.
func (s *Spec) Validate() error {
	if err := s.Model.Validate(); err != nil {
		return err
	}
	switch s.DType {
	case F32, Int8:
	case Q4:
		if s.Model.Dim%32 != 0 || s.Model.FFN%32 != 0 || s.Model.Heads*s.Model.HeadDim%32 != 0 {
			return fmt.Errorf("dtype q4 needs layer widths that are multiples of 32; this model has dim %d, ffn %d", s.Model.Dim, s.Model.FFN)
		}
	default:
		return fmt.Errorf("dtype %q: want f32, int8 or q4", s.DType)
	}
	seen := map[string]bool{}
	for _, m := range s.Modules {
		if _, ok := modulePaths[m]; !ok {
			return fmt.Errorf("modules: %q is not one of %s", m, strings.Join(AllModules, ","))
		}
		if seen[m] {
			return fmt.Errorf("modules: %q is listed twice", m)
		}
		seen[m] = true
	}
	if s.Top < 0 || s.Top > s.Model.Layers {
		return fmt.Errorf("layers: %d, want 1 to %d or all", s.Top, s.Model.Layers)
	}
	if len(s.Modules) > 0 {
		if s.Top == 0 {
			return fmt.Errorf("layers: 0, want 1 to %d or all", s.Model.Layers)
		}
		if s.Rank < 1 || s.Rank > 1024 {
			return fmt.Errorf("rank: %d, want 1 to 1024", s.Rank)
		}
		if !(s.Alpha > 0) || math.IsInf(s.Alpha, 0) {
			return fmt.Errorf("alpha: %g, want a positive number", s.Alpha)
		}
		if s.Queries < 1 || s.Queries > 256 {
			return fmt.Errorf("queries: %d, want 1 to 256", s.Queries)
		}
		if s.Noise != Normal && s.Noise != Rademacher {
			return fmt.Errorf("noise %q: want normal or rademacher", s.Noise)
		}
		if s.Sides == Single && s.Queries != 1 {
			return fmt.Errorf("queries: %d, but a program with a single replica has one", s.Queries)
		}
		if s.Trainable() >= 1<<31 {
			return fmt.Errorf("adapter of %d elements, want under 2^31", s.Trainable())
		}
	}
	if s.A != nil {
		for i, a := range s.Adapters() {
			if len(s.A) <= i || len(s.A[i]) != s.Rank*a.In {
				return fmt.Errorf("A of %s does not have %d x %d elements", a.Name, s.Rank, a.In)
			}
		}
	}
	if s.Past != nil {
		if err := s.Past.validate(s); err != nil {
			return err
		}
	}
	if s.Inputs && len(s.Modules) == 0 {
		return fmt.Errorf("inputs: no module is adapted")
	}
	if s.Window < 1 || s.Window > s.Model.Context {
		return fmt.Errorf("window: %d tokens, want 1 to the model's context %d", s.Window, s.Model.Context)
	}
	if s.PrefixRows == 0 {
		s.PrefixRows = 8
	}
	if s.LogitRows == 0 {
		s.LogitRows = 1
	}
	r := s.Replicas()
	if s.Rows < r || s.Rows%r != 0 {
		return fmt.Errorf("rows: %d, want a multiple of the %d replicas", s.Rows, r)
	}
	if s.Scored < r || s.Scored%r != 0 {
		return fmt.Errorf("scored positions: %d, want a multiple of the %d replicas", s.Scored, r)
	}
	if int64(s.Rows)*int64(s.Window)*int64(max(s.Model.FFN, s.Model.Dim)) >= 1<<31 {
		return fmt.Errorf("rows %d x window %d is more than one forward pass can index; use fewer queries, a smaller batch or a shorter window", s.Rows, s.Window)
	}
	for i, t := range s.Labels {
		if t < 0 || int(t) >= s.Model.Vocab {
			return fmt.Errorf("labels[%d]: token %d is outside the vocabulary of %d", i, t, s.Model.Vocab)
		}
	}
	if s.Head != nil {
		if err := s.Head.validate(&s.Model); err != nil {
			return err
		}
	}
	if s.Classifier != nil {
		return s.Classifier.validate(s)
	}
	return nil
}
