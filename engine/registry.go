package engine

import (
	"fmt"
	"slices"
	"strings"
)

// Op is one operator. Register makes it known; a program's call is bound to it by name.
type Op struct {
	Name   string // with overload: "aten::add.out"
	Schema string // only for operators that the stock runtime does not have; else it is found in schemas.txt

	// Shape sets the sizes of the outputs (Call.Resize) from the inputs. It runs before every call and must reject
	// arguments that Ref or Kernel could not handle. It never reads tensor data.
	Shape func(c *Call)
	// Ref computes the outputs in plain Go. It may assume that Shape accepted the arguments.
	Ref func(c *Call)
	// Kernel computes the outputs with device kernels and reports true, or does nothing and reports false where they
	// do not cover the case; then Ref runs.
	Kernel func(c *Call) bool
	// Check, if set, rejects calls when a program is loaded (element types, constant arguments).
	Check func(g *Graph, n *Node) error
	// View: the first output has the elements of the first argument in the same order, so that it may share its storage.
	View bool
	// SubView, if set, reports whether the output is always one run of the first argument's bytes; SubOffset then gives where it
	// starts, in bytes, once Shape has run.
	SubView   func(g *Graph, n *Node) bool
	SubOffset func(c *Call) int64
	// InPlace lists tensor arguments whose memory the output may use if nobody reads them later: the kernel writes an element
	// only after it has read all that the element depends on.
	InPlace []int
	// ShapeOnly lists tensor arguments of which the kernel, which then covers every call, reads no more than the shape: their
	// memory may be in use for something else by then.
	ShapeOnly []int
	// AnyOrder: the kernel handles any dim order itself. Elementwise: it may run where all tensors have the same sizes and order,
	// whatever that is. Else it is given row-major copies.
	AnyOrder    bool
	Elementwise bool
	// By says what the kernel covers, for docs/OPERATORS.md: "SIMD f32" or "scalar C, all types".
	By string
	// Complex: tensors of complex element types are accepted.
	Complex bool
	// Scalar: the operator computes numbers in Go and touches no tensor data (Ref is the only implementation).
	Scalar bool
	schema *Schema
}

var registry = map[string]*Op{}

// Register adds an operator; it panics on a second one of the same name or a broken schema, both bugs in this program.
func Register(op Op) {
	if _, ok := registry[op.Name]; ok {
		panic("engine: operator registered twice: " + op.Name)
	}
	if op.Schema != "" {
		s, err := ParseSchema(op.Schema)
		if err != nil {
			panic(err)
		}
		if s.Name != op.Name {
			panic("engine: operator " + op.Name + " has the schema of " + s.Name)
		}
		op.schema = s
	}
	if op.Kernel != nil && op.By == "" {
		op.By = "C"
	}
	if op.Shape == nil || op.Ref == nil {
		panic("engine: operator " + op.Name + " needs a shape rule and a reference")
	}
	registry[op.Name] = &op
}

// lookupOp finds an operator and its schema.
func lookupOp(name string) *Op {
	op := registry[name]
	if op != nil && op.schema == nil {
		op.schema = stockSchemas()[name]
		if op.schema == nil {
			panic("engine: operator " + name + " has no schema")
		}
	}
	return op
}

// OpInfo describes a registered operator for docs/OPERATORS.md.
type OpInfo struct {
	Name   string
	Kernel bool    // has a kernel call
	By     string  // what the kernel covers
	Types  []DType // element types of the first tensor that are accepted
	View   bool    // may become a view that computes nothing
	Scalar bool    // works on numbers
	Stock  bool    // known to the stock runtime
}

// OperatorTypes lists the registered operators by name, with the element types that each accepts.
func OperatorTypes() []OpInfo {
	l := Operators()
	for i := range l {
		if !l[i].Scalar {
			l[i].Types = acceptedTypes(lookupOp(l[i].Name))
		}
	}
	return l
}

