package drive

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// State is what the page shows.
type State struct {
	Problem, Detail, Notice          string
	Model, Data, Train, Result       Step
	Facts                            map[string]string
	Table                            map[string][2]float64 // "Accuracy": before, after
	FineTune, SaveAdapter            bool                  // buttons that can be pressed
	Saved                            int                   // runs that can be continued
	Engine, Bench, Chart, LossPoints string
	Estimate                         string // what a run needs
}

// Step is one of the four.
type Step struct{ Phase, Text string }

// The page draws what an event changed a few of its thread's tasks later; a person would see no less.
const readState = `(async () => {
  await new Promise((r) => setTimeout(r, 30));
  const at = (id) => document.getElementById(id);
  const text = (id) => at(id)?.textContent.trim() ?? "";
  const shown = (id) => at(id) && !at(id).closest("[hidden]");
  const step = (id) => ({ Phase: at(id)?.dataset.phase ?? "", Text: text(id) });
  const can = (id) => !!at(id) && !at(id).disabled && !!shown(id);
  return {
    Problem: shown("problem-text") ? text("problem-text") : "", Detail: shown("problem") ? at("problem")?.querySelector("pre")?.textContent ?? "" : "", Notice: text("notice"),
    Model: step("model-status"), Data: step("data-status"), Train: step("train-status"), Result: step("result-status"),
    Facts: Object.fromEntries([...document.querySelectorAll("#train-facts dd")].map((d) => [d.dataset.fact, d.textContent])),
    Table: Object.fromEntries([...document.querySelectorAll("#before-after tbody tr")].map((r) => [r.cells[0].textContent, [Number(r.cells[1].dataset.value), Number(r.cells[2].dataset.value)]])),
    FineTune: can("fine-tune"), SaveAdapter: can("save-adapter"), Saved: shown("saved-runs") ? document.querySelectorAll("#saved-runs li").length : 0,
    Engine: text("engine-state"), Estimate: text("estimate"), Bench: text("bench"), Chart: text("chart-summary"), LossPoints: document.querySelector("polyline.raw")?.getAttribute("points") ?? "",
  };
})()`

// PageError is an error that the page shows.
type PageError struct{ Message, Detail string }

func (e *PageError) Error() string {
	if e.Detail == "" {
		return "the page says: " + e.Message
	}
	return "the page says: " + e.Message + "\n" + e.Detail
}

// State reads the page.
func (b *Browser) State() (State, error) {
	var s State
	err := b.Eval(readState, &s)
	return s, err
}

// WaitFor reads the page until ok says so. It ends with a *PageError when the page shows a problem, and with the last state when ctx ends.
func (b *Browser) WaitFor(ctx context.Context, what string, each func(State), ok func(State) bool) (State, error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := b.State()
		if err != nil {
			return s, fmt.Errorf("waiting for %s: %w", what, err)
		}
		if each != nil {
			each(s)
		}
		if s.Problem != "" {
			return s, &PageError{s.Problem, s.Detail}
		}
		if ok(s) {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("waiting for %s: %w; the page shows: model %q, data %q, training %q, engine %q; console: %s", what, ctx.Err(), s.Model.Text, s.Data.Text, s.Train.Text, s.Engine, strings.Join(b.Console(), " | "))
		case <-b.ctx.Done():
			return s, fmt.Errorf("waiting for %s: the browser ended: %w", what, b.ctx.Err())
		}
	}
}

// Click presses a button by its id, as a click on it would.
func (b *Browser) Click(id string) error {
	var why string
	err := b.Eval(fmt.Sprintf(`(() => { const e = document.getElementById(%[1]q); if (!e) return "is not there"; if (e.disabled) return "is disabled"; if (e.closest("[hidden]")) return "is hidden"; e.click(); return ""; })()`, id), &why)
	if err == nil && why != "" {
		err = fmt.Errorf("button #%s %s", id, why)
	}
	return err
}

