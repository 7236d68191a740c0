package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

type countParams struct {
	N int `json:"n"`
}

type coded struct{}

func (coded) Error() string     { return "too big" }
func (coded) ErrorCode() string { return "out_of_memory" }

func newTestServer(log *strings.Builder, cleaned *int) *Server {
	s := NewServer(log)
	Handle(s, "double", func(p countParams) (int, error) { return 2 * p.N, nil })
	Handle(s, "crash", func(struct{}) (any, error) { panic("boom") })
	Handle(s, "nan", func(struct{}) (float64, error) { return math.NaN(), nil })
	Handle(s, "coded", func(struct{}) (any, error) { return nil, fmt.Errorf("loading: %w", coded{}) })
	Handle(s, "open", func(struct{}) (any, error) { return os.Open("/no/such/file") })
	HandleTask(s, "count", func(t *Task, p countParams) (map[string]int, error) {
		defer func() { *cleaned++ }()
		for i := range p.N {
			if err := t.Emit(map[string]int{"i": i}); err != nil {
				return nil, err
			}
		}
		return map[string]int{"n": p.N}, nil
	})
	HandleTask(s, "crashing", func(t *Task, _ struct{}) (any, error) {
		defer func() { *cleaned++ }()
		if err := t.Emit("soon"); err != nil {
			return nil, err
		}
		return []int(nil)[t.id], nil
	})
	HandleTask(s, "stubborn", func(t *Task, _ struct{}) (any, error) {
		defer func() { *cleaned++ }()
		for range 5 {
			_ = t.Emit("x")
		}
		return nil, errors.New("flush failed")
	})
	return s
}

func TestServe(t *testing.T) {
	var log strings.Builder
	var cleaned int
	s := newTestServer(&log, &cleaned)
	for _, c := range []struct{ in, want string }{
		{`{"method":"double","params":{"n":21}}`, `{"result":42}`},
		{`{"method":"double"}`, `{"result":0}`},
		{`{"method":"double","params":null}`, `{"result":0}`},
		{`{"method":"double","params":{"n":"x"}}`, `{"error":{"code":"invalid_params","message":"parameter \"n\": want int, got string"}}`},
		{`{"method":"double","params":{"m":1}}`, `{"error":{"code":"invalid_params","message":"parameters: json: unknown field \"m\""}}`},
		{`{"method":"nope"}`, `{"error":{"code":"unknown_method","message":"unknown method \"nope\""}}`},
		{`{"method":"task.next","params":{"task":9}}`, `{"error":{"code":"unknown_task","message":"task 9 is not open"}}`},
		{`{"method":"coded"}`, `{"error":{"code":"out_of_memory","message":"loading: too big"}}`},
		{`{"method":"open"}`, `{"error":{"code":"not_found","message":"open /no/such/file: no such file or directory"}}`},
		{`{"method":"crash"}`, `{"error":{"code":"internal","message":"internal error in crash: boom"}}`},
	} {
		if got := string(s.Serve([]byte(c.in))); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.in, got, c.want)
		}
	}
	if !strings.Contains(log.String(), "panic in crash: boom") || !strings.Contains(log.String(), "rpc_test.go") {
		t.Errorf("the log lacks the panic and its stack:\n%s", log.String())
	}
	for in, code := range map[string]string{
		``: CodeParse, `[]`: CodeParse, `{"method":1}`: CodeParse, "\xff": CodeParse, `{`: CodeParse, `{}`: CodeUnknownMethod,
		`{"method":"nan"}`: CodeInternal, strings.Repeat(" ", MaxRequest+1): CodeParse,
	} {
		if got := errorOf(t, s.Serve([]byte(in))); got.Code != code {
			t.Errorf("%.20q: code %q, want %q", in, got.Code, code)
		}
	}
}

func errorOf(t *testing.T, response []byte) Error {
	t.Helper()
	var r struct{ Error Error }
	if err := json.Unmarshal(response, &r); err != nil {
		t.Fatalf("response %q: %v", response, err)
	}
	return r.Error
}

