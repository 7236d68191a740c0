package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tabtune/internal/atomicfile"
	"tabtune/lora/safetensors"
)

// foreign is adapter_config.json as others write it: what is understood, and
// what has to be absent, false or empty.
type foreign struct {
	PeftType      *string            `json:"peft_type"`
	R             *int               `json:"r"`
	LoraAlpha     *float64           `json:"lora_alpha"`
	BaseModel     *string            `json:"base_model_name_or_path"`
	RankPattern   map[string]int     `json:"rank_pattern"`
	AlphaPattern  map[string]float64 `json:"alpha_pattern"`
	UseRslora     bool               `json:"use_rslora"`
	Bias          *string            `json:"bias"`
	FanInFanOut   bool               `json:"fan_in_fan_out"`
	UseDora       bool               `json:"use_dora"`
	LoraBias      bool               `json:"lora_bias"`
	ModulesToSave []string           `json:"modules_to_save"`
}

// Read loads an adapter folder. Modules are in the natural order of their names
// (layer 9 before layer 10). use_rslora, rank_pattern and alpha_pattern are
// resolved into each module's Rank and Alpha. Errors name the file and the key.
func Read(dir string) (*Adapter, error) {
	path := filepath.Join(dir, ConfigFile)
	fc, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	a := &Adapter{Rank: *fc.R, Alpha: *fc.LoraAlpha}
	if fc.BaseModel != nil {
		a.BaseModel = *fc.BaseModel
	}
	if fc.UseRslora {
		a.Alpha *= math.Sqrt(float64(a.Rank)) // rank-stabilised scale is alpha/sqrt(r)
	}
	weights := filepath.Join(dir, WeightsFile)
	f, closer, err := safetensors.Open(weights)
	if err != nil {
		return nil, fmt.Errorf("peft: %w", err)
	}
	defer closer.Close()
	if err := a.load(f, fc); err != nil {
		return nil, fmt.Errorf("peft %s: %w", weights, err)
	}
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("peft %s: %w", weights, err)
	}
	return a, nil
}

func readConfig(path string) (*foreign, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("peft: %w", err)
	}
	defer h.Close()
	b, err := io.ReadAll(io.LimitReader(h, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("peft %s: %w", path, err)
	}
	if len(b) > maxConfig {
		return nil, fmt.Errorf("peft %s: more than %d bytes", path, maxConfig)
	}
	var c foreign
	if err := json.Unmarshal(b, &c); err != nil {
		var te *json.UnmarshalTypeError
		var se *json.SyntaxError
		switch {
		case errors.As(err, &te):
			return nil, fmt.Errorf("peft %s: %s at byte %d: is %s, want %s", path, te.Field, te.Offset, te.Value, te.Type)
		case errors.As(err, &se):
			return nil, fmt.Errorf("peft %s: byte %d: %w", path, se.Offset, err)
		}
		return nil, fmt.Errorf("peft %s: %w", path, err)
	}
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("peft %s: %s: %s", path, field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.PeftType == nil || *c.PeftType != "LORA":
		return nil, bad("peft_type", "is not LORA")
	case c.R == nil || *c.R < 1 || *c.R > maxRank:
		return nil, bad("r", "missing or outside 1 to %d", maxRank)
	case c.LoraAlpha == nil || !(*c.LoraAlpha > 0):
		return nil, bad("lora_alpha", "missing or not positive")
	case c.Bias != nil && *c.Bias != "none" || c.LoraBias:
		return nil, bad("bias", "adapters with biases are not supported")
	case c.FanInFanOut:
		return nil, bad("fan_in_fan_out", "transposed weights are not supported")
	case c.UseDora:
		return nil, bad("use_dora", "DoRA is not supported")
	case len(c.ModulesToSave) > 0:
		return nil, bad("modules_to_save", "fully saved modules (%s) are not supported", strings.Join(c.ModulesToSave, ", "))
	}
	for k, r := range c.RankPattern {
		if !validName(k) || r < 1 || r > maxRank {
			return nil, bad("rank_pattern", "%q: %d: only plain module names and ranks of 1 to %d are supported", k, r, maxRank)
		}
	}
	for k, al := range c.AlphaPattern {
		if !validName(k) || !(al > 0) {
			return nil, bad("alpha_pattern", "%q: %v: only plain module names and positive numbers are supported", k, al)
		}
	}
	return &c, nil
}

