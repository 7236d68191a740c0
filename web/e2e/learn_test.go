package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tabtune/host"
	"tabtune/internal/assets"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// The protocol of the movie reviews: 1,000 training and 500 validation sentences, label words, adapters of rank 16 on q and v of the top 4
// layers, P-RGE with q 8 and batch 8: to learn, in the subspace that tells labels apart; and for the first steps alone in a random one.
const (
	learnSteps    = 40
	learnAccuracy = 0.80 // 0.54 before; exact gradients on the same modules come to 0.84 in twice these rows
	compareSteps  = 20
)

// protocol is one of these runs.
type protocol struct {
	steps    int
	rate     float64
	subspace string
}

var (
	learning  = protocol{learnSteps, 2, "labels"}
	beginning = protocol{compareSteps, 0.5, "random"}
)

func (p protocol) knobs(threads string) map[string]string {
	return map[string]string{"steps": strconv.Itoa(p.steps), "queries": "8", "batch": "8", "lr": strconv.FormatFloat(p.rate, 'g', -1, 64), "evalEvery": "20", "layers": "4",
		"rank": "16", "alpha": "32", "seed": "0", "subspace": p.subspace, "threads": threads}
}

// TestLearning fine-tunes SmolLM2-135M on the movie reviews in wazero and in Chromium, and compares the losses of the first steps bit by
// bit between wazero with all threads and Chromium with all threads, and Chromium with one, on a phone's window and in its memory.
func TestLearning(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	model := assets.Need(t, assets.Model)
	assets.Need(t, assets.ReviewsTrain)
	full := filepath.Dir(model)
	for _, run := range []struct {
		name, threads string
		protocol
		phone  bool
		assets string
	}{{"Chromium, two threads", "2", learning, false, full}, {"Chromium on a phone, one thread", "1", beginning, true, fewReviews(t, full)}} {
		start := time.Now()
		headless := learnHeadless(t, run.assets, run.protocol)
		t.Logf("%s: wazero took %.0f s", run.name, time.Since(start).Seconds())
		start = time.Now()
		s := &site.Site{Dist: realDist(t), Assets: run.assets, Isolated: true}
		url := serve(t, s)
		o := drive.Options{}
		if run.phone {
			o = phones["iPhone 15"]
			s.Script(oneGigabyte)
		}
		o.Downloads = t.TempDir()
		b, ctx := open(t, 20*time.Minute, o)
		must(t, b.Goto(url))
		knobs := run.knobs(run.threads)
		if run.phone {
			_, err := b.WaitFor(ctx, "model and data", nil, func(s drive.State) bool { return s.Model.Phase == "ready" && s.Data.Phase == "ready" && s.FineTune })
			must(t, err)
			must(t, b.Unfold(ctx, "knobs"))
			for id, v := range knobs {
				must(t, b.Set("knob-"+id, v))
				_, err = b.WaitFor(ctx, "the estimate", nil, func(s drive.State) bool { return s.FineTune })
				must(t, err)
			}
			must(t, b.Click("fine-tune"))
			state, err := b.WaitFor(ctx, "the first steps", nil, func(s drive.State) bool { return s.Number("Step") >= float64(run.steps) })
			must(t, err)
			if !strings.Contains(state.Estimate, "this browser allows 1.02 GB") {
				t.Errorf("%s: %q", run.name, state.Estimate)
			}
			t.Logf("%s: %s", run.name, state.Estimate)
		} else {
			state, err := b.FineTune(ctx, drive.Run{Knobs: knobs})
			must(t, err)
			accuracy := state.Table["Accuracy"]
			t.Logf("%s: accuracy %.3f before, %.3f after; loss %.4f, %.4f; %s", run.name, accuracy[0], accuracy[1], state.Table["Loss"][0], state.Table["Loss"][1], state.Train.Text)
			t.Logf("%s: %v", run.name, state.Facts)
			if accuracy[1] < learnAccuracy {
				t.Errorf("%s: validation accuracy %.3f, want %.2f", run.name, accuracy[1], learnAccuracy)
			}
		}
		compareLosses(t, run.name, headless, stepLosses(t, pageMetrics(t, b)))
		must(t, b.CloseAndCheck(url))
		t.Logf("%s: Chromium took %.0f s", run.name, time.Since(start).Seconds())
	}
}

