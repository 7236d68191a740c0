package peft

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"tabtune/internal/atomicfile"
	"tabtune/lora/safetensors"
)

const keyPrefix = "base_model.model."

// config is adapter_config.json as we write it; the order of the fields is the
// order in the file (PEFT sorts them by name, and so do we).
type config struct {
	AlphaPattern      map[string]float64 `json:"alpha_pattern"`
	BaseModel         *string            `json:"base_model_name_or_path"`
	Bias              string             `json:"bias"`
	FanInFanOut       bool               `json:"fan_in_fan_out"`
	InferenceMode     bool               `json:"inference_mode"`
	InitLoraWeights   bool               `json:"init_lora_weights"`
	LayersPattern     *string            `json:"layers_pattern"`
	LayersToTransform []int              `json:"layers_to_transform"`
	LoraAlpha         float64            `json:"lora_alpha"`
	LoraDropout       float64            `json:"lora_dropout"`
	ModulesToSave     []string           `json:"modules_to_save"`
	PeftType          string             `json:"peft_type"`
	R                 int                `json:"r"`
	RankPattern       map[string]int     `json:"rank_pattern"`
	TargetModules     []string           `json:"target_modules"`
	TaskType          string             `json:"task_type"`
	UseDora           bool               `json:"use_dora"`
	UseRslora         bool               `json:"use_rslora"`
}

// Write stores the adapter in a folder, which is made when absent. Both files
// are replaced atomically, the weights first. The same adapter gives the same
// bytes.
//
// When the modules are the same linear layers of some decoder layers,
// target_modules lists their last names and layers_to_transform the layers; else
// target_modules lists full names.
func Write(dir string, a *Adapter) error {
	if err := a.Validate(); err != nil {
		return fmt.Errorf("peft %s: %w", dir, err)
	}
	cfg, err := json.MarshalIndent(a.config(), "", "  ")
	if err != nil {
		return fmt.Errorf("peft %s: %s: %w", dir, ConfigFile, err)
	}
	var outs []safetensors.Out
	for i := range a.Modules {
		m := &a.Modules[i]
		r, in, out := int64(m.rank(a)), int64(m.In), int64(m.Out)
		outs = append(outs,
			safetensors.Float32s(keyPrefix+m.Name+".lora_A.weight", safetensors.F32, []int64{r, in}, m.A),
			safetensors.Float32s(keyPrefix+m.Name+".lora_B.weight", safetensors.F32, []int64{out, r}, m.B))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("peft: %w", err)
	}
	err = atomicfile.Write(filepath.Join(dir, WeightsFile), func(w io.Writer) error {
		return safetensors.Write(w, outs, map[string]string{"format": "pt"})
	})
	if err != nil {
		return fmt.Errorf("peft: %w", err)
	}
	err = atomicfile.Write(filepath.Join(dir, ConfigFile), func(w io.Writer) error {
		_, err := w.Write(append(cfg, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("peft: %w", err)
	}
	return nil
}

func (a *Adapter) config() *config {
	c := &config{
		AlphaPattern: map[string]float64{}, Bias: "none", InferenceMode: true, InitLoraWeights: true,
		LoraAlpha: a.Alpha, PeftType: "LORA", R: a.Rank, RankPattern: map[string]int{}, TaskType: "CAUSAL_LM",
	}
	if a.BaseModel != "" {
		c.BaseModel = &a.BaseModel
	}
	for i := range a.Modules {
		m := &a.Modules[i]
		if r := m.rank(a); r != a.Rank {
			c.RankPattern[m.Name] = r
		}
		if al := m.alpha(a); al != a.Alpha {
			c.AlphaPattern[m.Name] = al
		}
	}
	if c.TargetModules, c.LayersToTransform = a.targets(); c.LayersToTransform != nil {
		pattern := "layers"
		c.LayersPattern = &pattern
	}
	return c
}

// targets finds the layers x names form of the modules, or falls back to full
// names and no layers.
func (a *Adapter) targets() (names []string, layers []int) {
	type pair struct {
		layer int
		name  string
	}
	pairs := map[pair]bool{}
	full := make([]string, 0, len(a.Modules))
	regular := true
	for i := range a.Modules {
		full = append(full, a.Modules[i].Name)
		n, last, ok := layerOf(a.Modules[i].Name)
		if !ok || pairs[pair{n, last}] {
			regular = false
			continue
		}
		pairs[pair{n, last}] = true
		if !slices.Contains(layers, n) {
			layers = append(layers, n)
		}
		if !slices.Contains(names, last) {
			names = append(names, last)
		}
	}
	if !regular || len(pairs) != len(layers)*len(names) {
		slices.SortFunc(full, compareNames)
		return full, nil
	}
	slices.Sort(names)
	slices.Sort(layers)
	return names, layers
}
