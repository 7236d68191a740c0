package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
)

// Random calls of every operator: element types, shapes (empty and without dimensions too), dim orders and arguments are drawn from a
// seed. What the shape rule accepts must run without a panic or trap, and give the same by kernel and by reference.

var allTypes = []DType{F32, F32, F32, F32, I64, I64, I32, F16, BF16, F64, I16, I8, U8, Bool, U16, U32, U64, C64, C128}

// drawer draws one call.
type drawer struct {
	r    *rand.Rand
	b    *builder
	ins  []Tensor
	rank map[int]int // of outputs, by argument: what an earlier attempt was told
	main DType
	size []int // of the first tensor
}

func (d *drawer) sizes() []int {
	n := d.r.IntN(5)
	s := make([]int, n)
	for k := range s {
		s[k] = []int{1, 1, 2, 3, 4, 5, 7, 0}[min(d.r.IntN(9), 7)]
	}
	return s
}

func (d *drawer) order(v, n int) int {
	if d.r.IntN(6) == 0 {
		for i, x := range d.r.Perm(n) {
			d.b.plan.Values[v].(*pte.Tensor).DimOrder[i] = uint8(x)
		}
	}
	return v
}

// tensor adds an input with random elements: small integers where they may be indices.
func (d *drawer) tensor(t DType, sizes ...int) int {
	v := d.order(d.b.input(t, sizes...), len(sizes))
	a := newArray(t, sizes)
	for k := range a.len() {
		switch {
		case a.c != nil:
			a.c[k] = complex(float64(d.r.IntN(9)-4), float64(d.r.IntN(9)-4))
		case a.f != nil && d.r.IntN(40) == 0:
			a.f[k] = []float64{0, 1, -1, 100, 0.5}[d.r.IntN(5)]
		case a.f != nil:
			a.set(k, d.r.NormFloat64())
		default:
			a.setInt(k, int64(d.r.IntN(6)-d.r.IntN(2)*3))
		}
	}
	d.ins = append(d.ins, Tensor{t, sizes, a.encode()})
	return v
}

// like returns sizes related to the first tensor's: the same, some of them 1, or others.
func (d *drawer) like() []int {
	s := slices.Clone(d.size)
	switch d.r.IntN(6) {
	case 0:
		return d.sizes()
	case 1:
		for k := range s {
			if d.r.IntN(2) == 0 {
				s[k] = 1
			}
		}
		return s[min(d.r.IntN(2), len(s)):]
	}
	return s
}

func (d *drawer) int() int64 {
	return []int64{0, 1, 2, 3, 1, 0, -1, -2, 5, 64}[d.r.IntN(10)]
}

func (d *drawer) ints(n int) int {
	var l []int64
	for range n {
		l = append(l, d.int())
	}
	return d.b.ints(l...)
}

// call draws the arguments of an operator by its schema; hint may give some of them.
func (d *drawer) call(op *Op, hint map[string]func(d *drawer) int) {
	d.main = allTypes[d.r.IntN(len(allTypes))]
	d.size = d.sizes()
	first := true
	var args []int
	for i, a := range op.schema.Args {
		if h := hint[a.Name]; h != nil {
			args = append(args, h(d))
			first = false
			continue
		}
		switch {
		case a.Out && a.kind == argTensor:
			t := d.main
			switch d.r.IntN(5) {
			case 0:
				t = allTypes[d.r.IntN(len(allTypes))]
			case 1:
				t = []DType{Bool, I64, F32}[d.r.IntN(3)]
			}
			if strings.Contains(a.Name, "ind") {
				t = I64
			}
			rank, ok := d.rank[i]
			if !ok {
				rank = len(d.size)
			}
			v := d.b.dynamic(t, pte.DynamicUnbound, make([]int, rank)...)
			d.b.plan.Values[v].(*pte.Tensor).Alloc = nil
			args = append(args, d.order(v, rank))
			d.b.output(v)
		case a.Out && a.kind == argTensorList:
			args = append(args, d.b.add(pte.TensorList{}))
		case a.Out:
			args = append(args, d.b.add(pte.IntValue(0)))
		case a.Optional && d.r.IntN(3) == 0:
			args = append(args, d.b.add(pte.Null{}))
		case a.kind == argTensor && first:
			args = append(args, d.tensor(d.main, d.size...))
			first = false
		case a.kind == argTensor:
			t := d.main
			switch {
			case strings.Contains(a.Name, "ind"):
				t = I64
			case a.Name == "mask":
				t = Bool
			case d.r.IntN(4) == 0:
				t = allTypes[d.r.IntN(len(allTypes))]
			}
			args = append(args, d.tensor(t, d.like()...))
		case a.kind == argTensorList:
			var l pte.TensorList
			for range 1 + d.r.IntN(3) {
				t := d.main
				if strings.Contains(a.Name, "indices") {
					t = I64
				}
				l = append(l, d.tensor(t, d.like()...))
			}
			args = append(args, d.b.add(l))
		case a.kind == argIntList:
			args = append(args, d.ints(d.r.IntN(5)))
		case a.kind == argFloatList:
			args = append(args, d.b.add(pte.DoubleList{1.5, 2}))
		case a.kind == argBoolList:
			args = append(args, d.b.add(pte.BoolList{true, d.r.IntN(2) == 0, true}))
		case a.kind == argBool:
			args = append(args, d.b.add(pte.BoolValue(d.r.IntN(2) == 0)))
		case a.kind == argString:
			args = append(args, d.b.add(pte.StringValue([]string{"floor", "trunc", "tanh", "none", ""}[d.r.IntN(5)])))
		case a.kind == argFloat || a.kind == argScalar && d.r.IntN(2) == 0:
			args = append(args, d.b.add(pte.DoubleValue([]float64{0.5, 1, 2, 0, -1.5}[d.r.IntN(5)])))
		default:
			args = append(args, d.b.add(pte.IntValue(d.int())))
		}
	}
	d.b.call(op.Name, args...)
}

