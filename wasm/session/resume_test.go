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
)

// TestTrainFiles trains and reads what the run leaves, with eval, replay and
// export agreeing about the adapter.
func TestTrainFiles(t *testing.T) {
	c := tiny(t, "int8")
	out := filepath.Join(t.TempDir(), "run")
	var est estimateResult
	c.get("estimate", small(nil), &est)
	var res trainResult
	c.getTask("train", small(params{"out": out}), &res)
	if res.Steps != 12 || res.Rows != 12*2*2*2 || res.LR != 0.5 || res.PeakBytes <= 0 {
		t.Errorf("result %+v", res)
	}
	if est.Bytes < res.PeakBytes || !est.Fits {
		t.Errorf("estimate %d bytes, the run used %d", est.Bytes, res.PeakBytes)
	}
	if est.Bytes > 2*res.PeakBytes {
		t.Errorf("estimate %d bytes is more than twice the %d used", est.Bytes, res.PeakBytes)
	}
	if res.Best.Loss > res.ZeroShot.Loss || res.Best.Loss > res.Loss {
		t.Errorf("best %+v is not the best of zero-shot %+v and the last loss %g", res.Best, res.ZeroShot, res.Loss)
	}
	if res.Best.Step == 0 {
		t.Fatal("the loss never fell; the tests below would compare zeros")
	}

	var st runState
	if err := json.Unmarshal([]byte(read(t, filepath.Join(out, "run.json"))), &st); err != nil {
		t.Fatal(err)
	}
	if st.Step != 12 || !st.Done || st.Best != res.Best || st.ZeroShot != res.ZeroShot || st.Version != Version {
		t.Errorf("run.json %+v", st)
	}
	counts := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(read(t, filepath.Join(out, "metrics.jsonl"))), "\n") {
		var e struct{ Type string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("metrics: %v", err)
		}
		counts[e.Type]++
	}
	if counts["step"] != 12 || counts["eval"] != 5 {
		t.Errorf("metrics hold %v, want 12 steps and 5 evaluations", counts)
	}
	log, err := replay.ReadFile(filepath.Join(out, "replay.log"))
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Records) != 12 || log.Config.ModelSHA256 != st.Model.SHA256 {
		t.Errorf("log of %d records, model %s", len(log.Records), log.Config.ModelSHA256)
	}
	if _, err := peft.Read(filepath.Join(out, "adapter")); err != nil {
		t.Error(err)
	}

	var ev evalResult
	c.getTask("eval", params{}, &ev)
	if ev.Loss != res.Best.Loss || ev.Accuracy != res.Best.Accuracy || ev.Rows != 12 {
		t.Errorf("eval after train: loss %v accuracy %v of %d rows, best was %+v", ev.Loss, ev.Accuracy, ev.Rows, res.Best)
	}
	var text generateResult
	gen := params{"prompt": "good good", "maxTokens": 12, "adapter": true}
	c.getTask("generate", gen, &text)

	t.Run("loaded", func(t *testing.T) {
		c.get("adapter.clear", params{}, &struct{}{})
		var plain evalResult
		c.getTask("eval", params{}, &plain)
		if d := math.Abs(plain.Loss - res.ZeroShot.Loss); d > 1e-6 {
			t.Errorf("without an adapter the loss is %v, zero-shot was %v", plain.Loss, res.ZeroShot.Loss)
		}
		for _, dir := range []string{out, filepath.Join(out, "adapter")} {
			c.get("adapter.load", params{"path": dir}, &struct{}{})
			var again evalResult
			c.getTask("eval", params{}, &again)
			if d := math.Abs(again.Loss - ev.Loss); d > 1e-6 || again.Accuracy != ev.Accuracy {
				t.Errorf("loaded from %s: loss %v, trained %v", filepath.Base(dir), again.Loss, ev.Loss)
			}
		}
		var same generateResult
		c.getTask("generate", gen, &same)
		if same.Text != text.Text || same.Tokens != text.Tokens {
			t.Errorf("loaded adapter generates %q, trained one %q", same.Text, text.Text)
		}
		dir := filepath.Join(t.TempDir(), "copy")
		c.get("adapter.export", params{"path": dir}, &struct{}{})
		if read(t, filepath.Join(dir, "adapter_model.safetensors")) != read(t, filepath.Join(out, "adapter", "adapter_model.safetensors")) {
			t.Error("a loaded adapter is not exported as it was")
		}
	})
	t.Run("replayed", func(t *testing.T) {
		c.getTask("adapter.replay", params{"path": filepath.Join(out, "replay.log"), "steps": res.Best.Step}, &struct{}{})
		dir := filepath.Join(t.TempDir(), "copy")
		c.get("adapter.export", params{"path": dir}, &struct{}{})
		if read(t, filepath.Join(dir, "adapter_model.safetensors")) != read(t, filepath.Join(out, "adapter", "adapter_model.safetensors")) {
			t.Error("the adapter replayed up to the best step is not the best adapter")
		}
		c.fails("adapter.replay", params{"path": filepath.Join(out, "replay.log"), "steps": 13}, "invalid_params", "13", "12")
	})
}

