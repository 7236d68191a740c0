package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"tabtune/internal/assets"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestPictures makes the README's pictures in the folder TABTUNE_PICTURES: every step of a run of the real model on the movie reviews, in a light
// window, a dark one, and on a phone. All of one browser's storage, so it trains once.
func TestPictures(t *testing.T) {
	dir := os.Getenv("TABTUNE_PICTURES")
	if dir == "" {
		t.Skip("TABTUNE_PICTURES names no folder")
	}
	must(t, os.MkdirAll(dir, 0o755))
	model := assets.Need(t, assets.Model)
	url := serve(t, &site.Site{Dist: realDist(t), Assets: filepath.Dir(model), Isolated: true})
	profile := t.TempDir()
	const scale, quality, most = 0.75, 50, 350_000
	total := int64(0)
	picture := func(b *drive.Browser, name, selector string) {
		t.Helper()
		path := filepath.Join(dir, name+".webp")
		must(t, b.Picture(path, selector, scale, quality))
		st, err := os.Stat(path)
		must(t, err)
		t.Logf("%s: %d bytes", name, st.Size())
		total += st.Size()
	}
	card := func(title string) string { return `[aria-labelledby="` + title + `-title"]` }
	compare := "#result-title, #before-after, #confusion, #order, #pairs tr:nth-child(-n+5), " + card("result") + " > p"
	ready := func(b *drive.Browser, ctx contextT) {
		t.Helper()
		_, err := b.WaitFor(ctx, "model and data", nil, func(s drive.State) bool { return s.Model.Phase == "ready" && s.Data.Phase == "ready" && s.FineTune })
		must(t, err)
	}
	b, ctx := open(t, 20*time.Minute, drive.Options{Width: 860, Profile: profile, Downloads: t.TempDir()})
	must(t, b.Goto(url))
	ready(b, ctx)
	picture(b, "model", ".top, "+card("model"))
	picture(b, "data", card("data"))
	s, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "60", "lr": "0.5", "evalEvery": "15"}})
	must(t, err)
	must(t, b.Eval(`document.querySelector("#knobs summary").click()`, nil))
	t.Logf("%s; estimate: %s", s.Result.Text, s.Estimate)
	picture(b, "train", card("train"))
	must(t, b.Click("generate"))
	_, err = b.WaitFor(ctx, "the answers", nil, func(s drive.State) bool { return s.FineTune })
	must(t, err)
	picture(b, "compare", compare)
	picture(b, "keep", card("keep")+", "+card("runs"))
	b.Close()
	for name, o := range map[string]drive.Options{"dark": {Width: 860, Dark: true}, "phone": {Width: 393, Height: 852}} {
		o.Profile = profile
		b, ctx := open(t, 10*time.Minute, o)
		must(t, b.Goto(url))
		ready(b, ctx)
		must(t, b.Eval(`document.querySelector("#runs .open-run").click()`, nil))
		_, err := b.WaitFor(ctx, "the run", nil, func(s drive.State) bool { return s.Result.Phase == "ready" && s.FineTune })
		must(t, err)
		picture(b, name+"-model", ".top, "+card("model"))
		picture(b, name+"-data", card("data"))
		picture(b, name+"-train", card("train"))
		picture(b, name+"-compare", compare)
		picture(b, name+"-keep", card("keep")+", "+card("runs"))
		b.Close()
	}
	if total > most {
		t.Errorf("the pictures have %d bytes together, want at most %d", total, most)
	}
}
