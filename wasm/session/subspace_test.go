package session

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/lora/peft"
	"tabtune/lora/replay"
)

// TestSubspaces trains in a subspace of the activations and in one random subspace
// after another: stopping changes nothing, the log alone gives the adapter, PEFT's
// files give the same losses.
func TestSubspaces(t *testing.T) {
	for _, dtype := range []string{"f32", "int8"} {
		c := tiny(t, dtype)
		for _, more := range []params{
			{"subspace": "activations"},
			{"subspace": "activations", "modules": []string{"q", "k", "o", "gate", "up", "down"}, "average": "tail", "lr": 0.2},
			{"subspace": "labels"},
			{"subspace": "labels", "modules": []string{"v", "o", "down"}, "rank": 2, "alpha": 4, "average": "tail"},
			{"subspace": "auto"}, // labels: the rows have some
			{"resample": 4},
			{"resample": 3, "optimizer": "momentum", "average": "tail", "rank": 64, "alpha": 128, "lr": 0.1},
			{"resample": 5, "estimator": "mezo", "queries": 2, "lr": 0.1},
		} {
			whole, out := t.TempDir(), t.TempDir()
			p := small(merge(params{"out": whole}, more))
			var est estimateResult
			c.get("estimate", p, &est)
			var res trainResult
			c.getTask("train", p, &res)
			if !est.Fits || est.Bytes < res.PeakBytes {
				t.Errorf("%v: estimate %d bytes, the run used %d", more, est.Bytes, res.PeakBytes)
			}
			if res.Best.Step == 0 {
				t.Fatalf("%v: the loss never fell: %+v", more, res)
			}
			again := c.interrupted(merge(p, params{"out": out, "resume": true}), 7)
			sameArtefacts(t, "interrupted", artefacts(t, whole), artefacts(t, out))
			if again.Best != res.Best || again.Loss != res.Loss || again.Rows != res.Rows {
				t.Errorf("%v: continued %+v, was %+v", more, again, res)
			}
			path := filepath.Join(whole, "replay.log")
			c.getTask("adapter.replay", params{"path": path, "steps": res.Best.Step, "averaged": res.Best.Averaged}, &struct{}{})
			dir := t.TempDir()
			c.get("adapter.export", params{"path": dir}, &struct{}{})
			if read(t, filepath.Join(dir, peft.WeightsFile)) != read(t, filepath.Join(whole, "adapter", peft.WeightsFile)) {
				t.Errorf("%v: the log alone gives another adapter", more)
			}
			c.get("adapter.load", params{"path": whole}, &struct{}{})
			var ev evalResult
			c.getTask("eval", params{}, &ev)
			if d := math.Abs(ev.Loss - res.Best.Loss); d > 2e-5 {
				t.Errorf("%v, %s: loaded, the loss is %v, in the run it was %v", more, dtype, ev.Loss, res.Best.Loss)
			}
			a, err := peft.Read(filepath.Join(whole, "adapter"))
			if err != nil {
				t.Fatal(err)
			}
			rank, every := 4, 0
			if n, ok := more["resample"].(int); ok {
				every = n
			}
			if n, ok := more["rank"].(int); ok {
				rank = n
			}
			want := rank
			if every > 0 {
				want = rank * min(256/rank, (res.Best.Step+every-1)/every)
			}
			if a.Rank != want || a.Alpha != 2*float64(want) {
				t.Errorf("%v: rank %d and alpha %g after step %d, want rank %d", more, a.Rank, a.Alpha, res.Best.Step, want)
			}
			var st runState
			if err := json.Unmarshal([]byte(read(t, filepath.Join(out, "run.json"))), &st); err != nil || st.Config.A != nil {
				t.Errorf("%v: run.json has the matrices, %v", more, err)
			}
		}
		c.fails("train", small(params{"subspace": "pca"}), "invalid_params", "subspace")
		c.fails("train", small(params{"subspace": "labels", "rank": 1}), "invalid_params", "rank")
		c.fails("train", small(params{"resample": -1}), "invalid_params", "resample")
		c.fails("train", small(params{"resample": 2, "subspace": "activations"}), "invalid_params", "resample")
		c.fails("train", small(params{"resample": 2, "rank": 129}), "invalid_params", "resample")
	}
}

// TestSubspaceUnderHead combines all that changes a run's program.
func TestSubspaceUnderHead(t *testing.T) {
	c := tiny(t, "int8")
	for _, more := range []params{{"subspace": "activations", "refit": 2}, {"subspace": "labels", "refit": 2}, {"resample": 2, "refit": 3, "average": "0.7"}} {
		whole, out := t.TempDir(), t.TempDir()
		p := merge(params{"steps": 5, "evalEvery": 2, "layers": 2, "patience": 100, "out": whole}, more)
		var res trainResult
		c.getTask("train", p, &res)
		again := c.interrupted(merge(p, params{"out": out, "resume": true}), 4)
		if again.Best != res.Best || again.Loss != res.Loss || read(t, filepath.Join(whole, "replay.log")) != read(t, filepath.Join(out, "replay.log")) {
			t.Errorf("%v: continued %+v, was %+v", more, again, res)
		}
		var ev evalResult
		c.getTask("eval", params{}, &ev)
		if math.Abs(ev.Loss-res.Best.Loss) > 2e-5 {
			t.Errorf("%v: the adapter's loss is %v, in the run it was %v", more, ev.Loss, res.Best.Loss)
		}
	}
}

