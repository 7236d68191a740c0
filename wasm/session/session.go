// Package session holds the methods of tabtune.wasm: it opens a model and data,
// trains, evaluates, generates and exports. It is plain Go over package engine,
// so it runs and is tested natively too.
//
// A Session holds at most one model, one data set and one adapter. The frozen
// weights are in device memory once, whatever programs read them; a program is
// built by package lora for what is asked and dropped when something else is.
package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/lora"
	"tabtune/lora/tokenizer"
	"tabtune/wasm/rpc"
)

// Version is the module's version, as hello gives it.
const Version = "0.1.0"

// Session is the state behind the module's methods.
type Session struct {
	dev     *kernel.Device
	model   *model
	tok     *tokenizer.Tokenizer // of tokenizer.open
	data    *dataset
	adapter *adapter
	runner  *runner // the program in use, with the adapter in its buffers
	busy    string  // the task in progress, "" if none

	// stock, while a run uses the host's runtime, makes the runtime of a new program.
	stock    func(lora.Spec) (Runtime, error)
	answered runtimeAnswer // the last of runtime.answer

	programs    map[int64]*program // of program.open, by number
	lastProgram int64
	now         func() time.Time
}

// New returns a session that computes on dev.
func New(dev *kernel.Device) *Session { return &Session{dev: dev, now: time.Now} }

// Register adds the methods of a session to the server. The device is opened by
// the first method that needs it.
func Register(s *rpc.Server) { register(s, nil) }

// RegisterOn is Register for a device that the caller has.
func RegisterOn(s *rpc.Server, dev *kernel.Device) { register(s, New(dev)) }

func register(s *rpc.Server, se *Session) {
	get := func() (*Session, error) {
		if se == nil {
			dev, err := kernel.New(context.Background(), kernel.Config{})
			if err != nil {
				return nil, err
			}
			se = New(dev)
		}
		return se, nil
	}
	handle(s, get, "hello", (*Session).hello)
	handleTask(s, get, "model.open", (*Session).openModel)
	handle(s, get, "model.about", (*Session).aboutModel)
	handleTask(s, get, "data.open", (*Session).openData)
	handle(s, get, "data.peek", (*Session).peekData)
	handle(s, get, "data.tasks", (*Session).listTasks)
	handleTask(s, get, "train", (*Session).train)
	handleTask(s, get, "eval", (*Session).eval)
	handleTask(s, get, "generate", (*Session).generate)
	handle(s, get, "adapter.load", (*Session).loadAdapter)
	handle(s, get, "adapter.clear", (*Session).clearAdapter)
	handle(s, get, "adapter.export", (*Session).exportAdapter)
	handleTask(s, get, "adapter.replay", (*Session).replayAdapter)
	handleTask(s, get, "export", (*Session).export)
	handle(s, get, "estimate", (*Session).estimate)
	handle(s, get, "tokenizer.open", (*Session).openTokenizer)
	handle(s, get, "tokenize", (*Session).tokenize)
	handle(s, get, "inspect", (*Session).inspect)
	handleTask(s, get, "build", (*Session).build)
	handleTask(s, get, "run", (*Session).run)
	handleTask(s, get, "run.bundle", (*Session).runBundle)
	handleTask(s, get, "bench", (*Session).bench)
	handle(s, get, "runtime.answer", (*Session).answerRuntime)
	handle(s, get, "program.open", (*Session).openProgram)
	handle(s, get, "program.meta", (*Session).programMeta)
	handle(s, get, "program.load", (*Session).loadProgram)
	handle(s, get, "program.inputs", (*Session).programInputs)
	handle(s, get, "program.execute", (*Session).executeProgram)
	handle(s, get, "program.observe", (*Session).observeProgram)
	handle(s, get, "program.profile", (*Session).profileProgram)
	handle(s, get, "program.close", (*Session).closeProgram)
}

func handle[P, R any](s *rpc.Server, get func() (*Session, error), name string, f func(*Session, P) (R, error)) {
	rpc.Handle(s, name, func(p P) (r R, err error) {
		se, err := get()
		if err != nil {
			return r, err
		}
		if se.busy != "" && !slices.Contains(whileBusy, name) {
			return r, se.isBusy(name)
		}
		return f(se, p)
	})
}

func handleTask[P, R any](s *rpc.Server, get func() (*Session, error), name string, f func(*Session, *rpc.Task, P) (R, error)) {
	rpc.HandleTask(s, name, func(t *rpc.Task, p P) (r R, err error) {
		se, err := get()
		if err != nil {
			return r, err
		}
		if se.busy != "" {
			return r, se.isBusy(name)
		}
		se.busy = name
		defer func() { se.busy = "" }()
		return f(se, t, p)
	})
}

// whileBusy are the methods that touch nothing a task may be using.
var whileBusy = []string{"hello", "model.about", "data.peek", "data.tasks", "tokenize", "inspect", "runtime.answer"}

// isBusy refuses a method: a task in progress has the model, the data and the
// program in use, and another one would take them away.
func (s *Session) isBusy(name string) error {
	return rpc.Errorf(rpc.CodeBusy, "%s: %s is in progress; wait for its end or stop it", name, s.busy)
}

type none struct{}

// floats copies an f32 tensor from the device.
func (s *Session) floats(v engine.View) []float32 {
	b := make([]byte, v.Bytes())
	if len(b) > 0 {
		s.dev.Read(b, v.Addr)
	}
	return engine.Tensor{DType: v.DType, Sizes: v.Sizes, Data: b}.Float32s()
}

type helloResult struct {
	Version     string `json:"version"`
	Threads     int    `json:"threads"`
	DeviceBytes int64  `json:"deviceBytes"`
}

func (s *Session) hello(none) (helloResult, error) {
	return helloResult{Version, s.dev.Threads(), s.dev.Limit()}, nil
}

// progress is the event of work that is counted in bytes or rows.
type progress struct {
	Type  string `json:"type"` // "progress"
	Phase string `json:"phase"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// paced emits progress at most every 50 ms, so that a loop may call it as often
// as it likes.
func (s *Session) paced(t *rpc.Task, kind, phase string) func(done, total int64) error {
	var last time.Time
	return func(done, total int64) error {
		now := s.now()
		if done < total && now.Sub(last) < 50*time.Millisecond {
			return nil
		}
		last = now
		return t.Emit(progress{kind, phase, done, total})
	}
}

// invalid is an error about a parameter.
func invalid(format string, args ...any) error {
	return rpc.Errorf(rpc.CodeInvalidParams, format, args...)
}

func (s *Session) needModel() (*model, error) {
	if s.model == nil {
		return nil, rpc.Errorf("no_model", "no model is open")
	}
	return s.model, nil
}

func (s *Session) needData() (*dataset, error) {
	if s.data == nil {
		return nil, rpc.Errorf("no_data", "no data is open")
	}
	return s.data, nil
}

// fits says in words what does not fit the device.
func (s *Session) fits(what string, need int64) error {
	if have := s.dev.Limit() - s.dev.InUse(); need > have {
		return rpc.Errorf("out_of_memory", "%s needs %s of device memory, %s are free of %s; %s", what, mega(need), mega(have), mega(s.dev.Limit()), "use a smaller batch, fewer queries, a shorter window or fewer layers")
	}
	return nil
}

func mega(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
