package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tabtune/host"
)

// exportFormats with the ending of the file that each makes; a PEFT adapter is a folder.
var exportFormats = map[string]string{"peft": "", "gguf-adapter": ".gguf", "gguf-q8_0": ".gguf", "gguf-f16": ".gguf", "card": ".md"}

func exportCommand(ctx context.Context, a *app, args []string) error {
	f := a.flags("export")
	m := f.modelFlags()
	adapter := f.String("adapter", "", "a run's `folder`, a PEFT folder or a GGUF adapter")
	format := f.String("format", "", "`peft|gguf-adapter|gguf-q8_0|gguf-f16|card`: an adapter folder for PEFT, an adapter for llama.cpp, the model with the adapter merged in, a run's model card")
	out := f.String("out", "", "the `file` to write, for peft a folder")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	ext, ok := exportFormats[*format]
	switch {
	case !ok:
		return usagef("--format %q: want peft, gguf-adapter, gguf-q8_0, gguf-f16 or card", *format)
	case *adapter == "":
		return usagef("--adapter is required")
	case *out == "":
		return usagef("--out is required")
	case ext != "" && !strings.EqualFold(filepath.Ext(*out), ext):
		return usagef("--out %s: want a name that ends in %s", *out, ext)
	}
	path, err := filepath.Abs(*out)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if ext == "" {
		dir = path
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	p := map[string]string{"format": *format, "path": path}
	if *format == "card" {
		if p["run"], err = filepath.Abs(*adapter); err != nil {
			return err
		}
		o, err := m.options(a, host.Mount{Path: p["run"]}, host.Dir(dir))
		if err != nil {
			return err
		}
		e, err := a.open(ctx, o)
		if err != nil {
			return err
		}
		defer e.Close()
		return a.export(ctx, e, f.json, p)
	}
	s, err := newSession(a, m, nil, 0)
	if err != nil {
		return err
	}
	from, err := s.useAdapter(*adapter)
	if err != nil {
		return err
	}
	s.mounts = append(s.mounts, host.Dir(dir))
	if err := s.startWith(ctx, from); err != nil {
		return err
	}
	defer s.close()
	return a.export(ctx, s.engine, f.json, p)
}

func (a *app) export(ctx context.Context, e engine, asJSON bool, p map[string]string) error {
	type result struct {
		Path  string `json:"path"`
		Bytes int64  `json:"bytes"`
	}
	r, raw, err := runTask[result](ctx, e, "export", p, func(host.Progress) error { return nil })
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(raw)
	}
	_, err = fmt.Fprintf(a.out, "%s (%d bytes)\n", r.Path, r.Bytes)
	return err
}
