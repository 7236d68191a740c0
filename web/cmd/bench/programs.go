package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

//go:embed program.py
var programPeer []byte

// programInput is an input of a program, as program.py and pages/program-worker.js read it.
type programInput struct {
	Type   string  `json:"type"`
	Sizes  []int   `json:"sizes"`
	Values []int64 `json:"values,omitempty"`
}

// A program is one that conformance/cached.py exports.
type program struct {
	name   string
	args   []string // of cached.py
	inputs []programInput
	runs   float64 // what one call counts
	unit   string
}

var programAims = map[string]aim{"_portable_": {2, false}, "_xnnpack_f32_": {0.6, false}}

// programList is every program that is compared.
func programList() (list []program) {
	image := []programInput{{Type: "f32", Sizes: []int{1, 3, 224, 224}}}
	for _, model := range []string{"mobilenet_v2", "mobilenet_v3_small", "resnet18", "vit_b_16"} {
		for _, flow := range []string{"portable", "xnnpack_f32", "xnnpack_int8"} {
			list = append(list, program{model + "_" + flow, []string{"vision", model, flow}, image, 1, "images/s"})
		}
	}
	ids := make([]int64, 64)
	for i := range ids {
		ids[i] = int64(100 + 37*i)
	}
	for _, flow := range []string{"f32", "8da4w"} {
		args := []string{"llm", flow, "sdpa_with_kv_cache", "30"}
		prompt := []programInput{{Type: "i64", Sizes: []int{1, 64}, Values: ids}, {Type: "i64", Sizes: []int{1}, Values: []int64{0}}}
		token := []programInput{{Type: "i64", Sizes: []int{1, 1}, Values: ids[:1]}, {Type: "i64", Sizes: []int{1}, Values: []int64{64}}}
		list = append(list, program{"smollm2_" + flow + "_prompt", args, prompt, 64, "tokens/s"}, program{"smollm2_" + flow + "_token", args, token, 1, "tokens/s"})
	}
	return list
}

// programs compares programs of the stock exporter in Chromium with the stock runtime, natively, at one thread and at two.
func programs(ctx context.Context, b *bench) error {
	out, err := command(ctx, ".", "conformance/env.sh")
	if err != nil {
		return err
	}
	python := filepath.Join(strings.TrimSpace(out), "bin", "python")
	script := filepath.Join(b.peers, "src", "program.py")
	if err := os.WriteFile(script, programPeer, 0o644); err != nil {
		return err
	}
	links := filepath.Join(b.peers, "programs")
	if err := os.MkdirAll(links, 0o755); err != nil {
		return err
	}
	for _, p := range programList() {
		if !strings.Contains(p.name, b.match) {
			continue
		}
		out, err := command(ctx, "conformance", python, append([]string{"cached.py"}, p.args...)...)
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		link := filepath.Join(links, p.name)
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink(lines[len(lines)-1], link); err != nil {
			return err
		}
		for n := 1; n <= min(2, runtime.NumCPU()); n++ {
			if err := b.program(ctx, p, n, python, script, filepath.Join(link, "program.pte")); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

func (b *bench) program(ctx context.Context, p program, threads int, python, script, path string) error {
	inputs, err := json.Marshal(p.inputs)
	if err != nil {
		return err
	}
	var is struct{ Threads int }
	t, end, err := b.openTab(ctx, "program", map[string]any{"threads": threads, "url": "/peers/programs/" + p.name + "/program.pte", "inputs": p.inputs}, &is)
	if err != nil {
		return err
	}
	defer end()
	if is.Threads != threads {
		return fmt.Errorf("engine.js runs on %d threads, not on %d", is.Threads, threads)
	}
	peer, endPeer, err := startNative(exec.CommandContext(ctx, python, script, strconv.Itoa(threads), path, string(inputs)))
	if err != nil {
		return err
	}
	defer endPeer()
	const own, theirs = "engine.js", "ExecuTorch, native"
	r, err := b.contest(ctx, contestant{own, func(context.Context) (float64, error) {
		var r struct{ MS []float64 }
		err := t.call("turn", map[string]any{"seconds": b.seconds}, &r)
		return perSecond(p.runs, r.MS), err
	}}, contestant{theirs, func(context.Context) (float64, error) {
		ms, err := peer.turn(b.seconds)
		return perSecond(p.runs, ms), err
	}})
	if err != nil {
		return err
	}
	if b.profile {
		var r struct{ Table string }
		if err := t.call("profile", map[string]any{}, &r); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, r.Table)
	}
	r.add(b.report, fmt.Sprintf("program_%s_t%d", p.name, threads), own, theirs, p.unit, cmd("programs"))
	return nil
}
