package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/engine/pte"
	"tabtune/lora/replay"
)

// outside is a runtime as a host has one: it gets a file and tensors, gives tensors back, and shows nothing else. Here it is our engine on a
// device of its own; that the programs mean the same to the stock runtime is what make conformance shows.
type outside struct {
	t      *testing.T
	dev    *kernel.Device
	prog   *engine.Program
	calls  map[string]int
	broken string // a method that fails
}

func newOutside(t *testing.T) *outside {
	dev, err := kernel.New(context.Background(), kernel.Config{Threads: 1, CacheDir: cacheDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return &outside{t: t, dev: dev, calls: map[string]int{}}
}

func (o *outside) do(e runtimeEvent, from *kernel.Device) error {
	o.calls[e.Op+e.Method]++
	if e.Op == "load" {
		if o.prog != nil {
			o.prog.Close()
		}
		b, err := os.ReadFile(e.Path)
		if err != nil {
			return err
		}
		file, err := pte.Decode(bytes.NewReader(b), e.Path)
		if err != nil {
			return err
		}
		o.prog, err = engine.Load(o.dev, file, engine.Options{})
		return err
	}
	if e.Method == o.broken {
		return fmt.Errorf("error: 0x12")
	}
	m, err := o.prog.Method(e.Method)
	if err != nil {
		return err
	}
	for i, in := range e.Inputs {
		data := make([]byte, in.Bytes)
		from.Read(data, kernel.Addr(in.Address))
		if err := m.SetInput(i, engine.Tensor{DType: in.DType, Sizes: in.Sizes, Data: data}); err != nil {
			return err
		}
	}
	if err := m.Execute(context.Background()); err != nil {
		return err
	}
	v, err := m.Output(0)
	if err != nil {
		return err
	}
	if fmt.Sprint(v.Sizes) != fmt.Sprint(e.Output.Sizes) || v.DType != e.Output.DType {
		return fmt.Errorf("output %v, expected %v", v.Sizes, e.Output.Sizes)
	}
	from.Write(kernel.Addr(e.Output.Address), o.prog.Read(v).Data)
	return nil
}

// drive runs a task to its end, with o for what it asks of the host's runtime.
func (o *outside) drive(c *client, method string, p params) (json.RawMessage, error) {
	id := c.start(method, p)
	for {
		raw, e := c.call("task.next", params{"task": id})
		if e != nil {
			return nil, e
		}
		var r struct {
			Event json.RawMessage
			Done  bool
			Value json.RawMessage
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			o.t.Fatal(err)
		}
		if r.Done {
			return r.Value, nil
		}
		var ev runtimeEvent
		if json.Unmarshal(r.Event, &ev); ev.Type != "runtime" {
			continue
		}
		answer := params{"call": ev.Call}
		if err := o.do(ev, c.se.dev); err != nil {
			answer["error"] = err.Error()
		}
		c.get("runtime.answer", answer, &struct{}{})
	}
}

// TestHostRuntime trains with a runtime of the host's and with the engine: the same log, the same adapter, bit for bit.
func TestHostRuntime(t *testing.T) {
	for _, more := range []params{nil, {"estimator": "mezo", "queries": 1}, {"lr": "auto", "steps": 6}} {
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			c, o := tiny(t, "f32"), newOutside(t)
			own, other := filepath.Join(t.TempDir(), "own"), filepath.Join(t.TempDir(), "other")
			var want, got trainResult
			c.getTask("train", small(merge(params{"out": own}, more)), &want)
			idle := c.se.dev.InUse()
			p := small(merge(params{"out": other, "runtime": filepath.Join(t.TempDir(), "program.pte")}, more))
			raw, err := o.drive(c, "train", p)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			if o.calls["executeforward"] < want.Steps || o.calls["executescores"] == 0 || o.calls["executeprefix"] == 0 {
				t.Errorf("the runtime was called %v", o.calls)
			}
			sameArtefacts(t, "the engine's run", artefacts(t, own), artefacts(t, other))
			if got.Loss != want.Loss || got.Best.Loss != want.Best.Loss || got.ZeroShot.Loss != want.ZeroShot.Loss {
				t.Errorf("losses %v %v %v, the engine's %v %v %v", got.ZeroShot.Loss, got.Loss, got.Best.Loss, want.ZeroShot.Loss, want.Loss, want.Best.Loss)
			}
			if n := c.se.dev.InUse(); n > idle {
				t.Errorf("%d bytes in use after the run, %d after the engine's", n, idle)
			}
			// The adapter is the session's, and the engine runs it.
			var ev evalResult
			c.getTask("eval", params{}, &ev)
			if math.Abs(ev.Loss-got.Best.Loss) > 1e-4 {
				t.Errorf("the adapter's loss is %v, in the run it was %v", ev.Loss, got.Best.Loss)
			}
		})
	}
}

// TestHostRuntimeResumes stops a run and goes on with it.
func TestHostRuntimeResumes(t *testing.T) {
	c, o := tiny(t, "f32"), newOutside(t)
	whole, out := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "out")
	c.must("train", small(params{"out": whole}))
	program := filepath.Join(t.TempDir(), "program.pte")
	if _, err := o.drive(c, "train", small(params{"out": out, "runtime": program, "steps": 12})); err != nil {
		t.Fatal(err)
	}
	log, w, err := replay.Resume(filepath.Join(out, "replay.log"), 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Records) != 7 {
		t.Fatalf("%d records", len(log.Records))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.drive(c, "train", small(params{"out": out, "runtime": program, "resume": true})); err != nil {
		t.Fatal(err)
	}
	sameArtefacts(t, "a run that was cut", artefacts(t, whole), artefacts(t, out))
}

// TestHostRuntimeErrors has no runtime, one that fails, and settings that need memory to be shown.
func TestHostRuntimeErrors(t *testing.T) {
	c, o := tiny(t, "f32"), newOutside(t)
	program := filepath.Join(t.TempDir(), "program.pte")
	c.fails("train", small(params{"runtime": program}), "runtime", "has not answered")
	o.broken = "forward"
	if _, err := o.drive(c, "train", small(params{"runtime": program})); err == nil || err.Error() != "the runtime chosen for this run: execute forward: error: 0x12" {
		t.Errorf("a runtime that fails: %v", err)
	}
	c.fails("train", small(params{"runtime": filepath.Join(t.TempDir(), "program.txt")}), "invalid_params", ".pte")
	c.fails("train", small(params{"runtime": program, "estimator": "mezo", "queries": 1, "modules": []string{fullModules}}), "invalid_params", "adapt modules")
	c.fails("train", params{"runtime": program, "estimator": "head", "layers": 2}, "invalid_params", "label head")
	c.must("train", small(params{"steps": 1})) // and the engine goes on as before
}
