package host

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// elements are the types in testdata: their number in program files, and how an element is read.
var elements = map[string]struct {
	number, size int
	read         func(b []byte) float64
	tolerance    float64
}{
	"u8":   {0, 1, func(b []byte) float64 { return float64(b[0]) }, 0},
	"i8":   {1, 1, func(b []byte) float64 { return float64(int8(b[0])) }, 0},
	"i16":  {2, 2, func(b []byte) float64 { return float64(int16(binary.LittleEndian.Uint16(b))) }, 0},
	"i32":  {3, 4, func(b []byte) float64 { return float64(int32(binary.LittleEndian.Uint32(b))) }, 0},
	"i64":  {4, 8, func(b []byte) float64 { return float64(int64(binary.LittleEndian.Uint64(b))) }, 0},
	"f16":  {5, 2, half, 1e-2}, // the stock runtime rounds every step of a sum to the element type
	"f32":  {6, 4, single, 2e-5},
	"f64":  {7, 8, double, 2e-5},
	"c64":  {9, 8, single, 2e-5}, // by their real parts
	"c128": {10, 16, double, 2e-5},
	"bool": {11, 1, func(b []byte) float64 { return float64(b[0]) }, 0},
	"bf16": {15, 2, func(b []byte) float64 { return single([]byte{0, 0, b[0], b[1]}) }, 6e-2},
}

func single(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) }
func double(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }

func half(b []byte) float64 {
	x := binary.LittleEndian.Uint16(b)
	exp, fraction := int(x>>10&31), float64(x&1023)/1024
	v := math.Ldexp(1+fraction, exp-15)
	switch {
	case exp == 0:
		v = math.Ldexp(fraction, -14)
	case exp == 31 && fraction == 0:
		v = math.Inf(1)
	case exp == 31:
		v = math.NaN()
	}
	return math.Copysign(v, 0.5-float64(x>>15))
}

// arrange moves a contiguous tensor's elements to where they lie in memory with this order of dimensions, or (back) from there.
func arrange(data []byte, size int, sizes, order []int, back bool) []byte {
	out, at := slices.Clone(data), make([]int, len(sizes))
	strides := make([]int, len(sizes))
	n := size
	for _, d := range slices.Backward(order) {
		strides[d], n = n, n*sizes[d]
	}
	for k := 0; k < len(data); k += size {
		place := 0
		for d, i := range at {
			place += i * strides[d]
		}
		from, to := k, place
		if back {
			from, to = place, k
		}
		copy(out[to:to+size], data[from:])
		for d := len(at) - 1; d >= 0; d-- {
			if at[d]++; at[d] < sizes[d] {
				break
			}
			at[d] = 0
		}
	}
	return out
}

type storedTensor struct {
	DType string
	Sizes []int
	Data  []byte
}

// TestStockPrograms runs the programs of engine/testdata in the module and compares with what the stock runtime computed.
func TestStockPrograms(t *testing.T) {
	dir, err := filepath.Abs("../engine/testdata")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) < 6 {
		t.Fatalf("%d programs: %v", len(files), err)
	}
	h := open(t, Options{Threads: 2, MemoryLimit: 512 << 20, Mounts: []Mount{Dir(dir)}})
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var calls []struct {
				Method          string
				Inputs, Outputs []storedTensor
				Skip            []int
				Shapes          bool
			}
			if err := json.Unmarshal(b, &calls); err != nil {
				t.Fatal(err)
			}
			var p struct{ Program int64 }
			must(t, h.Call(t.Context(), "program.open", map[string]any{"path": strings.TrimSuffix(file, ".json") + ".pte"}, &p))
			defer func() { must(t, h.Call(t.Context(), "program.close", map[string]any{"program": p.Program}, nil)) }()
			for k, c := range calls {
				got := h.callProgram(t, p.Program, c.Method, c.Inputs)
				for i, want := range c.Outputs {
					if err := compare(got[i], want, c.Shapes || slices.Contains(c.Skip, i)); err != nil {
						t.Errorf("call %d, %s: output %d: %v", k, c.Method, i, err)
					}
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// callProgram puts the inputs where the module says, and takes the outputs from there.
func (h *Host) callProgram(t *testing.T, program int64, method string, inputs []storedTensor) []storedTensor {
	params := map[string]any{"program": program, "method": method}
	must(t, h.Call(t.Context(), "program.load", params, nil))
	var meta struct {
		Inputs []struct{ Order []int }
	}
	must(t, h.Call(t.Context(), "program.meta", params, &meta))
	given := []map[string]any{}
	for _, x := range inputs {
		given = append(given, map[string]any{"tag": "Tensor", "dtype": elements[x.DType].number, "sizes": x.Sizes})
	}
	type place struct{ Address, Bytes uint32 }
	var in struct{ Places []place }
	must(t, h.Call(t.Context(), "program.inputs", map[string]any{"program": program, "method": method, "inputs": given}, &in))
	for i, x := range inputs {
		data := arrange(x.Data, elements[x.DType].size, x.Sizes, meta.Inputs[i].Order, false)
		if !h.kernels.Memory().Write(in.Places[i].Address, data) {
			t.Fatalf("input %d at %+v is outside of memory", i, in.Places[i])
		}
	}
	var r struct {
		Outputs []struct {
			DType        int
			Sizes, Order []int
			Place        place
		}
	}
	must(t, h.Call(t.Context(), "program.execute", params, &r))
	var out []storedTensor
	for i, o := range r.Outputs {
		b, ok := h.kernels.Memory().Read(o.Place.Address, o.Place.Bytes)
		if !ok {
			t.Fatalf("output %d at %+v is outside of memory", i, o.Place)
		}
		x := storedTensor{Sizes: o.Sizes}
		for name, e := range elements {
			if e.number == o.DType {
				x.DType, x.Data = name, arrange(b, e.size, o.Sizes, o.Order, true)
			}
		}
		out = append(out, x)
	}
	return out
}

func compare(got, want storedTensor, shapes bool) error {
	if got.DType != want.DType || !slices.Equal(got.Sizes, want.Sizes) && len(got.Sizes)+len(want.Sizes) > 0 || len(got.Data) != len(want.Data) {
		return fmt.Errorf("%s%v of %d bytes, want %s%v of %d", got.DType, got.Sizes, len(got.Data), want.DType, want.Sizes, len(want.Data))
	}
	if shapes {
		return nil
	}
	e := elements[want.DType]
	for k := 0; k < len(want.Data); k += e.size {
		x, y := e.read(got.Data[k:]), e.read(want.Data[k:])
		if x != y && !(x != x && y != y) && !(math.Abs(x-y) <= e.tolerance*(1+math.Abs(y))) {
			return fmt.Errorf("element %d is %v, want %v", k/e.size, x, y)
		}
	}
	return nil
}
