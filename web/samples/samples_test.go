package main

import (
	"bytes"
	"os"
	"testing"
)

// TestFiles checks that the files are what the program writes: about 200 different rows each.
func TestFiles(t *testing.T) {
	for name, want := range files() {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what go run ./web/samples writes", name)
		}
		lines := map[string]bool{}
		for line := range bytes.Lines(got) {
			lines[string(line)] = true
		}
		if len(lines) < rows || len(lines) > rows+1 || len(got) > 100_000 {
			t.Errorf("%s: %d different rows, %d bytes", name, len(lines), len(got))
		}
	}
}
