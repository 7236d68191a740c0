package peft

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tabtune/lora/safetensors"
)

// module makes a module with distinct small values.
func module(name string, in, out, rank int) Module {
	m := Module{Name: name, In: in, Out: out, A: make([]float32, rank*in), B: make([]float32, out*rank)}
	for i := range m.A {
		m.A[i] = float32((i*37+len(name))%19-9) / 50
	}
	for i := range m.B {
		m.B[i] = float32((i*53+in)%23-11) / 50
	}
	return m
}

func regular() *Adapter {
	return &Adapter{Rank: 4, Alpha: 8, BaseModel: "tiny/llama", Modules: []Module{
		module("model.layers.9.self_attn.q_proj", 32, 32, 4), module("model.layers.9.self_attn.v_proj", 32, 16, 4),
		module("model.layers.10.self_attn.q_proj", 32, 32, 4), module("model.layers.10.self_attn.v_proj", 32, 16, 4),
	}}
}

func irregular() *Adapter {
	a := &Adapter{Rank: 4, Alpha: 8, Modules: []Module{
		module("lm_head", 32, 64, 2), module("model.layers.2.mlp.down_proj", 48, 32, 4), module("model.layers.3.self_attn.q_proj", 32, 32, 4),
	}}
	a.Modules[0].Rank, a.Modules[0].Alpha = 2, 3.5
	return a
}

// filled is what Read returns for an adapter: the defaults resolved.
func filled(a *Adapter) *Adapter {
	b := *a
	b.Modules = append([]Module(nil), a.Modules...)
	for i := range b.Modules {
		b.Modules[i].Rank, b.Modules[i].Alpha = a.Modules[i].rank(a), a.Modules[i].alpha(a)
	}
	return &b
}

func TestRoundTrip(t *testing.T) {
	for name, a := range map[string]*Adapter{"regular": regular(), "irregular": irregular()} {
		dir := filepath.Join(t.TempDir(), "deep", name)
		if err := Write(dir, a); err != nil {
			t.Fatal(err)
		}
		got, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, filled(a)) {
			t.Errorf("%s: came back different", name)
		}
		files, _ := os.ReadDir(dir)
		if len(files) != 2 {
			t.Errorf("%d files in the folder", len(files))
		}
	}
}

func TestConfig(t *testing.T) {
	c := regular().config()
	if fmt.Sprintf("%v %v %v %v", c.TargetModules, c.LayersToTransform, *c.LayersPattern, *c.BaseModel) != "[q_proj v_proj] [9 10] layers tiny/llama" {
		t.Errorf("%+v", c)
	}
	c = irregular().config()
	if fmt.Sprint(c.TargetModules) != "[lm_head model.layers.2.mlp.down_proj model.layers.3.self_attn.q_proj]" ||
		c.LayersToTransform != nil || c.RankPattern["lm_head"] != 2 || c.AlphaPattern["lm_head"] != 3.5 || len(c.AlphaPattern) != 1 {
		t.Errorf("%+v", c)
	}
	a := irregular()
	if s := a.Scale(&a.Modules[0]); s != 1.75 {
		t.Errorf("scale %v", s)
	}
}

// PEFT itself loads what Write wrote, with the logits of merging by hand, and
// Read loads what PEFT saved. Needs TABTUNE_PYTHON, a Python with peft.
func TestPeftLoads(t *testing.T) {
	python := os.Getenv("TABTUNE_PYTHON")
	if python == "" {
		t.Skip("set TABTUNE_PYTHON to a Python with torch, transformers and peft")
	}
	for name, a := range map[string]*Adapter{"regular": regular(), "irregular": irregular()} {
		dir := t.TempDir()
		if err := Write(dir, a); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, "testdata/check_peft.py", dir).CombinedOutput()
		t.Logf("%s: %s", name, out)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(filepath.Join(dir, "again"))
		if err != nil {
			t.Fatal(err)
		}
		if want := filled(a); !reflect.DeepEqual(again.Modules, want.Modules) {
			t.Errorf("%s: PEFT saved other modules", name)
		}
	}
}

