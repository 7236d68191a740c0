package session

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestModelErrors opens what is no model, or half of one.
func TestModelErrors(t *testing.T) {
	c := limited(t, 0)
	model, data := tinyFiles(t)
	c.fails("data.open", dataOf(data), "no_model")
	c.fails("train", small(nil), "no_model")
	c.fails("eval", params{}, "no_model")
	c.fails("generate", params{"prompt": "x"}, "no_model")
	c.fails("model.open", params{"path": model + ".none"}, "not_found", "tiny.gguf.none")
	c.fails("model.open", params{"path": data}, "failed", "data.csv")
	c.fails("model.open", params{"path": model, "dtype": "int3"}, "invalid_params", "dtype", "int3")
	c.fails("model.open", params{"path": model, "window": 257}, "invalid_params", "window", "257", "256")
	c.fails("model.open", params{"path": model, "colour": 1}, "invalid_params", "colour")
	whole := read(t, model)
	cut := filepath.Join(t.TempDir(), "cut.gguf")
	for _, n := range []int{0, 3, 4, 11, 23, 24, 100, 500, 1000, 5000, 9000, len(whole) / 4, len(whole) / 2, len(whole) - 4097, len(whole) - 64, len(whole) - 1} {
		write(t, cut, whole[:n])
		_, _, e := c.task("model.open", params{"path": cut})
		if e == nil || e.Code == "internal" || !strings.Contains(e.Message, "cut.gguf") {
			t.Errorf("cut to %d of %d bytes: %+v", n, len(whole), e)
		}
	}
	c.must("model.open", params{"path": model})
	c.fails("train", small(nil), "no_data")
	c.fails("eval", params{}, "no_data")
}

// TestNothingLeaks opens models that fail and that do not and looks at what the
// device has in use.
func TestNothingLeaks(t *testing.T) {
	c := limited(t, 0)
	model, data := tinyFiles(t)
	cut := filepath.Join(t.TempDir(), "cut.gguf")
	whole := read(t, model)
	write(t, cut, whole[:len(whole)-5000])
	open := func() int64 {
		c.must("model.open", params{"path": model})
		return c.se.dev.InUse()
	}
	first := open()
	for range 3 {
		c.task("model.open", params{"path": cut})
		if n := c.se.dev.InUse(); n >= first {
			t.Errorf("%d bytes in use after a model that failed, %d with one open", n, first)
		}
		if n := open(); n != first {
			t.Errorf("%d bytes in use, %d at first", n, first)
		}
		c.must("data.open", dataOf(data))
		id := c.start("train", small(nil))
		for range 9 {
			c.next(id)
		}
		c.get("task.stop", params{"task": id}, &struct{}{})
		c.must("train", small(params{"steps": 2}))
		c.must("generate", params{"prompt": "bad", "maxTokens": 2})
	}
}

