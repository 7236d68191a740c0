package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tabtune/internal/assets"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// without ends a test for want of a browser, in failure where TABTUNE_REQUIRE_BROWSERS names it: there it was installed.
func without(t *testing.T, browser string, why error) {
	t.Helper()
	if slices.Contains(strings.Fields(os.Getenv("TABTUNE_REQUIRE_BROWSERS")), browser) {
		t.Fatal(why)
	}
	t.Skip(why)
}

// TestFirefox trains a small model with the real module in Firefox and saves the adapter and a merged model.
func TestFirefox(t *testing.T) {
	if _, err := drive.Firefox(); err != nil {
		without(t, "firefox", err)
	}
	downloads := t.TempDir()
	b, ctx := otherBrowser(t, func(ctx context.Context, address string) (*drive.Browser, error) {
		b, err := drive.OpenFirefox(ctx, drive.Options{Downloads: downloads})
		if err == nil {
			err = b.Goto(address)
		}
		return b, err
	})
	trainIn(t, b, ctx, downloads)
	if state, _ := b.State(); strings.Contains(state.Engine, "one thread (") {
		t.Errorf("engine: %s", state.Engine)
	}
}

// TestWebKit does the same in WebKitGTK, which gives the page neither storage nor threads: it works in memory, on one.
func TestWebKit(t *testing.T) {
	if _, _, err := drive.WebKit(); err != nil {
		without(t, "webkit", err)
	}
	downloads := t.TempDir()
	b, ctx := otherBrowser(t, func(ctx context.Context, address string) (*drive.Browser, error) {
		return drive.OpenWebKit(ctx, address, drive.Options{Downloads: downloads})
	})
	trainIn(t, b, ctx, downloads)
	var warning string
	must(t, b.Eval(`document.getElementById("temporary").textContent`, &warning))
	if state, _ := b.State(); !strings.Contains(state.Engine, "one thread (") || !strings.Contains(warning, "gone when this tab closes") {
		t.Errorf("engine: %s; warning: %s", state.Engine, warning)
	}
}

// otherBrowser opens the page, whose data are sixty rows, in another browser.
func otherBrowser(t *testing.T, open func(ctx context.Context, address string) (*drive.Browser, error)) (*drive.Browser, contextT) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	data := t.TempDir()
	var rows strings.Builder
	rows.WriteString("text,label\n")
	for i := range 60 {
		rows.WriteString([]string{"good good,positive\n", "bad bad bad,negative\n"}[i%2])
	}
	for _, name := range []string{assets.ReviewsTrain, assets.ReviewsVal} { // the data that the page begins with
		must(t, os.WriteFile(filepath.Join(data, name), []byte(rows.String()), 0o644))
	}
	b, err := open(ctx, serve(t, &site.Site{Dist: realDist(t), Assets: data, Isolated: true}))
	must(t, err)
	t.Cleanup(b.Close)
	return b, ctx
}

// trainIn picks a small model, trains it for 10 steps and saves the adapter and the merged model.
func trainIn(t *testing.T, b *drive.Browser, ctx contextT, downloads string) {
	t.Helper()
	picked := tinyGGUF(t, "llama")
	idle := func(what string, ok func(drive.State) bool) drive.State {
		t.Helper()
		var s drive.State
		bad := func() bool { return s.Problem != "" && !strings.Contains(s.Problem, "404") } // the sample model is not on this server
		if err := wait(ctx, func() bool { s, _ = b.State(); return bad() || s.FineTune && ok(s) }); err != nil || bad() {
			t.Fatalf("waiting for %s: %v; the page shows %+v; console: %s", what, err, s, strings.Join(b.Console(), " | "))
		}
		return s
	}
	idle("the page", func(s drive.State) bool { return strings.HasPrefix(s.Engine, "Engine ready") })
	must(t, b.Pick("#pick-model", picked))
	idle("model and data", func(s drive.State) bool {
		return s.Problem == "" && s.Model.Phase == "ready" && s.Data.Phase == "ready"
	})
	state, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "10", "queries": "2", "batch": "2", "layers": "2", "lr": "0.5", "evalEvery": "5"}})
	must(t, err)
	if state.Number("Step") != 10 || state.Table["Loss"][0] == 0 {
		t.Errorf("result: %+v", state)
	}
	if names := zipNames(t, waitZip(t, downloads)); strings.Join(names, " ") != "adapter_model.safetensors adapter_config.json replay.log" {
		t.Errorf("archive: %v", names)
	}
	idle("the saved adapter", func(s drive.State) bool { return true })
	must(t, b.Click("export-gguf-q8_0"))
	idle("the merged model", func(s drive.State) bool { return strings.Contains(s.Notice, ".Q8_0.gguf") })
	if merged := saved(t, ctx, downloads, ".Q8_0.gguf"); !bytes.HasPrefix(merged, []byte("GGUF")) {
		t.Errorf("the merged model begins with %q", merged[:4])
	}
	for _, line := range b.Console() {
		if !strings.Contains(line, "404") {
			t.Errorf("console: %s", line)
		}
	}
}
