package graph

import (
	"fmt"
	"sort"
	"strings"
)

// Dim is one size of a tensor: Num/Den times a product of symbols, such as
// 576, n*T or n*T/8. Symbols have an upper bound in the Graph (ExecuTorch's
// DYNAMIC_BOUND shapes); a Dim without symbols is static.
type Dim struct {
	Num, Den int64
	Syms     string // sorted symbol names joined by "*"
}

// D returns a static size.
func D(n int) Dim { return Dim{Num: int64(n), Den: 1} }

// Sym returns the size named by one symbol.
func Sym(name string) Dim { return Dim{Num: 1, Den: 1, Syms: name} }

// Static reports whether d has no symbols.
func (d Dim) Static() bool { return d.Syms == "" }

// Times returns the product d*e.
func (d Dim) Times(e Dim) Dim {
	syms := d.symbols()
	syms = append(syms, e.symbols()...)
	sort.Strings(syms)
	out := Dim{Num: d.Num * e.Num, Den: d.Den * e.Den, Syms: strings.Join(syms, "*")}
	return out.reduced()
}

// Over returns d/n. The caller promises that every run-time value of d is a
// multiple of n.
func (d Dim) Over(n int) Dim {
	d.Den *= int64(n)
	return d.reduced()
}

func (d Dim) reduced() Dim {
	a, b := d.Num, d.Den
	for b != 0 {
		a, b = b, a%b
	}
	if a > 1 {
		d.Num /= a
		d.Den /= a
	}
	return d
}

func (d Dim) symbols() []string {
	if d.Syms == "" {
		return nil
	}
	return strings.Split(d.Syms, "*")
}

// String returns e.g. "3*T" or "n*T/8".
func (d Dim) String() string {
	s := fmt.Sprint(d.Num)
	if d.Syms != "" {
		s = d.Syms
		if d.Num != 1 {
			s = fmt.Sprintf("%d*%s", d.Num, d.Syms)
		}
	}
	if d.Den != 1 {
		s += fmt.Sprintf("/%d", d.Den)
	}
	return s
}