// fewReviews is a folder with the model and the reviews of dir, but for most of the validation rows: whoever compares training losses has
// no use for them, and they take longer than the steps.
func fewReviews(t *testing.T, dir string) string {
	t.Helper()
	out := t.TempDir()
	for _, name := range []string{assets.Model, assets.ReviewsTrain} {
		must(t, os.Symlink(filepath.Join(dir, name), filepath.Join(out, name)))
	}
	val, err := os.ReadFile(filepath.Join(dir, assets.ReviewsVal))
	must(t, err)
	lines := bytes.SplitAfterN(val, []byte("\n"), 1+50+1)
	must(t, os.WriteFile(filepath.Join(out, assets.ReviewsVal), bytes.Join(lines[:51], nil), 0o644))
	return out
}

// learnHeadless runs a protocol in wazero, with the model and the reviews of dir, and returns the losses of the steps.
func learnHeadless(t *testing.T, dir string, p protocol) []float64 {
	t.Helper()
	ctx := context.Background()
	out := t.TempDir()
	model, train, val := filepath.Join(dir, assets.Model), filepath.Join(dir, assets.ReviewsTrain), filepath.Join(dir, assets.ReviewsVal)
	h, err := host.Open(ctx, host.Options{Mounts: []host.Mount{host.File(model), host.File(train), host.File(val), host.Dir(out)}})
	must(t, err)
	defer h.Close()
	_, err = h.OpenModel(ctx, host.ModelParams{Path: model, DType: "int8"}, nil)
	must(t, err)
	_, err = h.OpenData(ctx, host.DataParams{Path: train, TextColumn: "text", LabelColumn: "label", Template: "{text} It was {label}",
		Labels: []string{"negative", "positive"}, Verbalizers: []string{"terrible", "great"}, Val: &host.ValParams{Path: val}})
	must(t, err)
	run := filepath.Join(out, "run")
	result, err := h.Train(ctx, host.TrainParams{Queries: 8, Batch: 8, LR: host.LR(p.rate), Layers: host.Layers(4), Rank: 16, Alpha: 32, Steps: p.steps,
		Subspace: p.subspace, EvalEvery: 20, Out: run}, func(host.TrainEvent) error { return nil })
	must(t, err)
	t.Logf("wazero: accuracy %.3f before, %.3f after; loss %.4f, %.4f; %d rows in %.0f s", result.ZeroShot.Accuracy, result.Accuracy,
		result.ZeroShot.Loss, result.Loss, result.Rows, result.Seconds)
	if p == learning && result.Accuracy < learnAccuracy {
		t.Errorf("wazero: validation accuracy %.3f, want %.2f", result.Accuracy, learnAccuracy)
	}
	metrics, err := os.ReadFile(filepath.Join(run, "metrics.jsonl"))
	must(t, err)
	return stepLosses(t, string(metrics))
}

// pageMetrics reads the metrics of the only run from the page's storage.
func pageMetrics(t *testing.T, b *drive.Browser) string {
	t.Helper()
	var text string
	must(t, b.Run(chromedp.Evaluate(`(async () => {
  const runs = await (await navigator.storage.getDirectory()).getDirectoryHandle("runs");
  for await (const dir of runs.values()) return await (await (await dir.getFileHandle("metrics.jsonl")).getFile()).text();
  return "";
})()`, &text, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })))
	return text
}

// stepLosses lists the losses of a metrics file's steps, in order from step 1.
func stepLosses(t *testing.T, metrics string) []float64 {
	t.Helper()
	var out []float64
	lines := bufio.NewScanner(strings.NewReader(metrics))
	for lines.Scan() {
		var e struct {
			Type string
			Step int
			Loss float64
		}
		must(t, json.Unmarshal(lines.Bytes(), &e))
		if e.Type != "step" {
			continue
		}
		if e.Step != len(out)+1 {
			t.Fatalf("step %d follows %d", e.Step, len(out))
		}
		out = append(out, e.Loss)
	}
	return out
}

func compareLosses(t *testing.T, name string, want, got []float64) {
	t.Helper()
	if len(want) < compareSteps || len(got) < compareSteps {
		t.Fatalf("%s: %d losses to compare with %d, want %d", name, len(got), len(want), compareSteps)
	}
	for i := range compareSteps {
		if math.Float64bits(want[i]) != math.Float64bits(got[i]) {
			t.Errorf("%s: the loss of step %d is %v, in wazero %v", name, i+1, got[i], want[i])
		}
	}
	if t.Failed() {
		return
	}
	t.Logf("%s: the first %d losses have the bits of wazero's (%v, %v, ...)", name, compareSteps, got[0], got[1])
}
