package e2e

import (
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// kills is how often TestKilled ends the tab: TABTUNE_KILLS, or a few.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("TABTUNE_KILLS"))
	if err != nil {
		return 4
	}
	t.Logf("%d kills", n)
	return n
}

// TestKilled leaves the page at random moments of training and saving. After each return the run is there with the steps that it had shown, and in the
// end it goes on to its last step.
func TestKilled(t *testing.T) {
	n := kills(t)
	b, ctx := open(t, time.Minute+time.Duration(n)*15*time.Second, drive.Options{Downloads: t.TempDir()})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Unfold(ctx, "knobs"))
	must(t, b.Set("knob-steps", "100000"))
	_, err := b.WaitFor(ctx, "the button", nil, func(s drive.State) bool { return s.FineTune })
	must(t, err)
	must(t, b.Click("fine-tune"))
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	shown := 0.0
	for i := range n {
		_, err := b.WaitFor(ctx, "steps", nil, func(s drive.State) bool { return s.Number("Step") > shown })
		must(t, err)
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
		s, err := b.State()
		must(t, err)
		// Steps that the page has shown are in the log: a record is flushed before its step is reported.
		shown = s.Number("Step")
		must(t, b.Goto("about:blank")) // ends the page and its worker, without a word to either
		must(t, b.Run(chromedp.NavigateBack()))
		prepare(t, b, ctx)
		if s, err = b.State(); err != nil || s.Saved != 1 {
			t.Fatalf("kill %d: %d runs to continue, %v", i+1, s.Saved, err)
		}
		must(t, b.Eval(`document.querySelector("#saved-runs .continue").click()`, nil))
		s, err = b.WaitFor(ctx, "the run", nil, func(s drive.State) bool { return strings.Contains(s.Chart, "Training loss") })
		must(t, err)
		_, rest, _ := strings.Cut(s.Chart, "at step ")
		first, _, _ := strings.Cut(rest, ",")
		if at, err := strconv.ParseFloat(first, 64); err != nil || at <= shown || at > shown+5000 {
			t.Errorf("kill %d: the page had shown step %v, the run goes on with %q", i+1, shown, first)
		}
	}
	must(t, b.Click("stop"))
	must(t, wait(ctx, func() bool { s, _ := b.State(); return strings.HasPrefix(s.Train.Text, "Stopped at step") }))
}

// TestQuota fills the browser's storage: a plain message before anything is written, and the way on.
func TestQuota(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	address := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(address))
	prepare(t, b, ctx)
	u, err := url.Parse(address)
	must(t, err)
	must(t, b.Run(storage.OverrideQuotaForOrigin(u.Scheme+"://"+u.Host).WithQuotaSize(100)))
	must(t, b.Run(chromedp.SetUploadFiles("#pick-model", []string{tinyModel(t)}, chromedp.ByQuery)))
	_, err = b.WaitFor(ctx, "the message", nil, func(drive.State) bool { return false })
	if p := pageError(t, err); !strings.Contains(p.Message, "storage") || !strings.Contains(p.Message, "Delete a stored model") {
		t.Errorf("message: %q", p.Message)
	}
	must(t, b.Run(storage.OverrideQuotaForOrigin(u.Scheme+"://"+u.Host)))
	must(t, b.Run(chromedp.SetUploadFiles("#pick-model", []string{tinyModel(t)}, chromedp.ByQuery)))
	must(t, wait(ctx, func() bool { s, _ := b.State(); return s.Problem == "" && s.Model.Phase == "ready" && s.FineTune }))
}

// TestPhone trains on a phone's viewport with touch and a processor four times slower, at a fraction of the processor's time, and ends early.
func TestPhone(t *testing.T) {
	b, ctx := open(t, 2*time.Minute, drive.Options{Width: 393, Height: 851, Downloads: t.TempDir()})
	must(t, b.Run(emulation.SetTouchEmulationEnabled(true).WithMaxTouchPoints(5), emulation.SetCPUThrottlingRate(4)))
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Set("share", "50"))
	must(t, b.Set("patience", "2"))
	s, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "1000", "evalEvery": "20"}})
	must(t, err)
	// The stand-in's scores are the best ones before step 40.
	if at := s.Number("Step"); at < 60 || at >= 1000 {
		t.Errorf("ended at step %v, want from 60 on and before the last", at)
	}
	var wide bool
	must(t, b.Eval(`document.documentElement.scrollWidth > innerWidth + 1`, &wide))
	if wide {
		t.Error("the page scrolls sideways")
	}
}
