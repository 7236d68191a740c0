package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"testing"
	"time"
)

// TestObserve watches x @ w + b of the stock exporter's linear program, run as the file lists it.
func TestObserve(t *testing.T) {
	p := loadFixture(t, "linear", Options{NoPasses: true})
	m, err := p.Method("forward")
	if err != nil {
		t.Fatal(err)
	}
	in := m.Inputs()[0]
	n := numel(in.Sizes)
	run := func() {
		t.Helper()
		if err := m.SetInput(0, Float32s(make([]float32, n), in.Sizes...)); err != nil {
			t.Fatal(err)
		}
		if err := m.Execute(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	profile := NewProfile()
	var steps []Step
	p.Observe(func(s Step) { steps = append(steps, s); profile.Add(s) })
	run()
	run()
	if len(steps) != 2*len(m.g.Nodes) {
		t.Fatalf("%d steps, want two runs of %d nodes", len(steps), len(m.g.Nodes))
	}
	for i, s := range steps {
		node := m.g.Nodes[i%len(m.g.Nodes)]
		if s.Node != node || s.Method != "forward" || s.Took < 0 {
			t.Errorf("step %d is %+v, want node %s", i, s, node.Op)
		}
		if i > 0 && s.Began.Before(steps[i-1].Began.Add(steps[i-1].Took)) {
			t.Errorf("step %d began before the last ended", i)
		}
		var read, written int64
		if s.By != ByView {
			for k, a := range node.Args {
				if k < len(node.op.schema.Args) && m.slots[a].kind == KindTensor {
					if node.op.schema.Args[k].Out {
						written += m.slots[a].t.bytes()
					} else {
						read += m.slots[a].t.bytes()
					}
				}
			}
			if written == 0 {
				t.Errorf("%s wrote nothing", node.Op)
			}
		}
		if s.Read != read || s.Written != written {
			t.Errorf("%s read %d and wrote %d bytes, want %d and %d", node.Op, s.Read, s.Written, read, written)
		}
	}
	calls, share, seconds := 0, 0.0, math.Inf(1)
	for _, r := range profile.Rows() {
		calls, share = calls+r.Calls, share+r.Share
		if r.Seconds > seconds {
			t.Errorf("%s is behind a shorter time", r.Operator)
		}
		seconds = r.Seconds
	}
	if calls != len(steps) || math.Abs(share-1) > 1e-9 {
		t.Errorf("rows have %d calls and shares of %g together, want %d and 1", calls, share, len(steps))
	}

	var b bytes.Buffer
	if err := profile.WriteTrace(&b); err != nil {
		t.Fatal(err)
	}
	var trace struct {
		TraceEvents []struct {
			Name, Ph string
			Ts, Dur  float64
			Pid, Tid int
			Args     map[string]any
		}
	}
	if err := json.Unmarshal(b.Bytes(), &trace); err != nil {
		t.Fatalf("%v\n%s", err, b.Bytes())
	}
	at := 0
	for _, e := range trace.TraceEvents {
		if e.Ph != "X" {
			continue
		}
		s := steps[at]
		if want := s.Began.Sub(steps[0].Began).Seconds() * 1e6; e.Name != s.Node.Op || math.Abs(e.Ts-want) > 1e-3 || math.Abs(e.Dur-s.Took.Seconds()*1e6) > 1e-3 || e.Args["read"] != float64(s.Read) {
			t.Errorf("event %d is %+v, want %+v", at, e, s)
		}
		at++
	}
	if at != len(steps) {
		t.Errorf("%d events, want %d", at, len(steps))
	}

	p.Observe(nil)
	run()
	if len(steps) != 2*len(m.g.Nodes) {
		t.Errorf("observed after Observe(nil)")
	}
}

// TestProfileBound adds more steps than a trace keeps: the sums go on.
func TestProfileBound(t *testing.T) {
	p := NewProfile()
	n := &Node{Op: "aten::add.out"}
	for i := range maxSpans + 5 {
		p.Add(Step{Method: "forward", Node: n, Began: time.Unix(int64(i), 0), Took: time.Second, Read: 1})
	}
	if r := p.Rows(); len(r) != 1 || r[0].Calls != maxSpans+5 || r[0].Read != maxSpans+5 || p.Dropped != 5 || len(p.spans) != maxSpans {
		t.Errorf("%+v, %d dropped, %d kept", r, p.Dropped, len(p.spans))
	}
}
