package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tabtune/host"
	"tabtune/internal/assets"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// realDist is the page with the real module, the one that the command line embeds.
func realDist(t *testing.T) string {
	t.Helper()
	module, err := host.Module()
	if err != nil {
		if os.Getenv("TABTUNE_REQUIRE_ASSETS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dist := filepath.Join(t.TempDir(), "dist")
	must(t, os.CopyFS(dist, os.DirFS(fakeDist)))
	must(t, os.WriteFile(filepath.Join(dist, "tabtune.wasm"), module, 0o644))
	return dist
}

// smallRun takes A from the seed: for that of labels every training row goes through the model first.
var smallRun = map[string]string{"steps": "12", "queries": "4", "batch": "4", "lr": "0.5", "evalEvery": "6", "subspace": "random"}

// TestReal trains SmolLM2 on the movie reviews: once from the download (broken off once on the way) kept in storage, once from a picked file, and
// goes on with a run after a reload.
func TestReal(t *testing.T) {
	model := assets.Need(t, assets.Model)
	assets.Need(t, assets.ReviewsTrain)
	s := &site.Site{Dist: realDist(t), Assets: filepath.Dir(model), Isolated: true, Cut: map[string]int64{assets.Model: 30 << 20}}
	url := serve(t, s)
	downloads := t.TempDir()
	b, ctx := open(t, 15*time.Minute, drive.Options{Downloads: downloads})
	must(t, b.Goto(url))
	_, err := b.WaitFor(ctx, "the broken download", nil, func(drive.State) bool { return false })
	if p := pageError(t, err); !strings.Contains(p.Message, "goes on where it stopped") {
		t.Fatalf("message for a broken download: %v", p)
	}
	must(t, b.Click("fine-tune")) // one click does the rest, with the default settings
	_, err = b.WaitFor(ctx, "the start of a run", nil, func(s drive.State) bool { return s.Train.Phase == "working" })
	must(t, err)
	var resumed bool
	for _, r := range s.Ranges() {
		resumed = resumed || strings.HasPrefix(r, "bytes=") && r != "bytes=0-"
	}
	if !resumed {
		t.Errorf("the download began anew: Range headers %q", s.Ranges())
	}

	must(t, b.Run(chromedp.Reload())) // the model is opened from storage
	var state drive.State
	tasks, err := b.Trace(func() (err error) {
		state, err = b.FineTune(ctx, drive.Run{Knobs: smallRun})
		return err
	})
	must(t, err)
	noLongTask(t, tasks)
	before := state.Table["Loss"][0]
	if after := state.Table["Loss"][1]; !(after > 0 && after != before) {
		t.Errorf("validation loss %v before, %v after", before, after)
	}
	if names := zipNames(t, waitZip(t, downloads)); len(names) != 3 {
		t.Errorf("archive: %v", names)
	}

	must(t, b.Unfold(ctx, "knobs"))
	must(t, b.Set("knob-seed", "1"))
	_, err = b.WaitFor(ctx, "the button", nil, func(s drive.State) bool { return s.FineTune })
	must(t, err)
	must(t, b.Click("fine-tune"))
	_, err = b.WaitFor(ctx, "a few steps", nil, func(s drive.State) bool {
		return s.Train.Phase == "working" && strings.HasPrefix(s.Train.Text, "Training") && s.Number("Step") >= 3
	})
	must(t, err)
	must(t, b.Run(chromedp.Reload()))
	state, err = b.FineTune(ctx, drive.Run{Continue: true})
	must(t, err)
	if state.Number("Step") != 12 || strings.Contains(state.Chart, "at step 1,") {
		t.Errorf("continued run: step %v, chart %q", state.Number("Step"), state.Chart)
	}

	picked := filepath.Join(t.TempDir(), "picked.gguf")
	must(t, os.Symlink(model, picked))
	must(t, b.Pick("#pick-model", picked))
	must(t, wait(ctx, func() bool { s, _ := b.State(); return s.Model.Phase == "working" }))
	state, err = b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "3", "queries": "4", "batch": "4", "lr": "0.5", "subspace": "random"}})
	must(t, err)
	if state.Number("Step") != 3 {
		t.Errorf("run with the picked file: %+v", state)
	}
	for _, line := range b.Console() {
		if !strings.Contains(line, "ERR_") { // the download that was broken off
			t.Errorf("console: %s", line)
		}
	}
	must(t, b.CloseAndCheck(url))
}

// TestOneModule compares the module in the page's build with the one that the command line embeds.
func TestOneModule(t *testing.T) {
	host, err := os.ReadFile(filepath.Join(root, "host/dist/tabtune.wasm"))
	if err != nil {
		t.Skip("run \"make build\" first: ", err)
	}
	page, err := os.ReadFile(filepath.Join(root, "web/dist/tabtune.wasm"))
	if err != nil {
		t.Skip("run \"make build\" first: ", err)
	}
	if string(host) != string(page) {
		t.Error("web/dist/tabtune.wasm and host/dist/tabtune.wasm differ")
	}
}
