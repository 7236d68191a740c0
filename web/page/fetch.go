//go:build js && wasm

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	sysjs "syscall/js"
	"time"

	"github.com/hack-pad/safejs"
	"github.com/vugu/vugu"

	"tabtune/web/ui"
)

// OnFetch downloads the model at the address that was typed, unless a file of its name is stored.
func (a *App) OnFetch() {
	go a.chain(func() error {
		// What is stored under the name may be another file, which the hash that was typed would not be compared with.
		if name, err := ui.ModelURL(a.URL); err == nil && a.Stored.Bytes("/models/"+name) >= 0 {
			return fmt.Errorf("%s is stored already: use it from the list, or delete it first", name)
		}
		return a.fetchModel(ui.Unfinished{URL: a.URL, SHA256: a.SHA})
	})
}

// OnCatalogue downloads a model of the catalogue.
func (a *App) OnCatalogue(m ui.CatalogueModel) {
	go a.chain(func() error { return a.fetchModel(ui.Unfinished{URL: m.URL}) })
}

// OnGoOn goes on with a download that was broken off.
func (a *App) OnGoOn(u ui.Unfinished) { go a.chain(func() error { return a.fetchModel(u) }) }

// OnStopFetch breaks a download off; what has arrived is kept.
func (a *App) OnStopFetch() {
	if r := a.fetching; r != nil {
		if err := r.Control("stop"); err != nil {
			a.show(err)
		}
	}
}

// OnUseModel opens a stored model.
func (a *App) OnUseModel(path string) {
	go a.chain(func() error {
		a.now(func() {
			a.Model = ModelState{Name: base(path), Path: path, Sample: base(path) == sampleModel, opened: a.Model.opened}
		})
		return a.openModel()
	})
}

// OnDrop takes a file that was dropped anywhere on the page: a model, data, or a run.
func (a *App) OnDrop(event vugu.DOMEvent) {
	event.PreventDefault()
	file, name, ok := droppedFile(event)
	if !ok || a.Boot != Ready {
		return
	}
	go a.chain(func() error {
		switch lower := strings.ToLower(name); {
		case strings.HasSuffix(lower, ".adapter.gguf"), strings.HasSuffix(lower, ".zip"), strings.HasSuffix(lower, ".log"):
			return a.importFile(file, name)
		case strings.HasSuffix(lower, ".gguf"):
			return a.pickModel(file, name)
		case strings.HasSuffix(lower, ".csv"), strings.HasSuffix(lower, ".tsv"), strings.HasSuffix(lower, ".jsonl"):
			return a.pickData(file, name)
		}
		return fmt.Errorf("%s: drop a model (.gguf), data (.csv, .tsv, .jsonl), or a saved adapter or run (.zip, .log)", name)
	})
}

// fetchModel downloads from another address in a worker of its own, which ends with the download, and opens the model.
func (a *App) fetchModel(u ui.Unfinished) error {
	name, err := ui.ModelURL(u.URL)
	if err != nil {
		return err
	}
	u.URL, u.SHA256 = strings.TrimSpace(u.URL), strings.ToLower(strings.TrimSpace(u.SHA256))
	path := "/models/" + name
	if a.Stored.Bytes(path) < 0 {
		if err := a.download(u, path, name); err != nil {
			return err
		}
	}
	a.now(func() { a.Model = ModelState{Name: name, Path: path, opened: a.Model.opened} })
	if err := a.openModel(); err != nil {
		return err
	}
	if a.Data.Sample || a.Data.Phase == Ready {
		return a.openData()
	}
	return nil
}

func (a *App) download(u ui.Unfinished, path, name string) error {
	record, err := json.Marshal(u)
	if err != nil {
		return err
	}
	// Where it came from is remembered, so that a reload can go on.
	if err := a.client.Call("store.write", map[string]string{"path": path + ".url", "text": string(record)}, nil, nil); err != nil {
		return err
	}
	worker, err := newClient("worker/download.js", "tabtune download", func(*ui.Failure) {})
	if err != nil {
		return err
	}
	defer worker.Close()
	a.now(func() {
		a.Model.What, a.Model.Done, a.Model.Total, a.Model.started, a.Fetching = "Downloading", 0, 0, time.Now(), name
	})
	params := map[string]any{"url": u.URL, "path": path}
	if u.SHA256 != "" {
		params["sha256"] = u.SHA256
	}
	_ = a.client.Call("store.persist", struct{}{}, nil, nil) // asks that the browser keeps the model; a refusal changes nothing else
	r, err := worker.Send("store.download", params, nil, a.progress())
	if err == nil {
		a.now(func() { a.fetching = r })
		err = r.Decode(nil)
	}
	var log []ui.Request
	if worker.Call("resources", struct{}{}, &log, nil) == nil {
		for i := range log {
			log[i].By = "download"
		}
	}
	a.now(func() {
		a.fetching, a.Fetching = nil, ""
		a.fetched = append(a.fetched, log...)
	})
	if err != nil {
		_ = a.refresh() // lists what is unfinished; the error that is shown is the download's
		return err
	}
	if err := a.client.Call("store.remove", map[string]string{"path": path + ".url"}, nil, nil); err != nil {
		return err
	}
	return a.refresh()
}

// OnGiveUp deletes what an unfinished download left.
func (a *App) OnGiveUp(u ui.Unfinished) {
	go a.chain(func() error {
		for _, ending := range []string{".part", ".part.etag", ".etag", ".url"} {
			if err := a.client.Call("store.remove", map[string]string{"path": "/models/" + u.Name + ending}, nil, nil); err != nil {
				return err
			}
		}
		return a.refresh()
	})
}

// FetchText says how far the download is.
func (a *App) FetchText() string { return a.Model.rate() }

// unfinished reads the downloads that were broken off.
func (a *App) unfinished(stored *ui.Stored) ([]ui.Unfinished, error) {
	var out []ui.Unfinished
	for _, f := range stored.Files {
		path, ok := strings.CutSuffix(f.Path, ".gguf.url")
		if !ok {
			continue
		}
		data, err := a.client.Read(f.Path)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var u ui.Unfinished
		if json.Unmarshal(data, &u) != nil {
			continue // cut short by a closed tab; it stays in the list of what is stored
		}
		u.Name, u.Have = base(path)+".gguf", max(0, stored.Bytes(path+".gguf.part"))
		out = append(out, u)
	}
	return out, nil
}

// droppedFile is the first file of a drop.
func droppedFile(event vugu.DOMEvent) (file safejs.Value, name string, ok bool) {
	transfer, err := safejs.Safe(sysjs.Value(event.JSEvent())).Get("dataTransfer")
	if err != nil || !isObject(transfer) {
		return file, "", false
	}
	return firstFile(transfer)
}
