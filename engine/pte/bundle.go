package pte

import (
	"fmt"
	"io"
	"math"
)

// bundleIdentifier marks a bundled program (devtools/bundled_program/schema/bundled_program_schema.fbs).
const bundleIdentifier = "BP08"

// Bundle is a program together with test cases: a .bpte file.
type Bundle struct {
	Version uint32
	Suites  []TestSuite
	Program Source // the .pte inside, to be given to Decode
}

// TestSuite holds the test cases of one method.
type TestSuite struct {
	Method string
	Cases  []TestCase
}

// TestCase lists inputs, and the outputs that the program's author got with them.
type TestCase struct {
	Inputs, Expected []TestValue
}

// TestValue is one input or output; exactly one field is set.
type TestValue struct {
	Tensor *TestTensor
	Int    *int64
	Bool   *bool
	Double *float64
}

// TestTensor is a dense tensor, its elements little-endian, in the order of DimOrder (empty: row-major).
type TestTensor struct {
	ScalarType ScalarType
	Sizes      []int32
	DimOrder   []uint8
	Data       []byte
}

// IsBundle reports whether the file is a bundled program rather than a plain one.
func IsBundle(src Source) (bool, error) {
	var head [8]byte
	if src.Size() < int64(len(head)) {
		return false, nil
	}
	if err := readFull(src, head[:], 0); err != nil {
		return false, err
	}
	return string(head[4:]) == bundleIdentifier, nil
}

// DecodeBundle reads and validates a .bpte file; the program inside is only located. The file may have MaxFlatbuffer bytes at most, for it
// is one flatbuffer. Errors about the content are *FormatError.
func DecodeBundle(src Source, name string) (*Bundle, error) {
	if _, err := readHead(src, name, bundleIdentifier, "a bundled program"); err != nil {
		return nil, err
	}
	buf, err := readFlatbuffer(src, name, src.Size())
	if err != nil {
		return nil, err
	}
	r := newReader(name, buf)
	root, _ := r.follow("BundledProgram", 0)
	t := r.table("BundledProgram", root)
	b := &Bundle{Version: t.u32(0, "version")}
	t.each(1, "method_test_suites", "BundledMethodTestSuite", func(i int, e table) {
		r.at = place{list: "method_test_suites", index: i}
		s := TestSuite{Method: e.str(0, "method_name")}
		e.each(1, "test_cases", "BundledMethodTestCase", func(_ int, e table) {
			s.Cases = append(s.Cases, TestCase{Inputs: testValues(e, 0, "inputs"), Expected: testValues(e, 1, "expected_outputs")})
		})
		b.Suites = append(b.Suites, s)
	})
	r.at = place{}
	pos, n := t.vector(2, "program", 1)
	if r.err == nil && n == 0 {
		t.fail("program", t.pos, "is missing")
	}
	if r.err != nil {
		return nil, r.err
	}
	b.Program = io.NewSectionReader(src, int64(pos), int64(n))
	return b, nil
}

func testValues(t table, slot int, field string) []TestValue {
	var l []TestValue
	t.each(slot, field, "Value", func(_ int, e table) {
		var v TestValue
		switch kind := e.u8(0, "val_type"); kind {
		case 1:
			c, _ := e.child(1, "val", "Tensor")
			v.Tensor = testTensor(c)
		case 2:
			c, _ := e.child(1, "val", "Int")
			x := int64(c.u64(0, "int_val"))
			v.Int = &x
		case 3:
			c, _ := e.child(1, "val", "Bool")
			x := c.bool(0, "bool_val")
			v.Bool = &x
		case 4:
			c, _ := e.child(1, "val", "Double")
			x := math.Float64frombits(c.u64(0, "double_val"))
			v.Double = &x
		default:
			e.fail("val", e.pos, "value type %d is not known", kind)
		}
		l = append(l, v)
	})
	return l
}

func testTensor(c table) *TestTensor {
	t := &TestTensor{ScalarType: ScalarType(c.i8(0, "scalar_type")), Sizes: c.int32s(1, "sizes"), Data: c.bytes(2, "data"), DimOrder: c.bytes(3, "dim_order")}
	if c.r.err != nil {
		return t
	}
	n, err := NumBytes(t.ScalarType, t.Sizes)
	switch {
	case err != nil:
		c.fail("sizes", c.pos, "%v", err)
	case n != int64(len(t.Data)):
		c.fail("data", c.pos, "%d bytes for %s%v, which takes %d", len(t.Data), t.ScalarType, t.Sizes, n)
	case len(t.DimOrder) > 0:
		if err := checkDimOrder(t.DimOrder, len(t.Sizes)); err != nil {
			c.fail("dim_order", c.pos, "%v", err)
		}
	}
	return t
}

// String names the value as an error message does.
func (v TestValue) String() string {
	switch {
	case v.Tensor != nil:
		return fmt.Sprintf("%s%v", v.Tensor.ScalarType, v.Tensor.Sizes)
	case v.Int != nil:
		return fmt.Sprint(*v.Int)
	case v.Bool != nil:
		return fmt.Sprint(*v.Bool)
	case v.Double != nil:
		return fmt.Sprint(*v.Double)
	}
	return "nothing"
}
