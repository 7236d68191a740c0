package e2e

import (
	"strings"
	"testing"
	"time"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestDataAndCompare takes ready, pasted and typed data, and looks at rows before and after training.
func TestDataAndCompare(t *testing.T) {
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: t.TempDir()})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	data := func(want string) {
		t.Helper()
		must(t, wait(ctx, func() bool {
			s, _ := b.State()
			return s.FineTune && s.Problem == "" && s.Data.Phase == "ready" && strings.HasPrefix(s.Data.Text, want)
		}))
	}
	must(t, b.Click("sample-plain"))
	data("Plain language: 200 rows")
	must(t, b.Click("sample-support"))
	data("Support tickets: 201 rows") // the stand-in counts lines
	must(t, b.Unfold(ctx, "typed"))
	must(t, b.Set("pasted", "text,label\n\"a, b\",up\n"))
	must(t, b.Set("new-text", `say "yes"`))
	must(t, b.Set("new-label", "down"))
	must(t, b.Click("add-row"))
	must(t, wait(ctx, func() bool {
		var v string
		_ = b.Eval(`document.getElementById("pasted").value`, &v)
		return v == "text,label\n\"a, b\",up\n\"say \"\"yes\"\"\",down\n"
	}))
	must(t, b.Click("use-pasted"))
	must(t, wait(ctx, func() bool {
		s, _ := b.State()
		return s.FineTune && strings.HasPrefix(s.Data.Text, "Pasted text: say which")
	}))
	must(t, b.Set("data-verbalizers", "up, down"))
	must(t, b.Click("check-data"))
	data("Pasted text: 3 rows")
	var marked string
	must(t, b.Eval(`[...document.querySelectorAll("#preview .scored")].map((e) => e.textContent).join("|")`, &marked))
	if marked != "positive|positive|positive" {
		t.Errorf("marked as scored: %q", marked)
	}
	_, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "5"}})
	must(t, err)
	texts := func() (s string) {
		_ = b.Eval(`[...document.querySelectorAll("#pairs tbody tr")].map((r) => r.cells[0].textContent.at(-1) + (r.className ? "w" : "")).join(" ")`, &s)
		return s
	}
	// The stand-in answers 1, 0, 1, 0, ... after training and always 0 before; the labels are 1, 0, 1, 0, ...
	if got := texts(); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("wrong first: %s", got)
	}
	must(t, b.Set("order", "changed"))
	must(t, wait(ctx, func() bool { return texts() == "0 2 4 6 8 1 3 5 7 9" }))
	var cells string
	must(t, b.Eval(`[...document.querySelectorAll("#confusion td")].map((e) => e.textContent).join(" ")`, &cells))
	if cells != "5 0 0 5" {
		t.Errorf("confusion matrix %s", cells)
	}
	must(t, b.Click("generate"))
	must(t, wait(ctx, func() bool {
		var n int
		_ = b.Eval(`document.querySelectorAll("#answer-after .unsure[title='25.0 %']").length`, &n)
		return n == 3
	}))
}
