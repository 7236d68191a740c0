package drive

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/chromedp/cdproto/tracing"
	"github.com/chromedp/chromedp"
)

// Task is one task of the page's main thread: how long it took, and how long of that it had a processor. On a machine that is busy with other
// things only the second says what the page is to blame for.
type Task struct{ Wall, CPU time.Duration }

// Trace records the tasks of the page's main thread while f runs, longest processor time first.
func (b *Browser) Trace(f func() error) ([]Task, error) {
	var mu sync.Mutex
	var raw []json.RawMessage
	complete := make(chan struct{})
	var once sync.Once
	listening, stop := context.WithCancel(b.ctx)
	defer stop()
	chromedp.ListenTarget(listening, func(event any) {
		switch e := event.(type) {
		case *tracing.EventDataCollected:
			mu.Lock()
			for _, v := range e.Value {
				raw = append(raw, json.RawMessage(v))
			}
			mu.Unlock()
		case *tracing.EventTracingComplete:
			once.Do(func() { close(complete) })
		}
	})
	config := &tracing.TraceConfig{IncludedCategories: []string{"toplevel", "__metadata"}}
	if err := b.Run(tracing.Start().WithTransferMode(tracing.TransferModeReportEvents).WithTraceConfig(config)); err != nil {
		return nil, err
	}
	failed := f()
	if err := errors.Join(failed, b.Run(chromedp.ActionFunc(func(ctx context.Context) error { return tracing.End().Do(ctx) }))); err != nil {
		return nil, err
	}
	select {
	case <-complete:
	case <-b.ctx.Done():
		return nil, b.ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	return mainTasks(raw)
}

// mainTasks picks the top-level tasks of renderers' main threads out of trace events.
func mainTasks(raw []json.RawMessage) ([]Task, error) {
	type thread struct{ PID, TID int }
	type event struct {
		thread
		Name string
		Ph   string
		Dur  int64 // microseconds
		TDur int64
		Args struct{ Name string }
	}
	main := map[thread]bool{}
	events := make([]event, 0, len(raw))
	for _, r := range raw {
		var e event
		if err := json.Unmarshal(r, &e); err != nil {
			continue // an event with other arguments than those of interest
		}
		if e.Name == "thread_name" && e.Args.Name == "CrRendererMain" {
			main[e.thread] = true
		}
		events = append(events, e)
	}
	var tasks []Task
	for _, e := range events {
		if e.Ph == "X" && main[e.thread] && (e.Name == "RunTask" || e.Name == "ThreadControllerImpl::RunTask") {
			tasks = append(tasks, Task{time.Duration(e.Dur) * time.Microsecond, time.Duration(e.TDur) * time.Microsecond})
		}
	}
	if len(tasks) == 0 {
		return nil, errors.New("the trace has no tasks of the page's main thread")
	}
	slices.SortFunc(tasks, func(a, b Task) int { return int(b.CPU - a.CPU) })
	return tasks, nil
}