func TestTask(t *testing.T) {
	var log strings.Builder
	var cleaned int
	s := newTestServer(&log, &cleaned)
	step := func(in, want string) {
		t.Helper()
		if got := string(s.Serve([]byte(in))); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
	// Two tasks interleave; both end on their own.
	step(`{"method":"count.start","params":{"n":2}}`, `{"result":{"task":1}}`)
	step(`{"method":"count.start","params":{"n":1}}`, `{"result":{"task":2}}`)
	step(`{"method":"task.next","params":{"task":1}}`, `{"result":{"event":{"i":0}}}`)
	step(`{"method":"task.next","params":{"task":2}}`, `{"result":{"event":{"i":0}}}`)
	step(`{"method":"task.next","params":{"task":1}}`, `{"result":{"event":{"i":1}}}`)
	step(`{"method":"task.next","params":{"task":2}}`, `{"result":{"done":true,"value":{"n":1}}}`)
	step(`{"method":"task.next","params":{"task":1}}`, `{"result":{"done":true,"value":{"n":2}}}`)
	step(`{"method":"task.next","params":{"task":1}}`, `{"error":{"code":"unknown_task","message":"task 1 is not open"}}`)
	if cleaned != 2 {
		t.Errorf("clean-up ran %d times, want 2", cleaned)
	}
	// A stop runs the deferred clean-up.
	step(`{"method":"count.start","params":{"n":9}}`, `{"result":{"task":3}}`)
	step(`{"method":"task.next","params":{"task":3}}`, `{"result":{"event":{"i":0}}}`)
	step(`{"method":"task.stop","params":{"task":3}}`, `{"result":{"stopped":true}}`)
	step(`{"method":"task.stop","params":{"task":3}}`, `{"error":{"code":"unknown_task","message":"task 3 is not open"}}`)
	if cleaned != 3 {
		t.Errorf("clean-up ran %d times, want 3", cleaned)
	}
	// A task stopped before its first turn never ran.
	step(`{"method":"count.start","params":{"n":9}}`, `{"result":{"task":4}}`)
	step(`{"method":"task.stop","params":{"task":4}}`, `{"result":{"stopped":true}}`)
	if cleaned != 3 {
		t.Errorf("clean-up ran %d times, want 3", cleaned)
	}
	// A panic is an error with a stack in the log.
	step(`{"method":"crashing.start"}`, `{"result":{"task":5}}`)
	step(`{"method":"task.next","params":{"task":5}}`, `{"result":{"event":"soon"}}`)
	step(`{"method":"task.next","params":{"task":5}}`,
		`{"error":{"code":"internal","message":"internal error in crashing: runtime error: index out of range [5] with length 0"}}`)
	if cleaned != 4 || !strings.Contains(log.String(), "panic in crashing") {
		t.Errorf("clean-up ran %d times, want 4; log: %s", cleaned, log.String())
	}
	// A task that goes on after the stop is not resumed, and its error is told.
	step(`{"method":"stubborn.start"}`, `{"result":{"task":6}}`)
	step(`{"method":"task.next","params":{"task":6}}`, `{"result":{"event":"x"}}`)
	step(`{"method":"task.stop","params":{"task":6}}`, `{"error":{"code":"failed","message":"flush failed"}}`)
	// An event that JSON cannot hold is an error of that turn only.
	if len(s.tasks) != 0 {
		t.Errorf("%d tasks left", len(s.tasks))
	}
}

func TestTaskLimitAndClose(t *testing.T) {
	var log strings.Builder
	var cleaned int
	s := newTestServer(&log, &cleaned)
	for i := range MaxTasks {
		s.Serve([]byte(`{"method":"count.start","params":{"n":9}}`))
		s.Serve(fmt.Appendf(nil, `{"method":"task.next","params":{"task":%d}}`, i+1))
	}
	if got := errorOf(t, s.Serve([]byte(`{"method":"count.start"}`))); got.Code != CodeBusy {
		t.Errorf("one task too many: %+v", got)
	}
	s.Close()
	if cleaned != MaxTasks || len(s.tasks) != 0 {
		t.Errorf("cleaned %d, left %d", cleaned, len(s.tasks))
	}
}

func TestReentry(t *testing.T) {
	s := NewServer(nil)
	var inner []byte
	HandleTask(s, "self", func(*Task, struct{}) (any, error) {
		inner = s.Serve([]byte(`{"method":"task.next","params":{"task":1}}`))
		return "ok", nil
	})
	s.Serve([]byte(`{"method":"self.start"}`))
	if got, want := string(s.Serve([]byte(`{"method":"task.next","params":{"task":1}}`))), `{"result":{"done":true,"value":"ok"}}`; got != want {
		t.Errorf("got %s", got)
	}
	if e := errorOf(t, inner); e.Code != CodeBusy {
		t.Errorf("a task that resumes itself: %+v", e)
	}
}

func TestRegisterTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Handle(NewServer(nil), "task.next", func(struct{}) (any, error) { return nil, nil })
}

func TestMethods(t *testing.T) {
	if got := fmt.Sprint(NewServer(nil).Methods()); got != "[task.next task.stop]" {
		t.Error(got)
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"method":"count.start","params":{"n":2}}`))
	f.Add([]byte(`{"method":"task.next","params":{"task":1}}`))
	f.Add([]byte(`{"method":"double","params":{"n":1e99}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var log strings.Builder
		var cleaned int
		s := newTestServer(&log, &cleaned)
		s.Serve([]byte(`{"method":"count.start","params":{"n":3}}`))
		var r map[string]json.RawMessage
		if err := json.Unmarshal(s.Serve(in), &r); err != nil || len(r) != 1 {
			t.Fatalf("%q: response %v, %v", in, r, err)
		}
		s.Close()
	})
}