var wrongRank = regexp.MustCompile(`output value (\d+): sizes \[[^\]]*\] have (\d+) dimensions, planned`)

// randomCall draws a call from a seed and compares kernel and reference. ran tells whether the arguments were accepted.
func randomCall(t testing.TB, dev *kernel.Device, op *Op, seed uint64) (ran bool) {
	t.Helper()
	rank := map[int]int{}
	for range 4 {
		var outs [2][]Tensor
		var retry bool
		for k, reference := range []bool{true, false} {
			d := &drawer{r: rand.New(rand.NewPCG(seed, 99)), b: newBuilder(), rank: rank}
			d.call(op, hints[op.Name])
			p, err := Load(dev, d.b.program(), Options{Reference: reference, NoPasses: true})
			if err != nil {
				return false
			}
			outs[k], err = runOnce(p, d.ins)
			p.Close()
			if err != nil {
				m := wrongRank.FindStringSubmatch(err.Error())
				if m == nil || !reference {
					if !reference {
						t.Fatalf("%s, seed %d: the reference runs, the kernel fails: %v", op.Name, seed, err)
					}
					return false
				}
				v, _ := strconv.Atoi(m[1])
				n, _ := strconv.Atoi(m[2])
				args := d.b.plan.Chains[0].Instructions[0].(pte.KernelCall).Args
				rank[slices.Index(args, v)] = n
				retry = true
				break
			}
		}
		if retry {
			continue
		}
		if strings.Contains(op.Name, "::rand") || strings.Contains(op.Name, "dropout") && len(outs[0]) > 0 {
			return true
		}
		for i := range outs[0] {
			if !slices.Equal(outs[0][i].Sizes, outs[1][i].Sizes) {
				t.Fatalf("%s, seed %d: output %d has sizes %v by reference, %v by kernel", op.Name, seed, i, outs[0][i].Sizes, outs[1][i].Sizes)
			}
			if err := closeTo(outs[1][i], outs[0][i].Data, 1e-3); err != nil && !bytes.Equal(outs[1][i].Data, outs[0][i].Data) {
				t.Fatalf("%s, seed %d: output %d: kernel and reference: %v", op.Name, seed, i, err)
			}
		}
		return true
	}
	return false
}

func runOnce(p *Program, ins []Tensor) ([]Tensor, error) {
	m, err := p.Method("forward")
	if err != nil {
		return nil, err
	}
	for i, in := range ins {
		if err := m.SetInput(i, in); err != nil {
			return nil, err
		}
	}
	if err := m.Execute(context.Background()); err != nil {
		return nil, err
	}
	var outs []Tensor
	for i := range m.Outputs() {
		v, err := m.Output(i)
		if err != nil {
			return nil, fmt.Errorf("output %d: %w", i, err)
		}
		outs = append(outs, p.Read(v))
	}
	return outs, nil
}

func fuzzOperators() []*Op {
	var l []*Op
	for _, o := range Operators() {
		if o.Stock && !o.Scalar {
			l = append(l, lookupOp(o.Name))
		}
	}
	return l
}

// TestRandomCalls runs every operator on random arguments, and wants every operator to have accepted some.
func TestRandomCalls(t *testing.T) {
	rounds := uint64(800)
	if testing.Short() {
		rounds = 40
	}
	if s := os.Getenv("TABTUNE_RANDOM_CALLS"); s != "" {
		rounds, _ = strconv.ParseUint(s, 10, 64)
	}
	dev, err := fuzzDevice()
	if err != nil {
		t.Fatal(err)
	}
	before := dev.InUse()
	var never []string
	for _, op := range fuzzOperators() {
		ran := 0
		for seed := range rounds {
			if randomCall(t, dev, op, seed) {
				ran++
			}
		}
		if ran == 0 {
			never = append(never, op.Name)
		}
	}
	if got := dev.InUse(); got != before {
		t.Errorf("%d bytes leaked", got-before)
	}
	if rounds >= 800 && len(never) > 0 {
		t.Errorf("no call of %d was accepted by %s", rounds, strings.Join(never, " "))
	}
}

// FuzzOperators is the same from fuzzed seeds.
func FuzzOperators(f *testing.F) {
	f.Add(uint16(0), uint64(0))
	f.Add(uint16(77), uint64(5))
	ops := fuzzOperators()
	dev, err := fuzzDevice()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, op uint16, seed uint64) {
		for k := range uint64(8) {
			randomCall(t, dev, ops[int(op)%len(ops)], seed+k)
		}
	})
}
