// Package rpc is the JSON protocol between tabtune.wasm and whoever hosts it: requests and responses, and long work cut into pieces.
//
// A request is one JSON object, {"method":M,"params":{...}}; the response is {"result":...} or {"error":{"code":C,"message":S}}.
// The module has one thread and the host has to stay in charge (a page must paint, Ctrl-C must be heard), so nothing long
// runs inside one call. Long work is a task:
//
//	X.start   {...params}   -> {"result":{"task":7}}
//	task.next {"task":7}    -> {"result":{"event":{...}}}                     one bounded piece was done, more follows
//	                           {"result":{"done":true,"value":{...}}}         finished; the task is gone
//	                           {"error":{...}}                                failed; the task is gone
//	task.stop {"task":7}    -> {"result":{"stopped":true}}                    deferred clean-up has run; the task is gone
//
// A task is written as straight-line Go that calls [Task.Emit] between pieces. Emit hands the event to the pending task.next and
// parks the function until the following one; it is a coroutine switch (iter.Pull), not a goroutine, so nothing of a parked
// task runs in between, and a module without threads can hold several. After task.stop, Emit returns [ErrStopped] and the function
// returns through its own defers.
//
// Invariants:
//   - Every input gives exactly one well-formed response. A panic in a handler or a task becomes an error with code "internal",
//     its stack goes to the log; the server stays usable.
//   - A task that has ended in any way is forgotten; its number is never used again.
//   - The server is not safe for concurrent use. It is single-threaded by nature: the module has one thread.
//
// The package is plain Go without any wasm in it, so sessions are tested natively.
package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"runtime/debug"
	"slices"
)

// Error codes that the protocol itself uses. Handlers may use their own, in the same lower_snake_case form.
const (
	CodeParse         = "parse"          // the request is not a JSON object of the documented form
	CodeUnknownMethod = "unknown_method" // no such method
	CodeInvalidParams = "invalid_params" // a parameter is missing, unknown, of the wrong type or out of range
	CodeUnknownTask   = "unknown_task"   // the task never existed, has ended, or was stopped
	CodeBusy          = "busy"           // the task is already running, or too many tasks are open
	CodeNotFound      = "not_found"      // a file does not exist
	CodeFailed        = "failed"         // any error of a handler that carries no code of its own
	CodeStopped       = "stopped"        // the task was stopped and says so
	CodeInternal      = "internal"       // a panic, or a result that cannot be written as JSON: a bug
)

// Limits on what a host can make the server hold.
const (
	// MaxTasks is how many tasks may be open at once.
	MaxTasks = 64
	// MaxRequest is the largest request, in bytes.
	MaxRequest = 16 << 20
)

// ErrStopped is what [Task.Emit] returns once the host has stopped the task.
var ErrStopped = &Error{Code: CodeStopped, Message: "stopped"}

// Error is an error as the host sees it.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// ErrorCode returns the code. Errors of other packages that have this method keep their code on the way to the host.
func (e *Error) ErrorCode() string { return e.Code }

// Errorf makes an *Error with a code.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Server dispatches requests to the methods registered with [Handle] and [HandleTask].
type Server struct {
	log     io.Writer
	methods map[string]func(params json.RawMessage) (any, error)
	tasks   map[int64]*Task
	last    int64
}

// NewServer returns a server with the methods task.next and task.stop. Stacks of recovered panics are written to log,
// which may be nil.
func NewServer(log io.Writer) *Server {
	if log == nil {
		log = io.Discard
	}
	s := &Server{log: log, methods: map[string]func(json.RawMessage) (any, error){}, tasks: map[int64]*Task{}}
	Handle(s, "task.next", s.next)
	Handle(s, "task.stop", s.stop)
	return s
}

// Handle registers a method that answers at once. P is decoded strictly by [Decode]; R is written with encoding/json.
// Registering a name twice is a programming error and panics.
func Handle[P, R any](s *Server, name string, f func(P) (R, error)) {
	s.register(name, func(params json.RawMessage) (any, error) {
		p, err := Decode[P](params)
		if err != nil {
			return nil, err
		}
		return f(p)
	})
}

// HandleTask registers the method name+".start", which begins a task. The function runs from the first task.next on; each
// Emit ends one task.next. Its result is the value of the task. It should call Emit at least every 100 to 300 ms.
func HandleTask[P, R any](s *Server, name string, f func(t *Task, params P) (R, error)) {
	s.register(name+".start", func(params json.RawMessage) (any, error) {
		p, err := Decode[P](params)
		if err != nil {
			return nil, err
		}
		if len(s.tasks) >= MaxTasks {
			return nil, Errorf(CodeBusy, "%d tasks are open already; stop one first", MaxTasks)
		}
		s.last++
		t := &Task{id: s.last, name: name}
		t.pull, t.end = iter.Pull(func(yield func(any) bool) {
			t.yield = yield
			t.err = s.guard(name, func() (err error) {
				t.value, err = f(t, p)
				return err
			})
		})
		s.tasks[t.id] = t
		return map[string]int64{"task": t.id}, nil
	})
}

