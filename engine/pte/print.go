package pte

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxListItems is how many items of a list Print shows, maxNameBytes how much of
// a name or string. They also bound the output for files that use one long list
// or name in many instructions.
const (
	maxListItems = 16
	maxNameBytes = 256
)

// Print writes a readable description of p: methods with their inputs, outputs,
// memory, operators, delegates and instructions, then segments and named data.
// Tensors are written as %index, with "<=" before sizes that are upper bounds.
func Print(w io.Writer, p *Program) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "program: version %d, %s, %s\n", p.Version, count(len(p.Plans), "method"), count(len(p.Segments), "segment"))
	for _, m := range p.Plans {
		printPlan(b, p, m)
	}
	printData(b, p)
	return b.Flush()
}

func printPlan(b *bufio.Writer, p *Program, m *Plan) {
	fmt.Fprintf(b, "\nmethod %s\n", plain(m.Name))
	v := printer{b, m, computed(m)}
	v.tensors("inputs", m.Inputs)
	v.tensors("outputs", m.Outputs)
	v.summary()
	if len(m.NonConstBufferSizes) > 1 {
		fmt.Fprintln(b, "  planned memory")
		for id, n := range m.NonConstBufferSizes[1:] {
			fmt.Fprintf(b, "    %d: %d bytes%s\n", id+1, n, v.device(id+1))
		}
	}
	v.stored()
	v.operators()
	if len(m.Delegates) > 0 {
		fmt.Fprintln(b, "  delegates")
	}
	for i, d := range m.Delegates {
		if d.Inline {
			fmt.Fprintf(b, "    %d: %s, %d bytes inline\n", i, plain(d.ID), len(p.InlineDelegateData[d.Index]))
		} else {
			fmt.Fprintf(b, "    %d: %s, %d bytes in segment %d\n", i, plain(d.ID), p.Segments[d.Index].Size, d.Index)
		}
		for _, s := range d.CompileSpecs {
			fmt.Fprintf(b, "       %s: %d bytes\n", plain(s.Key), len(s.Value))
		}
	}
	for i, c := range m.Chains {
		fmt.Fprintf(b, "  chain %d: %s\n", i, count(len(c.Instructions), "instruction"))
		width := len(strconv.Itoa(max(len(c.Instructions)-1, 0)))
		for j, in := range c.Instructions {
			fmt.Fprintf(b, "    %*d: %s\n", width, j, v.instruction(in))
		}
	}
}

func printData(b *bufio.Writer, p *Program) {
	if len(p.InlineConstants) > 0 {
		var n int
		for _, c := range p.InlineConstants {
			n += len(c)
		}
		fmt.Fprintf(b, "\ninline constants: %d bytes in %s\n", n, count(len(p.InlineConstants), "buffer"))
	}
	if len(p.Segments) > 0 {
		fmt.Fprintf(b, "\nsegments from byte %d\n", p.SegmentBase)
	}
	use := make([][]string, len(p.Segments))
	if s := p.ConstantSegment; s != nil && s.Segment < len(use) {
		use[s.Segment] = append(use[s.Segment], "constants")
	}
	for _, s := range p.MutableSegments {
		if s.Segment < len(use) {
			use[s.Segment] = append(use[s.Segment], "initial values")
		}
	}
	for _, m := range p.Plans {
		for _, d := range m.Delegates {
			if !d.Inline && !slices.Contains(use[d.Index], "delegate") {
				use[d.Index] = append(use[d.Index], "delegate")
			}
		}
	}
	for _, n := range p.NamedData {
		if !slices.Contains(use[n.Segment], "named data") {
			use[n.Segment] = append(use[n.Segment], "named data")
		}
	}
	for i, s := range p.Segments {
		fmt.Fprintf(b, "  %d: %d bytes at %d", i, s.Size, s.Offset)
		if len(use[i]) > 0 {
			fmt.Fprintf(b, ", %s", strings.Join(use[i], ", "))
		}
		fmt.Fprintln(b)
	}
	if len(p.NamedData) > 0 {
		fmt.Fprintln(b, "\nnamed data")
	}
	for _, n := range p.NamedData {
		fmt.Fprintf(b, "  %s: segment %d\n", plain(n.Key), n.Segment)
	}
}

