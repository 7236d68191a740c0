package lora

import "fmt"

// Stack is adapters that were trained before the present one and stay as they are:
// W x + (alpha/rank) (B A x + sum_k B_k A_k x), with the alpha and rank of the Spec.
// Side by side they are one adapter of a higher rank (Spec.Stacked), so what is
// trained in one subspace after another is exported like any other.
type Stack struct {
	Rank int         // of all together
	A    [][]float32 // [Rank, in], in the order of Spec.Adapters
	B    [][]float32 // [out, Rank]
}

// maxStack bounds the rank of a stack and what is trained on it.
const maxStack = 1024

func (p *Stack) validate(s *Spec) error {
	if p.Rank < 1 || p.Rank+s.Rank > maxStack {
		return fmt.Errorf("stack: rank %d, want 1 to %d", p.Rank, maxStack-s.Rank)
	}
	list := s.Adapters()
	if len(p.A) != len(list) || len(p.B) != len(list) {
		return fmt.Errorf("stack: %d and %d matrices for %d modules", len(p.A), len(p.B), len(list))
	}
	for i, a := range list {
		if len(p.A[i]) != p.Rank*a.In || len(p.B[i]) != a.Out*p.Rank {
			return fmt.Errorf("stack: A and B of %s have %d and %d values, want %d and %d", a.Name, len(p.A[i]), len(p.B[i]), p.Rank*a.In, a.Out*p.Rank)
		}
	}
	return nil
}

// Stacked is the stack with the present adapter, whose matrices B are b, on it.
func (s *Spec) Stacked(b [][]float32) *Stack {
	out := &Stack{Rank: s.Rank}
	if s.Past != nil {
		out.Rank += s.Past.Rank
	}
	for i, a := range s.Adapters() {
		now, rows := s.MatrixA(i), make([]float32, 0, a.Out*out.Rank)
		if s.Past == nil {
			out.A, out.B = append(out.A, now), append(out.B, b[i])
			continue
		}
		old := s.Past.Rank
		for o := range a.Out {
			rows = append(rows, s.Past.B[i][o*old:(o+1)*old]...)
			rows = append(rows, b[i][o*s.Rank:(o+1)*s.Rank]...)
		}
		out.A, out.B = append(out.A, append(append([]float32{}, s.Past.A[i]...), now...)), append(out.B, rows)
	}
	return out
}

// Groups says which modules read the same tensor, as q, k and v of a layer do: for
// every adapter the number of its group, from 0 up, and for every group the width
// of what it reads.
func (s *Spec) Groups() (of, widths []int) {
	seen := map[string]int{}
	for _, a := range s.Adapters() {
		key := a.Name
		for _, same := range [][]string{{"q", "k", "v"}, {"gate", "up"}} {
			for _, m := range same {
				if n := len(a.Name) - len(modulePaths[m]); n > 0 && a.Name[n:] == modulePaths[m] {
					key = a.Name[:n] + modulePaths[same[0]]
				}
			}
		}
		if _, ok := seen[key]; !ok {
			seen[key] = len(widths)
			widths = append(widths, a.In)
		}
		of = append(of, seen[key])
	}
	return of, widths
}
