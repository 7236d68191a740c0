package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// kills is how often TestKilled ends the tab: TABTUNE_KILLS, or two of each kind.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("TABTUNE_KILLS"))
	if err != nil {
		return 8
	}
	t.Logf("%d kills", n)
	return n
}

// slowly serves one file of another origin, 32 KB every 2 ms.
type slowly struct{ data []byte }

type slowWriter struct{ http.ResponseWriter }

func (s slowWriter) Write(p []byte) (int, error) {
	time.Sleep(2 * time.Millisecond)
	return s.ResponseWriter.Write(p)
}

func (s *slowly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "ETag, Content-Length")
	h.Set("ETag", `"one"`)
	http.ServeContent(slowWriter{w}, r, "", time.Time{}, bytes.NewReader(s.data))
}

// storeFaults reads all that is stored and lists what is not whole: a model that has other bytes than a whole one, a record or a line of a log that
// cannot be read. Files named .part are of what was broken off, and the last line of a log may be cut short.
const storeFaults = `(async (whole) => {
  const faults = [];
  const hex = async (f) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", await f.arrayBuffer()))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const parses = (text) => { try { JSON.parse(text); return true; } catch { return false; } };
  const walk = async (dir, at) => {
    for await (const [name, h] of dir.entries()) {
      const path = at + "/" + name;
      if (h.kind === "directory") { await walk(h, path); continue; }
      if (name.endsWith(".part")) continue;
      const f = await h.getFile();
      if (name.endsWith(".gguf") && !whole.includes(await hex(f))) faults.push(path + ": " + f.size + " bytes, not those of the whole model");
      if (name.endsWith(".json") && !parses(await f.text())) faults.push(path + ": cannot be read: " + (await f.text()).slice(0, 80));
      if (name.endsWith(".log")) {
        const lines = (await f.text()).split("\n").slice(0, -1);
        lines.forEach((l, i) => { if (!parses(l) || JSON.parse(l).step !== i + 1) faults.push(path + ": line " + (i + 1) + ": " + l.slice(0, 80)); });
      }
    }
  };
  await walk(await navigator.storage.getDirectory(), "");
  return faults;
})`

