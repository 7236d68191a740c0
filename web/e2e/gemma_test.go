package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tabtune/internal/assets"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestGemma opens the real Gemma-3-270M, where it was fetched, from a file, trains it on the movie reviews, and lets it answer.
func TestGemma(t *testing.T) {
	dir, err := assets.Dir()
	must(t, err)
	model := filepath.Join(dir, assets.Gemma)
	if _, err := os.Stat(model); err != nil {
		t.Skip(`"make fetch-gemma" fetches the model`)
	}
	b, ctx := open(t, 10*time.Minute, drive.Options{})
	url := serve(t, &site.Site{Dist: realDist(t), Assets: dir, Isolated: true})
	must(t, b.Goto(url))
	must(t, wait(ctx, func() bool {
		s, _ := b.State()
		return s.Model.Phase == "ready" && s.Data.Phase == "ready" && s.FineTune
	}))
	start := time.Now()
	must(t, b.Pick("#pick-model", model))
	var s drive.State
	must(t, wait(ctx, func() bool {
		s, _ = b.State()
		return s.Problem != "" || s.Model.Phase == "ready" && s.Data.Phase == "ready" && strings.Contains(s.Model.Text, "gemma")
	}))
	t.Logf("open after %v: %+v", time.Since(start), s.Model)
	s, err = b.FineTune(ctx, drive.Run{Knobs: map[string]string{"estimator": "rows", "queries": "16", "batch": "1", "steps": "24", "evalEvery": "12", "layers": "4", "lr": "1"}})
	must(t, err)
	t.Logf("%+v", s)
	if a := s.Table["Loss"]; !(a[1] < a[0]) {
		t.Errorf("loss: %v before, %v after", a[0], a[1])
	}
	must(t, b.CloseAndCheck(url))
}
