//go:build js && wasm

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hack-pad/safejs"
	"github.com/vugu/vugu"

	"tabtune/web/ui"
)

// ExportFormat is one button of the keep step.
type ExportFormat struct{ ID, Label, Hint, Ending string }

// ExportFormats lists what an open run can be saved as, besides the adapter's .zip.
func (a *App) ExportFormats() []ExportFormat {
	return []ExportFormat{
		{"gguf-adapter", "Adapter for llama.cpp", "Loaded beside the model's own file: --lora adapter.gguf.", ".adapter.gguf"},
		{"gguf-q8_0", "Whole model, 8 bits", "The adapter merged into a copy of the model, for any program that reads GGUF.", ".Q8_0.gguf"},
		{"gguf-f16", "Whole model, 16 bits", "The same, twice as large.", ".F16.gguf"},
		{"card", "Model card", "What was trained on what, with settings, seeds and scores, as Markdown.", ".md"},
		{"log", "Replay log", "A few KB, from which anybody with the same model rebuilds the adapter.", ".replay.log"},
	}
}

// OnExport saves the open run in a format.
func (a *App) OnExport(f ExportFormat) { go a.chain(func() error { return a.export(f) }) }

func (a *App) export(f ExportFormat) error {
	run := a.Train.Run
	folder := "/runs/" + run.ID
	name := "tabtune-" + run.ID + f.Ending
	save := func(bytes int64) {
		a.now(func() { a.Notice = fmt.Sprintf("Saved %s (%s).", name, ui.Bytes(bytes)) })
	}
	if f.ID == "log" {
		return a.saveStored(folder+"/replay.log", name, save)
	}
	path := folder + "/export/out" + f.Ending
	if strings.HasPrefix(f.ID, "gguf-") && f.ID != "gguf-adapter" {
		path = "/models/" + ui.FileName(name)
	}
	params := map[string]any{"format": f.ID, "path": path}
	if run.Adapter == "" {
		params["run"] = folder
	} else if f.ID == "card" {
		return errors.New("An imported adapter has no record of its training, so there is nothing to write a model card from.")
	}
	a.now(func() { a.Keeping = f.Label })
	defer a.now(func() { a.Keeping = "" })
	var r struct {
		Stopped bool  `json:"stopped"`
		Bytes   int64 `json:"bytes"`
	}
	err := a.client.Call("export.start", params, &r, a.progress())
	if a.releaseAfter(run.ID, &err); err != nil {
		return err
	}
	if err := a.saveStored(path, name, save); err != nil {
		return err
	}
	return a.refresh()
}

// releaseAfter gives a run back to other tabs, also when what was done with it failed: that error stays the one to show.
func (a *App) releaseAfter(id string, err *error) {
	if e := a.client.Call("run.release", map[string]string{"run": id}, nil, nil); *err == nil {
		*err = e
	}
}

// saveStored hands a stored file to the browser as a download, without reading it.
func (a *App) saveStored(path, name string, done func(bytes int64)) error {
	r, err := a.client.Send("store.file", map[string]string{"path": path}, nil, nil)
	if err != nil {
		return err
	}
	v, err := r.Wait()
	if err != nil {
		return err
	}
	file, err := v.Get("file")
	if err != nil {
		return err
	}
	size, err := file.Get("size")
	if err != nil {
		return err
	}
	n, err := size.Float()
	if err != nil {
		return err
	}
	if err := saveObject(name, file); err != nil {
		return err
	}
	done(int64(n))
	return nil
}

// OnImport takes an adapter or a run from a file.
func (a *App) OnImport(event vugu.DOMEvent) {
	if file, name, ok := pickedFile(event); ok {
		go a.chain(func() error { return a.importFile(file, name) })
	}
}

// importFile stores a PEFT .zip, a GGUF adapter, a replay log or a whole run, and opens it.
func (a *App) importFile(file safejs.Value, name string) error {
	data, err := contents(file, ui.MaxArchiveBytes)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", name, err)
	}
	return a.importBytes(data, name)
}