// TestReplayIsTheRun replays a whole log and compares with the B of the run.
func TestReplayIsTheRun(t *testing.T) {
	for _, estimator := range []string{"prge", "mezo"} {
		c := tiny(t, "int8")
		out := t.TempDir()
		// One evaluation, at the end: with a rate that helps it is also the best.
		c.getTask("train", small(params{"estimator": estimator, "out": out, "steps": 6, "evalEvery": 100}), &struct{}{})
		var st runState
		if err := json.Unmarshal([]byte(read(t, filepath.Join(out, "run.json"))), &st); err != nil {
			t.Fatal(err)
		}
		if st.Best.Step != 6 {
			t.Fatalf("%s: best step %d, want the last", estimator, st.Best.Step)
		}
		c.getTask("adapter.replay", params{"path": filepath.Join(out, "replay.log")}, &struct{}{})
		dir := t.TempDir()
		c.get("adapter.export", params{"path": dir}, &struct{}{})
		if read(t, filepath.Join(dir, "adapter_model.safetensors")) != read(t, filepath.Join(out, "adapter", "adapter_model.safetensors")) {
			t.Errorf("%s: replaying the log gives another adapter", estimator)
		}
	}
}

// TestResume stops runs at every event, in the orderly way and by forgetting the
// process, continues them, and compares with a run that nobody stopped.
func TestResume(t *testing.T) {
	c := tiny(t, "int8")
	whole := t.TempDir()
	short := params{"steps": 5, "evalEvery": 2}
	c.must("train", small(merge(short, params{"out": t.TempDir()}))) // fills the cache, whose events come only once
	_, events, e := c.task("train", small(merge(short, params{"out": whole})))
	if e != nil {
		t.Fatal(e)
	}
	want := artefacts(t, whole)
	for at := range len(events) {
		out := t.TempDir()
		p := small(merge(short, params{"out": out, "resume": true}))
		id := c.start("train", p)
		for range at + 1 {
			if c.next(id) == nil {
				t.Fatalf("the run ended before event %d", at)
			}
		}
		// What a killed process leaves: a copy made while the task is parked.
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(out)); err != nil {
			t.Fatal(err)
		}
		c.get("task.stop", params{"task": id}, &struct{}{})
		for how, dir := range map[string]string{"stopped": out, "killed": killed} {
			p["out"] = dir
			c.must("train", p)
			sameArtefacts(t, how+" at "+events[at]["type"].(string), want, artefacts(t, dir))
		}
		if t.Failed() {
			return
		}
	}
}

