// Package drive opens the page in a headless Chromium and uses it as a person would: by its buttons and fields, reading what it shows. The drive
// command and the browser tests are made of it.
package drive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// ErrNoChromium says that no browser was found, and how to get one.
var ErrNoChromium = errors.New("no Chromium found: apt-get install chromium (or set CHROMIUM to its path)")

// Chromium finds the browser: the variable CHROMIUM, then the usual names.
func Chromium() (string, error) {
	names := []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"}
	if own := os.Getenv("CHROMIUM"); own != "" {
		names = []string{own}
	}
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p, nil
		}
	}
	return "", ErrNoChromium
}

// Options of a browser.
type Options struct {
	Profile   string  // folder of the browser's profile; empty: a fresh one, removed at the end
	Downloads string  // folder for downloads; empty: none are taken
	Width     int     // of the window, 0: 1200
	Height    int     // 0: 900
	Dark      bool    // prefer dark colours
	Density   float64 // physical pixels in one of the page's, 0: 1
}

// Browser is a running Chromium with one tab.
type Browser struct {
	ctx     context.Context
	cancel  func()
	dir     string            // net log, and the profile when it is ours; empty: a further tab
	set     []chromedp.Action // what every tab begins with
	other   remote            // in the place of the DevTools protocol
	mu      sync.Mutex
	console []string
	urls    []string
}

// remote is a connection to a browser that is not Chromium.
type remote interface {
	eval(ctx context.Context, expression string, out any) error
	navigate(ctx context.Context, address string) error
	pick(ctx context.Context, selector string, files []string) error
}

