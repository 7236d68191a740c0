package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
	"tabtune/web/ui"
)

// saved waits for a download of a given ending and returns it, then removes it.
func saved(t *testing.T, ctx contextT, dir, ending string) []byte {
	t.Helper()
	var data []byte
	must(t, wait(ctx, func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "*"+ending))
		if len(found) == 0 {
			return false
		}
		data, _ = os.ReadFile(found[0])
		_ = os.Remove(found[0])
		return len(data) > 0
	}))
	return data
}

// TestKeepAndRuns saves a run in every format, imports each again, renames, compares, saves and deletes runs.
func TestKeepAndRuns(t *testing.T) {
	downloads := t.TempDir()
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: downloads})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	_, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "10"}})
	must(t, err)
	adapter := saved(t, ctx, downloads, ".zip")
	idle := func() {
		t.Helper()
		_, err := b.WaitFor(ctx, "the end", nil, func(s drive.State) bool { return s.FineTune })
		must(t, err)
	}
	idle()
	files := map[string][]byte{"adapter.zip": adapter}
	for id, ending := range map[string]string{"gguf-adapter": ".adapter.gguf", "gguf-q8_0": ".Q8_0.gguf", "gguf-f16": ".F16.gguf", "card": ".md", "log": ".log"} {
		must(t, b.Click("export-"+id))
		files["x"+ending] = saved(t, ctx, downloads, ending)
		idle()
	}
	if want := strings.Repeat("GGUF", 50_000); string(files["x.Q8_0.gguf"]) != want || string(files["x.F16.gguf"]) != want || string(files["x.adapter.gguf"]) != want {
		t.Errorf("written models have %d and %d bytes, want %d", len(files["x.Q8_0.gguf"]), len(files["x.adapter.gguf"]), len(want))
	}
	if !bytes.HasPrefix(files["x.md"], []byte("# /runs/")) || len(files["x.log"]) == 0 {
		t.Errorf("card %q, log of %d bytes", files["x.md"], len(files["x.log"]))
	}
	count := func() (n int) {
		_ = b.Eval(`document.querySelectorAll("#runs li").length`, &n)
		return n
	}
	pick := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(path, data, 0o644))
		must(t, b.Pick("#pick-import", path))
		time.Sleep(300 * time.Millisecond)
	}
	runs := count()
	for _, name := range []string{"adapter.zip", "x.adapter.gguf", "x.log"} {
		pick(name, files[name])
		runs++
		must(t, wait(ctx, func() bool {
			s, _ := b.State()
			return s.FineTune && s.Result.Phase == "ready" && count() == runs && strings.Contains(s.Result.Text, name)
		}))
	}
	// What cannot be read is refused with a sentence and leaves nothing behind.
	for name, want := range map[string]string{"bad.zip": "no .zip file", "bad.gguf": "no GGUF magic", "notes.txt": "choose a .zip", "card.md": "for people to read"} {
		pick(name, []byte("not what it says"))
		_, err = b.WaitFor(ctx, "the message", nil, func(drive.State) bool { return false })
		if p := pageError(t, err); !strings.Contains(p.Message, want) {
			t.Errorf("%s: %q", name, p.Message)
		}
		must(t, b.Eval(`document.querySelector("#problem button.quiet").click()`, nil))
		must(t, wait(ctx, func() bool { s, _ := b.State(); return s.FineTune && s.Problem == "" }))
	}
	if n := count(); n != runs {
		t.Errorf("%d runs, want %d", n, runs)
	}
	// The run trained here is the last of the list. Its name, archive and curves.
	last := `[...document.querySelectorAll("#runs li")].at(-1)`
	must(t, b.Eval(fmt.Sprintf(`(() => { const e = %s.querySelector("input"); e.value = "Films"; e.dispatchEvent(new Event("change", { bubbles: true })); })()`, last), nil))
	must(t, wait(ctx, func() bool {
		var label string
		_ = b.Eval(last+`.querySelector(".export-run").getAttribute("aria-label")`, &label)
		s, _ := b.State()
		return label == "Save all of Films" && s.FineTune
	}))
	must(t, b.Eval(last+`.querySelector(".export-run").click()`, nil))
	archive := saved(t, ctx, downloads, ".zip")
	idle()
	list, err := ui.Unzip(archive)
	must(t, err)
	in, err := ui.Import(list)
	must(t, err)
	if in.Run.Name != "Films" || in.Run.Step != 10 || len(in.Run.Losses) != 10 || in.Run.Zero == nil || in.Run.Best == nil {
		t.Errorf("the run's record: %+v", in.Run)
	}
	pick("run.zip", archive)
	runs++
	must(t, wait(ctx, func() bool { s, _ := b.State(); return s.FineTune && count() == runs }))
	must(t, b.Eval(`document.querySelectorAll("#runs .compare-run").forEach((e) => e.textContent && e.getAttribute("aria-label").endsWith("Films") && e.click())`, nil))
	must(t, wait(ctx, func() bool {
		var n int
		_ = b.Eval(`[...document.querySelectorAll("#compare polyline")].filter((p) => p.getAttribute("points").includes(" ")).length`, &n)
		return n == 4
	}))
	// All runs in one archive, which brings them back after they were deleted.
	titles := func() (all []string) {
		must(t, b.Eval(`[...document.querySelectorAll("#runs li")].map((e) => e.querySelector("input").value + ": " + e.querySelector(".hint").textContent).sort()`, &all))
		return all
	}
	before := titles()
	must(t, b.Click("export-runs"))
	archive = saved(t, ctx, downloads, ".zip")
	idle()
	all := runs
	for ; runs > 0; runs-- {
		must(t, b.Eval(`document.querySelector("#runs .delete-run").click()`, nil))
		must(t, wait(ctx, func() bool { s, _ := b.State(); return s.FineTune && count() == runs-1 }))
	}
	pick("all.zip", archive)
	must(t, wait(ctx, func() bool {
		s, _ := b.State()
		return s.FineTune && count() == all && strings.Contains(s.Notice, "Imported")
	}))
	if after := titles(); !slices.Equal(after, before) {
		t.Errorf("runs after the way through an archive: %q, before %q", after, before)
	}
	for runs = all; runs > 0; runs-- {
		must(t, b.Eval(`document.querySelector("#runs .delete-run").click()`, nil))
		must(t, wait(ctx, func() bool { s, _ := b.State(); return s.FineTune && count() == runs-1 }))
	}
	var compared bool
	must(t, b.Eval(`!!document.getElementById("compare")`, &compared))
	if compared {
		t.Error("deleted runs are still in the picture")
	}
}

