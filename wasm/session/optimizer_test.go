package session

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"tabtune/lora/replay"
	"tabtune/zo"
)

// TestEstimatorsAndOptimizers trains with each for a few steps and rebuilds the
// adapter from the log. An interrupted run goes on as if it had not been.
func TestEstimatorsAndOptimizers(t *testing.T) {
	c := tiny(t, "int8")
	type way struct{ estimator, optimizer string }
	var ways []way
	for _, e := range zo.Names() {
		ways = append(ways, way{e, ""})
	}
	for _, o := range zo.OptimizerNames() {
		e := "rows"
		if o == "hizoo" { // looks at losses on the same rows
			e = "prge"
		}
		ways = append(ways, way{e, o})
	}
	ways = append(ways, way{"mezo", "hizoo"})
	ways = append(ways, way{"prge", "signs"}) // Rademacher directions
	for _, w := range ways {
		rate := map[string]float64{"adam": 0.05, "radazo": 0.01, "scalar": 0.5, "muon": 0.05, "mopi": 0.2, "momentum": 1}[w.optimizer]
		if rate == 0 {
			rate = map[string]float64{"fzoo": 0.05, "grzo": 0.001, "greedy": 20}[w.estimator]
		}
		if rate == 0 {
			rate = 0.2
		}
		out := t.TempDir()
		p := small(params{"estimator": w.estimator, "optimizer": w.optimizer, "queries": 4, "steps": 6, "evalEvery": 3, "lr": rate, "out": out, "resume": true})
		if w.optimizer == "signs" {
			w.optimizer, p["optimizer"], p["noise"] = "", "", "rademacher"
		}
		id := c.start("train", p)
		for steps := 0; steps < 4; {
			e := c.next(id)
			if e == nil {
				t.Fatalf("%v: the run ended early", w)
			}
			if e["type"] == "step" {
				steps++
			}
		}
		c.get("task.stop", params{"task": id}, &struct{}{})
		var res trainResult
		c.getTask("train", p, &res)
		whole := t.TempDir()
		c.getTask("train", merge(p, params{"out": whole, "resume": false}), &res)
		sameArtefacts(t, w.estimator+" "+w.optimizer, artefacts(t, whole), artefacts(t, out))
		if res.Best.Step == 0 {
			t.Errorf("%v: the loss never fell: %+v", w, res)
		}
		e, err := zo.New(w.estimator, 4)
		if err != nil {
			t.Fatal(err)
		}
		if res.Rows != 6*zo.PerStep(e, 2) {
			t.Errorf("%v: %d rows", w, res.Rows)
		}
		log, err := replay.ReadFile(filepath.Join(out, "replay.log"))
		if err != nil || len(log.Records) != 6 || log.Config.Optimizer != w.optimizer || (log.Config.Noise == "rademacher") != (w.estimator == "fzoo" || p["noise"] != nil) {
			t.Fatalf("%v: log of %d records, optimizer %q, %v", w, len(log.Records), log.Config.Optimizer, err)
		}
		c.getTask("adapter.replay", params{"path": filepath.Join(out, "replay.log"), "steps": max(1, res.Best.Step)}, &struct{}{})
		copied := t.TempDir()
		c.get("adapter.export", params{"path": copied}, &struct{}{})
		if read(t, filepath.Join(copied, "adapter_model.safetensors")) != read(t, filepath.Join(out, "adapter", "adapter_model.safetensors")) {
			t.Errorf("%v: replaying the log gives another adapter", w)
		}
	}
	for _, bad := range []params{{"optimizer": "lion"}, {"beta": 1.5, "optimizer": "muon"}, {"warmup": 1}, {"clip": -1}, {"noise": "cauchy"}, {"patience": -1}, {"estimator": "fzoo", "queries": 1},
		{"optimizer": "hizoo", "estimator": "rows"}, {"optimizer": "hizoo", "queries": 1}} {
		b, _ := json.Marshal(bad)
		_, _, e := c.task("train", small(bad))
		if e == nil || e.Code != "invalid_params" {
			t.Errorf("%s: %v", b, e)
		}
	}
}

// TestPatience ends a run that does not get better: at a rate so small that the
// loss is what it was, to the bit.
func TestPatience(t *testing.T) {
	c := tiny(t, "int8")
	var res trainResult
	c.getTask("train", small(params{"lr": 1e-30, "steps": 50, "evalEvery": 2, "patience": 3}), &res)
	if res.Steps != 6 || res.Best.Step != 0 {
		t.Errorf("%+v", res)
	}
	// Stopped in the validation after step 4, which is logged, it ends there too.
	p := small(params{"lr": 1e-30, "steps": 50, "evalEvery": 2, "patience": 3, "out": t.TempDir(), "resume": true})
	id := c.start("train", p)
	for step := 0.0; ; {
		e := c.next(id)
		if e == nil {
			t.Fatal("the run ended early")
		}
		if e["type"] == "step" {
			step = e["step"].(float64)
		}
		if step == 4 && e["type"] == "progress" {
			break
		}
	}
	c.get("task.stop", params{"task": id}, &struct{}{})
	c.getTask("train", p, &res)
	if res.Steps != 6 {
		t.Errorf("continued: %d steps, want 6", res.Steps)
	}
}
