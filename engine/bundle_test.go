package engine

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"tabtune/engine/pte"
)

// TestBundle runs the test cases of a bundled program of the stock exporter, then with an expected output changed.
func TestBundle(t *testing.T) {
	b, err := os.ReadFile("testdata/linear.bpte")
	if err != nil {
		t.Fatal(err)
	}
	if is, err := pte.IsBundle(bytes.NewReader(b)); err != nil || !is {
		t.Fatalf("is a bundle: %v, %v", is, err)
	}
	check := func(change func(c *pte.TestCase)) []Check {
		t.Helper()
		bundle, err := pte.DecodeBundle(bytes.NewReader(b), "linear")
		if err != nil {
			t.Fatal(err)
		}
		change(&bundle.Suites[0].Cases[1])
		file, err := pte.Decode(bundle.Program, "linear")
		if err != nil {
			t.Fatal(err)
		}
		p, err := Load(device(t), file, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		checks, err := p.RunChecks(context.Background(), bundle.Suites, 1e-3, 1e-5)
		if err != nil || len(checks) != 3 {
			t.Fatalf("%d checks, %v", len(checks), err)
		}
		return checks
	}
	for _, c := range check(func(*pte.TestCase) {}) {
		if c.Err != nil {
			t.Errorf("case %d: %v", c.Case, c.Err)
		}
	}
	for want, change := range map[string]func(c *pte.TestCase){
		"differ":      func(c *pte.TestCase) { c.Expected[0].Tensor.Data[3] ^= 0x40 },
		"expected":    func(c *pte.TestCase) { c.Expected[0].Tensor.Sizes = []int32{7} },
		"1 inputs":    func(c *pte.TestCase) { c.Expected = nil },
		"input 0 is ": func(c *pte.TestCase) { x := int64(1); c.Inputs[0] = pte.TestValue{Int: &x} },
	} {
		checks := check(change)
		if checks[0].Err != nil || checks[2].Err != nil || checks[1].Err == nil || !strings.Contains(checks[1].Err.Error(), want) {
			t.Errorf("%q: %v, %v, %v", want, checks[0].Err, checks[1].Err, checks[2].Err)
		}
	}
	for _, n := range []int{0, 7, 8, 20, len(b) / 2, len(b) - 1} {
		if _, err := pte.DecodeBundle(bytes.NewReader(b[:n]), "cut"); err == nil {
			t.Errorf("the first %d bytes of %d were read", n, len(b))
		}
	}
}
