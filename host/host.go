package host

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/wazerohost"
	"tabtune/internal/assets"
)

// Options configures [Open]. The zero value works.
type Options struct {
	// Threads is how many threads the kernels use; 0 means one a processor. Results do not depend on it.
	Threads int
	// MemoryLimit bounds the device memory, in bytes: weights, activations, buffers. 0 means the most that wasm allows, just below 4 GiB.
	MemoryLimit int64
	// CacheDir keeps compiled code between runs. "" means [DefaultCacheDir]; "-" keeps nothing.
	CacheDir string
	// Mounts are the folders that the module may open.
	Mounts []Mount
	// Wasm is the module to run; nil means the embedded one.
	Wasm []byte
	// Stderr receives the module's log. nil means that it is dropped, except that its end is quoted when the module crashes.
	Stderr io.Writer
}

// Error is an error that the module answered with. Code is stable (see package wasm/rpc), Message is for people.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// ErrClosed is returned by every call after [Host.Close].
var ErrClosed = errors.New("host: closed")

// Host is one instance of the module: one model, one data set, one adapter at a time. It may be used from several goroutines; calls
// are carried out one after the other, and the calls of others may come between the pieces of a task.
type Host struct {
	mu      sync.Mutex
	runtime wazero.Runtime
	cache   wazero.CompilationCache
	kernels *wazerohost.Kernels
	module  api.Module
	alloc   api.Function
	free    api.Function
	call    api.Function
	stderr  *logged
	dead    error // set once the module has trapped or the host was closed
}

// DefaultCacheDir is $TABTUNE_CACHE, or "tabtune" in the user's cache folder.
func DefaultCacheDir() (string, error) { return assets.CacheDir() }

// Open compiles the module, or takes its code from the cache, and starts it. Context values reach wazero; cancelling ctx later
// has no effect on the instance, which lives until [Host.Close].
func Open(ctx context.Context, o Options) (_ *Host, err error) {
	if o.Threads < 0 || o.Threads > kernel.MaxThreads {
		return nil, fmt.Errorf("host: threads %d: want 0 to %d", o.Threads, kernel.MaxThreads)
	}
	if o.Threads == 0 {
		o.Threads = min(runtime.NumCPU(), kernel.MaxThreads)
	}
	if o.MemoryLimit < 0 || o.MemoryLimit > kernel.MaxMemory {
		return nil, fmt.Errorf("host: memory limit %d: want 0 to %d bytes", o.MemoryLimit, int64(kernel.MaxMemory))
	}
	if o.MemoryLimit == 0 {
		o.MemoryLimit = kernel.MaxMemory
	}
	if o.Wasm == nil {
		if o.Wasm, err = Module(); err != nil {
			return nil, err
		}
	}
	mounts, err := resolve(o.Mounts)
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	h := &Host{stderr: &logged{w: o.Stderr}}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.release(ctx))
		}
	}()
	config := wazerohost.RuntimeConfig()
	if h.cache, err = openCache(o.CacheDir); err != nil {
		return nil, err
	}
	if h.cache != nil {
		config = config.WithCompilationCache(h.cache)
	}
	h.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if _, err = wasi_snapshot_preview1.Instantiate(ctx, h.runtime); err != nil {
		return nil, fmt.Errorf("host: WASI: %w", err)
	}
	if h.kernels, err = openKernels(ctx, h.runtime, o); err != nil {
		return nil, fmt.Errorf("host: kernels: %w", err)
	}
	compiled, err := h.runtime.CompileModule(ctx, o.Wasm)
	if err != nil {
		return nil, fmt.Errorf("host: tabtune.wasm: %w", err)
	}
	h.module, err = h.runtime.InstantiateModule(withGuestMemory(ctx), compiled, wazero.NewModuleConfig().
		WithName("tabtune").WithArgs("tabtune").WithStartFunctions("_initialize").
		WithFSConfig(fsConfig(mounts)).WithStdout(h.stderr).WithStderr(h.stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithOsyield(runtime.Gosched).WithRandSource(rand.Reader))
	if err != nil {
		return nil, fmt.Errorf("host: tabtune.wasm: %w", h.stderr.explain(err))
	}
	for name, f := range map[string]*api.Function{"tt_alloc": &h.alloc, "tt_free": &h.free, "tt_call": &h.call} {
		if *f = h.module.ExportedFunction(name); *f == nil {
			return nil, fmt.Errorf("host: tabtune.wasm: no export %s", name)
		}
	}
	return h, nil
}

func openCache(dir string) (wazero.CompilationCache, error) {
	if dir == "-" {
		return nil, nil
	}
	if dir == "" {
		var err error
		if dir, err = DefaultCacheDir(); err != nil {
			return nil, nil // no home folder: compile every time
		}
		dir = filepath.Join(dir, "wasm")
		if os.MkdirAll(dir, 0o755) != nil {
			return nil, nil // a read-only home: the same
		}
	}
	c, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("host: compile cache: %w", err)
	}
	return c, nil
}

// Close ends the module and gives its memory back. It may be called twice.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(h.dead, ErrClosed) {
		return nil
	}
	h.dead = ErrClosed
	return h.release(context.Background())
}

