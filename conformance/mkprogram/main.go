// Command mkprogram writes what the conformance checks run on the stock
// ExecuTorch: a small GGUF of every architecture with random weights, and the
// programs that package lora builds for them.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"tabtune/engine/pte"
	"tabtune/internal/tinymodel"
	"tabtune/lora"
	"tabtune/lora/gguf"
)

func main() {
	log.SetFlags(0)
	out := flag.String("out", "", "folder to write to")
	flag.Parse()
	if err := run(*out); err != nil {
		log.Fatal("mkprogram: ", err)
	}
}

func run(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := llama(dir); err != nil {
		return err
	}
	for _, arch := range []string{lora.Qwen2, lora.Gemma3} {
		ckpt, closer, err := model(filepath.Join(dir, arch+".gguf"), arch)
		if err != nil {
			return err
		}
		defer closer.Close()
		if err := writeFile(filepath.Join(dir, arch+"-f32.ptd"), func(w io.Writer) error { return ckpt.WriteData(context.Background(), w, lora.F32) }); err != nil {
			return err
		}
		if err := program(filepath.Join(dir, arch+"-f32.pte"), ckpt, lora.F32, lora.Spec{Modules: lora.AllModules, Top: 2, Queries: 2, Decode: true}); err != nil {
			return err
		}
	}
	return nil
}

// model writes a random model and opens it.
func model(name, arch string) (*lora.Checkpoint, io.Closer, error) {
	if err := writeFile(name, func(w io.Writer) error {
		return tinymodel.Write(w, tinymodel.Options{EmbedStd: 0.15, Arch: arch}) // losses near log(96), as an untrained model has
	}); err != nil {
		return nil, nil, err
	}
	f, closer, err := gguf.Open(name)
	if err != nil {
		return nil, nil, err
	}
	ckpt, err := lora.NewCheckpoint(f)
	if err != nil {
		closer.Close()
		return nil, nil, err
	}
	return ckpt, closer, nil
}

// program writes the program that s asks of the model.
func program(name string, ckpt *lora.Checkpoint, dt lora.DType, s lora.Spec) error {
	s.Model, s.DType, s.Rank, s.Alpha, s.Seed, s.Window = ckpt.Config, dt, 4, 8, 5, 24
	s.Rows, s.Scored = 2*s.Replicas(), 4*s.Replicas()
	p, err := lora.Build(s)
	if err != nil {
		return err
	}
	return writeFile(name, func(w io.Writer) error {
		segs, err := p.SegmentWriters()
		if err != nil {
			return err
		}
		return pte.Encode(w, p, segs)
	})
}

func llama(dir string) error {
	ckpt, closer, err := model(filepath.Join(dir, "tiny.gguf"), lora.Llama)
	if err != nil {
		return err
	}
	defer closer.Close()
	for _, dt := range []lora.DType{lora.F32, lora.Int8, lora.Q4} {
		if err := writeFile(filepath.Join(dir, string(dt)+".ptd"), func(w io.Writer) error {
			return ckpt.WriteData(context.Background(), w, dt)
		}); err != nil {
			return err
		}
		for name, s := range map[string]lora.Spec{
			"two":    {Modules: []string{"q", "v"}, Top: 1, Queries: 2, Decode: true},
			"all":    {Modules: lora.AllModules, Top: 2, Queries: 3, Sides: lora.OneSided},
			"labels": {Modules: []string{"q", "v", "down"}, Top: 2, Queries: 2, Labels: []int32{7, 50, 11}},
			"signs":  {Modules: []string{"q", "v"}, Top: 1, Queries: 2, Sides: lora.OneSided, Noise: lora.Rademacher},
			"single": {Modules: []string{"q", "v"}, Top: 1, Queries: 1, Sides: lora.Single}, // of the subspace of "two"
		} {
			if err := program(filepath.Join(dir, fmt.Sprintf("%s-%s.pte", name, dt)), ckpt, dt, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := write(w); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