// TestDataErrors opens data with something wrong and expects to be told where.
func TestDataErrors(t *testing.T) {
	c := limited(t, 0)
	model, data := tinyFiles(t)
	c.must("model.open", params{"path": model})
	bad := func(name string, change params, code string, words ...string) {
		t.Helper()
		c.fails("data.open", merge(dataOf(data), change), code, words...)
	}
	bad("missing file", params{"path": data + ".none"}, "not_found", "data.csv.none")
	bad("text column", params{"textColumn": "words"}, "invalid_params", "words", "text", "label")
	bad("label column", params{"labelColumn": "class"}, "invalid_params", "class")
	bad("verbalizer of several tokens", params{"verbalizers": []string{"terrible", "good"}}, "data", "good")
	bad("too few verbalizers", params{"verbalizers": []string{"great"}}, "data", "verbalizers")
	bad("two equal verbalizers", params{"verbalizers": []string{"great", "great"}}, "data", "verbalizer", "negative", "positive")
	bad("template without text", params{"template": "It was {label}"}, "invalid_params", "template")
	bad("template with a brace", params{"template": "{text It was {label}"}, "invalid_params", "template")
	bad("encoding", params{"encoding": "utf-7"}, "invalid_params", "encoding", "utf-7")
	bad("window", params{"window": 300}, "invalid_params", "window", "300", "256")
	bad("too many validation rows", params{"val": params{"rows": 1000}}, "invalid_params", "1000")
	bad("negative rows", params{"val": params{"rows": -1}}, "invalid_params", "-1")
	bad("long rows", params{"longRows": "fold"}, "invalid_params", "fold")

	file := filepath.Join(t.TempDir(), "bad.csv")
	rows := func(extra ...string) params {
		lines := []string{"text,label"}
		for i := range 10 {
			lines = append(lines, fmt.Sprintf("good %d,positive", i), fmt.Sprintf("bad %d,negative", i))
		}
		write(t, file, strings.Join(append(lines, extra...), "\n")+"\n")
		return params{"path": file, "val": params{"rows": 4}}
	}
	bad("unlisted label", rows("meh,neutral", "soso,neutral"), "data", "neutral", "21", "22")
	bad("a field too many", rows("a,b,c"), "data", "bad.csv", "22")

	var info dataInfo
	c.getTask("data.open", merge(dataOf(data), rows(",positive", "  ,negative")), &info)
	if len(info.Warnings) != 1 || info.Warnings[0].Code != "text-empty" || !slices.Equal(info.Warnings[0].Rows, []int{21, 22}) || info.TrainRows+info.ValRows != 20 {
		t.Errorf("two rows without text: %d + %d rows, warnings %+v", info.TrainRows, info.ValRows, info.Warnings)
	}
	c.getTask("data.open", merge(dataOf(data), merge(rows(strings.Repeat("long ", 80)+",positive"), params{"window": 60})), &info)
	if len(info.Warnings) != 1 || len(info.Warnings[0].Rows) != 1 || info.Warnings[0].Rows[0] != 21 || info.Longest != 60 {
		t.Errorf("a row of 400 tokens in a window of 60: longest %d, warnings %+v", info.Longest, info.Warnings)
	}
}

