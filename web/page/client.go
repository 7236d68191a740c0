//go:build js && wasm

package main

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/hack-pad/safejs"

	"tabtune/web/ui"
)

// Client speaks the worker's protocol: {id, method, params} out, events and one answer back.
type Client struct {
	worker safejs.Value
	onDead func(*ui.Failure)

	mu      sync.Mutex
	last    int
	pending map[int]*pending
	dead    *ui.Failure
}

// pending is a request under way. The worker's messages come in JavaScript callbacks, which must not wait; they go through this queue to a
// goroutine of the request, in order.
type pending struct {
	event func([]byte)
	done  chan answer
	mu    sync.Mutex
	queue []message
	wake  chan struct{}
}

// message is an event, or the answer.
type message struct {
	event  []byte
	answer *answer
}

type answer struct {
	result safejs.Value
	err    error
}

func (p *pending) put(m message) {
	p.mu.Lock()
	p.queue = append(p.queue, m)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pending) deliver() {
	for range p.wake {
		p.mu.Lock()
		queue := p.queue
		p.queue = nil
		p.mu.Unlock()
		for _, m := range queue {
			if m.answer != nil {
				p.done <- *m.answer
				return
			}
			p.event(m.event)
		}
	}
}

// NewClient starts a worker. onDead is called once when the worker itself fails (not when a request does).
func NewClient(onDead func(*ui.Failure)) (*Client, error) {
	return newClient("worker/worker.js", "tabtune", onDead)
}

func newClient(script, name string, onDead func(*ui.Failure)) (*Client, error) {
	class, err := safejs.Global().Get("Worker")
	if err != nil {
		return nil, fmt.Errorf("starting the worker: %w", err)
	}
	worker, err := class.New(script, map[string]any{"type": "module", "name": name})
	if err != nil {
		return nil, fmt.Errorf("starting the worker: %w", err)
	}
	c := &Client{worker: worker, onDead: onDead, pending: map[int]*pending{}}
	message, err := safejs.FuncOf(func(_ safejs.Value, args []safejs.Value) any {
		if data, err := args[0].Get("data"); err == nil {
			c.receive(data)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	failed, err := safejs.FuncOf(func(_ safejs.Value, args []safejs.Value) any {
		detail := "the worker script could not be loaded"
		if v, err := args[0].Get("message"); err == nil && v.Type() == safejs.TypeString {
			detail, _ = v.String()
		}
		c.die(&ui.Failure{Code: "crashed", Message: "The training engine stopped unexpectedly. Restart it; a run that was saved goes on from its last step.", Detail: detail})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := worker.Set("onmessage", message); err != nil {
		return nil, err
	}
	return c, worker.Set("onerror", failed)
}

// Close ends the worker, which frees everything it holds. Requests under way fail with code "stopped".
func (c *Client) Close() {
	_, _ = c.worker.Call("terminate")
	c.fail(&ui.Failure{Code: "stopped", Message: "Stopped."})
}

func (c *Client) die(f *ui.Failure) {
	if c.fail(f) {
		c.onDead(f)
	}
}

func (c *Client) fail(f *ui.Failure) bool {
	c.mu.Lock()
	first := c.dead == nil
	waiting := c.pending
	if first {
		c.dead, c.pending = f, map[int]*pending{}
	}
	c.mu.Unlock()
	if first {
		for _, p := range waiting {
			p.put(message{answer: &answer{err: f}})
		}
	}
	return first
}

func (c *Client) receive(m safejs.Value) {
	idValue, err := m.Get("id")
	if err != nil || idValue.Type() != safejs.TypeNumber {
		return
	}
	id, _ := idValue.Int()
	c.mu.Lock()
	p := c.pending[id]
	c.mu.Unlock()
	if p == nil {
		return
	}
	if event, err := m.Get("event"); err == nil && !event.IsUndefined() {
		if p.event != nil {
			if text, err := stringify(event); err == nil {
				p.put(message{event: []byte(text)})
			}
		}
		return
	}
	c.mu.Lock()
	delete(c.pending, id)
	c.mu.Unlock()
	if failure, err := m.Get("error"); err == nil && !failure.IsUndefined() {
		f := &ui.Failure{}
		text, err := stringify(failure)
		if err == nil {
			err = json.Unmarshal([]byte(text), f)
		}
		if err != nil {
			f = &ui.Failure{Code: "failed", Message: "The engine's answer cannot be read.", Detail: err.Error()}
		}
		p.put(message{answer: &answer{err: f}})
		if f.Code == "crashed" || f.Code == "out_of_memory" {
			c.die(f)
		}
		return
	}
	result, err := m.Get("result")
	p.put(message{answer: &answer{result, err}})
}

// Request is one request under way.
type Request struct {
	c    *Client
	ID   int
	done chan answer
}

// Send posts a request. params is written as JSON; extra adds values that JSON cannot carry (a File). event is called for every event,
// in order, on a goroutine of the request.
func (c *Client) Send(method string, params any, extra map[string]safejs.Value, event func([]byte)) (*Request, error) {
	text, err := json.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	object, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	for k, v := range extra {
		if err := object.Set(k, v); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", method, k, err)
		}
	}
	c.mu.Lock()
	if c.dead != nil {
		defer c.mu.Unlock()
		return nil, c.dead
	}
	c.last++
	r := &Request{c: c, ID: c.last, done: make(chan answer, 1)}
	p := &pending{event: event, done: r.done, wake: make(chan struct{}, 1)}
	c.pending[r.ID] = p
	go p.deliver()
	c.mu.Unlock()
	_, err = c.worker.Call("postMessage", map[string]any{"id": r.ID, "method": method, "params": safejs.Unsafe(object)})
	return r, err
}

// Wait returns the result.
func (r *Request) Wait() (safejs.Value, error) {
	a := <-r.done
	return a.result, a.err
}

// Control pauses, resumes or stops the task: verb is "pause", "resume" or "stop".
func (r *Request) Control(verb string) error {
	_, err := r.c.Send("task."+verb, map[string]int{"id": r.ID}, nil, nil)
	return err
}

// Throttle lets the task work for a share of the time.
func (r *Request) Throttle(share float64) error {
	_, err := r.c.Send("task.throttle", map[string]any{"id": r.ID, "share": share}, nil, nil)
	return err
}

// Call sends a request, waits, and decodes the result into out unless that is nil.
func (c *Client) Call(method string, params, out any, event func([]byte)) error {
	r, err := c.Send(method, params, nil, event)
	if err != nil {
		return err
	}
	return r.Decode(out)
}

// Decode waits and decodes the result into out unless that is nil.
func (r *Request) Decode(out any) error {
	v, err := r.Wait()
	if err != nil || out == nil {
		return err
	}
	text, err := stringify(v)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

// Read returns a stored file's bytes.
func (c *Client) Read(path string) ([]byte, error) {
	r, err := c.Send("store.read", map[string]string{"path": path}, nil, nil)
	if err != nil {
		return nil, err
	}
	v, err := r.Wait()
	if err != nil {
		return nil, err
	}
	data, err := v.Get("bytes")
	if err != nil {
		return nil, err
	}
	n, err := data.Length()
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = safejs.CopyBytesToGo(b, data)
	return b, err
}

func stringify(v safejs.Value) (string, error) {
	j, err := safejs.Global().Get("JSON")
	if err != nil {
		return "", err
	}
	s, err := j.Call("stringify", v)
	if err != nil {
		return "", err
	}
	return s.String()
}

func parse(s string) (safejs.Value, error) {
	j, err := safejs.Global().Get("JSON")
	if err != nil {
		return safejs.Value{}, err
	}
	return j.Call("parse", s)
}
