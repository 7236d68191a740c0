package pte

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// fixtures are the programs that testdata/make.py exports.
var fixtures = []string{"add", "cond", "dynamic", "external", "inline", "linear", "lists", "methods", "mutable", "xnnpack"}

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(t testing.TB, data []byte) *Program {
	t.Helper()
	p, err := Decode(bytes.NewReader(data), "test.pte")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encode(t testing.TB, p *Program) []byte {
	t.Helper()
	segments, err := p.SegmentWriters()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Encode(&out, p, segments); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPrintSnapshots(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := Print(&got, decode(t, load(t, name+".pte"))); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".txt")
			if os.Getenv("UPDATE_SNAPSHOTS") == "1" {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("Print differs from %s (UPDATE_SNAPSHOTS=1 rewrites it):\n%s", file, got.String())
			}
		})
	}
}

// withoutFile drops what a copy of a program may differ in.
func withoutFile(p *Program) Program {
	q := *p
	q.Source, q.SegmentBase = nil, 0
	return q
}

func TestRoundTrip(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			first := decode(t, load(t, name+".pte"))
			data := encode(t, first)
			second := decode(t, data)
			if a, b := withoutFile(first), withoutFile(second); !reflect.DeepEqual(a, b) {
				t.Errorf("the copy differs:\n%+v\n%+v", a, b)
			}
			if again := encode(t, second); !bytes.Equal(data, again) {
				t.Error("encoding twice gives different bytes")
			}
			for i := range first.Segments {
				a, b := segment(t, first, i), segment(t, second, i)
				if !bytes.Equal(a, b) {
					t.Errorf("segment %d differs", i)
				}
			}
		})
	}
}

func segment(t *testing.T, p *Program, i int) []byte {
	t.Helper()
	s, err := p.SegmentData(i)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// floats reads a float32 section.
func floats(t *testing.T, s Section, err error) []float32 {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// tensorsWhere returns the tensors of the first method that match.
func tensorsWhere(p *Program, match func(*Tensor) bool) []*Tensor {
	var out []*Tensor
	for _, v := range p.Plans[0].Values {
		if t, ok := v.(*Tensor); ok && match(t) {
			out = append(out, t)
		}
	}
	return out
}

// linearBias is the bias of make.py's Linear: torch.manual_seed(0), nn.Linear(5, 3).
var linearBias = []float32{0.016566388, 0.17679927, 0.26833835}

func near(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1e-4 {
			return false
		}
	}
	return true
}

func TestConstantsInSegmentInlineAndExternal(t *testing.T) {
	data, err := DecodeData(bytes.NewReader(load(t, "external.ptd")), "external.ptd")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"linear", "inline", "external"} {
		p := decode(t, load(t, name+".pte"))
		stored := tensorsWhere(p, func(t *Tensor) bool {
			return (t.IsConstant() || t.External) && reflect.DeepEqual(t.Sizes, []int32{3})
		})
		if len(stored) != 1 {
			t.Fatalf("%s: %d stored tensors of size 3", name, len(stored))
		}
		var got []float32
		if stored[0].External {
			s, err := data.Tensor(stored[0])
			got = floats(t, s, err)
			if _, err := p.ConstantData(stored[0]); err == nil {
				t.Error("ConstantData of an external tensor gave no error")
			}
		} else {
			s, err := p.ConstantData(stored[0])
			got = floats(t, s, err)
		}
		if !near(got, linearBias) {
			t.Errorf("%s: bias %v, want %v", name, got, linearBias)
		}
	}
}

func TestMutableInit(t *testing.T) {
	p := decode(t, load(t, "mutable.pte"))
	v := tensorsWhere(p, (*Tensor).HasInit)
	if len(v) != 1 {
		t.Fatalf("%d buffers with an initial value", len(v))
	}
	s, err := p.MutableInit(v[0])
	if got := floats(t, s, err); !near(got, []float32{10, 20, 30}) {
		t.Errorf("initial value %v", got)
	}
	if _, err := p.ConstantData(v[0]); err == nil {
		t.Error("ConstantData of a mutable buffer gave no error")
	}
}