// TestTrainErrors gives settings that cannot be.
func TestTrainErrors(t *testing.T) {
	c := tiny(t, "int8")
	for _, x := range []struct {
		change params
		words  []string
	}{
		{params{"estimator": "sgd"}, []string{"estimator", "sgd"}},
		{params{"queries": -1}, []string{"queries", "-1"}},
		{params{"queries": 257}, []string{"queries", "257"}},
		{params{"batch": -2}, []string{"batch", "-2"}},
		{params{"batch": 5000}, []string{"batch", "5000"}},
		{params{"batch": 2.5}, []string{"batch"}},
		{params{"eps": -0.1}, []string{"eps"}},
		{params{"eps": 11}, []string{"eps"}},
		{params{"lr": 0}, []string{"lr"}},
		{params{"lr": "fast"}, []string{"lr", "fast"}},
		{params{"schedule": "sine"}, []string{"schedule", "sine"}},
		{params{"rank": -4}, []string{"rank"}},
		{params{"rank": 2000}, []string{"rank", "2000"}},
		{params{"alpha": -1}, []string{"alpha"}},
		{params{"modules": []string{"q", "w"}}, []string{"modules", "w"}},
		{params{"modules": []string{"q", "q"}}, []string{"modules", "twice"}},
		{params{"layers": 4}, []string{"layers", "4", "3"}},
		{params{"layers": 0}, []string{"layers"}},
		{params{"layers": "some"}, []string{"layers"}},
		{params{"steps": -1}, []string{"steps"}},
		{params{"steps": 5, "rows": 5}, []string{"steps", "rows"}},
		{params{"evalEvery": -1}, []string{"evalEvery"}},
		{params{"evalRows": -1}, []string{"evalRows"}},
		{params{"modules": []string{"weights"}}, []string{"mezo"}},
		{params{"modules": []string{"weights"}, "estimator": "mezo"}, []string{"f32"}},
		{params{"speed": 3}, []string{"speed"}},
	} {
		c.fails("train", small(x.change), "invalid_params", x.words...)
		_, e := c.call("estimate", small(x.change))
		c.isError("estimate", e, "invalid_params", x.words...)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	c.fails("train", small(params{"out": filepath.Join(file, "run")}), "failed", "file")
	c.fails("eval", params{"split": "test"}, "invalid_params", "split")
	c.fails("generate", params{"prompt": ""}, "invalid_params", "prompt")
	c.fails("generate", params{"prompt": "x", "adapter": true}, "no_adapter")
	c.fails("generate", params{"prompt": "x", "chat": true}, "no_chat_template")
	c.fails("generate", params{"prompt": "x", "temperature": -1}, "invalid_params", "temperature")
	c.fails("generate", params{"prompt": "x", "maxTokens": -1}, "invalid_params", "maxTokens")
	c.fails("generate", params{"prompt": strings.Repeat("long ", 60)}, "invalid_params", "300", "256")
	_, e := c.call("adapter.load", params{"path": t.TempDir()})
	c.isError("adapter.load", e, "not_found")
	_, e = c.call("adapter.export", params{"path": t.TempDir()})
	c.isError("adapter.export", e, "no_adapter")
	c.fails("adapter.replay", params{"path": file}, "failed", "file")
}

// TestOneTaskAtATime keeps other methods away from what a task uses.
func TestOneTaskAtATime(t *testing.T) {
	c := tiny(t, "int8")
	id := c.start("train", small(nil))
	c.next(id)
	c.fails("eval", params{}, "busy", "train")
	for _, m := range []string{"estimate", "adapter.clear"} {
		_, e := c.call(m, params{})
		c.isError(m, e, "busy", "train")
	}
	c.get("tokenize", params{"text": "good"}, &struct{}{})
	for c.next(id) != nil {
	}
	c.must("eval", params{})
}

// TestStopLeavesTheModel stops a run and finds the model as it was.
func TestStopLeavesTheModel(t *testing.T) {
	c := tiny(t, "int8")
	var before, after evalResult
	c.getTask("eval", params{}, &before)
	id := c.start("train", small(params{"evalEvery": 100}))
	for e := c.next(id); e["type"] != "step" || e["step"] != 6.0; e = c.next(id) {
	}
	c.get("task.stop", params{"task": id}, &struct{}{})
	c.getTask("eval", params{}, &after)
	if before.Loss != after.Loss {
		t.Errorf("loss %v before a run that was stopped, %v after it", before.Loss, after.Loss)
	}
}

// TestMemory asks for runs of several shapes and compares the estimate with what
// they take, then takes the memory away.
func TestMemory(t *testing.T) {
	c := tiny(t, "int8")
	for _, change := range []params{{"queries": 8, "batch": 8, "layers": 1}, {"layers": "all", "rank": 32}, {"estimator": "mezo", "batch": 6}, {"modules": []string{"q", "k", "v", "o", "gate", "up", "down"}}} {
		p := small(merge(change, params{"steps": 2}))
		var est estimateResult
		c.get("estimate", p, &est)
		var res trainResult
		c.getTask("train", p, &res)
		if est.Bytes < res.PeakBytes || est.Bytes > 2*res.PeakBytes {
			t.Errorf("%v: estimated %d bytes, used %d", change, est.Bytes, res.PeakBytes)
		}
	}
	model, data := tinyFiles(t)
	tight := limited(t, 22<<20)
	if tight.se.dev.Limit() > 22<<20 {
		t.Fatalf("limit %d", tight.se.dev.Limit())
	}
	tight.must("model.open", params{"path": model})
	tight.must("data.open", dataOf(data))
	used := tight.se.dev.InUse()
	p := small(params{"queries": 64, "batch": 32})
	var est estimateResult
	tight.get("estimate", p, &est)
	if est.Fits || est.Bytes <= est.Limit {
		t.Errorf("estimate %+v", est)
	}
	out := filepath.Join(t.TempDir(), "run")
	tight.fails("train", merge(p, params{"out": out}), "out_of_memory", "MB", mega(est.Limit), "batch")
	if n := tight.se.dev.InUse(); n != used {
		t.Errorf("%d bytes in use after the refusal, %d before", n, used)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a run that was refused has left a folder")
	}
	tight.must("train", small(params{"steps": 2}))
}

// TestAutoRate finds a rate and trains with it.
func TestAutoRate(t *testing.T) {
	c := tiny(t, "f32")
	out := t.TempDir()
	var res trainResult
	c.getTask("train", small(params{"lr": "auto", "out": out, "steps": 4}), &res)
	if !(res.LR > 0) || math.IsInf(res.LR, 0) {
		t.Errorf("rate %v", res.LR)
	}
	var st runState
	if err := json.Unmarshal([]byte(read(t, filepath.Join(out, "run.json"))), &st); err != nil {
		t.Fatal(err)
	}
	if st.Config.LR != res.LR {
		t.Errorf("run.json has rate %v, the result %v", st.Config.LR, res.LR)
	}
	// The range test leaves nothing behind: the same rate as a number gives the same run.
	again := t.TempDir()
	c.must("train", small(params{"lr": res.LR, "out": again, "steps": 4}))
	sameArtefacts(t, "rate given", artefacts(t, out), artefacts(t, again))
}

// TestZeroShotIsStep0 trains with a rate that destroys the model: the best is the
// model as it was, with an adapter of zeros.
func TestZeroShotIsStep0(t *testing.T) {
	c := tiny(t, "f32")
	var res trainResult
	c.getTask("train", small(params{"lr": 1e5, "steps": 3, "evalEvery": 1, "schedule": "constant"}), &res)
	if res.Best.Step != 0 || res.Best != res.ZeroShot {
		t.Errorf("best %+v, zero-shot %+v, last loss %v", res.Best, res.ZeroShot, res.Loss)
	}
	var ev evalResult
	c.getTask("eval", params{}, &ev)
	if ev.Loss != res.ZeroShot.Loss {
		t.Errorf("the adapter kept scores %v, zero-shot was %v", ev.Loss, res.ZeroShot.Loss)
	}
}

// TestFullWeights trains all weights in place, with MeZO as published.
func TestFullWeights(t *testing.T) {
	c := tiny(t, "f32")
	p := small(params{"estimator": "mezo", "modules": []string{"weights"}, "queries": 1, "lr": 1e-3, "eps": 1e-3, "steps": 4, "evalEvery": 2, "layers": 1})
	c.fails("train", merge(p, params{"out": t.TempDir()}), "invalid_params", "output")
	c.fails("train", merge(p, params{"lr": "auto"}), "invalid_params", "lr")
	c.must("train", small(params{"layers": 1, "steps": 1})) // caches prefixes that all weights make stale
	var before, after evalResult
	c.get("adapter.clear", params{}, &struct{}{})
	c.getTask("eval", params{"layers": 1}, &before)
	var res trainResult
	c.getTask("train", p, &res)
	if d := math.Abs(res.ZeroShot.Loss - before.Loss); d > 1e-5 {
		t.Errorf("step 0 of all weights has loss %v, the model %v", res.ZeroShot.Loss, before.Loss)
	}
	if res.Loss == res.ZeroShot.Loss {
		t.Error("training all weights changed nothing")
	}
	c.getTask("eval", params{"layers": 1}, &after)
	if d := math.Abs(after.Loss - res.Loss); d > 1e-5 {
		t.Errorf("evaluated in another program the loss is %v, at the end of the run it was %v", after.Loss, res.Loss)
	}
	c.fails("generate", params{"prompt": "x", "adapter": true}, "no_adapter")
	dir := t.TempDir()
	_, e := c.call("adapter.export", params{"path": dir})
	c.isError("adapter.export", e, "no_adapter")
}
