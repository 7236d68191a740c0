package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Server is what computed an operator.
type Server uint8

// What computes operators.
const (
	ByGo     Server = iota // the reference in Go
	ByKernel               // a kernel of kernels.wasm
	ByView                 // nothing: the output shares the input's memory
)

func (s Server) String() string { return [...]string{"go", "kernel", "view"}[s] }

// Step is one operator of a method that has run.
type Step struct {
	Method  string
	Node    *Node
	Began   time.Time
	Took    time.Duration
	Read    int64 // bytes of the tensors that the operator takes, once for each time it is given one
	Written int64 // bytes of the tensors that it writes
	By      Server
}

// Observe has f called after every operator of the program's methods, from now on; nil ends that. What f does is not counted in any
// step's time. Without an observer the cost is one comparison an operator.
func (p *Program) Observe(f func(Step)) { p.observe = f }

// run runs one operator and tells the observer of it.
func (m *Method) run(n *Node) error {
	if m.p.observe == nil {
		return m.call.run(n)
	}
	began := time.Now()
	if err := m.call.run(n); err != nil {
		return err
	}
	s := Step{Method: m.g.Name, Node: n, Began: began, Took: time.Since(began), By: m.call.by}
	if s.By != ByView {
		s.Read, s.Written = m.traffic(n)
	}
	m.p.observe(s)
	return nil
}

// traffic is the size of the tensors that a node reads and writes, as they are after it has run.
func (m *Method) traffic(n *Node) (read, written int64) {
	size := func(a int) (b int64) {
		if a < 0 {
			return 0
		}
		switch s := &m.slots[a]; s.kind {
		case KindTensor:
			b = s.t.bytes()
		case KindTensorList:
			for _, e := range m.g.Values[a].List {
				if e >= 0 && m.slots[e].t != nil {
					b += m.slots[e].t.bytes()
				}
			}
		}
		return b
	}
	for i, a := range n.Args {
		if i >= len(n.op.schema.Args) {
			break
		}
		arg := &n.op.schema.Args[i]
		if !arg.Out {
			read += size(a)
		}
		if arg.Writes {
			written += size(a)
		}
	}
	return read, written
}

// maxSpans bounds the steps that a Profile keeps one by one, for the trace; the sums go on.
const maxSpans = 1 << 18

// Profile adds up steps by operator and keeps them one by one for a trace. Its Add is an observer.
type Profile struct {
	rows  map[profileKey]*ProfileRow
	spans []span
	first time.Time
	// Dropped is how many steps were too many for the trace.
	Dropped int
}

type profileKey struct {
	method, op string
	by         Server
}

type span struct {
	op            *profileKey
	index         int
	began, took   time.Duration
	read, written int64
}

// ProfileRow is the sum over the calls of one operator in one method.
type ProfileRow struct {
	Method   string  `json:"method"`
	Operator string  `json:"operator"`
	By       string  `json:"by"` // kernel, go or view
	Calls    int     `json:"calls"`
	Seconds  float64 `json:"seconds"`
	Share    float64 `json:"share"` // of the seconds of all rows
	Read     int64   `json:"read"`  // bytes
	Written  int64   `json:"written"`
}

// NewProfile returns an empty profile.
func NewProfile() *Profile { return &Profile{rows: map[profileKey]*ProfileRow{}} }

// Add counts a step.
func (p *Profile) Add(s Step) {
	key := profileKey{s.Method, s.Node.Op, s.By}
	r := p.rows[key]
	if r == nil {
		r = &ProfileRow{Method: s.Method, Operator: s.Node.Op, By: s.By.String()}
		p.rows[key] = r
	}
	r.Calls++
	r.Seconds += s.Took.Seconds()
	r.Read += s.Read
	r.Written += s.Written
	if p.first.IsZero() {
		p.first = s.Began
	}
	if len(p.spans) >= maxSpans {
		p.Dropped++
		return
	}
	p.spans = append(p.spans, span{&key, s.Node.Index, s.Began.Sub(p.first), s.Took, s.Read, s.Written})
}

// Rows returns the sums, the longest time first.
func (p *Profile) Rows() []ProfileRow {
	rows := make([]ProfileRow, 0, len(p.rows))
	var all float64
	for _, r := range p.rows {
		rows = append(rows, *r)
		all += r.Seconds
	}
	for i := range rows {
		if all > 0 {
			rows[i].Share = rows[i].Seconds / all
		}
	}
	slices.SortFunc(rows, func(a, b ProfileRow) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), strings.Compare(a.Method, b.Method), strings.Compare(a.Operator, b.Operator), strings.Compare(a.By, b.By))
	})
	return rows
}

// WriteTrace writes the steps as a JSON object of Chrome's Trace Event Format: complete events ("ph":"X") with times in
// microseconds, one process, the methods as its threads. chrome://tracing and Perfetto open it.
func (p *Profile) WriteTrace(w io.Writer) error {
	type event struct {
		Name     string         `json:"name"`
		Category string         `json:"cat,omitempty"`
		Phase    string         `json:"ph"`
		Start    float64        `json:"ts"`
		Duration *float64       `json:"dur,omitempty"`
		Process  int            `json:"pid"`
		Thread   int            `json:"tid"`
		Args     map[string]any `json:"args"`
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	put := func(v event, before string) error {
		if _, err := io.WriteString(w, before); err != nil {
			return err
		}
		return e.Encode(v)
	}
	if _, err := io.WriteString(w, `{"displayTimeUnit":"ms","traceEvents":[`+"\n"); err != nil {
		return err
	}
	if err := put(event{Name: "process_name", Phase: "M", Process: 1, Args: map[string]any{"name": "ExecuTorch program"}}, ""); err != nil {
		return err
	}
	threads := map[string]int{}
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	for _, s := range p.spans {
		tid, ok := threads[s.op.method]
		if !ok {
			tid = len(threads) + 1
			threads[s.op.method] = tid
			if err := put(event{Name: "thread_name", Phase: "M", Process: 1, Thread: tid, Args: map[string]any{"name": s.op.method}}, ","); err != nil {
				return err
			}
		}
		took := us(s.took)
		args := map[string]any{"read": s.read, "written": s.written, "instruction": s.index}
		if err := put(event{s.op.op, s.op.by.String(), "X", us(s.began), &took, 1, tid, args}, ","); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "],\"otherData\":{\"dropped\":%d}}\n", p.Dropped)
	return err
}
