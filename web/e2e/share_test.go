package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tabtune/lora/replay"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
	"tabtune/web/ui"
)

// TestShare opens a link that carries a run, in a fresh tab and in one that is open, has its adapter computed, makes a link of that run, and opens
// damaged links.
func TestShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "replay.log")
	w, err := replay.Create(path, replay.Config{Model: "<b>Fake</b>", ModelSHA256: strings.Repeat("0f", 32), DType: "int8", Window: 128, Rank: 4, Alpha: 8,
		Modules: []string{"model.layers.1.self_attn.q_proj"}, Layers: []int{1}, Queries: 1, Batch: 1, Steps: 1})
	must(t, err)
	must(t, w.Append(replay.Record{Step: 1, Seeds: []int64{1}, Coefs: []float32{0.5}}))
	must(t, w.Close())
	log, err := os.ReadFile(path)
	must(t, err)
	b, ctx := open(t, time.Minute, drive.Options{Downloads: t.TempDir()})
	url := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	link, err := ui.ShareLink(url, log)
	must(t, err)
	text := func(id string) (s string) {
		_ = b.Eval(`document.getElementById("`+id+`")?.textContent ?? ""`, &s)
		return s
	}
	const says = "This link carries a run: 1 steps, rank 4, 1 layers of <b>Fake</b>."
	must(t, b.Goto(link))
	prepare(t, b, ctx)
	if got := text("shared-text"); !strings.HasPrefix(got, says) {
		t.Errorf("the page shows %q", got)
	}
	var address string
	must(t, b.Eval(`location.href`, &address))
	if address != url {
		t.Errorf("the address stays %q", address)
	}
	must(t, b.Click("leave-shared"))
	must(t, wait(ctx, func() bool { return text("shared-text") == "" }))
	must(t, b.Eval(`location.hash = "`+strings.TrimPrefix(link, url+"#")+`"`, nil))
	must(t, wait(ctx, func() bool { return strings.HasPrefix(text("shared-text"), says) }))
	must(t, b.Click("rebuild"))
	_, err = b.WaitFor(ctx, "the adapter", nil, func(s drive.State) bool { return s.Result.Phase == "ready" && s.FineTune })
	must(t, err)
	if got := text("shared-text"); got != "" {
		t.Errorf("still offered: %q", got)
	}
	must(t, b.Click("share-link"))
	must(t, wait(ctx, func() bool {
		var made string
		_ = b.Eval(`document.getElementById("shared-link")?.value ?? ""`, &made)
		return made == link
	}))
	for _, bad := range []string{link[:len(link)-20], url + "#replay=" + strings.Repeat("A", 70_000), url + "#replay=%00"} {
		must(t, b.Goto("about:blank"))
		must(t, b.Goto(bad))
		must(t, wait(ctx, func() bool {
			return strings.HasSuffix(text("shared-text"), "Ask for the link again, or for the replay log as a file.")
		}))
	}
}
