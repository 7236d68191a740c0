// Command runcases runs many small programs in one process: for each folder that is named on standard input, program.pte on
// inputs.safetensors, in the module under wazero. It prints one JSON object a folder, {"case": ..., "error": ...}; results go to
// out/0.safetensors in the folder.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"tabtune/host"
)

func main() {
	log.SetFlags(0)
	root := flag.String("root", "", "folder that the cases are in")
	threads := flag.Int("threads", 1, "threads of the kernels")
	flag.Parse()
	if err := run(context.Background(), *root, *threads); err != nil {
		log.Fatal("runcases: ", err)
	}
}

func run(ctx context.Context, root string, threads int) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	open := func() (*host.Host, error) {
		return host.Open(ctx, host.Options{Threads: threads, Mounts: []host.Mount{host.Dir(root)}})
	}
	h, err := open()
	if err != nil {
		return err
	}
	defer func() { h.Close() }()
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		dir := filepath.Join(root, lines.Text())
		if err := os.MkdirAll(filepath.Join(dir, "out"), 0o777); err != nil {
			return err
		}
		result := map[string]string{"case": lines.Text()}
		_, err := h.Task(ctx, "run", map[string]any{"program": filepath.Join(dir, "program.pte"), "method": "forward",
			"inputs": []string{filepath.Join(dir, "inputs.safetensors")}, "outputs": filepath.Join(dir, "out")}, nil)
		if err != nil {
			result["error"] = err.Error()
			// A trap ends the instance: the next case gets a new one.
			if closeErr := h.Call(ctx, "hello", nil, nil); closeErr != nil {
				h.Close()
				if h, err = open(); err != nil {
					return fmt.Errorf("after %s: %w", lines.Text(), err)
				}
			}
		}
		if err := out.Encode(result); err != nil {
			return err
		}
	}
	return lines.Err()
}
