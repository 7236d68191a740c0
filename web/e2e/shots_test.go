package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestShots looks at the page in light, dark and on a phone: nothing wider than the window, every control named, the colours' contrast enough.
// With TABTUNE_SHOTS=DIR it also leaves pictures there.
func TestShots(t *testing.T) {
	url := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	for name, o := range map[string]drive.Options{"light": {}, "dark": {Dark: true}, "phone": {Width: 360, Height: 740}, "phone-dark": {Width: 360, Height: 740, Dark: true}} {
		t.Run(name, func(t *testing.T) {
			o.Downloads = t.TempDir()
			b, ctx := open(t, 2*time.Minute, o)
			must(t, b.Goto(url))
			prepare(t, b, ctx)
			must(t, b.Eval(`document.querySelectorAll("#knobs summary, #columns summary, #typed summary, #catalogue summary, #storage summary, #privacy summary").forEach((s) => s.click()); true`, nil))
			time.Sleep(500 * time.Millisecond)
			var open int
			must(t, b.Eval(`document.querySelectorAll("#knobs[open], #columns[open], #typed[open], #catalogue[open], #storage[open], #privacy[open]").length`, &open))
			if open != 6 {
				t.Errorf("%d of 6 folds stay open when the page is drawn again", open)
			}
			_, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "40", "evalEvery": "10"}, Shot: func(step string, b *drive.Browser) error {
				var faults []string
				if err := b.Eval(faultsOf, &faults); err != nil {
					return err
				}
				serious, err := axe(b)
				if err != nil {
					return err
				}
				for _, f := range append(faults, serious...) {
					t.Errorf("%s: %s", step, f)
				}
				if dir := os.Getenv("TABTUNE_SHOTS"); dir != "" {
					return b.Screenshot(filepath.Join(dir, name+"-"+step+".png"))
				}
				return nil
			}})
			must(t, err)
			for _, line := range b.Console() {
				if !strings.Contains(line, "404") {
					t.Errorf("console: %s", line)
				}
			}
		})
	}
}

// axe runs axe-core and returns what it finds serious or critical.
func axe(b *drive.Browser) (faults []string, err error) {
	script, err := os.ReadFile(filepath.Join(root, "web/worker/node_modules/axe-core/axe.min.js"))
	if err != nil {
		return nil, err
	}
	if err := b.Eval(string(script)+"; true", nil); err != nil {
		return nil, err
	}
	err = b.Eval(`axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
		.map((v) => "axe: " + v.id + ", " + v.help + ": " + v.nodes.map((n) => n.html.slice(0, 120)).slice(0, 3).join(" | ")))`, &faults)
	return faults, err
}

// faultsOf lists what WCAG would object to, of the things that can be computed: contrast below AA, controls without a name or smaller than
// 24 pixels, a page that scrolls sideways, headings that skip a level, ids that repeat.
const faultsOf = `(() => {
  const faults = [];
  if (document.documentElement.scrollWidth > innerWidth + 1) {
    const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")).slice(-1)[0];
    faults.push("the page scrolls sideways: " + document.documentElement.scrollWidth + " of " + innerWidth + ", " + wide?.outerHTML.slice(0, 120));
  }
  const paint = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgb = (c) => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = c; paint.fillRect(0, 0, 1, 1); return [...paint.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => { const [r, g, b] = c.map((x) => { x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 255]; };
  const seen = (e) => e.checkVisibility() && e.getClientRects().length > 0;
  for (const e of document.querySelectorAll("body *")) {
    if (!seen(e) || e.closest(":disabled, .sr")) continue;
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own) continue;
    const s = getComputedStyle(e);
    const [a, b] = [light(rgb(e instanceof SVGElement ? s.fill : s.color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faults.push("contrast " + ratio.toFixed(2) + ": " + e.outerHTML.slice(0, 100));
  }
  for (const e of document.querySelectorAll("button, input, select, textarea, summary, [tabindex], progress, svg[role=img]")) {
    const by = (a) => (e.getAttribute(a) ?? "").split(" ").filter(Boolean).map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
    const name = e.getAttribute("aria-label") || by("aria-labelledby") || [...(e.labels ?? [])].map((l) => l.textContent).join(" ") || e.textContent;
    if (seen(e) && !name.trim()) faults.push("no name: " + e.outerHTML.slice(0, 100));
    const box = e.getBoundingClientRect();
    if (seen(e) && e.matches("button, input:not(.sr), select, summary") && box.height < 24) faults.push("smaller than 24 pixels: " + e.outerHTML.slice(0, 100));
  }
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!seen(h)) continue;
    const n = Number(h.tagName[1]);
    if (n > level + 1) faults.push("heading skips from " + level + " to " + n + ": " + h.textContent);
    level = n;
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids.filter((x, i) => ids.indexOf(x) !== i)) faults.push("id twice: " + id);
  return faults;
})()`

// TestKeyboard walks the page with the Tab key: every control that can be used is reached, in the order in which they stand, each shows that it has the
// focus, and Enter presses the button.
func TestKeyboard(t *testing.T) {
	b, ctx := open(t, 2*time.Minute, drive.Options{Downloads: t.TempDir()})
	must(t, b.Goto(serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})))
	prepare(t, b, ctx)
	must(t, b.Eval(`{
	  window.controls = () => [...document.querySelectorAll("button, input, select, textarea, summary, a[href], [tabindex]")].filter((e) => !e.disabled && e.checkVisibility() && e.tabIndex >= 0);
	  document.activeElement.blur();
	}`, nil))
	var want int
	must(t, b.Eval(`controls().length`, &want))
	if want < 10 {
		t.Fatalf("%d controls", want)
	}
	last := -1
	for i := range want {
		must(t, b.Run(chromedp.KeyEvent(kb.Tab)))
		var at struct {
			Index int
			Ring  bool
			What  string
		}
		must(t, b.Eval(`(() => {
		  const e = document.activeElement, style = getComputedStyle(e), label = e.labels?.[0] && getComputedStyle(e.labels[0]);
		  const ring = (s) => s && (s.outlineStyle !== "none" && s.outlineWidth !== "0px" || s.boxShadow !== "none");
		  return { Index: controls().indexOf(e), Ring: !!(ring(style) || ring(label)), What: e.outerHTML.slice(0, 100) };
		})()`, &at))
		if at.Index != last+1 {
			t.Fatalf("Tab %d goes from control %d to %d: %s", i+1, last, at.Index, at.What)
		}
		if !at.Ring {
			t.Errorf("nothing shows that this has the focus: %s", at.What)
		}
		last = at.Index
	}
	must(t, b.Eval(`document.getElementById("fine-tune").focus()`, nil))
	must(t, b.Run(chromedp.KeyEvent(kb.Enter)))
	_, err := b.WaitFor(ctx, "the run", nil, func(s drive.State) bool { return s.Number("Step") >= 1 })
	must(t, err)
}
