package e2e

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/storage"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestQuota fills the browser's storage: a plain message before anything is written, and the way on.
func TestQuota(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	address := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(address))
	prepare(t, b, ctx)
	u, err := url.Parse(address)
	must(t, err)
	must(t, b.Run(storage.OverrideQuotaForOrigin(u.Scheme+"://"+u.Host).WithQuotaSize(100)))
	must(t, b.Pick("#pick-model", tinyModel(t)))
	_, err = b.WaitFor(ctx, "the message", nil, func(drive.State) bool { return false })
	if p := pageError(t, err); !strings.Contains(p.Message, "storage") || !strings.Contains(p.Message, "Delete a stored model") {
		t.Errorf("message: %q", p.Message)
	}
	must(t, b.Run(storage.OverrideQuotaForOrigin(u.Scheme+"://"+u.Host)))
	must(t, b.Pick("#pick-model", tinyModel(t)))
	must(t, wait(ctx, func() bool { s, _ := b.State(); return s.Problem == "" && s.Model.Phase == "ready" && s.FineTune }))
}

// TestQuotaWhileTraining fills the storage in the middle of a run: the run ends with a plain message, and goes on once there is room.
func TestQuotaWhileTraining(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	address := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(address))
	prepare(t, b, ctx)
	begin(t, b, ctx, 2000)
	u, err := url.Parse(address)
	must(t, err)
	must(t, b.Run(storage.OverrideQuotaForOrigin(u.Scheme+"://"+u.Host).WithQuotaSize(100)))
	s := problem(t, b, ctx, "storage for this page is full")
	if !strings.HasPrefix(s.Train.Text, "Stopped by an error at step ") {
		t.Errorf("training: %q", s.Train.Text)
	}
	must(t, b.Run(storage.OverrideQuotaForOrigin(u.Scheme+"://"+u.Host)))
	goOn(t, b, ctx, s.Number("Step"))
}

// TestStorageDenied trains where the browser denies the page its storage, as in a private window: in memory, with a warning, until it is allowed.
func TestStorageDenied(t *testing.T) {
	downloads := t.TempDir()
	b, ctx := open(t, time.Minute, drive.Options{Downloads: downloads})
	s := &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true}
	s.Script(`navigator.storage.getDirectory = () => Promise.reject(new DOMException("The request is not allowed.", "SecurityError"));`)
	must(t, b.Goto(serve(t, s)))
	prepare(t, b, ctx)
	warning := func() (text string) {
		_ = b.Eval(`document.getElementById("temporary")?.textContent ?? ""`, &text)
		return text
	}
	if !strings.Contains(warning(), "gone when this tab closes") {
		t.Errorf("warning: %q", warning())
	}
	state, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "10"}})
	must(t, err)
	if state.Number("Step") != 10 {
		t.Errorf("result: %+v", state)
	}
	if names := zipNames(t, waitZip(t, downloads)); len(names) != 3 {
		t.Errorf("archive: %v", names)
	}
	shows(t, b, ctx, "the saved adapter", func(s drive.State) bool { return s.FineTune })
	must(t, b.Click("export-gguf-q8_0"))
	shows(t, b, ctx, "the merged model", func(s drive.State) bool { return strings.Contains(s.Notice, ".Q8_0.gguf") && s.FineTune })
	if merged := saved(t, ctx, downloads, ".Q8_0.gguf"); string(merged) != strings.Repeat("GGUF", 50_000) {
		t.Errorf("the merged model has %d bytes", len(merged))
	}
	s.Script("") // the visitor allows it
	must(t, b.Goto(serve(t, s)))
	prepare(t, b, ctx)
	if warning() != "" {
		t.Errorf("warning with storage: %q", warning())
	}
}

// TestMemoryRefused opens the page where the browser refuses every memory that could be trained in.
func TestMemoryRefused(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	s := &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true}
	s.Script(`WebAssembly.Memory = class { constructor() { throw new RangeError("WebAssembly.Memory(): could not allocate memory"); } };`)
	must(t, b.Goto(serve(t, s)))
	state := problem(t, b, ctx, "refuses the memory that training needs")
	if !strings.Contains(state.Detail, "could not allocate memory") || state.Engine != "Engine stopped" {
		t.Errorf("detail %q, engine %q", state.Detail, state.Engine)
	}
	s.Script("") // other tabs were closed
	must(t, b.Click("restart"))
	prepare(t, b, ctx)
}

// TestWorkerCrash lets the worker's script fail in the middle of a run.
func TestWorkerCrash(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	s := &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true}
	s.Script(`new BroadcastChannel("test").onmessage = ({ data }) => { throw new Error(data); };`)
	must(t, b.Goto(serve(t, s)))
	prepare(t, b, ctx)
	begin(t, b, ctx, 2000)
	must(t, b.Eval(`new BroadcastChannel("test").postMessage("out of luck")`, nil))
	state := problem(t, b, ctx, "The training engine stopped unexpectedly")
	if !strings.Contains(state.Detail, "out of luck") || state.Engine != "Engine stopped" {
		t.Errorf("detail %q, engine %q", state.Detail, state.Engine)
	}
	must(t, b.Click("restart"))
	prepare(t, b, ctx)
	goOn(t, b, ctx, state.Number("Step"))
}

