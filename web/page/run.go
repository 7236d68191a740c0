//go:build js && wasm

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hack-pad/safejs"

	"tabtune/web/ui"
)

// fineTune does everything from the model to the result. saved is a run to go on with, or nil for a new one.
func (a *App) fineTune(saved *ui.SavedRun) (err error) {
	if a.Boot != Ready {
		if err := a.restart(); err != nil {
			return err
		}
	}
	if saved != nil {
		if err := a.restore(saved); err != nil {
			return err
		}
	}
	params, err := a.Train.Settings.Train()
	if err != nil {
		return err
	}
	if a.Hello.Shared && a.threads() != a.Hello.Memory.Threads {
		if err := a.restart(); err != nil {
			return err
		}
	}
	if err := a.openModel(); err != nil {
		return err
	}
	if err := a.openData(); err != nil {
		return err
	}
	if err := a.estimate(); err != nil {
		return err
	}
	if e := a.Train.Estimate; !e.Fits {
		return &ui.Failure{Code: "out_of_memory", Message: fmt.Sprintf("These settings need %s of memory and this browser allows %s. Choose a smaller batch, fewer queries or fewer layers.", ui.Bytes(e.Bytes), ui.Bytes(e.Limit))}
	}
	run := saved
	if run == nil {
		if err := a.refresh(); err != nil { // another tab may have begun a run since
			return err
		}
		run = &ui.SavedRun{ID: a.freshID()}
		if run.Model, err = marshalCall(a.modelParams()); err != nil {
			return err
		}
		if run.Data, err = marshalCall(a.dataParams()); err != nil {
			return err
		}
		if run.Train, err = json.Marshal(a.Train.Settings); err != nil {
			return err
		}
		run.Steps, _ = params["steps"].(int)
	}
	folder := "/runs/" + run.ID
	defer func() {
		a.releaseAfter(run.ID, &err)
		if err != nil {
			_ = a.refresh() // so that the run can be gone on with; the error to show is the one that ended it
		}
	}()
	a.now(func() {
		t := &a.Train
		*t = TrainState{Phase: Working, Share: t.Share, Patience: t.Patience, Settings: t.Settings, Saved: t.Saved, Estimate: t.Estimate, Memory: t.Memory, Run: run, What: "Scoring the model before training"}
		t.Chart.Steps, t.Last.Step, t.Last.Steps = run.Steps, run.Step, run.Steps
		a.Out = ResultState{Prompt: a.Out.Prompt, MaxTokens: a.Out.MaxTokens}
	})
	if err := a.save(run); err != nil {
		return err
	}
	prepared := time.Now()
	if err := a.client.Call("adapter.clear", struct{}{}, nil, nil); err != nil {
		return err
	}
	before, stopped, err := a.evaluate(params["layers"])
	if err != nil || stopped {
		return err
	}
	a.now(func() { a.Out.Before, a.Train.What = before, "Training" })

	params["out"], params["resume"] = folder, saved != nil
	began := time.Now()
	a.stayAwake()
	result, err := a.runTrain(params)
	a.mayRest()
	if err != nil {
		return err
	}
	a.now(func() {
		run.Step, run.Done = a.Train.Last.Step, !result.Stopped || a.Train.early
		a.Train.curves(run)
	})
	if err := a.save(run); err != nil {
		return err
	}
	if result.Stopped && a.Train.early {
		// Ended because nothing got better: the adapter that is kept is the best one, and the run is as good as done.
		if err := a.loadAdapter(run); err != nil {
			return err
		}
		result.Steps, result.Rows, result.RowsPerSecond, result.Best = a.Train.Last.Step, a.Train.Last.Rows, a.Train.Last.RowsPerSecond, a.Train.Best
		result.Seconds = time.Since(began).Seconds()
		a.now(func() {
			a.Notice = fmt.Sprintf("Ended at step %d: no better score in %d evaluations.", run.Step, a.Train.stale)
		})
	} else if result.Stopped {
		a.now(func() { a.Train.Phase, a.Train.Stopped, a.Train.What = Idle, true, "" })
		return a.refresh()
	}
	a.now(func() { a.Train.What, a.Out.Train = "Scoring the model after training", result })
	after, stopped, err := a.evaluate(params["layers"])
	if err != nil || stopped {
		return err
	}
	a.now(func() {
		a.Train.Phase, a.Train.What = Ready, ""
		a.Out.After, a.Out.HasBeforeAfter, a.Out.Phase = after, true, Ready
		if e := a.Train.Estimate; saved == nil && e != nil && run.Step == run.Steps {
			a.Out.Took, a.Out.Estimated = time.Since(prepared).Seconds(), e.Seconds
		}
		a.sortPairs()
	})
	return a.refresh()
}

