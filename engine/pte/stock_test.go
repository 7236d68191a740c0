package pte

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestStockRuntime runs copies made by Encode and EncodeData on the stock
// ExecuTorch runtime. TABTUNE_PYTHON names a Python with executorch installed.
func TestStockRuntime(t *testing.T) {
	python := os.Getenv("TABTUNE_PYTHON")
	if python == "" {
		t.Skip("TABTUNE_PYTHON does not name a Python with executorch")
	}
	dir := t.TempDir()
	for _, name := range fixtures {
		if err := os.WriteFile(filepath.Join(dir, name+".pte"), encode(t, decode(t, load(t, name+".pte"))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data := encodeData(t, decodeData(t, load(t, "external.ptd")))
	if err := os.WriteFile(filepath.Join(dir, "external.ptd"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "testdata/check.py", "testdata", dir).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
