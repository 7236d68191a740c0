package session

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"tabtune/lora/peft"
	"tabtune/lora/replay"
)

// TestProbe has layers and modules chosen: the choice with the largest gain, in the
// log, the same when the run goes on and in a run that asks for it by name.
func TestProbe(t *testing.T) {
	c := tiny(t, "int8")
	whole := t.TempDir()
	p := small(params{"layers": "auto", "modules": []string{"auto"}, "out": whole})
	id := c.start("train", p)
	var tried []params
	var layers float64
	var modules []string
	for {
		e := c.next(id)
		if e == nil {
			break
		}
		if e["type"] != "probe" {
			continue
		}
		if e["chosen"] != true {
			tried = append(tried, e)
			continue
		}
		for _, o := range tried {
			if o["gain"].(float64) > e["gain"].(float64) {
				t.Errorf("%v is chosen, %v promises more", e, o)
			}
		}
		tried = nil
		layers, modules = e["layers"].(float64), nil
		for _, m := range e["modules"].([]any) {
			modules = append(modules, m.(string))
		}
	}
	log, err := replay.ReadFile(filepath.Join(whole, "replay.log"))
	if err != nil {
		t.Fatal(err)
	}
	if layers == 0 || len(log.Config.Layers) != int(layers) || len(log.Config.Modules) != int(layers)*len(modules) {
		t.Fatalf("%v layers with %v, the log has %v and %v", layers, modules, log.Config.Layers, log.Config.Modules)
	}
	out, named := t.TempDir(), t.TempDir()
	var first, again trainResult
	c.getTask("train", merge(p, params{"out": t.TempDir()}), &first)
	again = c.interrupted(merge(p, params{"out": out, "resume": true}), 7)
	sameArtefacts(t, "interrupted", artefacts(t, whole), artefacts(t, out))
	if again.Best != first.Best || again.Rows != first.Rows {
		t.Errorf("continued %+v, was %+v", again, first)
	}
	var other trainResult
	c.getTask("train", merge(p, params{"out": named, "layers": layers, "modules": modules}), &other)
	if read(t, filepath.Join(named, "adapter", peft.WeightsFile)) != read(t, filepath.Join(whole, "adapter", peft.WeightsFile)) || other.Best.Loss != first.Best.Loss {
		t.Errorf("by name %+v, chosen %+v", other.Best, first.Best)
	}
	c.getTask("adapter.replay", params{"path": filepath.Join(whole, "replay.log"), "steps": first.Best.Step}, &struct{}{})
	// Under a label head.
	var st runState
	dir := t.TempDir()
	q := params{"layers": "auto", "steps": 4, "evalEvery": 2, "patience": 9, "out": dir, "resume": true}
	res := c.interrupted(q, 3)
	if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, "run.json"))), &st); err != nil || res.Steps != 4 || st.Rows != res.Rows {
		t.Errorf("%+v, run.json %+v, %v", res, st, err)
	}
	c.fails("train", merge(p, params{"out": out, "resume": true, "layers": 1}), "other_run", "layersAuto")
	c.fails("build", small(params{"out": filepath.Join(t.TempDir(), "p.pte"), "layers": "auto"}), "invalid_params", "layers")
	c.fails("train", small(params{"layers": "some"}), "invalid_params", "layers")
	c.fails("train", small(params{"layers": "auto", "estimator": "mezo", "modules": []string{fullModules}}), "invalid_params")
}
