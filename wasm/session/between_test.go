package session

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/lora/peft"
	"tabtune/lora/replay"
	"tabtune/zo"
)

// evals reads the evaluations of a run's metrics.
func evals(t *testing.T, dir string) (out []evalEvent) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(read(t, filepath.Join(dir, "metrics.jsonl"))), "\n") {
		var e evalEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type == "eval" {
			out = append(out, e)
		}
	}
	return out
}

// interrupted trains up to so many steps, stops, and goes on.
func (c *client) interrupted(p params, at float64) (res trainResult) {
	c.t.Helper()
	id := c.start("train", p)
	for {
		e := c.next(id)
		if e == nil {
			c.t.Fatal("the run ended early")
		}
		if e["type"] == "step" && e["step"] == at {
			break
		}
	}
	c.get("task.stop", params{"task": id}, &struct{}{})
	c.getTask("train", p, &res)
	return res
}

// TestAverage scores the average of the iterates beside them. The best adapter is
// what the log gives, and the average of what it gives step by step.
func TestAverage(t *testing.T) {
	c := tiny(t, "int8")
	for _, more := range []params{{"average": "tail"}, {"average": "0.8", "optimizer": "momentum", "lr": 1}, {"average": "0.8", "estimator": "mezo", "queries": 3, "lr": 0.2}} {
		whole, out := t.TempDir(), t.TempDir()
		// A rate at which the iterates jump about.
		p := small(merge(params{"estimator": "rows", "lr": 2, "schedule": "constant", "out": whole}, more))
		var res trainResult
		c.getTask("train", p, &res)
		list := evals(t, whole)
		if len(list) != 9 { // step 0, and two each after 3, 6, 9 and 12
			t.Fatalf("%v: %d evaluations", more, len(list))
		}
		least := math.Inf(1)
		for i, e := range list {
			if e.Averaged != (i > 0 && i%2 == 0) || e.Step != (i+1)/2*3 {
				t.Errorf("%v: evaluation %d is %+v", more, i, e)
			}
			least = min(least, e.Loss)
		}
		if res.Best.Loss != least || res.Loss != list[7].Loss {
			t.Errorf("%v: best %+v of %v, last %v", more, res.Best, list, res.Loss)
		}
		c.interrupted(merge(p, params{"out": out, "resume": true}), 7)
		sameArtefacts(t, "interrupted", artefacts(t, whole), artefacts(t, out))

		// From the log alone.
		path := filepath.Join(whole, "replay.log")
		log, err := replay.ReadFile(path)
		if err != nil || log.Config.Average != more["average"] {
			t.Fatal(log.Config.Average, err)
		}
		b := func(steps int, averaged bool) *peft.Adapter {
			c.getTask("adapter.replay", params{"path": path, "steps": steps, "averaged": averaged}, &struct{}{})
			dir := t.TempDir()
			c.get("adapter.export", params{"path": dir}, &struct{}{})
			if steps == res.Best.Step && averaged == res.Best.Averaged && read(t, filepath.Join(dir, peft.WeightsFile)) != read(t, filepath.Join(whole, "adapter", peft.WeightsFile)) {
				t.Errorf("%v: the log gives another adapter than the best, %+v", more, res.Best)
			}
			a, err := peft.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		if res.Best.Step == 0 {
			t.Fatalf("%v: the loss never fell", more)
		}
		b(res.Best.Step, res.Best.Averaged)
		avg, err := zo.NewAverage(log.Config.Average)
		if err != nil {
			t.Fatal(err)
		}
		for step := 1; step <= 5; step++ {
			a := b(step, false)
			avg.Add([][]float32{a.Modules[0].B})
		}
		got := b(5, true).Modules[0].B
		for k, x := range avg.Value()[0] {
			if got[k] != x {
				t.Fatalf("%v: element %d of the average is %v, of the iterates' %v", more, k, got[k], x)
			}
		}
	}
	out := t.TempDir()
	c.must("train", small(params{"out": out, "steps": 1}))
	c.fails("adapter.replay", params{"path": filepath.Join(out, "replay.log"), "averaged": true}, "invalid_params", "no average")
	c.fails("train", small(params{"out": out, "resume": true, "average": "tail"}), "other_run", "average")
	c.fails("train", small(params{"average": "ema"}), "invalid_params", "average")
	c.fails("train", small(params{"average": "tail", "runtime": "x.pte"}), "invalid_params", "average")
}

// TestRefit fits the head again between steps: the head that is kept is the one
// that an exact fit to the states under the adapter gives, stopping changes nothing.
func TestRefit(t *testing.T) {
	c := tiny(t, "int8")
	p := params{"steps": 7, "evalEvery": 2, "layers": 2, "refit": 3, "patience": 100, "average": "tail"}
	whole := t.TempDir()
	var res trainResult
	c.getTask("train", merge(p, params{"out": whole}), &res)
	var est estimateResult
	c.get("estimate", p, &est)
	if est.Bytes < res.PeakBytes {
		t.Errorf("estimate %d bytes, the run used %d", est.Bytes, res.PeakBytes)
	}
	if want := int64(48 + 7*128 + 2*48); res.Rows != want {
		t.Errorf("%d rows, want %d: 48 for the first head, 7 steps, 48 for each of two more", res.Rows, want)
	}
	plain := t.TempDir()
	c.must("train", merge(p, params{"out": plain, "refit": 0}))
	a, b := evals(t, whole), evals(t, plain)
	if a[3] != b[3] || a[5].Loss == b[5].Loss { // after step 2 no refit was due, after step 4 one was
		t.Errorf("with refits %+v, without %+v", a, b)
	}
	for _, at := range []float64{3, 5} {
		out := t.TempDir()
		again := c.interrupted(merge(p, params{"out": out, "resume": true}), at)
		if again.Best != res.Best || again.Loss != res.Loss || again.Rows != res.Rows {
			t.Errorf("stopped after step %g: %+v, was %+v", at, again, res)
		}
		names, err := os.ReadDir(filepath.Join(whole, "adapter"))
		if err != nil || read(t, filepath.Join(out, "replay.log")) != read(t, filepath.Join(whole, "replay.log")) {
			t.Fatalf("stopped after step %g: another log, %v", at, err)
		}
		for _, n := range names {
			if read(t, filepath.Join(whole, "adapter", n.Name())) != read(t, filepath.Join(out, "adapter", n.Name())) {
				t.Errorf("stopped after step %g: %s differs", at, n.Name())
			}
		}
	}
	c.fails("train", small(params{"refit": 3}), "invalid_params", "no label head")
	c.fails("train", params{"refit": -1, "steps": 2}, "invalid_params", "refit")
	c.fails("train", merge(p, params{"out": whole, "resume": true, "refit": 2}), "other_run", "refit was 3, now 2")
}

// TestEpsAuto compares slopes with any estimator that has some.
func TestEpsAuto(t *testing.T) {
	c := tiny(t, "int8")
	for _, e := range []string{"prge", "mezo", "fzoo"} {
		out := t.TempDir()
		p := small(params{"estimator": e, "eps": "auto", "steps": 3, "out": out, "resume": true, "lr": 0.05})
		c.interrupted(p, 2)
		log, err := replay.ReadFile(filepath.Join(out, "replay.log"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, x := range zo.EpsCandidates() {
			found = found || x == log.Config.Eps
		}
		if !found {
			t.Errorf("%s: eps %v", e, log.Config.Eps)
		}
	}
	c.fails("train", small(params{"estimator": "greedy", "eps": "auto"}), "invalid_params", "eps")
	for _, bad := range []any{"some", -1, 10, []int{1}} {
		c.fails("train", small(params{"eps": bad}), "invalid_params", "eps")
	}
}
