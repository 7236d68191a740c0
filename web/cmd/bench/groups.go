package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"tabtune/internal/assets"
)

// groups are the comparisons, in the order of the report.
var groups = []struct {
	name string
	run  func(ctx context.Context, b *bench) error
}{
	{"forward", forward}, {"threads", threads}, {"training", training}, {"prefix", prefix}, {"decode", decode}, {"memory", memory},
	{"loading", loading}, {"download", download}, {"wazero", wazero},
	{"programs", programs},
}

const (
	rows, tokens = 8, 64
	vocab        = 49152
)

// cmd is the command that repeats a group.
func cmd(group string) string { return fmt.Sprintf("make bench BENCHFLAGS='-only %s'", group) }

// ours opens a tab of Tabtune on a model with all processors; end closes it.
func (b *bench) ours(ctx context.Context, weights, dtype string) (t *tab, opened opening, end func(), err error) {
	path := b.model(weights)
	if weights == "Q8_0" {
		if err := b.ensure(ctx, "Q8_0"); err != nil {
			return nil, opened, nil, err
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, opened, nil, err
	}
	url := "/peers/" + filepath.Base(path)
	if weights == "Q4_1" {
		url = "/assets/" + assets.Model
	}
	t, end, err = b.openTab(ctx, "tabtune", map[string]any{"threads": runtime.NumCPU(), "url": url, "file": filepath.Base(path), "bytes": st.Size(), "dtype": dtype}, &opened)
	return t, opened, end, err
}

// opening is what our side's open answers; times in ms.
type opening struct {
	Boot, Download, Open float64
	Phases               map[string]float64
	Info                 struct{ WeightBytes float64 }
	Memory               struct{ Device, Module float64 }
}

// turn measures one of the session's contestants in a tab of ours.
func (b *bench) turn(name, in string, t *tab, params map[string]any) contestant {
	return contestant{name, func(context.Context) (float64, error) {
		p := map[string]any{"only": []string{in}, "seconds": b.seconds, "turns": 1}
		for k, v := range params {
			p[k] = v
		}
		var r struct{ Rows []struct{ Value float64 } }
		if err := t.method("bench.start", p, &r); err != nil {
			return 0, err
		}
		if len(r.Rows) != 1 {
			return 0, fmt.Errorf("bench gave %d rows", len(r.Rows))
		}
		return r.Rows[0].Value, nil
	}}
}

// forward compares the layers over 8 x 64 tokens, at one thread and at two.
func forward(ctx context.Context, b *bench) error {
	for _, n := range []int{1, 2} {
		if n > runtime.NumCPU() {
			fmt.Fprintln(os.Stderr, "  one processor: no comparison on two threads")
			continue
		}
		if err := b.forwardOn(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) forwardOn(ctx context.Context, n int) error {
	if err := b.ensure(ctx, "npm", "python", "trunk"); err != nil {
		return err
	}
	us, _, end, err := b.ours(ctx, "Q8_0", "int8")
	if err != nil {
		return err
	}
	defer end()
	const own, gemm = "tabtune int8", "its int8 products alone"
	cs := []contestant{b.turn(own, "forward", us, map[string]any{"threads": n}), b.turn(gemm, "gemm", us, map[string]any{"threads": n})}
	for _, kind := range []string{"int8", "f32"} {
		t, end, err := b.openTab(ctx, "ort", map[string]any{"threads": n, "url": "/peers/trunk-" + kind + ".onnx", "rows": rows, "tokens": tokens, "vocab": vocab}, nil)
		if err != nil {
			return err
		}
		defer end()
		cs = append(cs, contestant{"onnxruntime-web " + kind, func(context.Context) (float64, error) {
			var r struct{ MS []float64 }
			err := t.call("turn", map[string]any{"seconds": b.seconds}, &r)
			return perSecond(rows*tokens, r.MS), err
		}})
	}
	w, err := b.wllama(ctx, n, "Q8_0")
	if err != nil {
		return err
	}
	defer w.end()
	cs = append(cs, contestant{"wllama Q8_0", func(context.Context) (float64, error) {
		r, err := w.turn(1)
		return r.PromptPerSecond, err
	}})
	for _, peer := range []struct{ side, name string }{{"xnnpack", "ExecuTorch XNNPACK f32"}, {"portable", "ExecuTorch portable f32"}, {"torch", "PyTorch f32"}} {
		p, end, err := b.openNative(ctx, peer.side, n)
		if err != nil {
			return err
		}
		defer end()
		cs = append(cs, contestant{peer.name, func(context.Context) (float64, error) {
			ms, err := p.turn(b.seconds)
			return perSecond(rows*tokens, ms), err
		}})
	}
	r, err := b.contest(ctx, cs...)
	if err != nil {
		return err
	}
	for _, row := range []struct{ name, peer string }{
		{"ort_int8", "onnxruntime-web int8"}, {"wllama_q8", "wllama Q8_0"}, {"xnnpack", "ExecuTorch XNNPACK f32"}, {"gemm", gemm},
		{"ort_f32", "onnxruntime-web f32"}, {"portable", "ExecuTorch portable f32"}, {"pytorch", "PyTorch f32"},
	} {
		r.add(b.report, fmt.Sprintf("forward_vs_%s_t%d", row.name, n), own, row.peer, "tokens/s", cmd("forward"))
	}
	return nil
}

func perSecond(work float64, ms []float64) float64 {
	if m := median(ms); m > 0 {
		return work / m * 1000
	}
	return 0
}

// wllamaTab is a llama.cpp in a tab.
type wllamaTab struct {
	*tab
	end  func()
	salt int
}

type llamaTimings struct {
	PromptPerSecond    float64 `json:"prompt_per_second"`
	PredictedPerSecond float64 `json:"predicted_per_second"`
	PromptN            int     `json:"prompt_n"`
	PredictedN         int     `json:"predicted_n"`
}

func (b *bench) wllama(ctx context.Context, n int, weights string) (*wllamaTab, error) {
	if err := b.ensure(ctx, "npm"); err != nil {
		return nil, err
	}
	url := "/peers/" + filepath.Base(b.model(weights))
	var is struct{ Threads int }
	t, end, err := b.openTab(ctx, "wllama", map[string]any{"threads": n, "url": url, "tokens": rows * tokens}, &is)
	if err != nil {
		return nil, err
	}
	if is.Threads != n {
		end()
		return nil, fmt.Errorf("wllama runs on %d threads, not on %d", is.Threads, n)
	}
	return &wllamaTab{t, end, 0}, nil
}

// turn reads a prompt that it has not seen, of about 512 tokens, and writes n tokens.
func (w *wllamaTab) turn(n int) (llamaTimings, error) {
	w.salt++
	var r struct{ Timings llamaTimings }
	err := w.call("turn", map[string]any{"n": n, "salt": w.salt}, &r)
	if err == nil && r.Timings.PromptN < rows*tokens*9/10 {
		err = fmt.Errorf("wllama read %d tokens of the prompt only", r.Timings.PromptN)
	}
	return r.Timings, err
}

func threads(ctx context.Context, b *bench) error {
	t, _, end, err := b.ours(ctx, "Q8_0", "int8")
	if err != nil {
		return err
	}
	defer end()
	if runtime.NumCPU() < 2 {
		return nil
	}
	r, err := b.contest(ctx, b.turn("2 threads", "forward", t, map[string]any{"threads": 2}), b.turn("1 thread", "forward", t, map[string]any{"threads": 1}))
	if err == nil {
		r.add(b.report, "threads_2_vs_1", "2 threads", "1 thread", "tokens/s", cmd("threads"))
	}
	return err
}

// training compares steps of equal rows (2 q b) and then of equal shape at several lengths.
func training(ctx context.Context, b *bench) error {
	i8, _, end, err := b.ours(ctx, "Q8_0", "int8")
	if err != nil {
		return err
	}
	defer end()
	f32, _, end, err := b.ours(ctx, "Q8_0", "f32")
	if err != nil {
		return err
	}
	defer end()
	all := *b
	all.rounds, all.seconds = max(1, b.rounds/2), 0.1 // a turn is a step at least, and that takes seconds
	type shape struct{ q, b, tokens int }
	for _, s := range []shape{{1, 16, 64}, {4, 4, 64}, {16, 1, 64}, {4, 4, 16}, {4, 4, 32}, {4, 4, 128}, {4, 4, 256}} {
		p := map[string]any{"queries": s.q, "batch": s.b, "tokens": s.tokens}
		name := fmt.Sprintf("q%d", s.q)
		if s.tokens != 64 {
			name += fmt.Sprintf("_T%d", s.tokens)
		}
		r, err := all.contest(ctx, all.turn("P-RGE int8", "prge", i8, p), all.turn("P-RGE f32", "prge", f32, p),
			all.turn("LoRA sequential int8", "sequential", i8, p), all.turn("MeZO f32", "mezo", f32, p))
		if err != nil {
			return err
		}
		r.add(b.report, "prge_vs_mezo_"+name, "P-RGE int8", "MeZO f32", "rows/s", cmd("training"))
		r.add(b.report, "prge_f32_vs_mezo_"+name, "P-RGE f32", "MeZO f32", "rows/s", cmd("training"))
		r.add(b.report, "prge_vs_sequential_"+name, "P-RGE int8", "LoRA sequential int8", "rows/s", cmd("training"))
	}
	return nil
}

func prefix(ctx context.Context, b *bench) error {
	t, _, end, err := b.ours(ctx, "Q8_0", "int8")
	if err != nil {
		return err
	}
	defer end()
	r, err := b.contest(ctx, b.turn("top 4 layers, cached prefixes", "prge_top", t, nil), b.turn("all layers", "prge", t, nil))
	if err == nil {
		r.add(b.report, "prefix_vs_all", "top 4 layers, cached prefixes", "all layers", "rows/s", cmd("prefix"))
	}
	return err
}

// decode compares writing 64 tokens after a short prompt, ours with an adapter that was trained for a step.
func decode(ctx context.Context, b *bench) error {
	n := min(2, runtime.NumCPU())
	t, _, end, err := b.ours(ctx, "Q8_0", "int8")
	if err != nil {
		return err
	}
	defer end()
	w, err := b.wllama(ctx, n, "Q8_0")
	if err != nil {
		return err
	}
	defer w.end()
	if err := t.call("turn", map[string]any{"method": "store.download", "params": map[string]any{"url": "/assets/" + assets.ReviewsTrain, "path": "/data/" + assets.ReviewsTrain}}, nil); err != nil {
		return err
	}
	data := map[string]any{"path": "/data/" + assets.ReviewsTrain, "textColumn": "text", "labelColumn": "label", "verbalizers": []string{"terrible", "great"},
		"labels": []string{"negative", "positive"}, "trainRows": 8, "val": map[string]any{"rows": 2}}
	if err := t.method("data.open.start", data, nil); err != nil {
		return err
	}
	train := map[string]any{"steps": 1, "queries": 1, "batch": 1, "lr": 0.1, "layers": "all"}
	if err := t.method("train.start", train, nil); err != nil {
		return err
	}
	own := contestant{"tabtune int8, adapter", func(context.Context) (float64, error) {
		var r struct{ Tokens, Seconds float64 }
		err := t.method("generate.start", map[string]any{"prompt": "The film was", "maxTokens": 64, "adapter": true, "seed": 1}, &r)
		if err == nil && r.Tokens < 16 {
			err = fmt.Errorf("it wrote %g tokens only", r.Tokens)
		}
		return r.Tokens / r.Seconds, err
	}}
	r, err := b.contest(ctx, own, contestant{"wllama Q8_0", func(context.Context) (float64, error) {
		r, err := w.turn(64)
		return r.PredictedPerSecond, err
	}})
	if err == nil {
		r.add(b.report, "decode_vs_wllama", own.name, "wllama Q8_0", "tokens/s", cmd("decode"))
	}
	return err
}

// memory counts both wasm memories after a step, against the weights in device memory.
func memory(ctx context.Context, b *bench) error {
	for _, dtype := range []string{"int8", "q4"} {
		for _, what := range []struct{ name, only string }{{"memory", "prge"}, {"inference_memory", "forward"}} {
			t, opened, end, err := b.ours(ctx, "Q4_1", dtype)
			if err != nil {
				return err
			}
			_, err = b.turn(what.name, what.only, t, nil).turn(ctx)
			var m struct{ Device, Module float64 }
			if err == nil {
				err = t.method("memory", nil, &m)
			}
			end()
			if err != nil {
				return err
			}
			weights := opened.Info.WeightBytes
			fmt.Fprintf(os.Stderr, "  %s, %s: device %.1f + module %.1f MB; when opened %.1f + %.1f; weights %.1f\n", dtype, what.only, m.Device/1e6, m.Module/1e6,
				opened.Memory.Device/1e6, opened.Memory.Module/1e6, weights/1e6)
			b.report.add(row{Name: fmt.Sprintf("%s_vs_weights_%s", what.name, dtype), Ours: (m.Device + m.Module) / 1e6, Peer: weights / 1e6, Unit: "MB",
				Ratio: (m.Device + m.Module) / weights, Command: cmd("memory"), OursName: "device and module memory, " + what.only, PeerName: dtype + " weights", Rounds: 1})
		}
	}
	return nil
}

// wazero runs the same module natively; Chromium has its turns between.
func wazero(ctx context.Context, b *bench) error {
	t, _, end, err := b.ours(ctx, "Q8_0", "int8")
	if err != nil {
		return err
	}
	defer end()
	own := b.turn("Chromium", "forward", t, nil)
	r, err := b.contest(ctx, own, contestant{"wazero", func(ctx context.Context) (float64, error) { return b.native(ctx, "forward") }})
	if err == nil {
		r.add(b.report, "chromium_vs_wazero", "Chromium", "wazero", "tokens/s", cmd("wazero"))
	}
	return err
}
