package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
)

// testDevice returns one device for all tests of the package: starting one compiles kernels.wasm.
var testDevice = sync.OnceValues(func() (*kernel.Device, error) {
	return kernel.New(context.Background(), kernel.Config{Threads: 2, MemoryLimit: 512 << 20, CacheDir: filepath.Join(os.TempDir(), "tabtune-test-cache")})
})

func device(t testing.TB) *kernel.Device {
	t.Helper()
	d, err := testDevice()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// record is one call in testdata/NAME.json, written by fixtures.py.
type record struct {
	Method          string
	Inputs, Outputs []struct {
		DType  string
		Sizes  []int
		Data   []byte
		Scalar any
	}
	Skip   []int // outputs that hold nothing in particular
	Shapes bool  // random: only types and sizes of the outputs are compared
}

func dtypeOf(t testing.TB, name string) DType {
	for d, i := range dtypes {
		if i.name == name {
			return d
		}
	}
	t.Fatalf("element type %q", name)
	return 0
}

func loadFixture(t testing.TB, name string, opt Options) *Program {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".pte"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := pte.Decode(bytes.NewReader(b), name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Load(device(t), file, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// modes are the ways to run a program, all of which must agree with the stock runtime.
var modes = map[string]Options{
	"kernels":   {},
	"reference": {Reference: true},
	"no passes": {NoPasses: true},
	"file plan": {FilePlan: true},
}

// TestStockPrograms runs programs of the stock exporter and compares with what the stock runtime computed.
func TestStockPrograms(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d programs: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var records []record
		if err := json.Unmarshal(b, &records); err != nil {
			t.Fatal(err)
		}
		for mode, opt := range modes {
			t.Run(name+"/"+mode, func(t *testing.T) {
				p := loadFixture(t, name, opt)
				for k, r := range records {
					t.Run(fmt.Sprintf("%d %s", k, r.Method), func(t *testing.T) {
						m, err := p.Method(r.Method)
						if err != nil {
							t.Fatal(err)
						}
						for i, in := range r.Inputs {
							if err := m.SetInput(i, Tensor{dtypeOf(t, in.DType), in.Sizes, in.Data}); err != nil {
								t.Fatal(err)
							}
						}
						if err := m.Execute(context.Background()); err != nil {
							t.Fatal(err)
						}
						for i, want := range r.Outputs {
							v, err := m.Output(i)
							if err != nil {
								t.Fatal(err)
							}
							got := p.Read(v)
							if got.DType != dtypeOf(t, want.DType) || !slices.Equal(got.Sizes, want.Sizes) && len(got.Sizes)+len(want.Sizes) > 0 {
								t.Errorf("output %d is %s%v, want %s%v", i, dtypeName(got.DType), got.Sizes, want.DType, want.Sizes)
								continue
							}
							if r.Shapes || slices.Contains(r.Skip, i) {
								continue
							}
							if err := closeTo(got, want.Data, 2e-5); err != nil {
								t.Errorf("output %d: %v", i, err)
							}
						}
					})
				}
			})
		}
	}
}

// closeTo compares with a relative and absolute tolerance for floats, exactly for other types.
func closeTo(got Tensor, want []byte, tol float64) error {
	d, sizes := got.DType, got.Sizes
	if isComplex(d) {
		d, sizes = realOf(d), []int{2 * numel(sizes)}
	}
	g, w := decodeArray(d, sizes, got.Data), decodeArray(d, sizes, want)
	switch d { // the stock runtime rounds every step of a sum to the element type
	case F16:
		tol = 1e-2
	case BF16:
		tol = 6e-2
	}
	var bad []string
	for k := range g.len() {
		x, y := g.at(k), w.at(k)
		if x == y || x != x && y != y {
			continue
		}
		if g.f != nil && math.Abs(x-y) <= tol*(1+math.Abs(y)) {
			continue
		}
		bad = append(bad, fmt.Sprintf("[%d] is %v, want %v", k, x, y))
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d differ: %s", len(bad), g.len(), strings.Join(bad[:min(4, len(bad))], "; "))
	}
	return nil
}