func marshalCall(p map[string]any, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// restore puts a saved run's model, data and settings into the form.
func (a *App) restore(r *ui.SavedRun) error {
	var model struct{ Path string }
	var data dataRecord
	settings := a.Train.Settings
	for _, part := range []struct {
		raw json.RawMessage
		to  any
	}{{r.Model, &model}, {r.Data, &data}, {r.Train, &settings}} {
		if err := json.Unmarshal(part.raw, part.to); err != nil {
			return fmt.Errorf("the saved run %s cannot be read: %w. Delete it under Stored on this device", r.ID, err)
		}
	}
	settings.Threads = a.Train.Settings.Threads
	a.now(func() {
		a.Train.Settings = settings
		if model.Path != a.Model.Path {
			a.Model = ModelState{Name: base(model.Path), Path: model.Path, Sample: base(model.Path) == sampleModel, opened: a.Model.opened}
		}
		d := data.state()
		d.Info, d.Phase, d.opened = a.Data.Info, a.Data.Phase, a.Data.opened
		a.Data = d
	})
	return nil
}

// save writes the page's record of a run.
func (a *App) save(r *ui.SavedRun) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return a.client.Call("store.write", map[string]string{"path": "/runs/" + r.ID + "/page.json", "text": string(b)}, nil, nil)
}

// task runs a task that the buttons can pause and stop.
func (a *App) task(method string, params, out any, event func(ui.Event)) error {
	r, err := a.client.Send(method, params, nil, func(raw []byte) {
		var e ui.Event
		if json.Unmarshal(raw, &e) == nil {
			a.update(func() { event(e) })
		}
	})
	if err != nil {
		return err
	}
	a.update(func() {
		a.Train.request = r
		a.throttle()
	})
	err = r.Decode(out)
	a.update(func() { a.Train.request, a.Train.Paused, a.Train.Stopping = nil, false, false })
	return err
}

// evaluate scores the validation rows. layers is how many the run adapts: what the layers below compute is kept for it.
func (a *App) evaluate(layers any) (*ui.EvalResult, bool, error) {
	var r ui.EvalResult
	err := a.task("eval.start", map[string]any{"split": "val", "layers": layers}, &r, func(e ui.Event) { a.event(e) })
	if err == nil && r.Stopped {
		a.now(func() { a.Train.Phase, a.Train.Stopped, a.Train.What = Idle, true, "" })
	}
	return &r, r.Stopped, err
}

func (a *App) runTrain(params map[string]any) (ui.TrainResult, error) {
	var r ui.TrainResult
	last := time.Time{}
	var saving sync.WaitGroup
	var busy atomic.Bool // slow storage: one record at a time
	err := a.task("train.start", params, &r, func(e ui.Event) {
		a.event(e)
		if e.Type == "step" && time.Since(last) > 5*time.Second && busy.CompareAndSwap(false, true) {
			last = time.Now()
			run := *a.Train.Run
			run.Step = e.Step
			a.Train.curves(&run)
			saving.Go(func() {
				defer busy.Store(false)
				// A record of how far the run is, for the list of saved runs; the log itself says exactly.
				if err := errors.Join(a.save(&run), a.measure()); err != nil {
					a.now(func() { a.Notice = fmt.Sprintf("The list of runs does not know of step %d yet: %v.", run.Step, err) })
				}
			})
		}
	})
	saving.Wait() // the caller writes the same record next
	return r, err
}

// runPhases names the parts of a run that count rows.
var runPhases = map[string]string{"prefix": "Preparing the rows", "eval": "Scoring the validation rows", "lr": "Finding a learning rate", "replay": "Rebuilding the run from its log"}

// event takes a training event into the state. The renderer's lock is held.
func (a *App) event(e ui.Event) {
	t := &a.Train
	switch e.Type {
	case "paused":
		t.Paused = true
	case "resumed":
		t.Paused = false
	case "prefix", "progress":
		if name := runPhases[e.Phase]; name != "" {
			t.What = name
		}
		t.Last.Done, t.Last.Total = e.Done, e.Total
	case "lr":
		t.LR, t.What = e.LR, "Training"
	case "eval":
		value := e.Accuracy
		if a.Data.Info.Kind == "completion" {
			value = math.Exp(-e.Loss)
		}
		if e.Averaged { // a second opinion on the step just judged
			if e.Best {
				t.Best, t.stale = ui.Score{Accuracy: e.Accuracy, Loss: e.Loss, Step: e.Step}, 0
			}
			break
		}
		t.Chart.Evals = append(t.Chart.Evals, ui.Point{Step: e.Step, Value: value})
		s := ui.Score{Accuracy: e.Accuracy, Loss: e.Loss, Step: e.Step}
		if e.Step == 0 {
			t.Zero = &s
		}
		t.stale++
		if e.Best {
			t.Best, t.stale = s, 0
		}
		if n, err := strconv.Atoi(strings.TrimSpace(t.Patience)); err == nil && n > 0 && t.stale >= n && t.request != nil && t.Phase == Working {
			t.early = true
			a.control("stop")
		}
	case "step":
		t.What = "Training"
		t.Last, t.LR = e, e.LR
		t.Chart.Loss = append(t.Chart.Loss, ui.Point{Step: e.Step, Value: e.Loss})
		if e.Steps > 0 {
			t.Chart.Steps = e.Steps
		}
	}
}