// load reads every tensor of the file into a module.
func (a *Adapter) load(f *safetensors.File, c *foreign) error {
	index := map[string]int{}
	for _, t := range f.Tensors {
		rest, ok := strings.CutPrefix(t.Name, keyPrefix)
		if strings.HasSuffix(rest, ".base_layer.weight") {
			continue // PEFT adds the base model's own weight when the head is adapted
		}
		name, isA := strings.CutSuffix(rest, ".lora_A.weight")
		isB := false
		if !isA {
			name, isB = strings.CutSuffix(rest, ".lora_B.weight")
		}
		if !ok || !isA && !isB {
			return fmt.Errorf("tensor %q is not %s<module>.lora_A.weight or .lora_B.weight", t.Name, keyPrefix)
		}
		i, ok := index[name]
		if !ok {
			if len(a.Modules) == maxModules {
				return fmt.Errorf("more than %d modules", maxModules)
			}
			i = len(a.Modules)
			index[name] = i
			m := Module{Name: name, Rank: a.Rank, Alpha: *c.LoraAlpha}
			if r, ok := lookup(c.RankPattern, name); ok {
				m.Rank = r
			}
			if al, ok := lookup(c.AlphaPattern, name); ok {
				m.Alpha = al
			}
			if c.UseRslora {
				m.Alpha *= math.Sqrt(float64(m.Rank))
			}
			a.Modules = append(a.Modules, m)
		}
		m := &a.Modules[i]
		rows, cols := int64(m.Rank), int64(-1) // of A; B is the other way round
		if isB {
			rows, cols = cols, rows
		}
		if len(t.Shape) != 2 || rows >= 0 && t.Shape[0] != rows || cols >= 0 && t.Shape[1] != cols ||
			t.Shape[0] > maxDim || t.Shape[1] > maxDim {
			return fmt.Errorf("tensor %q: shape %v, want two dimensions of at most %d with rank %d (A [rank, in], B [out, rank])",
				t.Name, t.Shape, maxDim, m.Rank)
		}
		vals, err := t.Float32s()
		if err != nil {
			return err
		}
		if isA {
			m.A, m.In = vals, int(t.Shape[1])
		} else {
			m.B, m.Out = vals, int(t.Shape[0])
		}
	}
	for i := range a.Modules {
		if m := &a.Modules[i]; m.A == nil || m.B == nil {
			return fmt.Errorf("module %q has only one of lora_A and lora_B", m.Name)
		}
	}
	slices.SortFunc(a.Modules, func(x, y Module) int { return compareNames(x.Name, y.Name) })
	return nil
}

// lookup finds the pattern that is the module's name or its last parts, the
// longest if several are.
func lookup[T any](patterns map[string]T, name string) (T, bool) {
	for s := name; ; {
		if v, ok := patterns[s]; ok {
			return v, true
		}
		_, rest, ok := strings.Cut(s, ".")
		if !ok {
			var zero T
			return zero, false
		}
		s = rest
	}
}

// Recover finishes a Write that a crash cut short where files cannot be renamed
// (see package atomicfile). Call it on folders that this program writes, before
// Read.
func Recover(dir string) error {
	err := atomicfile.Recover(filepath.Join(dir, WeightsFile), func(path string) error {
		_, closer, err := safetensors.Open(path)
		if err != nil {
			return err
		}
		return closer.Close()
	})
	if err != nil {
		return fmt.Errorf("peft: %w", err)
	}
	err = atomicfile.Recover(filepath.Join(dir, ConfigFile), func(path string) error {
		_, err := readConfig(path)
		return err
	})
	if err != nil {
		return fmt.Errorf("peft: %w", err)
	}
	return nil
}