func (s *Server) register(name string, f func(json.RawMessage) (any, error)) {
	if _, dup := s.methods[name]; dup {
		panic("rpc: method " + name + " registered twice")
	}
	s.methods[name] = f
}

// Methods lists the registered method names in order.
func (s *Server) Methods() []string {
	names := make([]string, 0, len(s.methods))
	for n := range s.methods {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Task is one piece of long work in progress.
type Task struct {
	id      int64
	name    string
	pull    func() (any, bool)
	end     func()
	yield   func(any) bool
	running bool
	stopped bool
	value   any
	err     error
}

// Emit gives an event to the host and waits for the next turn. It returns [ErrStopped] when the host has stopped the task; the
// function should then return, and everything it deferred runs. It must be called on the task's own goroutine.
func (t *Task) Emit(event any) error {
	if t.stopped || !t.yield(event) {
		t.stopped = true
		return ErrStopped
	}
	return nil
}

type taskID struct {
	Task int64 `json:"task"`
}

func (s *Server) find(id int64) (*Task, error) {
	t := s.tasks[id]
	if t == nil {
		return nil, Errorf(CodeUnknownTask, "task %d is not open", id)
	}
	if t.running {
		return nil, Errorf(CodeBusy, "task %d (%s) is running", id, t.name)
	}
	return t, nil
}

func (s *Server) next(p taskID) (any, error) {
	t, err := s.find(p.Task)
	if err != nil {
		return nil, err
	}
	t.running = true
	event, more := t.pull()
	t.running = false
	if more {
		return struct {
			Event any `json:"event"`
		}{event}, nil
	}
	delete(s.tasks, t.id)
	if t.err != nil {
		return nil, t.err
	}
	return struct {
		Done  bool `json:"done"`
		Value any  `json:"value"`
	}{true, t.value}, nil
}

func (s *Server) stop(p taskID) (any, error) {
	t, err := s.find(p.Task)
	if err != nil {
		return nil, err
	}
	delete(s.tasks, t.id)
	t.end()
	if t.err != nil && !errors.Is(t.err, ErrStopped) {
		return nil, t.err // clean-up failed, and the host should know
	}
	return map[string]bool{"stopped": true}, nil
}

// Close stops every open task, in the order they were started.
func (s *Server) Close() {
	ids := make([]int64, 0, len(s.tasks))
	for id := range s.tasks {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		s.tasks[id].end()
		delete(s.tasks, id)
	}
}

// guard runs f and turns a panic into an error.
func (s *Server) guard(name string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(s.log, "panic in %s: %v\n%s\n", name, r, debug.Stack())
			err = Errorf(CodeInternal, "internal error in %s: %v", name, r)
		}
	}()
	return f()
}

// Serve answers one request. The response is always a valid JSON object.
func (s *Server) Serve(request []byte) []byte {
	result, err := s.dispatch(request)
	if err == nil {
		// Marshal may run a handler's MarshalJSON methods: guard it as well.
		var out []byte
		err = s.guard("response", func() (err error) {
			out, err = json.Marshal(struct {
				Result any `json:"result"`
			}{result})
			return err
		})
		if err == nil {
			return out
		}
		err = Errorf(CodeInternal, "writing the response: %v", err)
	}
	out, merr := json.Marshal(struct {
		Error *Error `json:"error"`
	}{asError(err)})
	if merr != nil { // cannot happen: two strings
		return []byte(`{"error":{"code":"internal","message":"writing the error"}}`)
	}
	return out
}

func (s *Server) dispatch(request []byte) (result any, err error) {
	if len(request) > MaxRequest {
		return nil, Errorf(CodeParse, "request: %d bytes, at most %d are accepted", len(request), MaxRequest)
	}
	var req struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	if err := json.Unmarshal(request, &req); err != nil {
		return nil, Errorf(CodeParse, "request: %v", err)
	}
	f := s.methods[req.Method]
	if f == nil {
		return nil, Errorf(CodeUnknownMethod, "unknown method %q", req.Method)
	}
	err = s.guard(req.Method, func() (err error) {
		result, err = f(req.Params)
		return err
	})
	return result, err
}

// asError gives an error its code: its own if it (or one that it wraps) has a method ErrorCode, not_found for missing files.
func asError(err error) *Error {
	var coded interface{ ErrorCode() string }
	switch {
	case errors.As(err, &coded):
		return &Error{Code: coded.ErrorCode(), Message: err.Error()}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Code: CodeNotFound, Message: err.Error()}
	}
	return &Error{Code: CodeFailed, Message: err.Error()}
}

// Decode reads parameters into P. Unknown fields and values of the wrong type are errors with code invalid_params that name
// the field; absent or null parameters leave P zero.
func Decode[P any](params json.RawMessage) (P, error) {
	var p P
	if len(params) == 0 || bytes.Equal(params, []byte("null")) {
		return p, nil
	}
	d := json.NewDecoder(bytes.NewReader(params))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			return p, Errorf(CodeInvalidParams, "parameter %q: want %s, got %s", typ.Field, typ.Type, typ.Value)
		}
		return p, Errorf(CodeInvalidParams, "parameters: %v", err)
	}
	return p, nil
}