// Operators lists the registered operators by name.
func Operators() []OpInfo {
	stock := stockSchemas()
	var l []OpInfo
	for name, op := range registry {
		l = append(l, OpInfo{Name: name, Kernel: op.Kernel != nil, By: op.By, View: op.View, Scalar: op.Scalar, Stock: stock[name] != nil})
	}
	slices.SortFunc(l, func(a, b OpInfo) int { return strings.Compare(a.Name, b.Name) })
	return l
}

// bind finds the node's operator and checks the arguments against its schema.
func (g *Graph) bind(n *Node) error {
	op := lookupOp(n.Op)
	if op == nil {
		return &MissingOperator{Name: n.Op}
	}
	want := len(op.schema.Args)
	if len(n.Args) < want {
		return fmt.Errorf("has %d arguments, want %d", len(n.Args), want)
	}
	n.Args = n.Args[:want:want] // what follows repeats the out arguments
	n.op = op
	for i, a := range n.Args {
		sa := &op.schema.Args[i]
		if err := g.checkArg(sa, a, op); err != nil {
			return fmt.Errorf("argument %d (%s): %w", i, sa.Name, err)
		}
	}
	n.permuted = g.otherOrder(n)
	if op.Check != nil {
		return op.Check(g, n)
	}
	return nil
}

func (g *Graph) checkArg(sa *SchemaArg, a int, op *Op) error {
	var v *Value
	if a < 0 {
		v = &Value{Kind: KindNone}
	} else {
		v = g.Values[a]
	}
	if v.Kind == KindNone && sa.Optional {
		return nil
	}
	if sa.Out && sa.kind == argScalar {
		v.computed = true
		return nil
	}
	ok := false
	switch sa.kind {
	case argTensor:
		ok = v.Kind == KindTensor
		if ok {
			return g.checkTensor(v, sa, op)
		}
	case argTensorList:
		ok = v.Kind == KindTensorList
		if ok {
			for k, e := range v.List {
				if e < 0 {
					continue
				}
				if err := g.checkTensor(g.Values[e], sa, op); err != nil {
					return fmt.Errorf("entry %d: %w", k, err)
				}
			}
		}
	case argInt, argScalar, argFloat, argBool:
		// A computed number's placeholder may have any type; Call checks again.
		ok = v.Kind == KindInt || v.Kind == KindFloat || v.Kind == KindBool
		if sa.kind == argInt && v.Kind == KindFloat && !v.computed {
			ok = false
		}
	case argString:
		ok = v.Kind == KindString
	case argIntList:
		ok = v.Kind == KindIntList
	case argFloatList:
		ok = v.Kind == KindFloatList
	case argBoolList:
		ok = v.Kind == KindBoolList
	}
	if !ok {
		return fmt.Errorf("is a %s", v.Kind)
	}
	return nil
}

func (g *Graph) checkTensor(v *Value, sa *SchemaArg, op *Op) error {
	if v.Kind != KindTensor {
		return fmt.Errorf("is a %s, want a tensor", v.Kind)
	}
	if dtypeSize(v.DType) == 0 {
		return fmt.Errorf("has unsupported element type %s", dtypeName(v.DType))
	}
	if sa.Writes && v.Role == RoleConst {
		return fmt.Errorf("is a constant, but the operator writes it")
	}
	if isComplex(v.DType) && !op.Complex {
		return fmt.Errorf("has element type %s, which this operator does not take", dtypeName(v.DType))
	}
	return nil
}

// contiguousOrder reports whether a dim order means row-major, given that dimensions of size 1 may stand anywhere.
func contiguousOrder(order []uint8, sizes []int) bool {
	last := -1
	for _, d := range order {
		if int(d) >= len(sizes) {
			return false
		}
		if sizes[d] == 1 {
			continue
		}
		if int(d) < last {
			return false
		}
		last = int(d)
	}
	return true
}

// MissingOperator is the error of a call of an operator that is not registered.
type MissingOperator struct{ Name string }

func (e *MissingOperator) Error() string { return "operator " + e.Name + " is not available" }
