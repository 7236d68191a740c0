package e2e

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// plainHost serves a folder below a path as a static host does that knows nothing of this page: no header of its own.
func plainHost(t *testing.T, dist string) (*httptest.Server, string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/some/where/", http.StripPrefix("/some/where", http.FileServer(http.Dir(dist))))
	mux.Handle("/some/where/assets/", http.StripPrefix("/some/where/assets", http.FileServer(http.Dir(fakeAssets))))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv, srv.URL + "/some/where/"
}

// TestStaticHost uses the page from a sub-folder of a host that sends no headers: with threads all the same, under its content security policy,
// and again when the host is gone.
func TestStaticHost(t *testing.T) {
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: t.TempDir()})
	srv, url := plainHost(t, fakeDist)
	must(t, b.Goto(url))
	prepare(t, b, ctx)
	s, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "5"}})
	must(t, err)
	if s.Engine == "" || strings.Contains(s.Engine, "one thread (") {
		t.Errorf("engine: %q", s.Engine)
	}
	var refused []string
	must(t, b.Eval(`(async () => {
	  const out = [];
	  await new Promise((r) => setTimeout(r, 0)); // what a debugger evaluates may use eval, what it set off may not
	  try { eval("1"); out.push("eval ran"); } catch { out.push("eval"); }
	  try { new Function("return 1"); out.push("Function ran"); } catch { out.push("Function"); }
	  const s = document.createElement("script");
	  s.textContent = "window.inline = true";
	  document.body.append(s);
	  out.push(window.inline ? "inline ran" : "inline");
	  out.push(await fetch("https://models.example/x").then(() => "fetched", () => "fetch"));
	  out.push(crossOriginIsolated ? "isolated" : "open");
	  return out;
	})()`, &refused))
	if got := strings.Join(refused, " "); got != "eval Function inline fetch isolated" {
		t.Errorf("refused: %s", got)
	}
	must(t, b.Unfold(ctx, "privacy"))
	must(t, wait(ctx, func() bool {
		var text string
		_ = b.Eval(`document.getElementById("traffic").textContent + document.getElementById("requests").textContent`, &text)
		return strings.Contains(text, "and none to any other.") && strings.Contains(text, "/some/where/tabtune.wasm")
	}))
	srv.Close()
	must(t, b.Goto(url))
	prepare(t, b, ctx)
	if _, err = b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "5"}}); err != nil {
		t.Errorf("without a network: %v", err)
	}
}

// TestUpdate puts another build on the host: the visitor is told, and gets it when asking for it, but not while a run is open.
func TestUpdate(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	dist := t.TempDir()
	must(t, os.CopyFS(dist, os.DirFS(fakeDist)))
	_, url := plainHost(t, dist)
	must(t, b.Goto(url))
	must(t, wait(ctx, func() bool { return controlled(b) }))
	rebuild(t, dist)
	reload(t, b, ctx)
	must(t, wait(ctx, func() bool { return newer(b) == "offered" }))
	must(t, b.Eval(`new Promise((held) => { navigator.locks.request("tabtune run x", () => { held(); return new Promise((r) => { window.end = r; }); }); })`, nil))
	must(t, b.Click("update-now"))
	must(t, wait(ctx, func() bool {
		var text string
		_ = b.Eval(`document.getElementById("update-text").textContent`, &text)
		return strings.HasPrefix(text, "A run is open") && newer(b) == "offered"
	}))
	must(t, b.Eval(`window.end()`, nil))
	must(t, b.Click("update-now"))
	must(t, wait(ctx, func() bool { return newer(b) == "yes" }))
}

// TestRebuilt builds the page anew on a server of this machine that sends the headers itself: the next loading shows it, without a question. A service
// worker that is there from before, when that server sent none, is given up.
func TestRebuilt(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	dist := t.TempDir()
	must(t, os.CopyFS(dist, os.DirFS(fakeDist)))
	s := &site.Site{Dist: dist, Assets: fakeAssets}
	url := serve(t, s)
	must(t, b.Goto(url))
	must(t, wait(ctx, func() bool { return controlled(b) }))
	s.Isolate()
	var kept struct{ Registrations, Caches int }
	counts := func() bool {
		_ = b.Eval(`(async () => ({ Registrations: (await navigator.serviceWorker.getRegistrations()).length, Caches: (await caches.keys()).length }))()`, &kept)
		return kept.Registrations == 0
	}
	reload(t, b, ctx)
	must(t, wait(ctx, counts))
	rebuild(t, dist)
	reload(t, b, ctx)
	must(t, wait(ctx, func() bool { s, _ := b.State(); return s.FineTune && newer(b) == "yes" }))
	if controlled(b) {
		t.Error("a service worker is at work")
	}
	must(t, wait(ctx, func() bool { counts(); return kept.Caches == 0 }))
}

// reload loads the page anew and waits until it is another one. (chromedp.Reload waits for an answer that need not come from a service worker.)
func reload(t *testing.T, b *drive.Browser, ctx contextT) {
	t.Helper()
	must(t, b.Eval(`window.before = true; location.reload()`, nil))
	must(t, wait(ctx, func() bool {
		var fresh bool
		_ = b.Eval(`!window.before && !!document.getElementById("fine-tune")`, &fresh)
		return fresh
	}))
}

// controlled tells whether a service worker answers for the page, which is past being loaded again for that.
func controlled(b *drive.Browser) (yes bool) {
	_ = b.Eval(`!!navigator.serviceWorker.controller && crossOriginIsolated && !!document.getElementById("fine-tune")`, &yes)
	return yes
}

// rebuild puts another build in the place of the one in dist: its style sheet says so.
func rebuild(t *testing.T, dist string) {
	t.Helper()
	css, err := os.ReadFile(filepath.Join(dist, "app.css"))
	must(t, err)
	newer := append(css, []byte("\n:root { --newer: yes; }\n")...)
	before, err := os.Stat(filepath.Join(dist, "app.css"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dist, "app.css"), newer, 0o644))
	must(t, os.Chtimes(filepath.Join(dist, "app.css"), time.Time{}, before.ModTime())) // built within the second: the host says 304 to who asks
	worker, err := os.ReadFile(filepath.Join(dist, "sw.js"))
	must(t, err)
	worker = bytes.ReplaceAll(worker, []byte(sha(css)), []byte(sha(newer)))
	worker = regexp.MustCompile(`"version":"`).ReplaceAll(worker, []byte(`${0}x`))
	must(t, os.WriteFile(filepath.Join(dist, "sw.js"), worker, 0o644))
	must(t, os.Chtimes(filepath.Join(dist, "sw.js"), time.Time{}, before.ModTime().Add(time.Minute))) // which the browser itself asks for, and would be told the same
}

// newer is "yes" in the build that rebuild makes, and tells when such a one is offered.
func newer(b *drive.Browser) (s string) {
	_ = b.Eval(`getComputedStyle(document.documentElement).getPropertyValue("--newer") + (document.getElementById("update")?.hidden ? "" : " offered")`, &s)
	return strings.TrimSpace(s)
}

// TestSingleThread serves the page without COOP and COEP to a browser that has no service workers.
func TestSingleThread(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{Downloads: t.TempDir()})
	must(t, b.Run(network.SetBypassServiceWorker(true)))
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets})))
	prepare(t, b, ctx)
	s, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "5"}})
	must(t, err)
	if !strings.Contains(s.Engine, "one thread (this browser does not") {
		t.Errorf("engine: %q", s.Engine)
	}
}
