// Command write makes the study's data sets: DIR/NAME-train.jsonl and
// DIR/NAME-val.jsonl for every set of package studydata.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tabtune/internal/atomicfile"
	"tabtune/internal/studydata"
)

func main() {
	out := flag.String("out", "", "the `folder` for the files")
	seed := flag.Uint64("seed", 1, "seed of what is drawn")
	flag.Parse()
	if err := run(*out, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "studydata:", err)
		os.Exit(1)
	}
}

func run(dir string, seed uint64) error {
	if dir == "" {
		return fmt.Errorf("--out is required")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, s := range studydata.Sets {
		var train, val bytes.Buffer
		if err := s.Write(&train, &val, seed); err != nil {
			return err
		}
		for part, b := range map[string]*bytes.Buffer{"train": &train, "val": &val} {
			path := filepath.Join(dir, s.Name+"-"+part+".jsonl")
			if err := atomicfile.Write(path, func(w io.Writer) error { _, err := b.WriteTo(w); return err }); err != nil {
				return err
			}
		}
		fmt.Println(s.Name, s.Kind, s.Metric)
	}
	return nil
}
