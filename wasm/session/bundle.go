package session

import (
	"context"

	"tabtune/engine"
	"tabtune/engine/pte"
	"tabtune/wasm/rpc"
)

type bundleParams struct {
	Program string  `json:"program"` // a .bpte file
	Data    string  `json:"data"`
	Rtol    float64 `json:"rtol"`
	Atol    float64 `json:"atol"`
}

type bundleCheck struct {
	Method string `json:"method"`
	Case   int    `json:"case"`
	Error  string `json:"error,omitempty"`
}

// runBundle runs the test cases that a bundled program carries.
func (s *Session) runBundle(t *rpc.Task, p bundleParams) (map[string]any, error) {
	if !(p.Rtol >= 0 && p.Atol >= 0) {
		return nil, invalid("rtol %v, atol %v: want 0 or more", p.Rtol, p.Atol)
	}
	src, err := openSource(p.Program)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	bundle, err := pte.DecodeBundle(src, p.Program)
	if err != nil {
		return nil, err
	}
	file, err := pte.Decode(bundle.Program, p.Program)
	if err != nil {
		return nil, err
	}
	var opt engine.Options
	if p.Data != "" {
		d, err := openSource(p.Data)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		data, err := pte.DecodeData(d, p.Data)
		if err != nil {
			return nil, err
		}
		opt.Data = append(opt.Data, ptd{data})
	}
	prog, err := engine.Load(s.dev, file, opt)
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	checks, failed := []bundleCheck{}, 0
	for i := range bundle.Suites {
		done, err := prog.RunChecks(context.Background(), bundle.Suites[i:i+1], p.Rtol, p.Atol)
		if err != nil {
			return nil, err
		}
		for _, c := range done {
			b := bundleCheck{Method: c.Method, Case: c.Case}
			if c.Err != nil {
				b.Error = c.Err.Error()
				failed++
			}
			checks = append(checks, b)
		}
		if err := t.Emit(progress{"progress", "check", int64(i + 1), int64(len(bundle.Suites))}); err != nil {
			return nil, err
		}
	}
	return map[string]any{"checks": checks, "failed": failed}, nil
}
