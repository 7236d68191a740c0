package main

import (
	"bytes"
	"os"
	"testing"
)

// TestTable compares docs/XNNPACK.md with what the programs have.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, "../../testdata"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../docs/XNNPACK.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		t.Error("docs/XNNPACK.md is not what the programs give: go run ./engine/internal/xnntable engine/testdata > docs/XNNPACK.md")
	}
}
