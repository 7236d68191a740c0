package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/internal/assets"
)

// open starts the embedded module, or skips when it was not built.
func open(t *testing.T, o Options) *Host {
	t.Helper()
	h, err := Open(t.Context(), o)
	if errors.Is(err, ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestHello(t *testing.T) {
	h := open(t, Options{Threads: 2, MemoryLimit: 256 << 20})
	hello, err := h.Hello(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if hello.Version == "" || hello.Threads < 1 {
		t.Errorf("hello: %+v", hello)
	}
	var e *Error
	if err := h.Call(t.Context(), "no.such", nil, nil); !errors.As(err, &e) || e.Code != "unknown_method" {
		t.Errorf("unknown method: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Call(ctx, "hello", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	if err := h.Call(t.Context(), "hello", make(chan int), nil); err == nil || !strings.Contains(err.Error(), "hello: parameters") {
		t.Errorf("parameters that are no JSON: %v", err)
	}
	if err := h.Call(t.Context(), "hello", strings.Repeat("x", 17<<20), nil); !errors.As(err, &e) || e.Code != "parse" {
		t.Errorf("oversized request: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Call(t.Context(), "hello", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// The module may read what is mounted, and nothing else.
func TestMissingFile(t *testing.T) {
	dir := t.TempDir()
	h := open(t, Options{Mounts: []Mount{{Path: dir}}})
	for _, path := range []string{filepath.Join(dir, "none.gguf"), "/etc/passwd"} {
		_, err := h.OpenModel(t.Context(), ModelParams{Path: path, DType: "int8"}, nil)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v does not name the file", path, err)
		}
	}
	truncated := filepath.Join(dir, "t.gguf")
	if err := os.WriteFile(truncated, []byte("GGUF\x03\x00\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := h.OpenModel(t.Context(), ModelParams{Path: truncated, DType: "int8"}, nil)
	if err == nil || !strings.Contains(err.Error(), truncated) {
		t.Errorf("truncated file: %v", err)
	}
	if _, err := h.Hello(t.Context()); err != nil {
		t.Errorf("the module did not survive a bad file: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Wasm: []byte("no wasm")}, "tabtune.wasm: "},
		{Options{Wasm: []byte("\x00asm\x01\x00\x00\x00")}, "no export tt_"},
		{Options{Threads: -1}, "threads -1"},
		{Options{MemoryLimit: 5 << 30}, "memory limit"},
		{Options{Wasm: []byte{}, Mounts: []Mount{{Path: "/no/such/folder"}}}, "/no/such/folder"},
	} {
		c.o.CacheDir = "-"
		h, err := Open(t.Context(), c.o)
		if err == nil {
			h.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.o, err, c.want)
		}
	}
}

func TestGuestPath(t *testing.T) {
	mounts := []Mount{{Path: "/a"}, {Path: "/a/run", Writable: true}, {Path: "/ab"}, {Path: "/c/run"}}
	for i, want := range []string{"/a", "/a/run/", "/ab", "/c/run"} {
		if got := guestPath(mounts[i], mounts); got != want {
			t.Errorf("%s is mounted as %s, want %s", mounts[i].Path, got, want)
		}
	}
	if got := guestPath(mounts[2], append(mounts, Mount{Path: "/"})); got != "/ab/" {
		t.Errorf("/ab below / is mounted as %s", got)
	}
}

func TestResolve(t *testing.T) {
	a := t.TempDir()
	b := filepath.Join(a, "b")
	if err := os.Mkdir(b, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(a, "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := resolve([]Mount{Dir(b), File(file), {Path: a + "/."}, File(filepath.Join(b, "x"))})
	if err != nil || len(got) != 2 || got[0] != (Mount{a, false}) || got[1] != (Mount{b, true}) {
		t.Errorf("resolve: %v, %v", got, err)
	}
	if _, err := resolve([]Mount{{Path: file}}); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file as a folder: %v", err)
	}
	if _, err := resolve([]Mount{{Path: filepath.Join(a, "no")}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
}

func TestLogged(t *testing.T) {
	var all bytes.Buffer
	l := &logged{w: &all}
	write := func(s string) {
		t.Helper()
		if _, err := l.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	if err := l.explain(fs.ErrInvalid); err.Error() != "first: invalid argument" || !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("the first line: %v", err)
	}
	for range 1000 {
		write("0123456789")
	}
	write("\nfatal error: ")
	write("out of memory\n" + strings.Repeat("goroutine\n", 300))
	if all.Len() < 13000 || len(l.start) > 4096 || len(l.end) > 8192 || len(l.end) < 4000 {
		t.Errorf("passed %d, kept %d and %d bytes", all.Len(), len(l.start), len(l.end))
	}
	if err := l.explain(fs.ErrInvalid); err.Error() != "fatal error: out of memory: invalid argument" {
		t.Errorf("the runtime's line among others: %v", err)
	}
	l.reset()
	if err := l.explain(fs.ErrInvalid); err != fs.ErrInvalid {
		t.Errorf("nothing was written: %v", err)
	}
}

// TestBuildMemory writes 538 MB of f32 weights. The module's own memory stays far below: a chunk and what the collector has not yet
// taken back, for which the conversion must let it run.
func TestBuildMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("converts the whole model")
	}
	model, out := assets.Need(t, assets.Model), t.TempDir()
	h := open(t, Options{Threads: 1, Mounts: []Mount{{Path: filepath.Dir(model)}, Dir(out)}})
	for _, step := range []struct {
		method string
		params map[string]any
	}{
		{"model.open", map[string]any{"path": model, "dtype": "f32"}},
		{"build", map[string]any{"queries": 1, "batch": 1, "layers": 1, "modules": []string{"q"}, "out": filepath.Join(out, "m.pte")}},
	} {
		if _, err := h.Task(t.Context(), step.method, step.params, nil); err != nil {
			t.Fatalf("%s: %v", step.method, err)
		}
	}
	st, err := os.Stat(filepath.Join(out, "m.ptd"))
	if err != nil || st.Size() < 500<<20 {
		t.Fatalf("the weights: %v, %v", st, err)
	}
	if n := h.module.Memory().Size(); n > 96<<20 {
		t.Errorf("the module has grown to %d bytes", n)
	}
}

// Types that the protocol fixes must marshal as it says.
func TestParamsJSON(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{TrainParams{Estimator: "prge", Queries: 4, LR: AutoLR, Layers: AllLayers, Steps: 3},
			`{"estimator":"prge","queries":4,"lr":"auto","layers":"all","steps":3,"seed":0}`},
		{TrainParams{LR: LR(0.5), Layers: Layers(4), Seed: 7}, `{"lr":0.5,"layers":4,"seed":7}`},
		{TrainParams{}, `{"seed":0}`},
		{DataParams{Path: "d", Val: &ValParams{Rows: 5}}, `{"path":"d","val":{"rows":5},"seed":0}`},
	} {
		b, err := json.Marshal(c.v)
		if err != nil || string(b) != c.want {
			t.Errorf("%+v\n got %s, %v\nwant %s", c.v, b, err, c.want)
		}
	}
}
