package session

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/lora"
	"tabtune/lora/peft"
	"tabtune/lora/replay"
)

// TestHead fits a head alone: it beats the label words, is saved, and comes back.
func TestHead(t *testing.T) {
	c := tiny(t, "int8")
	for _, layers := range []any{1, "all", "output"} { // the final norm's neighbour, every layer to choose from, no choice
		out := t.TempDir()
		p := params{"estimator": "head", "layers": layers, "out": out}
		if layers == "output" {
			p["head"] = layers
			delete(p, "layers")
		}
		var est estimateResult
		c.get("estimate", p, &est)
		var res trainResult
		c.getTask("train", p, &res)
		if res.Steps != 0 || res.LR != 0 || res.Head == nil || res.Best.Loss >= 0.7*res.ZeroShot.Loss || res.Best.Accuracy < 0.9 || res.Rows != 48 {
			t.Fatalf("layers %v: %+v, head %+v", layers, res, res.Head)
		}
		if layers == "output" && res.Head.Layer != c.se.model.ckpt.Config.Layers {
			t.Errorf("a head on layer %d, want the last", res.Head.Layer)
		}
		if !est.Fits || est.Bytes < res.PeakBytes {
			t.Errorf("layers %v: estimate %d bytes, used %d", layers, est.Bytes, res.PeakBytes)
		}
		var ev, again evalResult
		c.getTask("eval", params{}, &ev)
		if ev.Loss != res.Best.Loss {
			t.Errorf("layers %v: eval after train: loss %v, best %v", layers, ev.Loss, res.Best.Loss)
		}
		c.get("adapter.clear", params{}, &struct{}{})
		c.get("adapter.load", params{"path": out}, &struct{}{})
		c.getTask("eval", params{}, &again)
		if math.Abs(again.Loss-ev.Loss) > 1e-6 {
			t.Errorf("layers %v: loaded: loss %v, was %v", layers, again.Loss, ev.Loss)
		}
		copied := t.TempDir()
		c.get("adapter.export", params{"path": copied}, &struct{}{})
		names, err := os.ReadDir(filepath.Join(out, "adapter"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, n := range names {
			if read(t, filepath.Join(copied, n.Name())) != read(t, filepath.Join(out, "adapter", n.Name())) {
				t.Errorf("layers %v: %s is not exported as it was", layers, n.Name())
			}
		}
		c.must("generate", params{"prompt": "good", "maxTokens": 2, "adapter": true})
		// A run that is done is fitted to the same again.
		var same trainResult
		c.getTask("train", merge(p, params{"resume": true}), &same)
		if same.Best != res.Best || same.ZeroShot != res.ZeroShot || same.Loss != res.Best.Loss || same.Accuracy != res.Accuracy {
			t.Errorf("layers %v: continued: %+v, was %+v", layers, same, res)
		}
		if res.RowsPerSecond <= 0 || same.RowsPerSecond <= 0 {
			t.Errorf("layers %v: %v rows a second, %v when repeated", layers, res.RowsPerSecond, same.RowsPerSecond)
		}
		var st runState
		if err := json.Unmarshal([]byte(read(t, filepath.Join(out, "run.json"))), &st); err != nil {
			t.Fatal(err)
		}
		if st.Last.Loss != res.Loss || st.Last.Accuracy != res.Accuracy || res.Loss != res.Best.Loss {
			t.Errorf("layers %v: run.json's last %+v, the result %+v", layers, st.Last, res)
		}
		c.fails("adapter.replay", params{"path": filepath.Join(out, "replay.log")}, "invalid_params", "head")
	}
}

// TestHeadOneRow has too few rows to fit a head to.
func TestHeadOneRow(t *testing.T) {
	c := tiny(t, "int8")
	_, data := tinyFiles(t)
	c.must("data.open", merge(dataOf(data), params{"trainRows": 1}))
	c.fails("train", params{"estimator": "head"}, "invalid_params", "head needs 2")
	var res trainResult
	c.getTask("train", params{"steps": 1, "layers": 1}, &res)
	if res.Steps != 1 || res.Head != nil {
		t.Errorf("%+v", res)
	}
}

// TestHeadFiles reads both kinds of adapter, and one replaces the other.
func TestHeadFiles(t *testing.T) {
	c := tiny(t, "f32")
	model := c.se.model
	labels := []string{"negative", "positive"}
	dir := t.TempDir()
	dim := model.ckpt.Config.Dim
	classifier := &adapter{spec: lora.Spec{Classifier: &lora.Classifier{Layer: 2, Mean: true, Weight: make([]float32, 4*dim), Bias: []float32{0, 3}}}, labels: labels}
	if err := writeAdapter(dir, classifier, labels); err != nil {
		t.Fatal(err)
	}
	c.get("adapter.load", params{"path": dir}, &struct{}{})
	var ev evalResult
	c.getTask("eval", params{}, &ev)
	for _, p := range ev.Predictions {
		want := math.Log(1 + math.Exp(-3))
		if p.Label == 0 {
			want += 3
		}
		if p.Predicted != 1 || math.Abs(p.Loss-want) > 1e-5 {
			t.Fatalf("%+v, want loss %v", p, want)
		}
	}
	c.se.data.Labels = []string{"positive", "negative"}
	c.fails("eval", params{}, "adapter", "positive")
	c.se.data.Labels = labels

	a := &adapter{peft: peft.Adapter{Rank: 1, Alpha: 1, Modules: []peft.Module{{Name: lora.HeadName, In: dim, Out: model.ckpt.Config.Vocab,
		A: make([]float32, dim), B: make([]float32, model.ckpt.Config.Vocab)}}}}
	if err := writeAdapter(dir, a, labels); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, lora.ClassifierFile)); err == nil {
		t.Error("the classifier is still there")
	}
	c.get("adapter.load", params{"path": dir}, &struct{}{})
	c.must("eval", params{})
	for _, v := range [][]float32{a.peft.Modules[0].A, a.peft.Modules[0].B} { // logits that overflow
		for i := range v {
			v[i] = 3e38
		}
	}
	if err := writeAdapter(dir, a, labels); err != nil {
		t.Fatal(err)
	}
	c.get("adapter.load", params{"path": dir}, &struct{}{})
	c.getTask("eval", params{}, &ev)
	for _, p := range append(ev.Predictions, prediction{Loss: ev.Loss}) {
		if p.Loss != math.MaxFloat64 {
			t.Fatalf("%+v, want the largest number there is", p)
		}
	}
	a.peft.Modules[0].Out, a.peft.Modules[0].B = 5, make([]float32, 5)
	if err := writeAdapter(dir, a, labels); err != nil {
		t.Fatal(err)
	}
	_, e := c.call("adapter.load", params{"path": dir})
	c.isError("adapter.load", e, "adapter", "lm_head", "5 x")
}