func (h *Host) release(ctx context.Context) error {
	var errs []error
	if h.kernels != nil {
		errs = append(errs, h.kernels.Close(ctx)) // its worker threads end first: they run code of the runtime
	}
	if h.runtime != nil {
		errs = append(errs, h.runtime.Close(ctx))
	}
	if h.cache != nil {
		errs = append(errs, h.cache.Close(ctx))
	}
	return errors.Join(errs...)
}

// Call sends one request and stores the result in the value that result points to, unless result is nil. An error that the
// module answered is an [*Error]. A context that has ended is not begun with, but does not interrupt a call.
func (h *Host) Call(ctx context.Context, method string, params, result any) error {
	raw, err := h.send(ctx, method, params)
	if err != nil {
		return err
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return fmt.Errorf("host: %s: result: %w", method, err)
	}
	return nil
}

// Task runs the long method name (without ".start") to its end and returns its value. Each piece's event goes to the function
// event, if not nil. When ctx ends or event returns an error the task is stopped between two pieces, its clean-up done, and that
// error (ctx's cause) returned.
func (h *Host) Task(ctx context.Context, name string, params any, event func(json.RawMessage) error) (json.RawMessage, error) {
	var id struct {
		Task int64 `json:"task"`
	}
	if err := h.Call(ctx, name+".start", params, &id); err != nil {
		return nil, err
	}
	stop := func(cause error) error {
		if err := h.Call(context.WithoutCancel(ctx), "task.stop", id, nil); err != nil {
			return errors.Join(cause, err)
		}
		return cause
	}
	for {
		if ctx.Err() != nil {
			return nil, stop(context.Cause(ctx))
		}
		var piece struct {
			Event json.RawMessage `json:"event"`
			Done  bool            `json:"done"`
			Value json.RawMessage `json:"value"`
		}
		if err := h.Call(context.WithoutCancel(ctx), "task.next", id, &piece); err != nil {
			return nil, err
		}
		if piece.Done {
			return piece.Value, nil
		}
		if event == nil {
			continue
		}
		if err := event(piece.Event); err != nil {
			return nil, stop(err)
		}
	}
}

func (h *Host) send(ctx context.Context, method string, params any) (json.RawMessage, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	request, err := json.Marshal(struct {
		Method string `json:"method"`
		Params any    `json:"params,omitempty"`
	}{method, params})
	if err != nil {
		return nil, fmt.Errorf("host: %s: parameters: %w", method, err)
	}
	response, err := h.exchange(context.WithoutCancel(ctx), request)
	if err != nil {
		return nil, err
	}
	var r struct {
		Result json.RawMessage `json:"result"`
		Error  *Error          `json:"error"`
	}
	if err := json.Unmarshal(response, &r); err != nil {
		return nil, fmt.Errorf("host: %s: response: %w", method, err)
	}
	if r.Error != nil {
		return nil, r.Error
	}
	return r.Result, nil
}

// exchange copies a request into the module, calls it and copies the response out.
func (h *Host) exchange(ctx context.Context, request []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead != nil {
		return nil, h.dead
	}
	h.stderr.reset()
	run := func(f api.Function, args ...uint64) (uint64, error) {
		r, err := f.Call(ctx, args...)
		if err != nil {
			h.dead = fmt.Errorf("host: the module has crashed: %w", h.stderr.explain(err))
			return 0, h.dead
		}
		if len(r) == 0 {
			return 0, nil
		}
		return r[0], nil
	}
	p, err := run(h.alloc, uint64(len(request)))
	if err != nil {
		return nil, err
	}
	if p == 0 || !h.module.Memory().Write(uint32(p), request) {
		return nil, &Error{Code: "parse", Message: fmt.Sprintf("a request of %d bytes is too large for the module", len(request))}
	}
	r, err := run(h.call, p, uint64(len(request)))
	if err != nil {
		return nil, err
	}
	view, ok := h.module.Memory().Read(uint32(r>>32), uint32(r))
	if !ok {
		return nil, fmt.Errorf("host: the response at %#x (%d bytes) lies outside the module's memory", r>>32, uint32(r))
	}
	response := append([]byte(nil), view...)
	if _, err := run(h.free, p); err != nil {
		return nil, err
	}
	return response, nil
}

// logged passes a log on and keeps its start and its end since the call began, to explain a crash.
type logged struct {
	w          io.Writer
	start, end []byte
}

func (l *logged) Write(p []byte) (int, error) {
	const keep = 4096
	l.start = append(l.start, p[:min(len(p), keep-len(l.start))]...)
	l.end = append(l.end, p...)
	if len(l.end) > 2*keep {
		l.end = append(l.end[:0], l.end[len(l.end)-keep:]...)
	}
	if l.w != nil {
		return l.w.Write(p)
	}
	return len(p), nil
}

func (l *logged) reset() { l.start, l.end = l.start[:0], l.end[:0] }

// explain adds the line in which Go's runtime says why it ended, or else the first that was written. The stack below it is in the log.
func (l *logged) explain(err error) error {
	why, _, _ := strings.Cut(strings.TrimSpace(string(l.start)), "\n")
search:
	for _, part := range [][]byte{l.start, l.end} {
		for line := range strings.Lines(string(part)) {
			if strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "panic: ") {
				why = strings.TrimSpace(line)
				break search
			}
		}
	}
	var exit *sys.ExitError
	switch {
	case errors.As(err, &exit) && why != "":
		return fmt.Errorf("exit code %d: %s", exit.ExitCode(), why)
	case why != "":
		return fmt.Errorf("%s: %w", why, err)
	}
	return err
}
