package session

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/lora/safetensors"
)

const fixtures = "../../engine/testdata"

// fixtureCall is one call that the stock runtime made, as engine/testdata/fixtures.py records it.
type fixtureCall struct {
	Method          string
	Inputs, Outputs []struct {
		DType string
		Sizes []int64
		Data  []byte
	}
}

func fixtureCalls(t *testing.T, name string) (calls []fixtureCall) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(fixtures, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &calls); err != nil {
		t.Fatal(err)
	}
	return calls
}

// TestRunProfile runs a stock program with a profile and a trace.
func TestRunProfile(t *testing.T) {
	c := limited(t, 0)
	dir := t.TempDir()
	call := fixtureCalls(t, "linear")[0]
	in := filepath.Join(dir, "in.safetensors")
	f, err := os.Create(in)
	if err != nil {
		t.Fatal(err)
	}
	x := call.Inputs[0]
	if err := safetensors.Write(f, []safetensors.Out{safetensors.Raw("0", "F32", x.Sizes, x.Data)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(dir, "trace.json")
	p := params{"program": filepath.Join(fixtures, "linear.pte"), "method": call.Method, "inputs": []string{in, in}, "outputs": dir, "profile": true, "trace": trace}
	var r struct {
		Calls   int
		Profile []struct {
			Operator      string
			Calls         int
			Seconds       float64
			Read, Written int64
		}
	}
	c.getTask("run", p, &r)
	if r.Calls != 2 || len(r.Profile) == 0 {
		t.Fatalf("%+v", r)
	}
	for _, row := range r.Profile {
		if row.Operator == "" || row.Calls%2 != 0 || row.Seconds < 0 {
			t.Errorf("row %+v", row)
		}
	}
	if text := read(t, trace); !json.Valid([]byte(text)) || strings.Count(text, `"ph":"X"`) < 2 {
		t.Errorf("trace:\n%s", text)
	}
	p["trace"] = filepath.Join(dir, "none", "trace.json")
	c.fails("run", p, "not_found", "trace")
	delete(p, "trace")
	delete(p, "profile")
	if raw := c.must("run", p); strings.Contains(string(raw), "profile") {
		t.Errorf("a profile that nobody asked for: %s", raw)
	}
}
