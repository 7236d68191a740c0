package e2e

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestPickedFile walks all steps with a picked model: copy into storage, train, compare, save.
func TestPickedFile(t *testing.T) {
	downloads := t.TempDir()
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: downloads})
	url := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(url))
	// The sample model is not on this server: a plain message, and the picker as the way on.
	_, err := b.WaitFor(ctx, "the message", nil, func(drive.State) bool { return false })
	if p := pageError(t, err); !strings.Contains(p.Message, "404") || !strings.Contains(p.Message, "Pick the file") {
		t.Errorf("message for a missing model: %q", p.Message)
	}
	picked := tinyModel(t)
	must(t, b.Pick("#pick-model", picked))
	must(t, wait(ctx, func() bool { s, _ := b.State(); return s.Problem == "" && s.Model.Phase == "ready" }))
	// The same file once more takes the place of the stored one, which is open.
	must(t, b.Pick("#pick-model", picked))
	time.Sleep(2 * time.Second) // a small file is copied before anybody could see it
	must(t, wait(ctx, func() bool {
		s, _ := b.State()
		return s.Problem == "" && s.Model.Phase == "ready" && s.Data.Phase == "ready"
	}))
	var s drive.State
	tasks, err := b.Trace(func() (err error) {
		s, err = b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "60", "evalEvery": "10"}})
		return err
	})
	must(t, err)
	noLongTask(t, tasks)
	if s.Table["Accuracy"] == [2]float64{} || s.Number("Step") != 60 {
		t.Errorf("result: %+v", s)
	}
	first, last := chartEnds(s)
	if !(last > first) { // SVG's y grows downwards
		t.Errorf("the loss did not fall: y %v to %v in %s", first, last, s.LossPoints)
	}
	names := zipNames(t, waitZip(t, downloads))
	if strings.Join(names, " ") != "adapter_model.safetensors adapter_config.json replay.log" {
		t.Errorf("archive: %v", names)
	}
	must(t, b.Click("generate"))
	must(t, wait(ctx, func() bool {
		var both string
		_ = b.Eval(`document.getElementById("answer-before").textContent + "|" + document.getElementById("answer-after").textContent`, &both)
		return both == " before before before| after after after"
	}))
	for _, line := range b.Console() {
		if !strings.Contains(line, "404") { // the missing sample model
			t.Errorf("console: %s", line)
		}
	}
	must(t, b.CloseAndCheck(url))
}

// noLongTask fails for a main-thread task with more than 50 ms of processor time.
func noLongTask(t *testing.T, tasks []drive.Task) {
	t.Helper()
	t.Logf("longest of %d main-thread tasks while training: %v", len(tasks), tasks[:min(3, len(tasks))])
	if tasks[0].CPU > 50*time.Millisecond {
		t.Errorf("a main-thread task took %v of processor time while training", tasks[0].CPU)
	}
}

func chartEnds(s drive.State) (first, last float64) {
	pts := strings.Fields(s.LossPoints)
	if len(pts) < 2 {
		return 0, 0
	}
	return number(pts[0]), number(pts[len(pts)-1])
}

