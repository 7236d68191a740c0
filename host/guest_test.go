package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"tabtune/wasm/pack"
)

// buildGuest compiles internal/guest once for all tests.
var buildGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./internal/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, b)
	}
	linked, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return pack.Module(linked) // as the real one is
})

func guest(t *testing.T, o Options) *Host {
	t.Helper()
	var err error
	if o.Wasm, err = buildGuest(); err != nil {
		t.Fatal(err)
	}
	return open(t, o)
}

func TestGuestOptions(t *testing.T) {
	h := guest(t, Options{Threads: 3, MemoryLimit: 100<<20 + 5})
	hello, err := h.Hello(t.Context())
	if err != nil || hello != (Hello{"guest", 3, 100 << 20}) {
		t.Errorf("hello %+v, %v", hello, err)
	}
	var env []string
	if err := h.Call(t.Context(), "environment", nil, &env); err != nil || !reflect.DeepEqual(env, []string{"tabtune"}) {
		t.Errorf("the module sees %q, %v", env, err)
	}
	var echo string
	if err := h.Call(t.Context(), "echo", map[string]any{"text": "ab", "n": 4 << 20}, &echo); err != nil || len(echo) != 8<<20 {
		t.Errorf("a response of 8 MiB: %d bytes, %v", len(echo), err)
	}
}

func TestGuestTask(t *testing.T) {
	h := guest(t, Options{Threads: 1})
	type event struct{ Done int }
	var got []int
	collect := func(raw json.RawMessage) error {
		var e event
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		got = append(got, e.Done)
		return nil
	}
	value, err := h.Task(t.Context(), "count", map[string]int{"n": 3}, collect)
	if err != nil || string(value) != `{"n":3}` || !reflect.DeepEqual(got, []int{0, 1, 2}) {
		t.Fatalf("task: %s, %v, events %v", value, err, got)
	}
	if _, err := h.Task(t.Context(), "count", map[string]int{"n": 2}, nil); err != nil {
		t.Error(err)
	}
	// An error from the callback, and an ended context, stop the task between two pieces with its clean-up done.
	mine := errors.New("enough")
	if _, err := h.Task(t.Context(), "count", map[string]int{"n": 3}, func(json.RawMessage) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("callback's error: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	_, err = h.Task(ctx, "count", map[string]int{"n": 1000}, func(json.RawMessage) error {
		if n++; n == 5 {
			cancel(mine)
		}
		return nil
	})
	if !errors.Is(err, mine) || n != 5 {
		t.Errorf("ended context: %v after %d events", err, n)
	}
	var stopped int
	if err := h.Call(t.Context(), "stopped", nil, &stopped); err != nil || stopped != 4 {
		t.Errorf("%d tasks cleaned up, want 4; %v", stopped, err)
	}
	if _, err := h.Task(t.Context(), "none", nil, nil); err == nil || !strings.Contains(err.Error(), "none.start") {
		t.Errorf("unknown task: %v", err)
	}
}

func TestGuestFiles(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "x"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := guest(t, Options{Threads: 1, Mounts: []Mount{{Path: in}, Dir(out)}})
	var text string
	if err := h.Call(t.Context(), "read", map[string]string{"path": filepath.Join(in, "x")}, &text); err != nil || text != "content" {
		t.Errorf("read: %q, %v", text, err)
	}
	target := filepath.Join(out, "y")
	for _, text := range []string{"one", "two"} { // the second replaces the first, as a checkpoint does
		if err := h.Call(t.Context(), "write", map[string]string{"path": target, "text": text}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "two" {
		t.Errorf("written: %q, %v", b, err)
	}
	if err := h.Call(t.Context(), "write", map[string]string{"path": filepath.Join(in, "z"), "text": "no"}, nil); err == nil {
		t.Error("wrote into a read-only mount")
	}
	var e *Error
	for _, path := range []string{"/etc/hostname", filepath.Join(in, "..", "..", "..", "etc", "hostname"), filepath.Join(in, "none")} {
		if err := h.Call(t.Context(), "read", map[string]string{"path": path}, nil); !errors.As(err, &e) {
			t.Errorf("read %s: %v", path, err)
		}
	}
}

func TestGuestCrash(t *testing.T) {
	for _, c := range []struct{ how, want string }{
		{"fatal", "exit code 3: something fatal"},
		{"device", "outside the memory"},
		{"memory", "out of memory"},
	} {
		t.Run(c.how, func(t *testing.T) {
			h := guest(t, Options{Threads: 2})
			var e *Error
			if err := h.Call(t.Context(), "panic", nil, nil); !errors.As(err, &e) || e.Code != "internal" {
				t.Fatalf("a panic is an answer: %v", err)
			}
			err := h.Call(t.Context(), "crash", map[string]string{"text": c.how}, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "the module has crashed") {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if again := h.Call(t.Context(), "hello", nil, nil); again == nil || again.Error() != err.Error() {
				t.Errorf("after the crash: %v", again)
			}
		})
	}
}

// A packed module's stack trace names functions, if not lines.
func TestGuestTrace(t *testing.T) {
	var log bytes.Buffer
	h := guest(t, Options{Threads: 1, Stderr: &log})
	if err := h.Call(t.Context(), "crash", map[string]string{"text": "memory"}, nil); err == nil {
		t.Fatal("the module lives on")
	}
	for _, want := range []string{"tabtune/wasm/rpc.(*Server).Serve(", "main.call(", "?:0 +0x"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in %s", want, log.String())
		}
	}
}

// Calls from several goroutines take turns.
func TestGuestConcurrent(t *testing.T) {
	h := guest(t, Options{Threads: 2})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			value, err := h.Task(t.Context(), "count", map[string]int{"n": 50 + i}, nil)
			if want := fmt.Sprintf(`{"n":%d}`, 50+i); err != nil || string(value) != want {
				t.Errorf("task %d: %s, %v", i, value, err)
			}
		})
	}
	wg.Wait()
}