// control pauses, resumes or stops what runs.
func (a *App) control(verb string) {
	if r := a.Train.request; r != nil {
		a.Train.Stopping = verb == "stop"
		if err := r.Control(verb); err != nil {
			a.show(err)
		}
	}
}

// throttle tells the worker what share of the time the task may work.
func (a *App) throttle() {
	share, err := strconv.Atoi(a.Train.Share)
	if r := a.Train.request; r != nil && err == nil {
		if err := r.Throttle(float64(share) / 100); err != nil {
			a.show(err)
		}
	}
}

// stayAwake asks the browser not to let the screen go dark, which on phones suspends the page; mayRest gives that back. A refusal changes nothing.
func (a *App) stayAwake() {
	lock := property("navigator", "wakeLock")
	if !isObject(lock) {
		return
	}
	if promise, err := lock.Call("request", "screen"); err == nil {
		if held, err := await(promise); err == nil {
			a.update(func() { a.Train.wake = held })
		}
	}
}

// wakeAgain asks once more when the page is seen again: browsers take the lock away from a page that is hidden.
func (a *App) wakeAgain() error {
	return listen(property("document"), "visibilitychange", func() {
		state, _ := property("document", "visibilityState").String()
		held := a.Train.wake
		if state != "visible" || !isObject(held) {
			return
		}
		if released, err := held.Get("released"); err == nil {
			if gone, _ := released.Bool(); gone {
				a.stayAwake()
			}
		}
	})
}

func (a *App) mayRest() {
	if held := a.Train.wake; isObject(held) {
		_, _ = held.Call("release")
		a.update(func() { a.Train.wake = safejs.Undefined() })
	}
}

// saveAdapter gives the adapter and the run's log as one archive.
func (a *App) saveAdapter() error {
	folder := "/runs/" + a.Train.Run.ID + "/"
	list := []string{"adapter/adapter_model.safetensors", "adapter/adapter_config.json", "replay.log"}
	if a.Train.Run.Adapter != "" { // imported: written anew from what is loaded
		err := a.client.Call("export.start", map[string]string{"format": "peft", "path": folder + "export/peft"}, nil, nil)
		if a.releaseAfter(a.Train.Run.ID, &err); err != nil {
			return err
		}
		list = []string{"export/peft/adapter_model.safetensors", "export/peft/adapter_config.json"}
	} else if _, err := a.client.Read(folder + "adapter/classifier.safetensors"); err == nil { // a label head below the final norm
		list = []string{"adapter/classifier.safetensors", "replay.log"}
	}
	var files []ui.File
	for _, name := range list {
		data, err := a.client.Read(folder + name)
		if err != nil {
			return fmt.Errorf("saving %s: %w", name, err)
		}
		files = append(files, ui.File{Name: base(name), Data: data})
	}
	zip, err := ui.Zip(files)
	if err != nil {
		return err
	}
	name := "tabtune-" + a.Train.Run.ID + ".zip"
	if err := saveAs(name, zip); err != nil {
		return err
	}
	a.now(func() { a.Notice = fmt.Sprintf("Saved %s (%s).", name, ui.Bytes(int64(len(zip)))) })
	return nil
}

// generate answers the prompt without and with the adapter.
func (a *App) generate() error {
	var max int
	if _, err := fmt.Sscanf(a.Out.MaxTokens, "%d", &max); err != nil || max < 1 || max > 1000 {
		return fmt.Errorf("Longest answer: %q is not a number of tokens from 1 to 1000", a.Out.MaxTokens)
	}
	a.now(func() { a.Out.Generating, a.Out.TextBefore, a.Out.TextAfter = true, nil, nil })
	defer a.now(func() { a.Out.Generating = false })
	for _, side := range []struct {
		adapter bool
		text    *[]Token
	}{{false, &a.Out.TextBefore}, {true, &a.Out.TextAfter}} {
		params := map[string]any{"prompt": a.Out.Prompt, "maxTokens": max, "temperature": 0, "seed": 0, "chat": false, "adapter": side.adapter}
		if err := a.task("generate.start", params, nil, func(e ui.Event) {
			if e.Type == "token" {
				*side.text = append(*side.text, Token{e.Text, e.P})
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// bench runs bench.start with the parameters in the address (?bench={...}) and shows the rows as JSON.
func (a *App) bench(params string) error {
	raw := json.RawMessage(params)
	if !json.Valid(raw) {
		raw = json.RawMessage("{}")
	}
	var rows json.RawMessage
	if err := a.client.Call("bench.start", raw, &rows, nil); err != nil {
		return err
	}
	a.now(func() { a.Bench = string(rows) })
	return nil
}
