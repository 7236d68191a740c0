package engine

import (
	"context"
	"fmt"
	"math"
	"slices"

	"tabtune/engine/pte"
)

// Check is the outcome of one test case of a bundled program.
type Check struct {
	Method string
	Case   int
	Err    error // nil: every output is as expected
}

// RunChecks runs the test cases of a bundled program and compares what they return: floats within atol + rtol |expected|, everything else
// exactly. A case that cannot run, or differs, is reported; the others run all the same.
func (p *Program) RunChecks(ctx context.Context, suites []pte.TestSuite, rtol, atol float64) ([]Check, error) {
	var checks []Check
	for _, s := range suites {
		for k, c := range s.Cases {
			if err := ctx.Err(); err != nil {
				return checks, err
			}
			checks = append(checks, Check{Method: s.Method, Case: k, Err: p.runCheck(ctx, s.Method, c, rtol, atol)})
		}
	}
	return checks, nil
}

func (p *Program) runCheck(ctx context.Context, method string, c pte.TestCase, rtol, atol float64) error {
	m, err := p.Method(method)
	if err != nil {
		return err
	}
	if len(c.Inputs) != len(m.Inputs()) || len(c.Expected) != len(m.Outputs()) {
		return fmt.Errorf("%d inputs and %d outputs, the method has %d and %d", len(c.Inputs), len(c.Expected), len(m.Inputs()), len(m.Outputs()))
	}
	for i, v := range c.Inputs {
		if err := m.SetInput(i, testTensor(v)); err != nil {
			return err
		}
	}
	if err := m.Execute(ctx); err != nil {
		return err
	}
	for i, v := range c.Expected {
		view, err := m.Output(i)
		if err != nil {
			return err
		}
		if err := compareTensors(p.Read(view), testTensor(v), rtol, atol); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	return nil
}

// testTensor converts a value of a test case; numbers become tensors of one element.
func testTensor(v pte.TestValue) Tensor {
	switch {
	case v.Int != nil:
		return Int64s([]int64{*v.Int})
	case v.Bool != nil:
		return Tensor{DType: Bool, Data: []byte{byte(b2i(*v.Bool))}}
	case v.Double != nil:
		a := newArray(F64, nil)
		a.f[0] = *v.Double
		return Tensor{DType: F64, Data: a.encode()}
	case v.Tensor == nil:
		return Tensor{}
	}
	t := Tensor{DType: v.Tensor.ScalarType, Data: v.Tensor.Data}
	for _, s := range v.Tensor.Sizes {
		t.Sizes = append(t.Sizes, int(s))
	}
	if order := v.Tensor.DimOrder; !contiguousOrder(order, t.Sizes) {
		t.Data = reorder(t.Data, t.Sizes, dtypeSize(t.DType), orderStrides(t.Sizes, order), stridesOf(t.Sizes))
	}
	return t
}

// isNaN differs from cmplx.IsNaN for a NaN beside an infinity, which is NaN here.
func isNaN(c complex128) bool { return math.IsNaN(real(c)) || math.IsNaN(imag(c)) }

func compareTensors(got, want Tensor, rtol, atol float64) error {
	if got.DType != want.DType || numel(got.Sizes) != numel(want.Sizes) || len(got.Sizes) > 0 && len(want.Sizes) > 0 && !slices.Equal(got.Sizes, want.Sizes) {
		return fmt.Errorf("is %s%v, expected %s%v", dtypeName(got.DType), got.Sizes, dtypeName(want.DType), want.Sizes)
	}
	a, b := decodeArray(got.DType, got.Sizes, got.Data), decodeArray(got.DType, got.Sizes, want.Data)
	bad, first := 0, -1
	for k := range a.len() {
		x, y := a.complexAt(k), b.complexAt(k)
		d := max(math.Abs(real(x)-real(y)), math.Abs(imag(x)-imag(y)))
		if x == y || isNaN(x) && isNaN(y) || (a.i == nil && d <= atol+rtol*math.Hypot(real(y), imag(y))) {
			continue
		}
		if bad++; first < 0 {
			first = k
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d elements differ, first [%d]: %v, expected %v", bad, a.len(), first, a.at(first), b.at(first))
	}
	return nil
}
