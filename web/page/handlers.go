//go:build js && wasm

package main

import (
	"path"
	"strings"

	"github.com/vugu/vugu"

	"tabtune/web/ui"
)

func base(p string) string { return path.Base(p) }

func join(s []string) string { return strings.Join(s, ", ") }

// Handlers run under the renderer's lock and must return at once: whatever waits goes on a goroutine.

// OnPickModel, OnPickData: a file was chosen.
func (a *App) OnPickModel(event vugu.DOMEvent) {
	if file, name, ok := pickedFile(event); ok {
		go a.chain(func() error { return a.pickModel(file, name) })
	}
}

// OnPickData copies the file in and fills the form.
func (a *App) OnPickData(event vugu.DOMEvent) {
	if file, name, ok := pickedFile(event); ok {
		go a.chain(func() error { return a.pickData(file, name) })
	}
}

// OnSampleModel goes back to the ready model.
func (a *App) OnSampleModel() {
	go a.chain(func() error {
		a.now(func() {
			a.Model = ModelState{Name: sampleModel, Path: "/models/" + sampleModel, Sample: true, opened: a.Model.opened}
		})
		return a.openModel()
	})
}

// OnSampleData goes back to the ready data.
func (a *App) OnSampleData() {
	go a.chain(func() error {
		a.now(a.useSampleData)
		return a.openData()
	})
}

// OnOrder sorts the validation rows.
func (a *App) OnOrder(event vugu.DOMEvent) {
	a.Out.Order = event.PropString("target", "value")
	a.sortPairs()
}

// sortPairs makes the list of validation rows anew; drawing only takes a part of it.
func (a *App) sortPairs() {
	if a.Out.Order == "" {
		a.Out.Order = ui.OrderWrong
	}
	a.Out.Pairs, a.Out.PairsPage = ui.Pairs(&a.Data.Info, a.Out.Before, a.Out.After, a.Out.Order), ui.Pager{}
}

// OnCheckData reads the data with what the form says.
func (a *App) OnCheckData() { go a.chain(a.openData) }

// OnEstimate refreshes the estimate after a knob changed.
func (a *App) OnEstimate() {
	if a.Data.Phase == Ready && !a.Busy {
		go a.chain(a.estimate)
	}
}

// OnFineTune is the page's main button.
func (a *App) OnFineTune() { go a.chain(func() error { return a.fineTune(nil) }) }

// OnContinue goes on with a saved run.
func (a *App) OnContinue(r ui.SavedRun) {
	go a.chain(func() error { return a.fineTune(&r) })
}

// OnPause pauses or resumes.
func (a *App) OnPause() {
	if a.Train.Paused {
		a.control("resume")
	} else {
		a.control("pause")
	}
}

// OnStop ends the run; it can be continued.
func (a *App) OnStop() { a.control("stop") }

// OnShare changes the share of the time that a run works, also of one under way.
func (a *App) OnShare(event vugu.DOMEvent) {
	a.Train.Share = event.PropString("target", "value")
	a.throttle()
}

// OnSave downloads the adapter.
func (a *App) OnSave() { go a.chain(a.saveAdapter) }

// OnGenerate answers the prompt from both.
func (a *App) OnGenerate() { go a.chain(a.generate) }

// OnRemove deletes something stored.
func (a *App) OnRemove(path string) { go a.chain(func() error { return a.remove(path) }) }

// OnRestart brings the engine back after it died.
func (a *App) OnRestart() {
	go a.chain(func() error {
		if err := a.restart(); err != nil {
			return err
		}
		return a.openData()
	})
}

// OnFold opens or closes a fold in the browser's stead.
func (a *App) OnFold(id string, event vugu.DOMEvent) {
	event.PreventDefault()
	a.Open[id] = !a.Open[id]
}

// OnDismiss closes the message.
func (a *App) OnDismiss() { a.Problem = nil }

// Knob is one field of the fold: a name, its label, one line of explanation, and where its text lives.
type Knob struct {
	ID, Label, Hint string
	Value           *string
}

// Knobs lists the fold.
func (a *App) Knobs() []Knob {
	s := &a.Train.Settings
	return []Knob{
		{"layers", "Layers", "How many of the top layers learn, or all, or auto to probe. More can learn more and cost more.", &s.Layers},
		{"modules", "Modules", "Which linear layers carry the adapter: q, k, v, o, gate, up, down; or auto to probe.", &s.Modules},
		{"rank", "Rank", "Width of the adapter.", &s.Rank},
		{"alpha", "Alpha", "Scale of the adapter: alpha divided by rank.", &s.Alpha},
		{"queries", "Queries", "Random directions tried in one step, all in one batch.", &s.Queries},
		{"batch", "Batch", "Rows a step looks at.", &s.Batch},
		{"eps", "Epsilon", "How far each direction is tried, both ways: a number, or auto to compare several.", &s.Eps},
		{"lr", "Learning rate", "A number, or auto to search for one first.", &s.LR},
		{"steps", "Steps", "How many steps to train.", &s.Steps},
		{"optimizer", "Optimizer", "From estimates to steps: empty or sgd, momentum, adam, radazo, scalar, muon, mopi or hizoo.", &s.Optimizer},
		{"average", "Average", "Empty, tail (the last third of the run) or a decay such as 0.95: scores an average of the adapters too and keeps it if it is better.", &s.Average},
		{"subspace", "Subspace", "What of the layers' input the adapter sees: labels (what tells them apart), activations (the leading directions), random (empty too); auto: labels where there are some.", &s.Subspace},
		{"resample", "New subspace", "Every so many steps; the adapter grows by its rank each time. Empty: never.", &s.Resample},
		{"refit", "Fit the head again", "With Automatic: every so many steps. Empty: never.", &s.Refit},
		{"evalEvery", "Validate every", "Steps between two scores on the validation rows.", &s.EvalEvery},
		{"seed", "Seed", "The same seed and settings repeat the same run.", &s.Seed},
		{"threads", "Threads", "Processor cores to use. The result is the same for any number.", &s.Threads},
		{"runtime", "Runtime", "Empty: Tabtune's engine. Or the address of your own ExecuTorch build on this server, such as assets/executorch.js.", &s.Runtime},
	}
}

// Input stores a field's text as it is typed.
func Input(to *string, event vugu.DOMEvent) { *to = event.PropString("target", "value") }

// Running says whether a task can be paused or stopped.
func (a *App) Running() bool { return a.Train.request != nil && a.Train.Phase == Working }
