//go:build js && wasm

package main

import (
	"fmt"
	"strings"

	"github.com/hack-pad/safejs"

	"tabtune/web/ui"
)

// readLink takes a run out of the page's address, and takes it out of the address, so that a reload does not ask again. It only shows what came:
// nothing is computed before the visitor says so.
func (a *App) readLink() {
	fragment, err := property("location", "hash").String()
	if err != nil || fragment == "" {
		return
	}
	shared, err := ui.OpenLink(fragment)
	if shared == nil && err == nil {
		return
	}
	if path, e := property("location", "pathname").String(); e == nil {
		_, _ = property("history").Call("replaceState", nil, "", path)
	}
	a.update(func() {
		a.Shared, a.BadLink = shared, ""
		if err != nil {
			a.BadLink = fmt.Sprintf("The address of this page was to bring a run along, but %v. Ask for the link again, or for the replay log as a file.", err)
		}
	})
}

// SharedText says what came with the address, or what is wrong with it.
func (a *App) SharedText() string {
	if a.Shared == nil {
		return a.BadLink
	}
	return a.Shared.Text()
}

// listenForLinks reads links that are opened in this tab later on.
func (a *App) listenForLinks() error { return listen(safejs.Global(), "hashchange", a.readLink) }

// OnRebuild stores the run that came with the address and computes its adapter.
func (a *App) OnRebuild() {
	shared := a.Shared
	go a.chain(func() error {
		if err := a.openModel(); err != nil {
			return err
		}
		if err := a.importBytes(shared.Log, "shared.replay.log"); err != nil {
			return err
		}
		a.now(func() { a.Shared = nil })
		return nil
	})
}

// OnLeaveShared forgets it.
func (a *App) OnLeaveShared() { a.Shared, a.BadLink = nil, "" }

// OnShareLink makes a link of the open run and copies it.
func (a *App) OnShareLink() { go a.chain(a.shareLink) }

func (a *App) shareLink() error {
	log, err := a.client.Read("/runs/" + a.Train.Run.ID + "/replay.log")
	if gone(err) {
		return fmt.Errorf("This run has no replay log, since it was imported as an adapter. Save the adapter instead")
	}
	if err != nil {
		return err
	}
	address, err := property("location", "href").String()
	if err != nil {
		return err
	}
	address, _, _ = strings.Cut(address, "#")
	link, err := ui.ShareLink(address, log)
	if err != nil {
		return err
	}
	how := "Copied a link"
	if promise, err := property("navigator", "clipboard").Call("writeText", link); err != nil {
		how = "Made a link"
	} else if _, err := await(promise); err != nil { // not in front, or not allowed: it can be copied by hand
		how = "Made a link"
	}
	a.now(func() { a.Out.Link, a.Notice = link, fmt.Sprintf("%s of %s.", how, ui.Bytes(int64(len(link)))) })
	return nil
}

// abouts reads the cards of stored models that are not known yet.
func (a *App) abouts(stored *ui.Stored) map[string]ui.About {
	out := map[string]ui.About{}
	for _, f := range stored.Files {
		if !isModel(f.Path) {
			continue
		}
		key := aboutKey(f.Path, f.Bytes)
		if about, ok := a.Abouts[key]; ok {
			out[key] = about
			continue
		}
		var about ui.About
		// A file that is no model, or that another tab writes just now, has no card; it can still be deleted.
		if err := a.client.Call("store.about", map[string]string{"path": f.Path}, &about, nil); err == nil {
			out[key] = about
		}
	}
	return out
}

func isModel(path string) bool {
	return strings.HasPrefix(path, "/models/") && strings.HasSuffix(strings.ToLower(path), ".gguf")
}

func aboutKey(path string, bytes int64) string { return fmt.Sprint(path, " ", bytes) }
