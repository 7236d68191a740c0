package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestAwake watches the screen's wake lock: asked for when training begins, again when the page is seen after it was hidden, given back at the end.
// The lock is a stand-in: headless Chromium has no screen.
func TestAwake(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Eval(`(() => {
	  globalThis.locks = [];
	  Object.defineProperty(navigator, "wakeLock", { value: { request: async (kind) => {
	    const lock = { kind, released: false, release: async () => { lock.released = true; } };
	    locks.push(lock);
	    return lock;
	  } } });
	})()`, nil))
	locks := func() (s string) {
		_ = b.Eval(`locks.map((l) => l.kind + (l.released ? " released" : " held")).join(", ")`, &s)
		return s
	}
	expect := func(want string) {
		t.Helper()
		if err := wait(ctx, func() bool { return locks() == want }); err != nil {
			t.Fatalf("locks: %q, want %q", locks(), want)
		}
	}
	begin(t, b, ctx, 100_000)
	expect("screen held")
	must(t, b.Eval(`(() => { locks[0].released = true; document.dispatchEvent(new Event("visibilitychange")); })()`, nil)) // as browsers do with a hidden page
	expect("screen released, screen held")
	must(t, b.Eval(`document.dispatchEvent(new Event("visibilitychange"))`, nil)) // one that is held is not asked for again
	must(t, b.Click("stop"))
	expect("screen released, screen released")
}

// TestBackground puts another tab in front of the one that trains: the steps go on.
func TestBackground(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	begin(t, b, ctx, 100_000)
	front, err := b.Tab()
	must(t, err)
	t.Cleanup(front.Close)
	must(t, front.Goto("about:blank"))
	var state string
	must(t, wait(ctx, func() bool { _ = b.Eval(`document.visibilityState`, &state); return state == "hidden" }))
	s, err := b.State()
	must(t, err)
	at := s.Number("Step")
	must(t, wait(ctx, func() bool { s, err = b.State(); return err == nil && s.Number("Step") >= at+100 }))
	must(t, b.Eval(`document.visibilityState`, &state))
	if state != "hidden" {
		t.Errorf("the page was %s when it trained on", state)
	}
	must(t, b.Click("stop"))
}

// TestInstallable asks Chromium whether the page can be installed: its manifest, icons and service worker.
func TestInstallable(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Run(chromedp.ActionFunc(func(ctx context.Context) error {
		url, problems, _, manifest, err := page.GetAppManifest().Do(ctx)
		if err != nil {
			return err
		}
		for _, p := range problems {
			t.Errorf("%s, line %d: %s", url, p.Line, p.Message)
		}
		if url == "" || manifest == nil {
			return fmt.Errorf("no manifest at %q", url)
		}
		if manifest.Name != "Tabtune" || len(manifest.Icons) < 2 {
			t.Errorf("name %q, %d icons", manifest.Name, len(manifest.Icons))
		}
		wrong, err := page.GetInstallabilityErrors().Do(ctx)
		for _, w := range wrong {
			if w.ErrorID != "in-incognito" { // a profile of its own, thrown away
				t.Errorf("not installable: %s %v", w.ErrorID, w.ErrorArguments)
			}
		}
		return err
	})))
}
