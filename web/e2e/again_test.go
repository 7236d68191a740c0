package e2e

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tabtune/internal/assets"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestKeptAgain saves a run of the real module by every button of the Keep step and takes each file in again through the page's pickers: the adapters and the
// log give the very loss that was trained, the merged models it as nearly as their weights are rounded, and the card is refused.
func TestKeptAgain(t *testing.T) {
	dir, downloads, data := t.TempDir(), t.TempDir(), t.TempDir()
	picked := tinyGGUF(t, "llama")
	var rows strings.Builder
	rows.WriteString("text,label\n")
	for i := range 60 {
		rows.WriteString([]string{"good good,positive\n", "bad bad bad,negative\n"}[i%2])
	}
	for _, name := range []string{assets.ReviewsTrain, assets.ReviewsVal} { // the data that the page begins with
		must(t, os.WriteFile(filepath.Join(data, name), []byte(rows.String()), 0o644))
	}
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: downloads})
	must(t, b.Goto(serve(t, &site.Site{Dist: realDist(t), Assets: data, Isolated: true})))
	pickModel := func(path string) {
		t.Helper()
		name := strings.TrimSuffix(filepath.Base(path), ".gguf")
		must(t, b.Pick("#pick-model", path))
		shows(t, b, ctx, name, func(s drive.State) bool {
			return s.Problem == "" && s.FineTune && s.Model.Phase == "ready" && s.Data.Phase == "ready" && strings.HasPrefix(s.Model.Text, name+" is ready")
		})
	}
	shows(t, b, ctx, "the page", func(s drive.State) bool { return s.FineTune })
	pickModel(picked)
	// A from the seed: the bounds at the end are for its small changes of many weights.
	knobs := map[string]string{"steps": "12", "queries": "2", "batch": "2", "layers": "2", "lr": "0.5", "evalEvery": "3", "dtype": "f32", "subspace": "random"}
	s, err := b.FineTune(ctx, drive.Run{Knobs: knobs})
	must(t, err)
	base, trained := s.Table["Loss"][0], s.Table["Loss"][1]
	if !(trained < base) {
		t.Fatalf("loss %v before, %v after", base, trained)
	}
	files := map[string]string{} // by ending
	keep := func(button, ending string) {
		t.Helper()
		path := filepath.Join(dir, "kept"+ending)
		if button != "" {
			must(t, b.Click(button))
		}
		must(t, os.WriteFile(path, saved(t, ctx, downloads, ending), 0o644))
		files[ending] = path
		shows(t, b, ctx, ending, func(s drive.State) bool { return s.Problem == "" && s.FineTune })
	}
	keep("", ".zip") // FineTune has saved it
	for button, ending := range map[string]string{"gguf-adapter": ".adapter.gguf", "gguf-q8_0": ".Q8_0.gguf", "gguf-f16": ".F16.gguf", "card": ".md", "log": ".replay.log"} {
		keep("export-"+button, ending)
	}
	for _, ending := range []string{".zip", ".adapter.gguf", ".replay.log"} {
		must(t, b.Pick("#pick-import", files[ending]))
		name := filepath.Base(files[ending])
		shows(t, b, ctx, name, func(now drive.State) bool {
			s = now
			return s.Problem != "" || s.FineTune && s.Result.Phase == "ready" && strings.Contains(s.Result.Text, name)
		})
		if got := s.Table["Loss"]; s.Problem != "" || got != [2]float64{base, trained} {
			t.Errorf("%s: loss %v, want %v and %v; %s", ending, got, base, trained, s.Problem)
		}
	}
	for ending, want := range map[string]string{".md": "for people to read", ".F16.gguf": "whole model"} {
		must(t, b.Pick("#pick-import", files[ending]))
		problem(t, b, ctx, want)
		must(t, b.Eval(`document.querySelector("#problem button.quiet").click()`, nil))
		shows(t, b, ctx, "the end of the message", func(s drive.State) bool { return s.Problem == "" && s.FineTune })
	}
	// In nats, where training took 0.94: to round this model's own weights to 16 bits alone, under the same adapter, changes its loss by 1.2e-3.
	for ending, limit := range map[string]float64{".F16.gguf": 3e-3, ".Q8_0.gguf": 3e-2} {
		pickModel(files[ending])
		s, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "1"}})
		must(t, err)
		if d := s.Table["Loss"][0] - trained; math.Abs(d) > limit {
			t.Errorf("%s: the loss differs by %v from %v", ending, d, trained)
		}
	}
}
