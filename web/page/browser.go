//go:build js && wasm

package main

import (
	"fmt"
	"net/url"
	sysjs "syscall/js"

	"github.com/hack-pad/safejs"
	"github.com/vugu/vugu"
)

// property follows names from the global object; it returns undefined when one is missing.
func property(names ...string) safejs.Value {
	v := safejs.Global()
	for _, n := range names {
		next, err := v.Get(n)
		if err != nil {
			return safejs.Undefined()
		}
		v = next
	}
	return v
}

// cores is the number of threads worth starting: the machine's, at most 8.
func cores() int {
	n, err := property("navigator", "hardwareConcurrency").Int()
	if err != nil || n < 1 {
		return 1
	}
	return min(n, 8)
}

func query() url.Values {
	s, err := property("location", "search").String()
	if err != nil || len(s) < 2 {
		return url.Values{}
	}
	q, _ := url.ParseQuery(s[1:])
	return q
}

// onThisMachine says whether the page is served from the visitor's own machine, where a download costs nothing.
func onThisMachine() bool {
	h, _ := property("location", "hostname").String()
	return h == "localhost" || h == "127.0.0.1" || h == "[::1]"
}

// pickedFile is the first file of a file input's event.
func pickedFile(event vugu.DOMEvent) (file safejs.Value, name string, ok bool) {
	target := safejs.Safe(sysjs.Value(event.JSEventTarget()))
	files, err := target.Get("files")
	if err != nil {
		return file, "", false
	}
	if file, err = files.Index(0); err != nil || !isObject(file) {
		return file, "", false
	}
	n, err := file.Get("name")
	if err != nil {
		return file, "", false
	}
	name, err = n.String()
	return file, name, err == nil
}

func isObject(v safejs.Value) bool { return v.Type() == safejs.TypeObject && !v.IsNull() }

// head reads the first bytes of a File.
func head(file safejs.Value, n int) ([]byte, error) {
	part, err := file.Call("slice", 0, n)
	if err != nil {
		return nil, err
	}
	promise, err := part.Call("text")
	if err != nil {
		return nil, err
	}
	v, err := await(promise)
	if err != nil {
		return nil, err
	}
	s, err := v.String()
	return []byte(s), err
}

// await waits for a promise. It must not be called in an event handler itself, only on a goroutine of its own.
func await(promise safejs.Value) (safejs.Value, error) {
	type result struct {
		v   safejs.Value
		err error
	}
	done := make(chan result, 1)
	resolve, err := safejs.FuncOf(func(_ safejs.Value, args []safejs.Value) any {
		done <- result{v: args[0]}
		return nil
	})
	if err != nil {
		return safejs.Value{}, err
	}
	defer resolve.Release()
	reject, err := safejs.FuncOf(func(_ safejs.Value, args []safejs.Value) any {
		text := "the browser refused"
		if m, err := args[0].Get("message"); err == nil {
			text, _ = m.String()
		}
		done <- result{err: fmt.Errorf("%s", text)}
		return nil
	})
	if err != nil {
		return safejs.Value{}, err
	}
	defer reject.Release()
	if _, err := promise.Call("then", resolve, reject); err != nil {
		return safejs.Value{}, err
	}
	r := <-done
	return r.v, r.err
}

// saveAs hands bytes to the browser as a download.
func saveAs(name string, data []byte) error {
	array, err := property("Uint8Array").New(len(data))
	if err != nil {
		return err
	}
	if _, err := safejs.CopyBytesToJS(array, data); err != nil {
		return err
	}
	blob, err := property("Blob").New([]any{safejs.Unsafe(array)}, map[string]any{"type": "application/zip"})
	if err != nil {
		return err
	}
	href, err := property("URL").Call("createObjectURL", blob)
	if err != nil {
		return err
	}
	a, err := property("document").Call("createElement", "a")
	if err != nil {
		return err
	}
	if err := a.Set("href", href); err != nil {
		return err
	}
	if err := a.Set("download", name); err != nil {
		return err
	}
	if _, err := a.Call("click"); err != nil {
		return err
	}
	// The click has begun the download; the browser keeps the data until it is done.
	_, err = property("URL").Call("revokeObjectURL", href)
	return err
}
