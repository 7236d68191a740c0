// Command replay rebuilds an adapter from a replay log alone, in the wasm module,
// and writes it as a PEFT folder. The conformance checks compare it bit for bit
// with the adapter that training wrote.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"

	"tabtune/host"
)

func main() {
	log.SetFlags(0)
	model := flag.String("model", "", "the model that the run was made with")
	dtype := flag.String("dtype", "int8", "how to hold its weights")
	path := flag.String("log", "", "the replay log")
	steps := flag.Int("steps", 0, "apply this many steps (0: all)")
	out := flag.String("out", "", "folder for the adapter")
	flag.Parse()
	if err := run(*model, *dtype, *path, *steps, *out); err != nil {
		log.Fatal("replay: ", err)
	}
}

func run(model, dtype, path string, steps int, out string) error {
	ctx := context.Background()
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	for _, p := range []*string{&model, &path, &out} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	h, err := host.Open(ctx, host.Options{Mounts: []host.Mount{host.File(model), host.File(path), host.Dir(out)}})
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := h.OpenModel(ctx, host.ModelParams{Path: model, DType: dtype}, nil); err != nil {
		return err
	}
	if _, err := h.Task(ctx, "adapter.replay", map[string]any{"path": path, "steps": steps}, nil); err != nil {
		return err
	}
	return h.ExportAdapter(ctx, filepath.Join(out, "adapter"))
}
