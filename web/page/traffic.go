//go:build js && wasm

package main

import (
	"encoding/json"
	"fmt"

	"github.com/vugu/vugu"

	"tabtune/web/ui"
)

// OnPrivacy opens the panel and reads the log.
func (a *App) OnPrivacy(event vugu.DOMEvent) {
	a.OnFold("privacy", event)
	a.OnTraffic()
}

// OnTraffic reads the browser's log of requests. It may be done while a run is under way, so it is no chain.
func (a *App) OnTraffic() {
	go func() {
		if err := a.readTraffic(); err != nil {
			a.now(func() { a.show(err) })
		}
	}()
}

func (a *App) readTraffic() error {
	requests, err := pageRequests()
	if err != nil {
		return fmt.Errorf("reading the browser's log: %w", err)
	}
	if a.client != nil && a.Boot == Ready {
		var ofWorker []ui.Request
		if err := a.client.Call("resources", struct{}{}, &ofWorker, nil); err != nil {
			return err
		}
		for _, r := range ofWorker {
			r.By = "engine"
			requests = append(requests, r)
		}
	}
	origin, err := property("location", "origin").String()
	if err != nil {
		return err
	}
	a.now(func() { a.Traffic = ui.NewTraffic(origin, append(requests, a.fetched...)) })
	return nil
}

// pageRequests is the log of the page itself; the worker has one of its own.
func pageRequests() ([]ui.Request, error) {
	var all []ui.Request
	for _, kind := range []string{"navigation", "resource"} {
		list, err := property("performance").Call("getEntriesByType", kind)
		if err != nil {
			return nil, err
		}
		text, err := stringify(list)
		if err != nil {
			return nil, err
		}
		var entries []struct {
			Name  string `json:"name"`
			Bytes int64  `json:"encodedBodySize"`
		}
		if err := json.Unmarshal([]byte(text), &entries); err != nil {
			return nil, err
		}
		for _, e := range entries {
			all = append(all, ui.Request{Name: e.Name, Bytes: e.Bytes, By: "page"})
		}
	}
	return all, nil
}
