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

// newTasks returns a function that goes on in another task of the page's thread. A message does it: timers wait for seconds in tabs out of sight.
func newTasks() (next func(), err error) {
	channel, err := safejs.Global().Get("MessageChannel")
	if err != nil {
		return nil, err
	}
	if channel, err = channel.New(); err != nil {
		return nil, err
	}
	here, err := channel.Get("port1")
	if err != nil {
		return nil, err
	}
	there, err := channel.Get("port2")
	if err != nil {
		return nil, err
	}
	arrived := make(chan struct{}, 1)
	heard, err := safejs.FuncOf(func(safejs.Value, []safejs.Value) any {
		arrived <- struct{}{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := here.Set("onmessage", heard); err != nil {
		return nil, err
	}
	return func() {
		if _, err := there.Call("postMessage", 0); err == nil {
			<-arrived
		}
	}, nil
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

// listen calls do in a goroutine of its own at every event of that name.
func listen(target safejs.Value, event string, do func()) error {
	heard, err := safejs.FuncOf(func(safejs.Value, []safejs.Value) any {
		go do()
		return nil
	})
	if err == nil {
		_, err = target.Call("addEventListener", event, heard)
	}
	return err
}

// pickedFile is the first file of a file input's event.
func pickedFile(event vugu.DOMEvent) (file safejs.Value, name string, ok bool) {
	return firstFile(safejs.Safe(sysjs.Value(event.JSEventTarget())))
}

func firstFile(of safejs.Value) (file safejs.Value, name string, ok bool) {
	files, err := of.Get("files")
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
	array, err := toArray(data)
	if err != nil {
		return err
	}
	blob, err := property("Blob").New([]any{safejs.Unsafe(array)}, map[string]any{"type": "application/zip"})
	if err != nil {
		return err
	}
	return saveObject(name, blob)
}

// toArray copies bytes into a Uint8Array.
func toArray(data []byte) (safejs.Value, error) {
	array, err := property("Uint8Array").New(len(data))
	if err != nil {
		return array, err
	}
	_, err = safejs.CopyBytesToJS(array, data)
	return array, err
}

// contents reads a File of at most so many bytes.
func contents(file safejs.Value, most int) ([]byte, error) {
	v, err := file.Get("size")
	if err != nil {
		return nil, err
	}
	size, err := v.Float()
	if err != nil {
		return nil, err
	}
	if size > float64(most) {
		return nil, fmt.Errorf("it has %.0f bytes, at most %d are read", size, most)
	}
	promise, err := file.Call("arrayBuffer")
	if err != nil {
		return nil, err
	}
	buffer, err := await(promise)
	if err != nil {
		return nil, err
	}
	array, err := property("Uint8Array").New(safejs.Unsafe(buffer))
	if err != nil {
		return nil, err
	}
	b := make([]byte, int(size))
	_, err = safejs.CopyBytesToGo(b, array)
	return b, err
}

// saveObject hands a Blob or File to the browser as a download.
func saveObject(name string, object safejs.Value) error {
	href, err := property("URL").Call("createObjectURL", object)
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
