// Package pte reads, validates and writes ExecuTorch programs (.pte, file
// identifier ET12) and external tensor files (.ptd, identifier FT01).
//
// The types below mirror the tables of ExecuTorch's program.fbs and
// flat_tensor.fbs, decoded: indices are checked once, when a file is read, so
// code that receives a *Program may use them without checking again. Bulk data
// is never copied: it stays where the file is (see Source).
package pte

// ScalarType is the element type of a tensor (schema enum ScalarType).
type ScalarType int8

// The element types that programs use, with the schema's values.
const (
	Byte   ScalarType = 0 // uint8
	Char   ScalarType = 1 // int8
	Short  ScalarType = 2 // int16
	Int    ScalarType = 3 // int32
	Long   ScalarType = 4 // int64
	Half   ScalarType = 5
	Float  ScalarType = 6
	Double ScalarType = 7
	// Complex numbers: real and imaginary part in turn.
	ComplexHalf   ScalarType = 8
	ComplexFloat  ScalarType = 9
	ComplexDouble ScalarType = 10
	Bool          ScalarType = 11
	BFloat16      ScalarType = 15
	UInt16        ScalarType = 27
	UInt32        ScalarType = 28
	UInt64        ScalarType = 29
)

// Program is one decoded .pte file.
type Program struct {
	Version            uint32
	Plans              []*Plan // methods, in file order
	Segments           []Segment
	ConstantSegment    *Subsegments  // nil if the program has no constants in segments
	MutableSegments    []Subsegments // initial values of mutable buffers
	NamedData          []NamedData
	InlineConstants    [][]byte // deprecated Program.constant_buffer; nil in current files
	InlineDelegateData [][]byte
	SegmentBase        int64 // file offset of the segments (extended header)
	Source             Source
}

// Source gives access to a file's bytes; *os.File and *bytes.Reader satisfy it
// together with a size.
type Source interface {
	ReadAt(p []byte, off int64) (int, error)
	Size() int64
}

// Segment is a range of the file, relative to Program.SegmentBase.
type Segment struct{ Offset, Size int64 }

// Subsegments lists where tensors start inside one segment.
type Subsegments struct {
	Segment int
	Offsets []int64
}

// NamedData attributes a name to a segment. Layout is nil for opaque blobs (and always in a .pte).
type NamedData struct {
	Key     string
	Segment int
	Layout  *TensorLayout
}

// TensorLayout describes the tensor that a named blob holds (.ptd).
type TensorLayout struct {
	ScalarType ScalarType
	Sizes      []int32
	DimOrder   []uint8
}

// Plan is one method: schema table ExecutionPlan.
type Plan struct {
	Name                string
	EncodedIn           string
	EncodedOut          string
	Values              []Value
	Inputs, Outputs     []int
	Chains              []Chain
	Operators           []Operator
	Delegates           []Delegate
	NonConstBufferSizes []int64        // by memory id; entry 0 is reserved
	BufferDevices       []BufferDevice // where buffers live, if not on the CPU; usually nil
}

// BufferDevice places one planned buffer on a device (schema table NonConstBufferDevice).
type BufferDevice struct {
	Buffer int // index into Plan.NonConstBufferSizes
	Type   int8
	Index  int8
}

// Operator names a kernel, e.g. {"aten::add", "out"}.
type Operator struct{ Name, Overload string }

// String returns "aten::add.out", or the bare name where there is no overload.
func (o Operator) String() string {
	if o.Overload == "" {
		return o.Name
	}
	return o.Name + "." + o.Overload
}

// Value is one EValue: exactly one of the schema's KernelTypes.
// The dynamic types are: Null, IntValue, BoolValue, DoubleValue, StringValue,
// *Tensor, IntList, DoubleList, BoolList, TensorList, OptionalTensorList.
type Value interface{ isValue() }

type (
	// Null is the None value.
	Null struct{}
	// IntValue is an int64 scalar (also dtypes, layouts and symbolic sizes).
	IntValue int64
	// BoolValue is a boolean scalar.
	BoolValue bool
	// DoubleValue is a float64 scalar.
	DoubleValue float64
	// StringValue is a string.
	StringValue string
	// IntList holds value indices; each names an IntValue (its value may be computed at run time).
	IntList []int
	// DoubleList is a list of float64.
	DoubleList []float64
	// BoolList is a list of booleans.
	BoolList []bool
	// TensorList holds value indices of tensors.
	TensorList []int
	// OptionalTensorList holds value indices of tensors or Null values, or -1 for None.
	OptionalTensorList []int
)

// Dynamism says whether a tensor's sizes may change at run time.
type Dynamism int8

// Values of the schema enum TensorShapeDynamism.
const (
	Static         Dynamism = 0
	DynamicBound   Dynamism = 1
	DynamicUnbound Dynamism = 2
)

// Tensor is the schema table Tensor with its ExtraTensorInfo.
//
// Buffer > 0 and Alloc == nil: a constant. Buffer == 0 and Alloc != nil: memory
// from the plan. Both: a mutable buffer with an initial value, found in
// Program.MutableSegments[MutableSegment]. Neither: memory arrives with the
// inputs. External: the bytes are looked up by Name in a .ptd.
type Tensor struct {
	ScalarType     ScalarType
	Sizes          []int32 // upper bounds where Dynamism is DynamicBound
	DimOrder       []uint8
	Buffer         uint32
	Alloc          *Alloc
	Dynamism       Dynamism
	Name           string // fully qualified name, may be empty
	External       bool
	MutableSegment int
	DeviceType     int8 // 0 is the CPU
	DeviceIndex    int8
}

// Alloc is where the memory plan puts a tensor.
type Alloc struct {
	MemoryID uint32
	Offset   uint64
}

// Delegate is the schema table BackendDelegate.
type Delegate struct {
	ID           string
	Inline       bool // Index is into Program.InlineDelegateData, else into Program.Segments
	Index        int
	CompileSpecs []CompileSpec
}

// CompileSpec is one option that was given to a delegate's preprocessing.
type CompileSpec struct {
	Key   string
	Value []byte
}

// Chain is a sequence of instructions.
type Chain struct {
	Inputs, Outputs []int
	Instructions    []Instruction
}

// Instruction is one of KernelCall, DelegateCall, MoveCall, JumpFalseCall, FreeCall.
type Instruction interface{ isInstruction() }

type (
	// KernelCall runs Plan.Operators[Op] on values (inputs, then outputs).
	KernelCall struct {
		Op   int
		Args []int
	}
	// DelegateCall runs Plan.Delegates[Delegate] on values.
	DelegateCall struct {
		Delegate int
		Args     []int
	}
	// MoveCall copies a value.
	MoveCall struct{ From, To int }
	// JumpFalseCall jumps to instruction Dest of the chain if value Cond is false.
	JumpFalseCall struct{ Cond, Dest int }
	// FreeCall releases a DynamicUnbound tensor's memory.
	FreeCall struct{ Value int }
)

func (Null) isValue()               {}
func (IntValue) isValue()           {}
func (BoolValue) isValue()          {}
func (DoubleValue) isValue()        {}
func (StringValue) isValue()        {}
func (*Tensor) isValue()            {}
func (IntList) isValue()            {}
func (DoubleList) isValue()         {}
func (BoolList) isValue()           {}
func (TensorList) isValue()         {}
func (OptionalTensorList) isValue() {}

func (KernelCall) isInstruction()    {}
func (DelegateCall) isInstruction()  {}
func (MoveCall) isInstruction()      {}
func (JumpFalseCall) isInstruction() {}
func (FreeCall) isInstruction()      {}