// TestContinue stops a run, reloads the page and goes on from its log.
func TestContinue(t *testing.T) {
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: t.TempDir()})
	url := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(url))
	prepare(t, b, ctx)
	must(t, b.Unfold(ctx, "knobs"))
	must(t, b.Set("knob-steps", "400"))
	_, err := b.WaitFor(ctx, "the button", nil, func(s drive.State) bool { return s.FineTune })
	must(t, err)
	must(t, b.Click("fine-tune"))
	_, err = b.WaitFor(ctx, "20 steps", nil, func(s drive.State) bool { return s.Number("Step") >= 20 })
	must(t, err)

	must(t, b.Click("pause"))
	paused, err := b.WaitFor(ctx, "the pause", nil, func(s drive.State) bool { return s.Train.Text == "Paused." })
	must(t, err)
	time.Sleep(600 * time.Millisecond)
	if s, _ := b.State(); s.Number("Step") > paused.Number("Step")+1 {
		t.Errorf("steps went on while paused: %v to %v", paused.Number("Step"), s.Number("Step"))
	}
	must(t, b.Click("pause"))
	_, err = b.WaitFor(ctx, "more steps", nil, func(s drive.State) bool { return s.Number("Step") >= paused.Number("Step")+10 })
	must(t, err)
	// No stop: the tab is reloaded in the middle, as when it is closed.
	must(t, b.Run(chromedp.Reload()))
	prepare(t, b, ctx)
	s, err := b.State()
	must(t, err)
	if s.Saved != 1 {
		t.Fatalf("%d saved runs after the reload: %+v", s.Saved, s)
	}
	s, err = b.FineTune(ctx, drive.Run{Continue: true, Progress: nil})
	must(t, err)
	if s.Number("Step") != 400 {
		t.Errorf("continued run: %+v", s)
	}
	// The first step drawn after the reload is the one after the log's last.
	if !strings.HasPrefix(s.Chart, "Training loss") || strings.Contains(s.Chart, "at step 1,") {
		t.Errorf("the run began anew: %s", s.Chart)
	}
	if s.Saved != 0 {
		t.Errorf("the finished run is still offered: %d", s.Saved)
	}
}

// TestLocked opens one run in two tabs.
func TestLocked(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	url := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(url))
	script := `(async () => {
	  const ask = (w, id, method, params) => new Promise((resolve) => { w.addEventListener("message", ({ data }) => { if (data.id === id && !data.event) resolve(data); }); w.postMessage({ id, method, params }); });
	  const make = async () => { const w = new Worker("worker/worker.js", { type: "module" }); await ask(w, 1, "boot", { threads: 1 }); return w; };
	  const [one, two] = [await make(), await make()];
	  const params = { out: "/runs/x", steps: 3, evalEvery: 1, queries: 1, batch: 1 };
	  const a = await ask(one, 2, "train.start", params);
	  const b = await ask(two, 2, "train.start", params);
	  await ask(one, 3, "run.release", { run: "x" });
	  const c = await ask(two, 4, "train.start", params);
	  const trap = await ask(two, 5, "trap", {});
	  const after = await ask(two, 6, "hello", {});
	  const bad = await ask(one, 7, "store.read", { path: "/runs/../x" });
	  const off = await ask(one, 8, "store.download", { url: "https://example.org/m.gguf", path: "/models/m.gguf" });
	  return [a.result?.steps, b.error?.code, c.result?.steps, trap.error?.code, after.error?.code, bad.error?.code, off.error?.code].join(" ");
	})()`
	var got string
	must(t, b.Eval(script, &got))
	if want := "3 locked 3 crashed crashed invalid_params invalid_params"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_ = ctx
}

func prepare(t *testing.T, b *drive.Browser, ctx contextT) {
	t.Helper()
	shows(t, b, ctx, "the page", func(s drive.State) bool { return s.FineTune })
	if s, _ := b.State(); s.Model.Phase != "ready" {
		must(t, b.Pick("#pick-model", tinyModel(t)))
	}
	shows(t, b, ctx, "model and data", func(s drive.State) bool {
		return s.Problem == "" && s.Model.Phase == "ready" && s.Data.Phase == "ready" && s.FineTune
	})
}

func zipNames(t *testing.T, path string) (names []string) {
	t.Helper()
	z, err := zip.OpenReader(path)
	must(t, err)
	defer z.Close()
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	return names
}

func waitZip(t *testing.T, dir string) string {
	t.Helper()
	for range 50 {
		if found, _ := filepath.Glob(filepath.Join(dir, "*.zip")); len(found) > 0 {
			return found[0]
		}
		time.Sleep(100 * time.Millisecond)
	}
	entries, _ := os.ReadDir(dir)
	t.Fatalf("no archive was downloaded: %v", entries)
	return ""
}
