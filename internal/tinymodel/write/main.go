// Command write writes the small model of package tinymodel to a file, for tests that are not in Go.
package main

import (
	"fmt"
	"os"

	"tabtune/internal/tinymodel"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: write FILE.gguf")
		os.Exit(2)
	}
	b, err := tinymodel.Bytes(tinymodel.Options{EmbedStd: 0.15, Tokenizer: true})
	if err == nil {
		err = os.WriteFile(os.Args[1], b, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
