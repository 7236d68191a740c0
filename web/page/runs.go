//go:build js && wasm

package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/vugu/vugu"

	"tabtune/web/ui"
)

// OnOpenRun shows a run: its curves, its scores before and after, its answers.
func (a *App) OnOpenRun(r ui.SavedRun) { go a.chain(func() error { return a.openRun(&r) }) }

// OnExportRun saves a whole run as one archive.
func (a *App) OnExportRun(r ui.SavedRun) { go a.chain(func() error { return a.exportRun(&r) }) }

// OnRename gives a run another name.
func (a *App) OnRename(r ui.SavedRun, event vugu.DOMEvent) {
	name := strings.TrimSpace(event.PropString("target", "value"))
	if len([]rune(name)) > 80 {
		name = string([]rune(name)[:80])
	}
	r.Name = name
	go a.chain(func() error {
		if err := a.save(&r); err != nil {
			return err
		}
		if run := a.Train.Run; run != nil && run.ID == r.ID {
			a.now(func() { run.Name = name })
		}
		return a.refresh()
	})
}

// OnCompareRun puts a run's curves into the picture, or takes them out.
func (a *App) OnCompareRun(id string) {
	if a.Compared[id] {
		delete(a.Compared, id)
	} else if len(a.Compared) < maxCompared {
		a.Compared[id] = true
	}
}

const maxCompared = 4

// Curves are the runs chosen for comparison.
func (a *App) Curves() *ui.Curves {
	var chosen []ui.SavedRun
	for _, r := range a.Train.Saved {
		if a.Compared[r.ID] {
			chosen = append(chosen, r)
		}
	}
	return ui.NewCurves(chosen)
}

// openRun loads a run's adapter into its model and scores its validation rows without and with it.
func (a *App) openRun(r *ui.SavedRun) (err error) {
	if a.Boot != Ready {
		if err := a.restart(); err != nil {
			return err
		}
	}
	if err := a.restore(r); err != nil {
		return err
	}
	if err := a.openModel(); err != nil {
		return err
	}
	if err := a.openData(); err != nil {
		return err
	}
	if err := a.estimate(); err != nil { // of the run's settings
		return err
	}
	params, err := a.Train.Settings.Train()
	if err != nil {
		return err
	}
	defer a.releaseAfter(r.ID, &err)
	a.now(func() {
		t := &a.Train
		*t = TrainState{Phase: Working, Share: t.Share, Patience: t.Patience, Settings: t.Settings, Saved: t.Saved, Estimate: t.Estimate, Memory: t.Memory, Run: r, What: "Loading the adapter"}
		t.Chart = ui.Chart{Loss: r.Losses, Evals: r.Evals, Steps: r.Steps}
		t.Last.Step, t.Last.Steps = r.Step, r.Steps
		if r.Zero != nil {
			t.Zero = r.Zero
		}
		a.Out = ResultState{Prompt: a.Out.Prompt, MaxTokens: a.Out.MaxTokens}
	})
	if err := a.client.Call("adapter.clear", struct{}{}, nil, nil); err != nil {
		return err
	}
	a.now(func() { a.Train.What = "Scoring the model without the adapter" })
	before, stopped, err := a.evaluate(params["layers"])
	if err != nil || stopped {
		return err
	}
	a.now(func() { a.Out.Before, a.Train.What = before, "Loading the adapter" })
	if err := a.loadAdapter(r); err != nil {
		return err
	}
	a.now(func() { a.Train.What = "Scoring the model with the adapter" })
	after, stopped, err := a.evaluate(params["layers"])
	if err != nil || stopped {
		return err
	}
	a.now(func() {
		a.Train.Phase, a.Train.What = Ready, ""
		a.Out.After, a.Out.HasBeforeAfter, a.Out.Phase, a.Out.Opened = after, true, Ready, true
		a.sortPairs()
	})
	return nil
}

func (a *App) loadAdapter(r *ui.SavedRun) error {
	path := r.Adapter
	if path == "" {
		path = "/runs/" + r.ID
	}
	if r.Replay {
		return a.task("adapter.replay.start", map[string]any{"path": path}, nil, func(e ui.Event) { a.event(e) })
	}
	return a.client.Call("adapter.load", map[string]string{"path": path}, nil, nil)
}

// exportRun saves everything of a run as one archive, which this page imports again.
func (a *App) exportRun(r *ui.SavedRun) error {
	return a.exportRuns([]ui.SavedRun{*r}, "/runs/"+r.ID+"/", "tabtune-run-"+r.ID+".zip")
}

// OnExportRuns saves all runs as one archive.
func (a *App) OnExportRuns() {
	go a.chain(func() error { return a.exportRuns(a.Train.Saved, "/", "tabtune-runs.zip") })
}

// exportRuns saves runs as one archive, whose names are those in storage without what they begin with.
func (a *App) exportRuns(runs []ui.SavedRun, without, name string) error {
	paths, left, err := a.Stored.Archive(runs)
	if err != nil {
		return err
	}
	var files []ui.File
	for _, path := range paths {
		data, err := a.client.Read(path)
		if err != nil {
			return fmt.Errorf("saving %s: %w", path, err)
		}
		files = append(files, ui.File{Name: strings.TrimPrefix(path, without), Data: data})
	}
	if err := a.saveZip(name, files); err != nil || left == 0 {
		return err
	}
	a.now(func() { a.Notice += " " + ui.LeftOut(left) })
	return nil
}

func (a *App) saveZip(name string, files []ui.File) error {
	zip, err := ui.Zip(files)
	if err != nil {
		return err
	}
	if err := saveAs(name, zip); err != nil {
		return err
	}
	a.now(func() { a.Notice = fmt.Sprintf("Saved %s (%s).", name, ui.Bytes(int64(len(zip)))) })
	return nil
}

// settingsMap is the settings as a run's record keeps them.
func (a *App) settingsMap() (m map[string]any, err error) {
	b, err := json.Marshal(a.Train.Settings)
	if err != nil {
		return nil, err
	}
	return m, json.Unmarshal(b, &m)
}

// curves puts what the run has shown so far into its record.
func (t *TrainState) curves(r *ui.SavedRun) {
	r.Losses, r.Evals, r.Zero = ui.Thin(t.Chart.Loss, 150), t.Chart.Evals, t.Zero
	if best := t.Best; best.Rows > 0 || best.Loss > 0 {
		r.Best = &best
	}
}
