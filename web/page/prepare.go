//go:build js && wasm

package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hack-pad/safejs"

	"tabtune/web/ui"
)

// sampleModelSHA256 is what the ready model must be.
const sampleModelSHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

func (a *App) threads() int {
	n, err := strconv.Atoi(strings.TrimSpace(a.Train.Settings.Threads))
	if err != nil || n < 1 {
		return 1
	}
	return min(n, 32)
}

func (a *App) modelParams() (map[string]any, error) {
	return map[string]any{"path": a.Model.Path, "dtype": a.Train.Settings.DType}, nil
}

func (a *App) window() (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(a.Data.Window))
	if err != nil || n < 8 || n > 2048 {
		return 0, fmt.Errorf("Longest row: %q is not a number of tokens from 8 to 2048", a.Data.Window)
	}
	return n, nil
}

// openModel fetches the sample model when that is chosen and not stored, and opens the model unless it is open.
func (a *App) openModel() error {
	params, err := a.modelParams()
	if err != nil {
		return err
	}
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	if a.Model.opened == string(text) {
		return nil
	}
	if a.Model.opened != "" {
		// One worker a model: ending it frees everything, whatever the last one held.
		if err := a.restart(); err != nil {
			return err
		}
	}
	a.now(func() {
		a.Model.Phase, a.Model.Done, a.Model.Total, a.Model.What, a.Model.started = Working, 0, 0, "Opening", time.Now()
	})
	if a.Model.Sample {
		_ = a.client.Call("store.persist", struct{}{}, nil, nil) // asks that the browser keeps the model; a refusal changes nothing else
		err := a.client.Call("store.download", map[string]any{"url": "assets/" + sampleModel, "path": a.Model.Path, "bytes": sampleModelBytes, "sha256": sampleModelSHA256}, nil, a.progress())
		if err != nil {
			return err
		}
	}
	var info ui.Model
	if err := a.client.Call("model.open.start", params, &info, a.progress()); err != nil {
		return err
	}
	if err := a.refresh(); err != nil {
		return err
	}
	a.now(func() {
		a.Model.Phase, a.Model.Info, a.Model.opened, a.Data.opened = Ready, info, string(text), ""
		if n, err := strconv.Atoi(strings.TrimSpace(a.Train.Settings.Layers)); err == nil && info.Layers > 0 && n > info.Layers {
			a.Train.Settings.Layers = strconv.Itoa(info.Layers)
		}
	})
	return a.measure()
}

// makeRoom deletes a stored file of the same name before another takes its place: the module may have it open, and a browser need not
// replace an open file.
func (a *App) makeRoom(path string) error {
	var stored ui.Stored
	if err := a.client.Call("store.list", struct{}{}, &stored, nil); err != nil {
		return err
	}
	for _, f := range stored.Files {
		if f.Path == path {
			return a.remove(path)
		}
	}
	return nil
}

// pickModel copies a picked file into storage and opens it.
func (a *App) pickModel(file safejs.Value, name string) error {
	name = ui.FileName(name)
	if !strings.HasSuffix(strings.ToLower(name), ".gguf") {
		return fmt.Errorf("%s is not a GGUF file. Choose a model file whose name ends in .gguf", name)
	}
	path := "/models/" + name
	if err := a.makeRoom(path); err != nil {
		return err
	}
	a.now(func() {
		a.Model = ModelState{Phase: Working, Name: name, Path: path, What: "Copying", opened: a.Model.opened, started: time.Now()}
	})
	if err := a.sendFile("store.import", path, file, a.progress()); err != nil {
		return err
	}
	if err := a.openModel(); err != nil {
		return err
	}
	if a.Data.Sample || a.Data.Phase == Ready {
		return a.openData()
	}
	return nil
}

// openData fetches the sample data when that is chosen, and has the module read and check the data.
func (a *App) openData() error {
	params, err := a.dataParams()
	if err != nil {
		return err
	}
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	if a.Data.opened == string(text) {
		return nil
	}
	if err := a.openModel(); err != nil { // token counts need the tokenizer
		return err
	}
	a.now(func() { a.Data.Phase = Working })
	if err := a.fetchData(); err != nil {
		return err
	}
	var info ui.DataInfo
	if err := a.client.Call("data.open.start", params, &info, nil); err != nil {
		return err
	}
	a.now(func() { a.Data.Phase, a.Data.Info, a.Data.opened = Ready, info, string(text) })
	return a.estimate()
}

// pickData copies a picked file into storage and fills the form from its first line.
func (a *App) pickData(file safejs.Value, name string) error {
	b, err := head(file, 1<<16)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", name, err)
	}
	path := "/data/" + ui.FileName(name)
	if err := a.makeRoom(path); err != nil {
		return err
	}
	if err := a.sendFile("store.import", path, file, nil); err != nil {
		return err
	}
	cols, text, label := ui.Columns(name, b)
	a.now(func() {
		a.Open["columns"] = true
		a.Data = DataState{Kind: guessKind(cols), Name: name, Path: path, Columns: cols, Text: text, Label: label, Template: labelTemplate, ValRows: "200", Window: a.Data.Window}
		if a.Data.Kind != kindLabels {
			a.Data.Template = ""
		}
	})
	if len(cols) < 2 && a.Data.Kind == kindLabels {
		return fmt.Errorf("%s has no header line with at least two columns. Add one (for example text,label) and choose the file again", name)
	}
	return a.refresh()
}

// estimate asks what the settings need, before anything is allocated.
func (a *App) estimate() error {
	params, err := a.Train.Settings.Train()
	if err != nil {
		return err
	}
	var e ui.Estimate
	if err := a.client.Call("estimate", params, &e, nil); err != nil {
		return err
	}
	a.now(func() { a.Train.Estimate = &e })
	return nil
}

func (a *App) measure() error {
	var m ui.Memory
	if err := a.client.Call("memory", struct{}{}, &m, nil); err != nil {
		return err
	}
	a.update(func() { a.Train.Memory = m })
	return nil
}

// remove deletes a stored file or run.
func (a *App) remove(path string) error {
	if path == a.Model.Path || path == a.Data.Path {
		a.now(func() {
			if path == a.Model.Path {
				a.Model.Phase = Idle
			} else {
				a.Data.Phase = Idle
			}
			a.Data.opened = ""
		})
		// The module still has the file open.
		if err := a.restart(); err != nil {
			return err
		}
	}
	if err := a.client.Call("store.remove", map[string]string{"path": path}, nil, nil); err != nil {
		return err
	}
	return a.refresh()
}

// rate writes bytes, rate and time left.
func (m *ModelState) rate() string {
	if m.Total == 0 {
		return ""
	}
	s := ui.Bytes(m.Done) + " of " + ui.Bytes(m.Total)
	if secs := time.Since(m.started).Seconds(); secs > 1 && m.Done > 0 && m.Done < m.Total {
		rate := float64(m.Done) / secs
		s += ", " + ui.Bytes(int64(rate)) + "/s, " + ui.Seconds(float64(m.Total-m.Done)/rate) + " left"
	}
	return s
}
