// Command mkprogram writes what the conformance checks run on the stock
// ExecuTorch: a small llama-architecture GGUF with random weights, and the
// programs that package lora builds for it.
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
	model := filepath.Join(dir, "tiny.gguf")
	if err := writeFile(model, func(w io.Writer) error {
		return tinymodel.Write(w, tinymodel.Options{EmbedStd: 0.15}) // losses near log(96), as an untrained model has
	}); err != nil {
		return err
	}
	f, closer, err := gguf.Open(model)
	if err != nil {
		return err
	}
	defer closer.Close()
	ckpt, err := lora.NewCheckpoint(f)
	if err != nil {
		return err
	}
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
			s.Model, s.DType, s.Rank, s.Alpha, s.Seed, s.Window = ckpt.Config, dt, 4, 8, 5, 24
			s.Rows, s.Scored = 2*s.Replicas(), 4*s.Replicas()
			p, err := lora.Build(s)
			if err != nil {
				return err
			}
			if err := writeFile(filepath.Join(dir, fmt.Sprintf("%s-%s.pte", name, dt)), func(w io.Writer) error {
				segs, err := p.SegmentWriters()
				if err != nil {
					return err
				}
				return pte.Encode(w, p, segs)
			}); err != nil {
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