// printer writes the parts of one method.
type printer struct {
	*bufio.Writer
	m        *Plan
	computed map[int]bool
}

// computed finds scalars that instructions write, so that their stored value is
// not shown as if it were an argument. An operator's output comes last.
func computed(m *Plan) map[int]bool {
	out := map[int]bool{}
	for _, c := range m.Chains {
		for _, in := range c.Instructions {
			switch in := in.(type) {
			case KernelCall:
				if n := len(in.Args); n > 0 {
					out[in.Args[n-1]] = true
				}
			case MoveCall:
				out[in.To] = true
			}
		}
	}
	for _, i := range m.Inputs {
		out[i] = true
	}
	return out
}

func (v printer) tensors(title string, list []int) {
	fmt.Fprintf(v, "  %s\n", title)
	for i, x := range list {
		fmt.Fprintf(v, "    %d: %%%d %s\n", i, x, v.describe(v.m.Values[x]))
	}
}

// describe returns a value in words, a tensor with type, sizes and storage.
func (v printer) describe(x Value) string {
	t, ok := x.(*Tensor)
	if !ok {
		return strings.ToLower(kindOf(x)) + " " + v.literal(x)
	}
	s := t.ScalarType.String() + " " + sizes(t)
	if !isContiguous(t.DimOrder) {
		s += fmt.Sprintf(" dim order %v", t.DimOrder)
	}
	if t.Name != "" {
		s += " " + plain(t.Name)
	}
	switch {
	case t.External && t.Alloc != nil:
		s += ", mutable, external"
	case t.External:
		s += ", external"
	case t.IsConstant():
		s += ", constant"
	case t.HasInit():
		s += ", mutable with initial value"
	}
	if t.DeviceType != 0 {
		s += fmt.Sprintf(", device %d:%d", t.DeviceType, t.DeviceIndex)
	}
	return s
}

func sizes(t *Tensor) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, n := range t.Sizes {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	b.WriteByte(']')
	switch t.Dynamism {
	case DynamicBound:
		return "<=" + b.String()
	case DynamicUnbound:
		return b.String() + " unbounded"
	}
	return b.String()
}

func isContiguous(order []uint8) bool {
	for i, d := range order {
		if int(d) != i {
			return false
		}
	}
	return true
}

// summary counts the method's values by kind and storage.
func (v printer) summary() {
	var kinds [len(kindNames)]int
	var constants, inits, external, dynamic int
	for _, x := range v.m.Values {
		kinds[kindNumber(x)]++
		if t, ok := x.(*Tensor); ok {
			switch {
			case t.External:
				external++
			case t.IsConstant():
				constants++
			case t.HasInit():
				inits++
			}
			if t.Dynamism != Static {
				dynamic++
			}
		}
	}
	var parts []string
	for k, n := range kinds {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, kindNames[k]))
		}
	}
	fmt.Fprintf(v, "  values: %d (%s)\n", len(v.m.Values), strings.Join(parts, ", "))
	fmt.Fprintf(v, "  tensors: %d constant, %d external, %d mutable with initial value, %d of dynamic size\n", constants, external, inits, dynamic)
}

// stored lists the tensors whose data comes with the program.
func (v printer) stored() {
	first := true
	for i, x := range v.m.Values {
		t, ok := x.(*Tensor)
		if !ok || !(t.External || t.IsConstant() || t.HasInit()) {
			continue
		}
		if first {
			fmt.Fprintln(v, "  stored tensors")
			first = false
		}
		fmt.Fprintf(v, "    %%%d %s\n", i, v.describe(t))
	}
}

