package main

import (
	"context"
	"encoding/json"
	"fmt"

	"tabtune/host"
)

type bundleParams struct {
	Program string  `json:"program"`
	Data    string  `json:"data,omitempty"`
	Rtol    float64 `json:"rtol"`
	Atol    float64 `json:"atol"`
}

// runBundled runs the test cases of a bundled program, prints a line for each, and fails if one of them does.
func runBundled(ctx context.Context, a *app, f *flags, m *modelFlags, p bundleParams) error {
	var mounts []host.Mount
	var err error
	if p.Program, err = inputFile("program", p.Program); err != nil {
		return err
	}
	mounts = append(mounts, host.File(p.Program))
	if p.Data != "" {
		if p.Data, err = inputFile("--data", p.Data); err != nil {
			return err
		}
		mounts = append(mounts, host.File(p.Data))
	}
	o, err := m.options(a, mounts...)
	if err != nil {
		return err
	}
	e, err := a.open(ctx, o)
	if err != nil {
		return err
	}
	defer e.Close()
	type result struct {
		Checks []struct {
			Method string `json:"method"`
			Case   int    `json:"case"`
			Error  string `json:"error"`
		} `json:"checks"`
		Failed int `json:"failed"`
	}
	r, raw, err := runTask[result](ctx, e, "run.bundle", p, func(host.Progress) error { return nil })
	if err != nil {
		return err
	}
	if f.json {
		if err := a.printJSON(json.RawMessage(raw)); err != nil {
			return err
		}
	} else {
		for _, c := range r.Checks {
			state := "ok"
			if c.Error != "" {
				state = "failed: " + c.Error
			}
			if _, err := fmt.Fprintf(a.out, "%s %d: %s\n", c.Method, c.Case, state); err != nil {
				return err
			}
		}
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d test cases failed", r.Failed, len(r.Checks))
	}
	return nil
}