// TestKilled ends the tab at random moments of training, a download, the import of a file and an export, by turns with its process and by closing it.
// After each return everything that is stored is whole, a run has the steps that the page had shown, and what was broken off can be done again.
func TestKilled(t *testing.T) {
	n := kills(t)
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	first, ctx := open(t, time.Minute+time.Duration(n)*10*time.Second, drive.Options{Downloads: t.TempDir()})
	address := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	remote := httptest.NewServer(&slowly{append([]byte("GGUF"), make([]byte, 3_000_000)...)})
	t.Cleanup(remote.Close)
	picked := filepath.Join(t.TempDir(), "picked.gguf")
	must(t, os.WriteFile(picked, append([]byte("GGUF"), make([]byte, 40_000_000)...), 0o644))
	whole := []string{sha(append([]byte("GGUF"), make([]byte, 3_000_000)...)), sha(append([]byte("GGUF"), make([]byte, 40_000_000)...)),
		sha(append([]byte("GGUF"), make([]byte, 5000)...)), sha(bytes.Repeat([]byte("GGUF"), 50_000))}
	var tab *drive.Browser
	t.Cleanup(func() {
		if tab != nil {
			tab.Close()
		}
	})
	reopen := func(i int) {
		t.Helper()
		var err error
		tab, err = first.Tab()
		must(t, err)
		must(t, tab.Goto(address))
		prepare(t, tab, ctx)
		var faults []string
		must(t, tab.Eval(fmt.Sprintf(`%s(%s)`, storeFaults, `["`+strings.Join(whole, `","`)+`"]`), &faults))
		for _, f := range faults {
			t.Errorf("after kill %d: %s", i, f)
		}
	}
	// kill waits for a part of what takes about so long, and ends the tab.
	kill := func(i int, d time.Duration) drive.State {
		t.Helper()
		time.Sleep(time.Duration(rng.Int64N(int64(d))))
		s, err := tab.State()
		must(t, err)
		if i%2 == 0 {
			tab.Crash()
		} else {
			tab.Close()
		}
		reopen(i + 1)
		return s
	}
	click := func(selector string) {
		t.Helper()
		must(t, tab.Eval(fmt.Sprintf(`document.querySelector(%q).click()`, selector), nil))
	}
	ready := func(model string) {
		t.Helper()
		_, err := tab.WaitFor(ctx, model, nil, func(s drive.State) bool {
			return s.FineTune && s.Model.Phase == "ready" && s.Model.Text == model+" is ready."
		})
		must(t, err)
	}
	fetch := func(i int) {
		t.Helper()
		must(t, tab.Unfold(ctx, "catalogue"))
		must(t, tab.Set("model-url", fmt.Sprintf("%s/remote-%d.gguf", remote.URL, i)))
		must(t, tab.Set("model-sha", whole[0]))
		must(t, tab.Click("fetch-model"))
	}
	export := func() {
		t.Helper()
		must(t, wait(ctx, func() bool { // runs are listed after the model is ready
			var there bool
			_ = tab.Eval(`(() => {
			  const run = [...document.querySelectorAll("#runs li")].find((e) => e.querySelector(".hint").textContent.startsWith("step 5 of 5"));
			  const button = run?.querySelector(".open-run:enabled");
			  button?.click();
			  return !!button;
			})()`, &there)
			return there
		}))
		_, err := tab.WaitFor(ctx, "the open run", nil, func(s drive.State) bool { return s.Result.Phase == "ready" && s.SaveAdapter })
		must(t, err)
		must(t, tab.Click("export-gguf-q8_0"))
	}
	reopen(0)
	_, err := tab.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "5"}}) // the run that is exported
	must(t, err)
	begin(t, tab, ctx, 100_000) // and the one that is killed
	must(t, tab.Click("stop"))
	must(t, wait(ctx, func() bool { s, _ := tab.State(); return s.FineTune && s.Saved == 1 }))

	for i := range n {
		switch i / 2 % 4 {
		case 0:
			click("#saved-runs .continue")
			_, err := tab.WaitFor(ctx, "steps", nil, func(s drive.State) bool {
				return s.Train.Phase == "working" && strings.Contains(s.Chart, "Training loss")
			})
			must(t, err)
			s := kill(i, 700*time.Millisecond)
			// Steps that the page has shown are in the log: a record is flushed before its step is reported.
			goOn(t, tab, ctx, s.Number("Step"))
		case 1:
			fetch(i)
			kill(i, 400*time.Millisecond)
			var unfinished, stored bool
			must(t, tab.Eval(`!!document.querySelector("#unfinished .go-on")`, &unfinished))
			must(t, tab.Eval(fmt.Sprintf(`[...document.querySelectorAll("#models li")].some((e) => e.textContent.includes("remote-%d.gguf"))`, i), &stored))
			switch {
			case unfinished:
				click("#unfinished .go-on")
			case stored:
				click(fmt.Sprintf(`#models [aria-label^="Use remote-%d.gguf"]`, i))
			default:
				fetch(i) // killed before the first byte
			}
			ready(fmt.Sprintf("remote-%d", i))
		case 2:
			must(t, tab.Pick("#pick-model", picked))
			kill(i, 250*time.Millisecond)
			must(t, tab.Pick("#pick-model", picked))
			ready("picked")
			click(`#storage summary`)
			must(t, wait(ctx, func() bool {
				var there bool
				_ = tab.Eval(`!!document.querySelector('#storage [aria-label^="Delete picked.gguf,"]')`, &there)
				return there
			}))
			click(`#storage [aria-label^="Delete picked.gguf,"]`)
			must(t, wait(ctx, func() bool { s, _ := tab.State(); return s.FineTune && s.Model.Phase != "ready" }))
		case 3:
			export()
			kill(i, 200*time.Millisecond)
			export()
			_, err := tab.WaitFor(ctx, "the export", nil, func(s drive.State) bool { return strings.HasPrefix(s.Notice, "Saved ") && s.FineTune })
			must(t, err)
		}
	}
	tab.Close()
	reopen(n)
	var left []string
	must(t, tab.Eval(`(async () => {
	  const out = [];
	  for await (const [name] of (await (await navigator.storage.getDirectory()).getDirectoryHandle("models")).entries()) if (/\.part$|\.url$|\.etag$/.test(name)) out.push(name);
	  return out;
	})()`, &left))
	if len(left) > 0 {
		t.Errorf("pieces stay behind: %q", left)
	}
}