func (v printer) device(buffer int) string {
	for _, d := range v.m.BufferDevices {
		if d.Buffer == buffer && d.Type != 0 {
			return fmt.Sprintf(" on device %d:%d", d.Type, d.Index)
		}
	}
	return ""
}

func (v printer) operators() {
	uses := make([]int, len(v.m.Operators))
	for _, c := range v.m.Chains {
		for _, in := range c.Instructions {
			if k, ok := in.(KernelCall); ok {
				uses[k.Op]++
			}
		}
	}
	if len(uses) > 0 {
		fmt.Fprintln(v, "  operators")
	}
	order := make([]int, len(uses))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return strings.Compare(v.m.Operators[a].String(), v.m.Operators[b].String())
	})
	for _, i := range order {
		fmt.Fprintf(v, "    %5d %s\n", uses[i], plain(v.m.Operators[i].String()))
	}
}

func (v printer) instruction(in Instruction) string {
	switch in := in.(type) {
	case KernelCall:
		return plain(v.m.Operators[in.Op].String()) + v.args(in.Args)
	case DelegateCall:
		return fmt.Sprintf("delegate %d %s%s", in.Delegate, plain(v.m.Delegates[in.Delegate].ID), v.args(in.Args))
	case MoveCall:
		return fmt.Sprintf("move %s to %%%d", v.arg(in.From), in.To)
	case JumpFalseCall:
		return fmt.Sprintf("jump to %d if not %s", in.Dest, v.arg(in.Cond))
	case FreeCall:
		return fmt.Sprintf("free %%%d", in.Value)
	}
	return "?"
}

func (v printer) args(list []int) string {
	s := make([]string, len(list))
	for i, x := range list {
		s[i] = v.arg(x)
	}
	return "(" + strings.Join(s, ", ") + ")"
}

// arg returns %index for tensors and computed scalars, else the value.
func (v printer) arg(x int) string {
	if _, ok := v.m.Values[x].(*Tensor); ok || v.computed[x] {
		return "%" + strconv.Itoa(x)
	}
	return v.literal(v.m.Values[x])
}

func (v printer) literal(x Value) string {
	switch x := x.(type) {
	case Null:
		return "none"
	case IntValue:
		return strconv.FormatInt(int64(x), 10)
	case BoolValue:
		return strconv.FormatBool(bool(x))
	case DoubleValue:
		return float(float64(x))
	case StringValue:
		if len(x) > maxNameBytes {
			return plain(string(x))
		}
		return strconv.Quote(string(x))
	case IntList:
		return list(x, func(i int) string {
			if v.computed[i] {
				return "%" + strconv.Itoa(i)
			}
			return v.literal(v.m.Values[i])
		})
	case DoubleList:
		return list(x, float)
	case BoolList:
		return list(x, strconv.FormatBool)
	case TensorList:
		return list(x, reference)
	case OptionalTensorList:
		return list(x, reference)
	}
	return "?"
}

func reference(i int) string {
	if i < 0 {
		return "none"
	}
	return "%" + strconv.Itoa(i)
}

// float writes a double so that it differs from an integer.
func float(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if strings.ContainsAny(s, ".eIN") {
		return s
	}
	return s + ".0"
}

func list[T any](v []T, show func(T) string) string {
	s := make([]string, 0, min(len(v), maxListItems)+1)
	for i, x := range v {
		if i == maxListItems {
			s = append(s, fmt.Sprintf("... %d more", len(v)-i))
			break
		}
		s = append(s, show(x))
	}
	return "[" + strings.Join(s, ", ") + "]"
}

// plain returns s, quoted if it is empty or has anything but visible
// characters, and cut if it is longer than any honest name.
func plain(s string) string {
	if len(s) > maxNameBytes {
		return strconv.Quote(s[:maxNameBytes]) + "..."
	}
	q := strconv.Quote(s)
	if s == "" || len(q) != len(s)+2 || strings.Contains(s, " ") {
		return q
	}
	return s
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