// TestAuto trains under the head, stops it here and there, and continues.
func TestAuto(t *testing.T) {
	c := tiny(t, "int8")
	whole := t.TempDir()
	p := params{"steps": 4, "evalEvery": 2, "layers": 2}
	c.must("train", merge(p, params{"out": t.TempDir()}))
	_, events, e := c.task("train", merge(p, params{"out": whole}))
	if e != nil {
		t.Fatal(e)
	}
	files := func(dir string) map[string]string {
		names, err := filepath.Glob(filepath.Join(dir, "adapter", "*"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		out := map[string]string{"replay.log": read(t, filepath.Join(dir, "replay.log"))}
		for _, n := range names {
			out[filepath.Base(n)] = read(t, n)
		}
		return out
	}
	want := files(whole)
	log, err := replay.ReadFile(filepath.Join(whole, "replay.log"))
	if err != nil || len(log.Records) != 4 {
		t.Fatal(len(log.Records), err)
	}
	c.fails("adapter.replay", params{"path": filepath.Join(whole, "replay.log")}, "invalid_params", "label head")
	var st runState
	if err := json.Unmarshal([]byte(read(t, filepath.Join(whole, "run.json"))), &st); err != nil {
		t.Fatal(err)
	}
	if st.Best.Loss > 0.7*st.ZeroShot.Loss {
		t.Errorf("best %+v, zero-shot %+v", st.Best, st.ZeroShot)
	}
	for at := 3; at < len(events); at += max(1, len(events)/4) {
		out := t.TempDir()
		p := merge(p, params{"out": out, "resume": true})
		id := c.start("train", p)
		for range at + 1 {
			if c.next(id) == nil {
				t.Fatalf("the run ended before event %d", at)
			}
		}
		c.get("task.stop", params{"task": id}, &struct{}{})
		c.must("train", p)
		heads := 0 // evaluations before the first step: zero-shot and two heads
		for _, line := range strings.Split(read(t, filepath.Join(out, "metrics.jsonl")), "\n") {
			if strings.Contains(line, `"type":"eval","step":0,`) {
				heads++
			}
		}
		if heads != 3 {
			t.Errorf("stopped at %v: %d evaluations before the first step, want 3", events[at]["type"], heads)
		}
		sameArtefacts(t, "stopped at "+events[at]["type"].(string), want, files(out))
		if t.Failed() {
			return
		}
	}
}