// Unfold opens a fold by its id, as a click on its summary would.
func (b *Browser) Unfold(ctx context.Context, id string) error {
	open := fmt.Sprintf(`document.getElementById(%q).open`, id)
	var is bool
	if err := b.Eval(open, &is); err != nil || is {
		return err
	}
	if err := b.Eval(fmt.Sprintf(`document.querySelector("#%s summary").click()`, id), nil); err != nil {
		return err
	}
	for !is {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("waiting for the fold #%s: %w", id, err)
		}
		if err := b.Eval(`new Promise((r) => requestAnimationFrame(() => r(`+open+`)))`, &is); err != nil {
			return err
		}
	}
	return nil
}

// Set types into a field, or chooses an option, by the element's id. A person types and then leaves the field: two tasks of the page.
func (b *Browser) Set(id, value string) error {
	v, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var found bool
	err = b.Eval(fmt.Sprintf(`(async () => { const e = document.getElementById(%q); if (!e) return false; e.value = %s; e.dispatchEvent(new Event("input", { bubbles: true })); await new Promise((r) => setTimeout(r)); e.dispatchEvent(new Event("change", { bubbles: true })); return e.value === %[2]s; })()`, id, v), &found)
	if err == nil && !found {
		err = fmt.Errorf("field #%s does not take %s", id, v)
	}
	return err
}

// Number reads a fact's number: "12 of 150" is 12.
func (s State) Number(fact string) float64 {
	f := strings.Fields(strings.ReplaceAll(s.Facts[fact], ",", ""))
	if len(f) == 0 {
		return 0
	}
	x, _ := strconv.ParseFloat(f[0], 64)
	return x
}

// Run is what to do with the page.
type Run struct {
	Knobs    map[string]string                   // knob id without "knob-" -> text
	Continue bool                                // go on with the first saved run instead of a new one
	Progress func(State)                         // called about four times a second
	Shot     func(name string, b *Browser) error // called at every step, for screenshots
}

// FineTune waits until model and data are ready, sets the knobs, presses Fine-tune (or Continue), waits for the result and saves the adapter.
func (b *Browser) FineTune(ctx context.Context, r Run) (State, error) {
	shot := func(name string) error {
		if r.Shot == nil {
			return nil
		}
		return r.Shot(name, b)
	}
	s, err := b.WaitFor(ctx, "model and data", r.Progress, func(s State) bool { return s.Model.Phase == "ready" && s.Data.Phase == "ready" && s.FineTune })
	if err != nil {
		return s, err
	}
	if len(r.Knobs) > 0 {
		if err := b.Unfold(ctx, "knobs"); err != nil {
			return s, err
		}
	}
	for id, v := range r.Knobs {
		if err := b.Set("knob-"+id, v); err != nil {
			return s, err
		}
		// A changed knob refreshes the estimate; the fields are closed to changes while that runs.
		if s, err = b.WaitFor(ctx, "the estimate", nil, func(s State) bool { return s.FineTune }); err != nil {
			return s, err
		}
	}
	if err := shot("1-ready"); err != nil {
		return s, err
	}
	if r.Continue {
		err = b.Eval(`document.querySelector("#saved-runs .continue").click()`, nil)
	} else {
		err = b.Click("fine-tune")
	}
	if err != nil {
		return s, err
	}
	if s, err = b.WaitFor(ctx, "the start of training", r.Progress, func(s State) bool { return s.Train.Phase == "working" || s.Result.Phase == "ready" }); err != nil {
		return s, err
	}
	half := false
	s, err = b.WaitFor(ctx, "the result", func(s State) {
		if r.Progress != nil {
			r.Progress(s)
		}
		if !half && s.Number("Step") >= 3 && strings.Contains(s.LossPoints, " ") {
			half = true
			_ = shot("2-training")
		}
	}, func(s State) bool { return s.Result.Phase == "ready" && s.SaveAdapter })
	if err != nil {
		return s, err
	}
	if err := shot("3-result"); err != nil {
		return s, err
	}
	if err := b.Click("save-adapter"); err != nil {
		return s, err
	}
	return b.WaitFor(ctx, "the saved adapter", nil, func(s State) bool { return strings.HasPrefix(s.Notice, "Saved ") })
}
