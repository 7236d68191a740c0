package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// elsewhere is a server of models at another origin, which allows every page to read them. The first answer breaks off in the middle.
type elsewhere struct {
	mu     sync.Mutex
	data   []byte
	broken bool
	ranges []string
	who    []string // Referer and Cookie headers
}

func (e *elsewhere) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "ETag, Content-Length")
	h.Set("ETag", `"one"`)
	e.ranges = append(e.ranges, r.Header.Get("Range"))
	e.who = append(e.who, r.Header.Get("Referer")+r.Header.Get("Cookie"))
	if !e.broken {
		e.broken = true
		h.Set("Content-Length", fmt.Sprint(len(e.data)))
		_, _ = w.Write(e.data[:len(e.data)/2])
		w.(http.Flusher).Flush()
		time.Sleep(300 * time.Millisecond)
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "m.gguf", time.Time{}, bytes.NewReader(e.data))
}

// TestFetch downloads a model from another origin: the connection breaks, the page is loaded again, the download goes on, the hash is checked, the
// panel says where the file came from, and the part of the page that holds data cannot ask that origin.
func TestFetch(t *testing.T) {
	b, ctx := open(t, 2*time.Minute, drive.Options{})
	there := &elsewhere{data: append([]byte("GGUF"), make([]byte, 3_000_000)...)}
	other := httptest.NewServer(there)
	t.Cleanup(other.Close)
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Unfold(ctx, "catalogue"))
	must(t, b.Set("model-url", "ftp://x/m.gguf"))
	must(t, b.Click("fetch-model"))
	_, err := b.WaitFor(ctx, "the message", nil, func(drive.State) bool { return false })
	if p := pageError(t, err); !strings.Contains(p.Message, "https://") {
		t.Errorf("a bad address: %q", p.Message)
	}
	must(t, b.Set("model-url", other.URL+"/models/m.gguf"))
	must(t, b.Set("model-sha", sha(there.data)))
	must(t, b.Click("fetch-model"))
	must(t, wait(ctx, func() bool { s, _ := b.State(); return strings.Contains(s.Problem, "goes on where it stopped") }))

	must(t, b.Run(chromedp.Reload()))
	prepare(t, b, ctx)
	var text string
	must(t, wait(ctx, func() bool {
		_ = b.Eval(`document.getElementById("unfinished")?.textContent ?? ""`, &text)
		return text != ""
	}))
	if !strings.Contains(text, "m.gguf, 2 MB of it") && !strings.Contains(text, "m.gguf, 1 MB of it") {
		t.Errorf("unfinished: %q", text)
	}
	must(t, b.Eval(`document.querySelector("#unfinished .go-on").click()`, nil))
	must(t, wait(ctx, func() bool {
		s, _ := b.State()
		return s.Problem == "" && s.FineTune && s.Model.Text == "m is ready."
	}))
	there.mu.Lock()
	if n := len(there.ranges); n != 2 || !strings.HasPrefix(there.ranges[1], "bytes=") || there.ranges[1] == "bytes=0-" {
		t.Errorf("ranges asked for: %q", there.ranges)
	}
	if s := strings.Join(there.who, ""); s != "" {
		t.Errorf("the other server was told: %q", s)
	}
	there.mu.Unlock()
	must(t, b.Unfold(ctx, "privacy"))
	host := strings.TrimPrefix(other.URL, "http://")
	must(t, wait(ctx, func() bool {
		_ = b.Eval(`document.getElementById("traffic").textContent`, &text)
		return strings.Contains(text, "1 request to "+host) // of this visit
	}))
	var refused string
	must(t, b.Eval(fmt.Sprintf(`(async () => {
	  const page = await fetch(%[1]q).then(() => "page asked", () => "page refused");
	  const w = new Worker("worker/worker.js", { type: "module" });
	  const answer = await new Promise((r) => { w.onmessage = (e) => r(e.data); w.postMessage({ id: 1, method: "store.download", params: { url: %[1]q, path: "/models/y.gguf" } }); });
	  w.terminate();
	  return page + ", engine " + answer.error?.code;
	})()`, other.URL+"/models/m.gguf"), &refused))
	if refused != "page refused, engine invalid_params" {
		t.Errorf("who may ask: %s", refused)
	}
	// The same name from an address is not taken for the same file.
	must(t, b.Unfold(ctx, "catalogue"))
	must(t, b.Set("model-url", other.URL+"/other/m.gguf"))
	must(t, b.Click("fetch-model"))
	_, err = b.WaitFor(ctx, "the message", nil, func(drive.State) bool { return false })
	if p := pageError(t, err); !strings.Contains(p.Message, "m.gguf is stored already") {
		t.Errorf("a name that is taken: %q", p.Message)
	}
	// A model that is stored is used again without asking anybody.
	must(t, b.Eval(`[...document.querySelectorAll("#models .use-model")][0].click()`, nil))
	must(t, wait(ctx, func() bool {
		s, _ := b.State()
		return s.FineTune && s.Problem == "" && s.Model.Text == "tiny-model is ready."
	}))
}

// TestFetchedPage asks for a model where a server answers with a page: that is said, nothing of it is kept, and the right address works after it.
func TestFetchedPage(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	model := append([]byte("GGUF"), make([]byte, 300_000)...)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if strings.HasPrefix(r.URL.Path, "/signin/") {
			fmt.Fprint(w, "<!doctype html><title>Sign in</title>")
			return
		}
		_, _ = w.Write(model)
	}))
	t.Cleanup(other.Close)
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Unfold(ctx, "catalogue"))
	fetch := func(address string) {
		t.Helper()
		must(t, b.Set("model-url", address))
		must(t, b.Click("fetch-model"))
	}
	fetch(other.URL + "/signin/m.gguf")
	s := problem(t, b, ctx, "sent something else than a model")
	if !strings.Contains(s.Detail, "<!do") {
		t.Errorf("detail: %q", s.Detail)
	}
	var left []string
	must(t, b.Eval(`(async () => {
	  const out = [];
	  for await (const [name] of (await (await navigator.storage.getDirectory()).getDirectoryHandle("models")).entries()) if (name.startsWith("m.gguf.part") || name === "m.gguf") out.push(name);
	  return out;
	})()`, &left))
	if len(left) > 0 {
		t.Errorf("kept: %q", left)
	}
	fetch(other.URL + "/models/m.gguf")
	shows(t, b, ctx, "the model", func(s drive.State) bool { return s.FineTune && s.Model.Text == "m is ready." })
}

// TestDropped drops a model and a table on the page, as a person would from a file manager.
func TestDropped(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	drop := func(name, text string) {
		t.Helper()
		must(t, b.Eval(fmt.Sprintf(`(() => {
		  const moved = new DataTransfer();
		  moved.items.add(new File([%q], %q));
		  const at = document.querySelector("main");
		  for (const type of ["dragover", "drop"]) if (at.dispatchEvent(new DragEvent(type, { dataTransfer: moved, bubbles: true, cancelable: true }))) throw new Error(type + " is left to the browser");
		})()`, text, name), nil))
	}
	drop("dropped.gguf", "GGUF"+strings.Repeat("x", 5000))
	shows(t, b, ctx, "the model", func(s drive.State) bool { return s.FineTune && s.Model.Text == "dropped is ready." })
	drop("dropped.csv", "text,label\ngood,positive\nbad,negative\nfine,positive\n")
	shows(t, b, ctx, "the data", func(s drive.State) bool { return s.FineTune && strings.Contains(s.Data.Text, "dropped.csv") })
}
