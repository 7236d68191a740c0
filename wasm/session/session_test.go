package session

import (
	"context"
	"encoding/json"
	"testing"

	"tabtune/engine/kernel"
	"tabtune/internal/assets"
	"tabtune/wasm/rpc"
)

// client calls the session as a host does.
type client struct {
	t  *testing.T
	s  *rpc.Server
	se *Session
}

func newClient(t *testing.T) *client {
	t.Helper()
	dev, err := kernel.New(context.Background(), kernel.Config{Threads: 2, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	s := rpc.NewServer(testWriter{t})
	se := New(dev)
	register(s, se)
	return &client{t, s, se}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) { w.t.Logf("%s", b); return len(b), nil }

func (c *client) call(method string, params any) (json.RawMessage, *rpc.Error) {
	c.t.Helper()
	p, err := json.Marshal(params)
	if err != nil {
		c.t.Fatal(err)
	}
	req, _ := json.Marshal(map[string]any{"method": method, "params": json.RawMessage(p)})
	var res struct {
		Result json.RawMessage
		Error  *rpc.Error
	}
	if err := json.Unmarshal(c.s.Serve(req), &res); err != nil {
		c.t.Fatal(err)
	}
	return res.Result, res.Error
}

// task runs a task to its end and returns its value and events.
func (c *client) task(method string, params any) (value json.RawMessage, events []map[string]any, failure *rpc.Error) {
	c.t.Helper()
	raw, e := c.call(method+".start", params)
	if e != nil {
		return nil, nil, e
	}
	var id struct{ Task int64 }
	if err := json.Unmarshal(raw, &id); err != nil {
		c.t.Fatal(err)
	}
	for {
		raw, e := c.call("task.next", map[string]any{"task": id.Task})
		if e != nil {
			return nil, events, e
		}
		var next struct {
			Event map[string]any
			Done  bool
			Value json.RawMessage
		}
		if err := json.Unmarshal(raw, &next); err != nil {
			c.t.Fatal(err)
		}
		if next.Done {
			return next.Value, events, nil
		}
		events = append(events, next.Event)
	}
}

func (c *client) must(method string, params any) json.RawMessage {
	c.t.Helper()
	v, _, e := c.task(method, params)
	if e != nil {
		c.t.Fatalf("%s: %v", method, e)
	}
	return v
}

func TestTrainReviews(t *testing.T) {
	c := newClient(t)
	c.must("model.open", map[string]any{"path": assets.Need(t, assets.Model), "dtype": "int8"})
	c.must("data.open", map[string]any{"path": assets.Need(t, assets.ReviewsTrain), "textColumn": "text", "labelColumn": "label",
		"template": "{text} It was {label}", "verbalizers": []string{"terrible", "great"}, "labels": []string{"negative", "positive"},
		"val": map[string]any{"path": assets.Need(t, assets.ReviewsVal), "rows": 16}, "trainRows": 16, "seed": 0})
	v, events, e := c.task("train", map[string]any{"layers": 1, "queries": 2, "batch": 2, "steps": 3, "lr": 0.5, "out": t.TempDir()})
	if e != nil {
		t.Fatal(e)
	}
	t.Logf("%s", v)
	for _, e := range events {
		t.Log(e)
	}
}
