package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"tabtune/engine/kernel"
)

// Tensor is a contiguous tensor in Go's memory, little-endian.
type Tensor struct {
	DType DType
	Sizes []int
	Data  []byte
}

// Float32s makes an f32 tensor.
func Float32s(x []float32, sizes ...int) Tensor {
	b := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	return Tensor{F32, sizes, b}
}

// Int64s makes an i64 tensor.
func Int64s(x []int64, sizes ...int) Tensor {
	b := make([]byte, 8*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
	return Tensor{I64, sizes, b}
}

// Float32s returns the elements of an f32 tensor, of other types converted.
func (t Tensor) Float32s() []float32 {
	a := decodeArray(t.DType, t.Sizes, t.Data)
	out := make([]float32, a.len())
	for i := range out {
		out[i] = float32(a.at(i))
	}
	return out
}

// Int64s returns the elements of an integer tensor, of other types converted.
func (t Tensor) Int64s() []int64 {
	a := decodeArray(t.DType, t.Sizes, t.Data)
	out := make([]int64, a.len())
	for i := range out {
		out[i] = a.intAt(i)
	}
	return out
}

// View is a dense tensor in device memory, or a number (DType and Sizes as of a tensor without dimensions, Addr 0).
type View struct {
	DType  DType
	Sizes  []int
	Addr   kernel.Addr
	Scalar any     // int64, float64 or bool of a number; nil for a tensor
	Order  []uint8 // the dimensions as they lie in memory, outermost first; nil: row-major
}

func (v View) tensor() *tensor {
	return &tensor{dtype: v.DType, elem: dtypeSize(v.DType), sizes: v.Sizes, n: v.Len(), order: v.Order, addr: v.Addr}
}

// Len returns the number of elements.
func (v View) Len() int { return numel(v.Sizes) }

// Bytes returns the size in bytes.
func (v View) Bytes() int64 { return int64(v.Len()) * int64(dtypeSize(v.DType)) }

// TensorInfo describes an input or output.
type TensorInfo struct {
	Kind    Kind
	DType   DType
	Sizes   []int // upper bounds if Dynamic
	Dynamic bool
	Name    string
}

func (m *Method) info(i int) TensorInfo {
	v := m.g.Values[i]
	t := TensorInfo{Kind: v.Kind, DType: v.DType, Sizes: slices.Clone(v.Sizes), Name: v.Name}
	switch v.Kind {
	case KindTensor:
		t.Dynamic = !v.IsStatic()
	case KindInt:
		t.DType = I64
	case KindFloat:
		t.DType = F64
	case KindBool:
		t.DType = Bool
	}
	return t
}

// Inputs describes the inputs in order.
func (m *Method) Inputs() []TensorInfo {
	var l []TensorInfo
	for _, i := range m.g.Inputs {
		l = append(l, m.info(i))
	}
	return l
}

// Outputs describes the outputs in order.
func (m *Method) Outputs() []TensorInfo {
	var l []TensorInfo
	for _, i := range m.g.Outputs {
		l = append(l, m.info(i))
	}
	return l
}

func (m *Method) input(i int) (*slot, error) {
	if i < 0 || i >= len(m.g.Inputs) {
		return nil, fmt.Errorf("engine: method %q: input %d of %d", m.g.Name, i, len(m.g.Inputs))
	}
	m.restore()
	return &m.slots[m.g.Inputs[i]], nil
}

// SetInput copies a tensor into input i, which takes its sizes. Inputs keep their value until they are set again. A number
// is set from a tensor with one element.
func (m *Method) SetInput(i int, t Tensor) error {
	s, err := m.input(i)
	if err != nil {
		return err
	}
	if int64(len(t.Data)) != numel64(t.Sizes)*int64(dtypeSize(t.DType)) {
		return fmt.Errorf("engine: method %q: input %d: %d bytes for %s%v", m.g.Name, i, len(t.Data), dtypeName(t.DType), t.Sizes)
	}
	if s.kind != KindTensor {
		a := decodeArray(t.DType, t.Sizes, t.Data)
		if a.len() != 1 {
			return fmt.Errorf("engine: method %q: input %d is a %s, given %s%v", m.g.Name, i, s.kind, dtypeName(t.DType), t.Sizes)
		}
		if a.f != nil {
			return m.SetScalar(i, a.f[0])
		}
		return m.SetScalar(i, a.i[0])
	}
	if s.t.dtype != t.DType {
		return fmt.Errorf("engine: method %q: input %d is %s, given %s", m.g.Name, i, dtypeName(s.t.dtype), dtypeName(t.DType))
	}
	v, err := m.InputView(i, t.Sizes...)
	if err != nil {
		return err
	}
	writeTensor(m.p.dev, v.tensor(), t.Data)
	return nil
}

// SetScalar sets an input that is a number: int64, float64 or bool.
func (m *Method) SetScalar(i int, x any) error {
	s, err := m.input(i)
	if err != nil {
		return err
	}
	bad := fmt.Errorf("engine: method %q: input %d is a %s, given %T", m.g.Name, i, s.kind, x)
	switch v := x.(type) {
	case int64:
		switch s.kind {
		case KindInt:
			s.i = v
		case KindFloat:
			s.f = float64(v)
		case KindBool:
			s.b = v != 0
		default:
			return bad
		}
	case float64:
		if s.kind != KindFloat {
			return bad
		}
		s.f = v
	case bool:
		if s.kind != KindBool {
			return bad
		}
		s.b = v
	default:
		return bad
	}
	m.set[i] = true
	return nil
}

// InputView sets the sizes of input i (none given: leaves them) and returns its place in device memory, to be filled there.
func (m *Method) InputView(i int, sizes ...int) (View, error) {
	s, err := m.input(i)
	if err != nil {
		return View{}, err
	}
	if s.kind != KindTensor {
		return View{}, fmt.Errorf("engine: method %q: input %d is a %s", m.g.Name, i, s.kind)
	}
	if err := m.bind(); err != nil {
		return View{}, err
	}
	if len(sizes) > 0 || s.t.dim() == 0 {
		if err := m.resize(s.t, sizes); err != nil {
			return View{}, fmt.Errorf("engine: method %q: input %d: %w", m.g.Name, i, err)
		}
	}
	if s.t.addr == 0 {
		addr, err := m.p.dev.Alloc(max(s.t.bound, 1), align)
		if err != nil {
			return View{}, fmt.Errorf("engine: method %q: input %d: %w", m.g.Name, i, err)
		}
		s.t.addr, s.t.own = addr, true
	}
	m.set[i] = true
	return m.view(m.g.Inputs[i]), nil
}

func (m *Method) view(i int) View {
	s := &m.slots[i]
	switch s.kind {
	case KindTensor:
		v := View{DType: s.t.dtype, Sizes: slices.Clone(s.t.sizes), Addr: s.t.addr}
		if !contiguousOrder(s.t.order, s.t.sizes) {
			v.Order = slices.Clone(s.t.order)
		}
		return v
	case KindInt:
		return View{DType: I64, Scalar: s.i}
	case KindFloat:
		return View{DType: F64, Scalar: s.f}
	case KindBool:
		return View{DType: Bool, Scalar: s.b}
	}
	return View{}
}

// Output returns output i of the last Execute, valid until the next one or Release.
func (m *Method) Output(i int) (View, error) {
	if i < 0 || i >= len(m.g.Outputs) {
		return View{}, fmt.Errorf("engine: method %q: output %d of %d", m.g.Name, i, len(m.g.Outputs))
	}
	v := m.view(m.g.Outputs[i])
	if v.Scalar == nil && v.Addr == 0 {
		return View{}, fmt.Errorf("engine: method %q: output %d has no value yet", m.g.Name, i)
	}
	return v, nil
}

// Buffer returns the mutable buffer with the given fully qualified name, with its initial value if the method has not run.
func (m *Method) Buffer(name string) (View, error) {
	for i, v := range m.g.Values {
		if v.Kind == KindTensor && v.Role == RoleState && v.Name == name {
			if err := m.bind(); err != nil {
				return View{}, err
			}
			if m.slots[i].t.addr != 0 {
				return m.view(i), nil
			}
		}
	}
	return View{}, fmt.Errorf("engine: method %q has no mutable buffer %q", m.g.Name, name)
}

// Buffers returns the fully qualified names of the mutable buffers.
func (m *Method) Buffers() []string {
	var l []string
	for _, v := range m.g.Values {
		if v.Kind == KindTensor && v.Role == RoleState && v.Name != "" && !slices.Contains(l, v.Name) {
			l = append(l, v.Name)
		}
	}
	return l
}

// Read copies a view to Go's memory, in row-major order.
func (p *Program) Read(v View) Tensor {
	switch x := v.Scalar.(type) {
	case int64:
		return Int64s([]int64{x})
	case float64:
		a := newArray(F64, nil)
		a.f[0] = x
		return Tensor{DType: F64, Data: a.encode()}
	case bool:
		return Tensor{DType: Bool, Data: []byte{byte(b2i(x))}}
	}
	return Tensor{DType: v.DType, Sizes: slices.Clone(v.Sizes), Data: readTensor(p.dev, v.tensor())}
}

// ReadFloat32s copies a view to Go's memory as float32.
func (p *Program) ReadFloat32s(v View) []float32 { return p.Read(v).Float32s() }

// Write copies a host tensor to a view of the same type and size.
func (p *Program) Write(v View, t Tensor) error {
	if v.Scalar != nil || v.DType != t.DType || v.Bytes() != int64(len(t.Data)) {
		return fmt.Errorf("engine: write %s%v with %d bytes to %s%v", dtypeName(t.DType), t.Sizes, len(t.Data), dtypeName(v.DType), v.Sizes)
	}
	writeTensor(p.dev, v.tensor(), t.Data)
	return nil
}