func (a *App) importBytes(data []byte, name string) (err error) {
	if a.Boot != Ready {
		return errors.New("The engine is not running: restart it first.")
	}
	run := &ui.SavedRun{ID: a.freshID(), Name: name, Done: true}
	folder := "/runs/" + run.ID
	var files []ui.File
	switch lower := strings.ToLower(name); {
	case strings.HasSuffix(lower, ".zip"):
		all, err := ui.Unzip(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		found, err := ui.ImportAll(all)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if found[0].Run != nil {
			return a.importRuns(found)
		}
		files, run.Adapter = found[0].Files, folder+"/adapter"
	case strings.HasSuffix(lower, ".gguf"):
		files, run.Adapter = []ui.File{{Name: "adapter.gguf", Data: data}}, folder+"/adapter.gguf"
	case strings.HasSuffix(lower, ".log"):
		files, run.Adapter, run.Replay = []ui.File{{Name: "replay.log", Data: data}}, folder+"/replay.log", true
	case strings.HasSuffix(lower, ".md"):
		return fmt.Errorf("%s: a model card is for people to read and holds no weights. Choose the adapter or the replay log that was saved with it.", name)
	default:
		return fmt.Errorf("%s: choose a .zip with a PEFT adapter or a saved run, a GGUF adapter, or a replay log (.log)", name)
	}
	if run.Model, err = marshalCall(a.modelParams()); err != nil {
		return err
	}
	if run.Data, err = marshalCall(a.dataParams()); err != nil {
		return err
	}
	if run.Train, err = marshalCall(a.settingsMap()); err != nil {
		return err
	}
	if err := a.store(run, files); err != nil {
		return err
	}
	if err := a.openRun(run); err != nil {
		// What cannot be used is not kept.
		return errors.Join(err, a.client.Call("store.remove", map[string]string{"path": folder}, nil, nil), a.refresh())
	}
	return nil
}

// freshID is the time, and a number when that is taken.
func (a *App) freshID() string {
	id := time.Now().UTC().Format("2006-01-02-150405")
	taken := func(id string) bool {
		for _, r := range a.Train.Saved {
			if r.ID == id {
				return true
			}
		}
		return false
	}
	for n, base := 2, id; taken(id); n++ {
		id = fmt.Sprintf("%s-%d", base, n)
	}
	return id
}

// importRuns stores runs saved elsewhere.
func (a *App) importRuns(found []ui.Imported) error {
	for i, in := range found {
		if err := a.importRun(in); err != nil {
			if i > 0 {
				err = fmt.Errorf("%d of %d runs were imported: %w", i, len(found), err)
			}
			return err
		}
	}
	if n := len(found); n > 1 {
		a.now(func() { a.Notice = fmt.Sprintf("Imported %d runs.", n) })
	}
	return nil
}

// importRun stores a run saved elsewhere under an id of its own.
func (a *App) importRun(in ui.Imported) error {
	for _, r := range a.Train.Saved {
		if r.ID == in.Run.ID {
			in.Run.ID = a.freshID()
			break
		}
	}
	if in.Run.Adapter != "" {
		in.Run.Adapter = "/runs/" + in.Run.ID + "/" + base(in.Run.Adapter)
	}
	if err := a.store(in.Run, in.Files); err != nil {
		return err
	}
	a.now(func() { a.Notice = fmt.Sprintf("Imported %s.", in.Run.Title()) })
	return nil
}

// store writes a run's files, its record last: a run without one is not listed.
func (a *App) store(run *ui.SavedRun, files []ui.File) error {
	for _, f := range files {
		if f.Name == "page.json" {
			continue
		}
		array, err := toArray(f.Data)
		if err != nil {
			return err
		}
		r, err := a.client.Send("store.write", map[string]string{"path": "/runs/" + run.ID + "/" + f.Name}, map[string]safejs.Value{"bytes": array}, nil)
		if err == nil {
			err = r.Decode(nil)
		}
		if err != nil {
			return fmt.Errorf("storing %s: %w", f.Name, err)
		}
	}
	if err := a.save(run); err != nil {
		return err
	}
	return a.refresh()
}
