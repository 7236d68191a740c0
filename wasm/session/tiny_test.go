package session

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tabtune/engine/kernel"
	"tabtune/internal/tinymodel"
	"tabtune/wasm/rpc"
)

type params = map[string]any

// tinyFiles writes the small model and a data set of good and bad words.
func tinyFiles(t *testing.T) (model, data string) { return tinyFilesOf(t, "") }

// tinyFilesOf is tinyFiles with a model of an architecture; "": llama.
func tinyFilesOf(t *testing.T, arch string) (model, data string) {
	t.Helper()
	b, err := tinymodel.Bytes(tinymodel.Options{EmbedStd: 0.15, Tokenizer: true, Arch: arch})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	model, data = filepath.Join(dir, "tiny.gguf"), filepath.Join(dir, "data.csv")
	write(t, model, string(b))
	rng := rand.New(rand.NewPCG(5, 6))
	var csv strings.Builder
	csv.WriteString("text,label\n")
	for i := range 60 {
		word, label := "good", "positive"
		if i%2 == 1 {
			word, label = "bad", "negative"
		}
		fmt.Fprintf(&csv, "%s %d,%s\n", strings.Repeat(word+" ", 1+rng.IntN(3)), rng.IntN(100), label)
	}
	write(t, data, csv.String())
	return model, data
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// limited is a client whose device has so many bytes; 0: no limit of its own.
func limited(t *testing.T, bytes int64) *client { return threaded(t, bytes, 1) }

func threaded(t *testing.T, bytes int64, threads int) *client {
	t.Helper()
	dev, err := kernel.New(context.Background(), kernel.Config{Threads: threads, MemoryLimit: bytes, CacheDir: cacheDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	s := rpc.NewServer(testWriter{t})
	se := New(dev)
	// Time goes on by a millisecond a look, so that the events are the same each time.
	clock := time.Unix(0, 0)
	se.now = func() time.Time { clock = clock.Add(time.Millisecond); return clock }
	register(s, se)
	return &client{t, s, se}
}

// cacheDir keeps the compiled kernels for all tests of this process.
var cacheDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "session")
	if err != nil {
		panic(err)
	}
	cacheDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func dataOf(path string) params {
	return params{"path": path, "template": "{text} It was {label}", "labels": []string{"negative", "positive"}, "verbalizers": []string{"terrible", "great"},
		"val": params{"rows": 12}}
}

// tiny is a client with the small model and its data open.
func tiny(t *testing.T, dtype string) *client { return tinyOf(t, "", dtype) }

func tinyOf(t *testing.T, arch, dtype string) *client {
	t.Helper()
	c := limited(t, 0)
	model, data := tinyFilesOf(t, arch)
	c.must("model.open", params{"path": model, "dtype": dtype})
	c.must("data.open", dataOf(data))
	return c
}

// small are settings of a run of about a second.
func small(more params) params {
	return merge(params{"layers": 2, "queries": 2, "batch": 2, "steps": 12, "lr": 0.5, "rank": 4, "alpha": 8, "evalEvery": 3, "seed": 7}, more)
}

func merge(a, b params) params {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// start begins a task; next is one piece of it: an event, or nil at its end.
func (c *client) start(method string, p any) int64 {
	c.t.Helper()
	var id struct{ Task int64 }
	c.get(method+".start", p, &id)
	return id.Task
}

func (c *client) next(id int64) params {
	c.t.Helper()
	var r struct {
		Event params
		Done  bool
	}
	c.get("task.next", params{"task": id}, &r)
	return r.Event
}

func (c *client) get(method string, p, to any) {
	c.t.Helper()
	raw, e := c.call(method, p)
	if e != nil {
		c.t.Fatalf("%s: %v", method, e)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		c.t.Fatal(err)
	}
}

// getTask runs a task and reads its value.
func (c *client) getTask(method string, p, to any) {
	c.t.Helper()
	if err := json.Unmarshal(c.must(method, p), to); err != nil {
		c.t.Fatal(err)
	}
}

// fails runs a task that has to fail with the code and all the words.
func (c *client) fails(method string, p any, code string, words ...string) {
	c.t.Helper()
	_, _, e := c.task(method, p)
	c.isError(method, e, code, words...)
}

func (c *client) isError(what string, e *rpc.Error, code string, words ...string) {
	c.t.Helper()
	if e == nil {
		c.t.Errorf("%s: no error, want %s %q", what, code, words)
		return
	}
	if e.Code != code {
		c.t.Errorf("%s: code %s (%s), want %s", what, e.Code, e.Message, code)
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			c.t.Errorf("%s: %q does not say %q", what, e.Message, w)
		}
	}
}

// artefacts are the files of a run that depend on nothing but its settings.
func artefacts(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"replay.log", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"} {
		out[name] = read(t, filepath.Join(dir, name))
	}
	return out
}

func sameArtefacts(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	for name := range want {
		if want[name] != got[name] {
			t.Errorf("%s: %s differs from the uninterrupted run's (%d and %d bytes)", what, name, len(want[name]), len(got[name]))
		}
	}
}