func TestDelegateData(t *testing.T) {
	p := decode(t, load(t, "xnnpack.pte"))
	d := &p.Method("forward").Delegates[0]
	s, err := p.DelegateData(d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if d.ID != "XnnpackBackend" || len(b) < 8 || string(b[4:8]) != "XH00" {
		t.Errorf("delegate %q starts with %q", d.ID, b[:min(8, len(b))])
	}
}

// TestStreams checks that a program with segments far larger than memory
// encodes and decodes without its segments being read.
func TestStreams(t *testing.T) {
	const size = int64(1) << 40
	p := &Program{
		Plans: []*Plan{{
			Name:                "forward",
			Values:              []Value{&Tensor{ScalarType: Byte, Sizes: []int32{1 << 20, 1 << 20}, DimOrder: []uint8{0, 1}, Buffer: 1}},
			NonConstBufferSizes: []int64{0},
		}},
	}
	big := SegmentWriter{Size: size, Write: func(w io.Writer) error { return errStop }}
	sub, seg := Pack(0, []SegmentWriter{big})
	p.ConstantSegment = &sub
	var out bytes.Buffer
	if err := Encode(&out, p, []SegmentWriter{seg}); !errors.Is(err, errStop) {
		t.Fatalf("error %v", err)
	}
	src := sparse{out.Bytes(), int64(out.Len()) + size}
	q, err := Decode(src, "big.pte")
	if err != nil {
		t.Fatal(err)
	}
	s, err := q.ConstantData(q.Plans[0].Values[0].(*Tensor))
	if err != nil || s.Size != size || s.Off%SegmentAlignment != 0 {
		t.Errorf("section %+v, error %v", s, err)
	}
}

var errStop = errors.New("stop")

// sparse is a file whose end is not there to be read.
type sparse struct {
	head []byte
	size int64
}

func (s sparse) Size() int64 { return s.size }
func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.head).ReadAt(p, off)
}

func TestPackAligns(t *testing.T) {
	var tensors []SegmentWriter
	for _, n := range []int{1, 16, 17, 0, 5} {
		tensors = append(tensors, BytesSegment(bytes.Repeat([]byte{byte(n)}, n)))
	}
	sub, seg := Pack(2, tensors)
	if want := []int64{0, 0, 16, 32, 64, 64}; !reflect.DeepEqual(sub.Offsets, want) || sub.Segment != 2 {
		t.Errorf("offsets %v, want %v", sub.Offsets, want)
	}
	var out bytes.Buffer
	if err := seg.Write(&out); err != nil {
		t.Fatal(err)
	}
	if int64(out.Len()) != seg.Size || out.Bytes()[16] != 16 || out.Bytes()[1] != 0 || out.Bytes()[64] != 5 {
		t.Errorf("wrong content of %d bytes: %v", out.Len(), out.Bytes())
	}
}

func TestEncodeRefusesShortSegment(t *testing.T) {
	p := decode(t, load(t, "linear.pte"))
	w, err := p.SegmentWriters()
	if err != nil {
		t.Fatal(err)
	}
	w[0].Write = func(io.Writer) error { return nil }
	if err := Encode(io.Discard, p, w); err == nil || !strings.Contains(err.Error(), "promised") {
		t.Errorf("error %v", err)
	}
	w[0].Size -= 4
	if err := Encode(io.Discard, p, w); err == nil || !strings.Contains(err.Error(), "do not fit in segment 0") {
		t.Errorf("error %v", err)
	}
	if err := Encode(io.Discard, p, nil); err == nil {
		t.Error("a program without its segments was encoded")
	}
}