// Open starts Chromium. ctx bounds its whole life.
func Open(ctx context.Context, o Options) (*Browser, error) {
	path, err := Chromium()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tabtune-chromium")
	if err != nil {
		return nil, err
	}
	b := &Browser{dir: dir}
	profile := o.Profile
	if profile == "" {
		profile = filepath.Join(dir, "profile")
	}
	width, height := o.Width, o.Height
	if width == 0 {
		width = 1200
	}
	if height == 0 {
		height = 900
	}
	alloc, cancelAlloc := chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WindowSize(width, height),
		chromedp.Flag("headless", "new"), chromedp.Flag("no-sandbox", true), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-first-run", true), chromedp.Flag("no-default-browser-check", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("log-net-log", filepath.Join(dir, "net.json")), chromedp.Flag("lang", "en-US"), chromedp.WSURLReadTimeout(60*time.Second),
	)
	tab, cancelTab := chromedp.NewContext(alloc)
	b.ctx = tab
	b.cancel = func() {
		_ = chromedp.Cancel(tab) // asks the browser to close, so that it ends its net log
		cancelTab()
		cancelAlloc()
	}
	b.set = []chromedp.Action{
		network.Enable(), runtime.Enable(), log.Enable(),
		emulation.SetDeviceMetricsOverride(int64(width), int64(height), max(1, o.Density), width < 500),
	}
	if o.Dark {
		b.set = append(b.set, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	}
	if o.Downloads != "" {
		b.set = append(b.set, browser.SetDownloadBehavior(browser.SetDownloadBehaviorBehaviorAllow).WithDownloadPath(o.Downloads))
	}
	if err := b.begin(); err != nil {
		b.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	return b, nil
}

// begin prepares a fresh tab.
func (b *Browser) begin() error {
	chromedp.ListenTarget(b.ctx, b.listen)
	return chromedp.Run(b.ctx, b.set...)
}

// Tab opens another tab of the same browser, with the same storage. Closing it leaves the browser open.
func (b *Browser) Tab() (*Browser, error) {
	tab, cancel := chromedp.NewContext(b.ctx)
	t := &Browser{ctx: tab, cancel: cancel, set: b.set}
	err := t.begin()
	if err == nil {
		err = t.Run(page.BringToFront()) // a tab behind another draws no frames
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("opening a tab: %w", err)
	}
	return t, nil
}

// Crash ends the process behind the tab in the middle of whatever it does, as an operating system short of memory would, and closes the tab.
func (b *Browser) Crash() {
	dying, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	gone := make(chan struct{})
	var once sync.Once
	chromedp.ListenTarget(dying, func(event any) {
		if _, ok := event.(*inspector.EventTargetCrashed); ok {
			once.Do(func() { close(gone) })
		}
	})
	go func() { _ = chromedp.Run(dying, page.Crash()) }() // nobody is left to answer it
	select {
	case <-gone:
	case <-dying.Done():
	}
	b.Close()
}

func (b *Browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.urls = append(b.urls, e.Request.URL)
	case *runtime.EventExceptionThrown:
		b.console = append(b.console, "exception: "+e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			var parts []string
			for _, a := range e.Args {
				parts = append(parts, strings.Trim(string(a.Value), `"`)+a.Description)
			}
			b.console = append(b.console, string(e.Type)+": "+strings.Join(parts, " "))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			b.console = append(b.console, string(e.Entry.Level)+": "+e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// hear takes a line of the console.
func (b *Browser) hear(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.console = append(b.console, line)
}

// Console returns the warnings and errors of the page so far.
func (b *Browser) Console() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.console...)
}

// Run runs chromedp actions in the tab.
func (b *Browser) Run(actions ...chromedp.Action) error { return chromedp.Run(b.ctx, actions...) }

// Eval evaluates an expression in the page; a promise is awaited.
func (b *Browser) Eval(expression string, out any) error {
	if b.other != nil {
		return b.other.eval(b.ctx, expression, out)
	}
	return b.Run(chromedp.Evaluate(expression, out, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
}

// Goto opens an address.
func (b *Browser) Goto(address string) error {
	if b.other != nil {
		return b.other.navigate(b.ctx, address)
	}
	return b.Run(chromedp.Navigate(address))
}

// Pick chooses files for a file input, by a selector, as a person would in the browser's dialogue.
func (b *Browser) Pick(selector string, files ...string) error {
	if b.other != nil {
		return b.other.pick(b.ctx, selector, files)
	}
	return b.Run(chromedp.SetUploadFiles(selector, files, chromedp.ByQuery))
}

// Screenshot writes a PNG of the whole page.
func (b *Browser) Screenshot(path string) error {
	var png []byte
	if err := b.Run(chromedp.FullScreenshot(&png, 100)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, png, 0o644)
}

// Picture writes a WebP of a part of the page, which is what elements of a selector take up together, with a margin around it. Scale 1 has the
// page's own pixels.
func (b *Browser) Picture(path, selector string, scale float64, quality int64) error {
	var box struct{ X, Y, Width, Height float64 }
	err := b.Eval(fmt.Sprintf(`(() => {
	  const all = [...document.querySelectorAll(%q)].map((e) => e.getBoundingClientRect());
	  const page = document.documentElement; // what scrolls in a box of its own reaches past it, and a clip that does comes out cut
	  const left = Math.max(0, Math.min(...all.map((r) => r.left)) - 8 + scrollX), top = Math.max(0, Math.min(...all.map((r) => r.top)) - 8 + scrollY);
	  const right = Math.min(page.clientWidth, Math.max(...all.map((r) => r.right)) + 8 + scrollX);
	  const bottom = Math.min(page.scrollHeight, Math.max(...all.map((r) => r.bottom)) + 8 + scrollY);
	  return { X: left, Y: top, Width: right - left, Height: bottom - top };
	})()`, selector), &box)
	if err != nil {
		return err
	}
	return b.Run(chromedp.ActionFunc(func(ctx context.Context) error {
		data, err := page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatWebp).WithQuality(quality).WithCaptureBeyondViewport(true).
			WithClip(&page.Viewport{X: box.X, Y: box.Y, Width: box.Width, Height: box.Height, Scale: scale}).Do(ctx)
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	}))
}

// Close ends the browser.
func (b *Browser) Close() {
	if b.cancel != nil {
		b.cancel()
		b.cancel = nil
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// CloseAndCheck ends the browser and returns an error that lists every request that left the page's origin. It reads the tab's network events
// and Chromium's own net log, which also has what workers asked for.
func (b *Browser) CloseAndCheck(page string) error {
	origin, err := url.Parse(page)
	if err != nil {
		return err
	}
	if b.cancel != nil {
		b.cancel()
		b.cancel = nil
	}
	defer b.Close()
	b.mu.Lock()
	urls := b.urls
	b.mu.Unlock()
	logged, err := netLog(filepath.Join(b.dir, "net.json"))
	if err != nil {
		return fmt.Errorf("reading the browser's net log: %w", err)
	}
	if len(logged) == 0 {
		return errors.New("the browser's net log has no requests: the check cannot be trusted")
	}
	away := map[string]bool{}
	for _, s := range append(urls, logged...) {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "data" || u.Scheme == "about" {
			continue
		}
		if u.Scheme == "blob" {
			if u, err = url.Parse(u.Opaque); err != nil {
				continue
			}
		}
		if u.Scheme != origin.Scheme || u.Host != origin.Host {
			away[s] = true
		}
	}
	if len(away) == 0 {
		return nil
	}
	var list []string
	for s := range away {
		list = append(list, s)
	}
	return fmt.Errorf("requests left the page's origin: %s", strings.Join(list, ", "))
}

// netLog returns the addresses that pages and workers requested. The log has one event a line; requests of the browser itself carry no
// initiator of the web and do not count.
func netLog(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var urls []string
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, `"initiator":"http`) {
			var e struct {
				Params struct{ URL, Initiator string }
			}
			if json.Unmarshal([]byte(strings.TrimRight(strings.TrimSpace(line), ",")), &e) == nil && e.Params.URL != "" {
				urls = append(urls, e.Params.URL)
			}
		}
		if err != nil {
			return urls, nil
		}
	}
}