// edit changes one field of a written config.
func edit(t *testing.T, dir, field string, value any) {
	t.Helper()
	path := filepath.Join(dir, ConfigFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	m[field] = value
	b, _ = json.Marshal(m)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadPatterns(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, regular()); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, "alpha_pattern", map[string]float64{"q_proj": 5, "layers.10.self_attn.q_proj": 6, "proj": 7})
	edit(t, dir, "use_rslora", true)
	a, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{5, 8, 6, 8} {
		if m := &a.Modules[i]; a.Scale(m) != want/2 { // alpha / sqrt(4)
			t.Errorf("%s: scale %v, want %v", m.Name, a.Scale(m), want/2)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct {
		field string
		value any
		want  string
	}{
		{"peft_type", "LOHA", "peft_type: is not LORA"}, {"peft_type", nil, "peft_type: is not LORA"},
		{"r", 0, "r: missing or outside"}, {"r", 1 << 40, "r: missing or outside"}, {"r", "4", "r at byte"},
		{"r", 5, "with rank 5"}, {"lora_alpha", -1, "lora_alpha"}, {"lora_alpha", nil, "lora_alpha"},
		{"bias", "all", "bias:"}, {"lora_bias", true, "bias:"}, {"fan_in_fan_out", true, "fan_in_fan_out:"},
		{"use_dora", true, "use_dora:"}, {"modules_to_save", []string{"lm_head"}, "(lm_head)"},
		{"rank_pattern", map[string]int{".*q": 3}, "rank_pattern"}, {"rank_pattern", map[string]int{"q_proj": 3}, "with rank 3"},
		{"alpha_pattern", map[string]float64{"q_proj": 0}, "alpha_pattern"},
	} {
		dir := t.TempDir()
		if err := Write(dir, regular()); err != nil {
			t.Fatal(err)
		}
		edit(t, dir, c.field, c.value)
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s=%v: %v", c.field, c.value, err)
		}
	}
	x := []float32{1, 2, 3, 4, 5, 6, 7, 8}
	nan := append([]float32{}, x...)
	nan[5] -= nan[5] / (nan[0] - 1)
	key := "base_model.model.model.layers.0.self_attn.q_proj.lora_"
	for _, c := range []struct {
		outs []safetensors.Out
		want string
	}{
		{[]safetensors.Out{safetensors.Float32s("q.lora_A.weight", "F32", []int64{4, 2}, x)}, `tensor "q.lora_A.weight" is not`},
		{[]safetensors.Out{safetensors.Float32s(key+"A.weight", "F32", []int64{4, 2}, x)}, "only one of lora_A and lora_B"},
		{[]safetensors.Out{safetensors.Float32s(key+"A.weight", "F32", []int64{8}, x)}, "want two dimensions"},
		{[]safetensors.Out{safetensors.Float32s(key+"A.weight", "F32", []int64{2, 4}, x)}, "with rank 4"},
		{[]safetensors.Out{safetensors.Raw(key+"A.weight", "I64", []int64{4, 1}, make([]byte, 32))}, "is I64"},
		{[]safetensors.Out{safetensors.Float32s(key+"A.weight", "F32", []int64{4, 2}, x), safetensors.Float32s(key+"B.weight", "F32", []int64{2, 4}, nan)}, "B[5] is -Inf"},
		{[]safetensors.Out{safetensors.Float32s("base_model.model.a/b.lora_A.weight", "F32", []int64{4, 2}, x), safetensors.Float32s("base_model.model.a/b.lora_B.weight", "F32", []int64{2, 4}, x)}, "is not a module path"},
		{nil, "0 modules"},
	} {
		dir := t.TempDir()
		if err := Write(dir, regular()); err != nil {
			t.Fatal(err)
		}
		h, err := os.Create(filepath.Join(dir, WeightsFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(h, c.outs, nil); err != nil {
			t.Fatal(err)
		}
		h.Close()
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), WeightsFile) {
			t.Errorf("%v, want ...%s...", err, c.want)
		}
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("an empty folder was read")
	}
}

func TestWriteRefuses(t *testing.T) {
	for want, change := range map[string]func(*Adapter){
		"rank 0":               func(a *Adapter) { a.Rank = 0 },
		"alpha 0":              func(a *Adapter) { a.Alpha = 0 },
		"0 modules":            func(a *Adapter) { a.Modules = nil },
		"appears twice":        func(a *Adapter) { a.Modules[1] = a.Modules[0] },
		"is not a module path": func(a *Adapter) { a.Modules[0].Name = "../x" },
		"A has 127 values":     func(a *Adapter) { a.Modules[0].A = a.Modules[0].A[1:] },
		"B has 127 values":     func(a *Adapter) { a.Modules[0].B = a.Modules[0].B[1:] },
	} {
		a := regular()
		change(a)
		dir := filepath.Join(t.TempDir(), "out")
		if err := Write(dir, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ...%s...", err, want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("a refused adapter left a folder")
		}
	}
}

func TestRecover(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, regular()); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, WeightsFile+".new"), []byte("torn"), 0o644)
	b, _ := os.ReadFile(filepath.Join(dir, ConfigFile))
	os.WriteFile(filepath.Join(dir, ConfigFile+".new"), []byte(strings.Replace(string(b), "tiny/llama", "other", 1)), 0o644)
	if err := Recover(dir); err != nil {
		t.Fatal(err)
	}
	a, err := Read(dir)
	if err != nil || a.BaseModel != "other" {
		t.Errorf("%v", err)
	}
}