// everything is a program with all value kinds and instructions.
func everything() (*Program, []SegmentWriter) {
	tensor := func(s ScalarType, sizes ...int32) *Tensor {
		order := make([]uint8, len(sizes))
		for i := range order {
			order[i] = uint8(i)
		}
		return &Tensor{ScalarType: s, Sizes: sizes, DimOrder: order}
	}
	planned := tensor(Float, 2, 3)
	planned.Alloc = &Alloc{MemoryID: 2, Offset: 5 << 32}
	planned.Dynamism = DynamicBound
	constant := tensor(BFloat16, 3)
	constant.Buffer = 1
	initial := tensor(Long, 2)
	initial.Buffer, initial.Alloc, initial.MutableSegment, initial.Name = 1, &Alloc{MemoryID: 1}, 1, "m.b"
	outside := tensor(Half, 4, 4)
	outside.External, outside.Name, outside.DimOrder = true, "w", []uint8{1, 0}
	flag := tensor(Bool)
	flag.DeviceType, flag.DeviceIndex = 1, 3
	constSub, constSeg := Pack(0, []SegmentWriter{BytesSegment(make([]byte, 6))})
	mutSub, mutSeg := Pack(1, []SegmentWriter{BytesSegment(make([]byte, 16))})
	p := &Program{
		ConstantSegment: &constSub,
		MutableSegments: []Subsegments{mutSub, mutSub},
		NamedData:       []NamedData{{Key: "blob", Segment: 2}},
		Plans: []*Plan{{
			Name: "forward", EncodedIn: "in", EncodedOut: "out",
			Values: []Value{
				Null{}, IntValue(-7), BoolValue(true), DoubleValue(math.Copysign(0, -1)), StringValue("é\n"),
				planned, constant, initial, outside, flag,
				IntList{1, 1}, DoubleList{1.5, math.Inf(-1)}, BoolList{true, false}, TensorList{5, 6}, OptionalTensorList{-1, 5},
				IntList{}, DoubleList{}, BoolList{}, TensorList{}, OptionalTensorList{}, IntValue(0),
			},
			Inputs: []int{5, 1}, Outputs: []int{7},
			Operators: []Operator{{"aten::add", "out"}, {"aten::sym_size", ""}},
			Delegates: []Delegate{
				{ID: "A", Inline: true, Index: 0, CompileSpecs: []CompileSpec{{"k", []byte{1, 2}}}},
				{ID: "B", Index: 2},
			},
			NonConstBufferSizes: []int64{0, 16, 5<<32 + 24},
			BufferDevices:       []BufferDevice{{Buffer: 2, Type: 1, Index: 3}},
			Chains: []Chain{{
				Inputs: []int{5}, Outputs: []int{7},
				Instructions: []Instruction{
					KernelCall{Op: 0, Args: []int{5, 6, 1, 7, 7}},
					DelegateCall{Delegate: 1, Args: []int{5}},
					MoveCall{From: 20, To: 1},
					JumpFalseCall{Cond: 9, Dest: 6},
					JumpFalseCall{Cond: 2, Dest: 0},
					FreeCall{Value: 5},
				},
			}},
		}, {Name: "empty", NonConstBufferSizes: []int64{0}}},
		InlineDelegateData: [][]byte{{9, 8, 7}},
	}
	return p, []SegmentWriter{constSeg, mutSeg, {Size: 3, Align: 4096, Write: func(w io.Writer) error {
		_, err := w.Write([]byte{1, 2, 3})
		return err
	}}}
}

func TestEverythingRoundTrips(t *testing.T) {
	p, segments := everything()
	var out bytes.Buffer
	if err := Encode(&out, p, segments); err != nil {
		t.Fatal(err)
	}
	q := decode(t, out.Bytes())
	if off := q.SegmentBase + q.Segments[2].Offset; off%4096 != 0 || !bytes.Equal(out.Bytes()[off:off+3], []byte{1, 2, 3}) {
		t.Errorf("segment 2 at %d", off)
	}
	if d := q.Plans[0].Values[3].(DoubleValue); !math.Signbit(float64(d)) {
		t.Error("the sign of -0 was lost")
	}
	if len(q.Plans[0].Values[19].(OptionalTensorList)) != 0 {
		t.Error("an empty list is not empty")
	}
	again := encode(t, q)
	if r := decode(t, again); !reflect.DeepEqual(withoutFile(q).Plans, withoutFile(r).Plans) {
		t.Errorf("plans differ:\n%+v\n%+v", q.Plans[0], r.Plans[0])
	}
	for i, v := range p.Plans[0].Values {
		if w := q.Plans[0].Values[i]; !reflect.DeepEqual(v, w) && !emptyTensor(v) {
			t.Errorf("value %d: %#v, want %#v", i, w, v)
		}
	}
	if !reflect.DeepEqual(p.Plans[0].Chains, q.Plans[0].Chains) || !reflect.DeepEqual(p.Plans[0].Delegates, q.Plans[0].Delegates) {
		t.Errorf("chains or delegates differ: %+v %+v", q.Plans[0].Chains, q.Plans[0].Delegates)
	}
	if err := Print(io.Discard, q); err != nil {
		t.Fatal(err)
	}
}

// emptyTensor says whether v is a scalar tensor, whose empty sizes decode as nil.
func emptyTensor(v Value) bool {
	t, ok := v.(*Tensor)
	return ok && len(t.Sizes) == 0
}
