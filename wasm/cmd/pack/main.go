// Command pack rewrites modules that Go has linked: pack FILE... (see package wasm/pack).
package main

import (
	"fmt"
	"io"
	"os"

	"tabtune/internal/atomicfile"
	"tabtune/wasm/pack"
)

func main() {
	for _, name := range os.Args[1:] {
		if err := rewrite(name); err != nil {
			fmt.Fprintf(os.Stderr, "pack: %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func rewrite(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if b, err = pack.Module(b); err != nil {
		return err
	}
	return atomicfile.Write(name, func(w io.Writer) error { _, err := w.Write(b); return err })
}