// TestSubspaceLogIsHostile changes the matrices in a log's header.
func TestSubspaceLogIsHostile(t *testing.T) {
	c := tiny(t, "f32")
	out := t.TempDir()
	c.must("train", small(params{"subspace": "activations", "steps": 2, "out": out}))
	log, err := replay.ReadFile(filepath.Join(out, "replay.log"))
	if err != nil || len(log.Config.A) != 2 { // two layers, q and v of each read the same
		t.Fatal(len(log.Config.A), err)
	}
	for what, change := range map[string]func(a []string) []string{
		"one too few": func(a []string) []string { return a[:1] },
		"short":       func(a []string) []string { return []string{a[0], a[1][4:]} },
		"no base64":   func(a []string) []string { return []string{a[0], "!" + a[1][1:]} },
		"infinite":    func(a []string) []string { return []string{a[0], "AACAfw==" + a[1][8:]} },
		"not finite":  func(a []string) []string { return []string{a[0], "AACAfw" + a[1][6:]} },
	} {
		cfg := log.Config
		cfg.A = change(append([]string{}, log.Config.A...))
		path := filepath.Join(t.TempDir(), "replay.log")
		w, err := replay.Create(path, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(log.Records[0]); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, e := c.task("adapter.replay", params{"path": path}); e == nil {
			t.Errorf("%s: a log with other matrices is accepted", what)
		}
	}
	cfg := log.Config // bends that are missing
	cfg.A, cfg.Optimizer, cfg.Beta = nil, "hizoo", 0.9
	path := filepath.Join(t.TempDir(), "replay.log")
	w, err := replay.Create(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(replay.Record{Seeds: []int64{1, 2, 3}, Coefs: []float32{1, 2, 3}, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.fails("adapter.replay", params{"path": path}, "invalid_params", "bends", "3 seeds")
}

// TestInputs compares what the lowest adapted layer's q reads with the norm of what
// prefix gives, in float64, and looks at the groups of modules that read the same.
func TestInputs(t *testing.T) {
	c := tiny(t, "f32")
	cfg, err := c.se.normalise(trainParams{Layers: json.RawMessage("2"), Modules: []string{"q", "v", "o", "gate", "up", "down"}, Rank: 4})
	if err != nil {
		t.Fatal(err)
	}
	spec := cfg.inputSpec()
	of, widths := spec.Groups()
	model := &spec.Model
	wantOf, wantWidths := []int{0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7}, []int{model.Dim, model.Heads * model.HeadDim, model.Dim, model.FFN}
	if !slices.Equal(of, wantOf) || !slices.Equal(widths, append(slices.Clone(wantWidths), wantWidths...)) {
		t.Fatalf("groups %v of widths %v", of, widths)
	}
	r, err := c.se.programFor(spec)
	if err != nil {
		t.Fatal(err)
	}
	items := c.se.data.probe(3)
	got, err := r.inputs(items, inputPlaces)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, w := range widths {
		total += w
	}
	norm := c.se.model.weights[fmt.Sprintf("model.layers.%d.input_layernorm.weight", model.Layers-2)]
	w := c.se.floats(engine.View{DType: engine.F32, Sizes: []int{model.Dim}, Addr: kernel.Addr(norm.Addr)})
	for _, it := range items {
		ids := it.row().ids
		h, width, err := r.prefixes([]row{it.row()})
		if err != nil {
			t.Fatal(err)
		}
		x := c.se.floats(engine.View{DType: engine.F32, Sizes: []int{width, model.Dim}, Addr: h})[(len(ids)-1)*model.Dim:]
		var square float64
		for _, v := range x {
			square += float64(v) * float64(v) / float64(model.Dim)
		}
		for k, v := range x {
			want := float64(v) / math.Sqrt(square+model.NormEps) * float64(w[k])
			if math.Abs(float64(got[k])-want) > 1e-5*(1+math.Abs(want)) {
				t.Fatalf("value %d at the scored position is %v, want %v", k, got[k], want)
			}
		}
		places := 0
		for k := range inputPlaces {
			if last := len(ids) - 1; k == 0 || k*last/(inputPlaces-1) != (k-1)*last/(inputPlaces-1) {
				places++
			}
		}
		got = got[places*total:]
	}
	if len(got) != 0 {
		t.Errorf("%d values too many", len(got))
	}
}

// TestThreadsDoNotChangeRuns trains on one thread and on two: the same log and
// adapter, bit for bit.
func TestThreadsDoNotChangeRuns(t *testing.T) {
	var want []map[string]string
	for threads := 1; threads <= 2; threads++ {
		c := threaded(t, 0, threads)
		model, data := tinyFiles(t)
		c.must("model.open", params{"path": model, "dtype": "int8"})
		c.must("data.open", dataOf(data))
		for i, p := range []params{
			small(params{"subspace": "activations", "average": "tail", "layers": "auto", "modules": []string{"auto"}, "eps": "auto"}),
			small(params{"resample": 5, "optimizer": "muon", "lr": 0.05}),
			{"steps": 4, "evalEvery": 2, "layers": 2, "patience": 100, "refit": 2, "head": "output", "average": "0.8"},
		} {
			out := t.TempDir()
			c.must("train", merge(p, params{"out": out}))
			if threads == 1 {
				want = append(want, artefacts(t, out))
				continue
			}
			sameArtefacts(t, fmt.Sprint(p), want[i], artefacts(t, out))
		}
	}
}