// TestTwoTabs opens a run in a second tab while the first one trains it.
func TestTwoTabs(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	address := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(address))
	prepare(t, b, ctx)
	begin(t, b, ctx, 100_000)
	second, err := b.Tab()
	must(t, err)
	t.Cleanup(second.Close)
	must(t, second.Goto(address))
	must(t, wait(ctx, func() bool { s, _ := second.State(); return s.FineTune }))
	must(t, second.Eval(`document.querySelector("#models .use-model").click()`, nil)) // both tabs read the one file
	must(t, wait(ctx, func() bool { s, _ := second.State(); return s.FineTune && s.Model.Phase == "ready" && s.Problem == "" }))
	must(t, second.Eval(`document.querySelector("#saved-runs .continue").click()`, nil))
	problem(t, second, ctx, "This run is open in another tab")
	must(t, second.Eval(`document.querySelector("#problem button.quiet").click()`, nil))
	s, err := b.WaitFor(ctx, "a step", nil, func(s drive.State) bool { return s.Train.Phase == "working" })
	must(t, err) // the first tab goes on
	shown := s.Number("Step")
	must(t, b.Click("stop"))
	must(t, wait(ctx, func() bool { s, _ := b.State(); return strings.HasPrefix(s.Train.Text, "Stopped at step") }))
	goOn(t, second, ctx, shown)
}

// begin starts a run of so many steps and waits for the first of them.
func begin(t *testing.T, b *drive.Browser, ctx contextT, steps int) {
	t.Helper()
	must(t, b.Unfold(ctx, "knobs"))
	must(t, b.Set("knob-steps", strconv.Itoa(steps)))
	_, err := b.WaitFor(ctx, "the button", nil, func(s drive.State) bool { return s.FineTune })
	must(t, err)
	must(t, b.Click("fine-tune"))
	_, err = b.WaitFor(ctx, "the first steps", nil, func(s drive.State) bool { return s.Number("Step") >= 10 })
	must(t, err)
}

// problem waits for a message with these words.
func problem(t *testing.T, b *drive.Browser, ctx contextT, words string) (s drive.State) {
	t.Helper()
	var err error
	if wait(ctx, func() bool {
		s, err = b.State()
		return strings.Contains(s.Problem, words)
	}) != nil {
		t.Fatalf("the page shows %q (%v), want words %q", s.Problem, err, words)
	}
	return s
}

// goOn continues the only saved run, which must know of all steps that were shown, and stops it.
func goOn(t *testing.T, b *drive.Browser, ctx contextT, shown float64) {
	t.Helper()
	shows(t, b, ctx, "the saved run", func(s drive.State) bool { return s.FineTune && s.Saved == 1 })
	must(t, b.Eval(`document.querySelector("#saved-runs .continue").click()`, nil))
	s, err := b.WaitFor(ctx, "the run", nil, func(s drive.State) bool {
		return s.Train.Phase == "working" && strings.Contains(s.Chart, "Training loss")
	})
	must(t, err)
	_, rest, _ := strings.Cut(s.Chart, "at step ")
	first, _, _ := strings.Cut(rest, ",")
	if at, err := strconv.ParseFloat(first, 64); err != nil || at <= shown || at > shown+5000 {
		t.Errorf("the page had shown step %v, the run goes on with %q", shown, first)
	}
	must(t, b.Click("stop"))
	shows(t, b, ctx, "the stopped run", func(s drive.State) bool { return strings.HasPrefix(s.Train.Text, "Stopped at step") && s.FineTune })
}

// shows waits until the page is in a state, and says in which it stays when it does not get there.
func shows(t *testing.T, b *drive.Browser, ctx contextT, what string, ok func(drive.State) bool) {
	t.Helper()
	var s drive.State
	var err error
	if wait(ctx, func() bool { s, err = b.State(); return ok(s) }) != nil {
		t.Fatalf("waiting for %s: the page shows %+v (%v); console: %s", what, s, err, strings.Join(b.Console(), " | "))
	}
}

// oneGigabyte is a browser that reserves no more than a gigabyte for one memory, as those of phones.
const oneGigabyte = `{
  const Own = WebAssembly.Memory;
  WebAssembly.Memory = class extends Own {
    constructor(d) {
      if (d.maximum > 16384) throw new RangeError("could not allocate memory");
      super(d);
    }
  };
}`

// phones are windows in CSS pixels; slow gives the tab touch and a main thread four times slower.
var phones = map[string]drive.Options{"iPhone 15": {Width: 393, Height: 852, Density: 3}, "Pixel 8": {Width: 412, Height: 915, Density: 2.625}}

func slow(t *testing.T, b *drive.Browser) {
	t.Helper()
	must(t, b.Run(emulation.SetTouchEmulationEnabled(true).WithMaxTouchPoints(5), emulation.SetCPUThrottlingRate(4)))
}

// TestPhone trains on phones' windows, processors and memory, at a fraction of the processor's time, and ends early. TestLearning trains the
// real model in such a window and memory.
func TestPhone(t *testing.T) {
	for name, o := range phones {
		t.Run(name, func(t *testing.T) {
			o.Downloads = t.TempDir()
			b, ctx := open(t, 2*time.Minute, o)
			slow(t, b)
			host := &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true}
			host.Script(oneGigabyte)
			must(t, b.Goto(serve(t, host)))
			prepare(t, b, ctx)
			must(t, b.Set("share", "50"))
			must(t, b.Set("patience", "2"))
			s, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "1000", "evalEvery": "20"}})
			must(t, err)
			// The stand-in's scores are the best ones before step 40.
			if at := s.Number("Step"); at < 60 || at >= 1000 {
				t.Errorf("ended at step %v, want from 60 on and before the last", at)
			}
			if !strings.Contains(s.Estimate, "this browser allows 1.02 GB") {
				t.Errorf("estimate: %q", s.Estimate)
			}
			var wide bool
			must(t, b.Eval(`document.documentElement.scrollWidth > innerWidth + 1`, &wide))
			if wide {
				t.Error("the page scrolls sideways")
			}
		})
	}
}