// TestRunsOfOneSecond begins two runs while the clock shows the same second: the second one is a run of its own.
func TestRunsOfOneSecond(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{Downloads: t.TempDir()})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Eval(`{ const now = Date.now(); Date.prototype.getTime = () => now; Date.now = () => now; }`, nil)) // what Go's time.Now reads
	for _, steps := range []string{"5", "7"} {
		_, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": steps}})
		must(t, err)
	}
	var runs []string
	must(t, b.Eval(`[...document.querySelectorAll("#runs li .hint")].map((e) => e.textContent.split(",")[0]).sort()`, &runs))
	if strings.Join(runs, "; ") != "step 5 of 5; step 7 of 7" {
		t.Errorf("runs: %q", runs)
	}
}

// TestAllRuns saves all runs as one archive and deletes them: imported, the finished one and the one that was stopped can be compared, and the latter goes
// on from its step. A run without a step is not in the archive, and the page says so.
func TestAllRuns(t *testing.T) {
	downloads := t.TempDir()
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: downloads})
	address := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(address))
	prepare(t, b, ctx)
	for _, steps := range []string{"6", "5"} {
		_, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": steps}})
		must(t, err)
		_ = saved(t, ctx, downloads, ".zip")
	}
	begin(t, b, ctx, 300)
	must(t, b.Click("stop"))
	shows(t, b, ctx, "the stopped run", func(s drive.State) bool { return s.FineTune && s.Saved == 1 })
	// The first run as if it had been stopped before its first step.
	must(t, b.Eval(`(async () => {
	  const runs = await (await navigator.storage.getDirectory()).getDirectoryHandle("runs");
	  const first = [];
	  for await (const id of runs.keys()) first.push(id);
	  await (await runs.getDirectoryHandle(first.sort()[0])).removeEntry("replay.log");
	})()`, nil))
	must(t, b.Goto(address))
	prepare(t, b, ctx)
	hints := func() (all []string) {
		must(t, b.Eval(`[...document.querySelectorAll("#runs li .hint")].map((e) => e.textContent)`, &all))
		return all
	}
	must(t, wait(ctx, func() bool { return len(hints()) == 3 }))
	before := hints()
	must(t, b.Click("export-runs"))
	archive := saved(t, ctx, downloads, "tabtune-runs.zip")
	s, err := b.WaitFor(ctx, "the archive", nil, func(s drive.State) bool { return s.FineTune && strings.Contains(s.Notice, "tabtune-runs.zip") })
	must(t, err)
	if !strings.HasSuffix(s.Notice, "1 run without a step was left out.") {
		t.Errorf("notice %q", s.Notice)
	}
	for n := len(before); n > 0; n-- {
		must(t, b.Eval(`document.querySelector("#runs .delete-run").click()`, nil))
		must(t, wait(ctx, func() bool { s, _ := b.State(); return s.FineTune && len(hints()) == n-1 }))
	}
	path := filepath.Join(t.TempDir(), "all.zip")
	must(t, os.WriteFile(path, archive, 0o644))
	must(t, b.Pick("#pick-import", path))
	_, err = b.WaitFor(ctx, "the runs", nil, func(s drive.State) bool { return s.FineTune && s.Notice == "Imported 2 runs." })
	must(t, err)
	if after := hints(); !slices.Equal(after, before[:2]) { // the newest first
		t.Errorf("runs after the way through an archive: %q, before %q", after, before)
	}
	must(t, b.Eval(`document.querySelectorAll("#runs .compare-run").forEach((e) => e.click())`, nil))
	must(t, wait(ctx, func() bool {
		var n int
		_ = b.Eval(`[...document.querySelectorAll("#compare polyline:not(.dashed)")].filter((p) => p.getAttribute("points").includes(" ")).length`, &n)
		return n == 2
	}))
	s, err = b.FineTune(ctx, drive.Run{Continue: true})
	must(t, err)
	if s.Number("Step") != 300 || strings.Contains(s.Chart, "at step 1,") {
		t.Errorf("the imported run did not go on: step %v, %s", s.Number("Step"), s.Chart)
	}
}