// TestResumeTornLog cuts a log everywhere in its last records.
func TestResumeTornLog(t *testing.T) {
	c := tiny(t, "int8")
	whole := t.TempDir()
	c.must("train", small(params{"out": whole}))
	want := artefacts(t, whole)
	full := want["replay.log"]
	log, err := replay.ReadFile(filepath.Join(whole, "replay.log"))
	if err != nil {
		t.Fatal(err)
	}
	var second int // bytes of the log up to its second record's end
	for second = len(full); ; second-- {
		l, err := replay.Read(strings.NewReader(full[:second]), int64(second), "log")
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Records) == 1 {
			break
		}
	}
	for _, n := range []int{len(full) - 1, len(full) - 9, len(full) - 25, (second + len(full)) / 2, second, second - 3} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "replay.log"), full[:n])
		c.must("train", small(params{"out": dir, "resume": true}))
		sameArtefacts(t, "torn log", want, artefacts(t, dir))
	}
	if len(log.Records) != 12 {
		t.Errorf("%d records", len(log.Records))
	}
}

// TestOtherRun refuses to continue a run with other settings.
func TestOtherRun(t *testing.T) {
	c := tiny(t, "int8")
	model, data := tinyFiles(t)
	out := t.TempDir()
	c.must("train", small(params{"out": out, "steps": 3}))
	c.fails("train", small(params{"out": out, "steps": 3}), "run_exists", out)
	for name, change := range map[string]any{"queries": 3, "batch": 3, "eps": 0.1, "lr": 0.25, "rank": 8, "alpha": 16, "seed": 8, "layers": 1,
		"schedule": "constant", "estimator": "mezo", "modules": []string{"q", "k"}, "evalEvery": 2, "evalRows": 5} {
		c.fails("train", small(params{"out": out, "steps": 3, "resume": true, name: change}), "other_run", name, out)
	}
	c.fails("train", small(params{"out": out, "resume": true, "seed": 9}), "other_run", "seed was 7, now 9")
	// Settings that the log has and the run to continue leaves out.
	for name, value := range map[string]any{"optimizer": "adam", "noise": "rademacher", "clip": 3, "warmup": 0.1, "patience": 2, "objective": "error"} {
		out := t.TempDir()
		c.must("train", small(params{"out": out, "steps": 1, name: value}))
		c.fails("train", small(params{"out": out, "steps": 1, "resume": true}), "other_run", name, "now <nil>")
	}
	for name, change := range map[string]params{"template": {"template": "{text} Really {label}"}, "dataSeed": {"seed": 3}, "trainRows": {"trainRows": 20},
		"labels": {"labels": []string{"positive", "negative"}}, "valRows": {"val": params{"rows": 10}}} {
		p := dataOf(data)
		for k, v := range change {
			p[k] = v
		}
		c.must("data.open", p)
		c.fails("train", small(params{"out": out, "steps": 3, "resume": true}), "other_run", name)
	}
	c.must("model.open", params{"path": model, "dtype": "f32"})
	c.must("data.open", dataOf(data))
	c.fails("train", small(params{"out": out, "steps": 3, "resume": true}), "other_run", "dtype was int8, now f32")
}

// TestSequentialEqualsParallel compares the logs of MeZO and of P-RGE with one
// query on the same adapter.
func TestSequentialEqualsParallel(t *testing.T) {
	c := tiny(t, "f32")
	var logs [2]*replay.Log
	for i, estimator := range []string{"prge", "mezo"} {
		out := t.TempDir()
		c.must("train", small(params{"estimator": estimator, "queries": 1, "out": out, "steps": 5}))
		var err error
		if logs[i], err = replay.ReadFile(filepath.Join(out, "replay.log")); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range logs[0].Records {
		b := logs[1].Records[i]
		if a.Seeds[0] != b.Seeds[0] {
			t.Fatalf("step %d: seeds %d and %d", i, a.Seeds[0], b.Seeds[0])
		}
		if math.Float32bits(a.Coefs[0]) != math.Float32bits(b.Coefs[0]) {
			t.Errorf("step %d: coefficient %v in parallel, %v in sequence", i, a.Coefs[0], b.Coefs[0])
		}
	}
}
