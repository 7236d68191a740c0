package ref

import (
	"math"

	"tabtune/engine/kernel/code"
)

// The functions of this file compute in float64 and round once: the kernels differ from them by the rounding of float32 arithmetic.

// column is the n values at (o, j) of a contiguous [outer, n, inner].
func column(x []float32, o, j, n, inner int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(x[(o*n+i)*inner+j])
	}
	return v
}

// Reduce reduces [outer, n, inner] over n.
func Reduce(op int32, x []float32, outer, n, inner int) []float32 {
	var out []float32
	for o := range outer {
		for j := range inner {
			v := column(x, o, j, n, inner)
			var r float64
			if op == code.ReduceMax || op == code.ReduceMin {
				r = v[0]
			}
			for _, e := range v {
				switch op {
				case code.ReduceMax:
					r = max(r, e)
				case code.ReduceMin:
					r = min(r, e)
				default:
					r += e
				}
			}
			if op == code.ReduceMean {
				r /= float64(n)
			}
			out = append(out, float32(r))
		}
	}
	return out
}

// ArgReduce is the first position of the extreme over n, or of the first NaN.
func ArgReduce(op int32, x []float32, outer, n, inner int) []int64 {
	var out []int64
	for o := range outer {
		for j := range inner {
			best := 0
			v := column(x, o, j, n, inner)
			for i, e := range v {
				b := v[best]
				if b != b {
					break
				}
				if e != e || op == code.ReduceMax && e > b || op == code.ReduceMin && e < b {
					best = i
				}
			}
			out = append(out, int64(best))
		}
	}
	return out
}

func logSumExp(v []float64) float64 {
	top := math.Inf(-1)
	for _, e := range v {
		top = max(top, e)
	}
	sum := 0.0
	for _, e := range v {
		sum += math.Exp(e - top)
	}
	return top + math.Log(sum)
}

// Softmax is softmax or log-softmax over n of [outer, n, inner].
func Softmax(op int32, x []float32, outer, n, inner int) []float32 {
	out := make([]float32, len(x))
	for o := range outer {
		for j := range inner {
			v := column(x, o, j, n, inner)
			l := logSumExp(v)
			for i, e := range v {
				y := e - l
				if op == code.Softmax {
					y = math.Exp(y)
				}
				out[(o*n+i)*inner+j] = float32(y)
			}
		}
	}
	return out
}

// NLL is -log softmax(logits)[target] of each row of [m, n]; NaN for a target outside.
func NLL(logits []float32, target []int64, n int) []float32 {
	var out []float32
	for r, t := range target {
		if t < 0 || t >= int64(n) {
			out = append(out, float32(math.NaN()))
			continue
		}
		v := column(logits[r*n:], 0, 0, n, 1)
		out = append(out, float32(logSumExp(v)-v[t]))
	}
	return out
}

// RMSNorm normalises rows of n by the root of their mean square.
func RMSNorm(x, weight []float32, eps float32, n int) []float32 {
	var out []float32
	for r := range len(x) / n {
		row := x[r*n : r*n+n]
		sum := 0.0
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		s := 1 / math.Sqrt(sum/float64(n)+float64(eps))
		for i, v := range row {
			out = append(out, float32(float64(v)*s*float64(weight[i])))
		}
	}
	return out
}

// LayerNorm normalises rows of n to mean 0 and variance 1; weight and bias may be nil.
func LayerNorm(x, weight, bias []float32, eps float32, n int) []float32 {
	var out []float32
	for r := range len(x) / n {
		row := x[r*n : r*n+n]
		mean, variance := 0.0, 0.0
		for _, v := range row {
			mean += float64(v) / float64(n)
		}
		for _, v := range row {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
		}
		s := 1 / math.Sqrt(variance+float64(eps))
		for i, v := range row {
			y := (float64(v) - mean) * s
			if weight != nil {
				y *= float64(weight[i])
			}
			if bias != nil {
				y += float64(bias[i])
			}
			out = append(out, float32(y))
		}
	}
	return out
}

// Rotary turns the heads of each row of [rows, heads*dim] by the angles of position(row); the same bits as the kernel.
func Rotary(op int32, x, cos, sin []float32, position func(row int) int, rows, heads, dim int) []float32 {
	out := make([]float32, len(x))
	for r := range rows {
		c, s := cos[position(r)*dim:], sin[position(r)*dim:]
		for h := range heads {
			at := (r*heads + h) * dim
			for i := range dim / 2 {
				a, b := i, i+dim/2
				if op == code.RotaryInterleaved {
					a, b = 2*i, 2*i+1
				}
				p, q := x[at+a], x[at+b]
				out[at+a] = float32(p*c[a]) - float32(q*s[a])
				out[at+b] = float32(q*c[b]) + float32(p*s[b])
			}
		}
	}
	return out
}

// GLU is f(gate) * up for f SiLU (op code.F32Silu) or GELUTanh (code.F32GeluTanh); the same bits as the kernel.
func GLU(op int32, gate, up []float32) []float32 {
	f := SiLU
	if op == code.F32GeluTanh {
		f = GELUTanh
	}
	out := make([]float32, len(gate))
	for i, g := range gate {
		out[i] = f(g) * up[i]
	}
	return out
}

// Heads describes the rows of an attention: query heads, key/value heads, elements a head.
type Heads struct{ Q, KV, Dim int }

// Attend is one query row q [Q*Dim] against rows start to start+length-1 of k and v [.., KV*Dim].
func Attend(h Heads, q, k, v []float32, start, length int, scale float32) []float32 {
	out := make([]float32, h.Q*h.Dim)
	for head := range h.Q {
		kv := head / (h.Q / h.KV) * h.Dim
		scores := make([]float64, length)
		for j := range scores {
			row := k[(start+j)*h.KV*h.Dim+kv:]
			for d := range h.Dim {
				scores[j] += float64(q[head*h.Dim+d]) * float64(row[d])
			}
			scores[j] *= float64(scale)
		}
		l := logSumExp(scores)
		for d := range h.Dim {
			sum := 0.0
			for j, s := range scores {
				sum += math.Exp(s-l) * float64(v[(start+j)*h.KV*h.Dim+kv+d])
			}
			out[head*h.Dim+d] = float32(sum)
		}
	}
	return out
}

// Attention is n sequences of T tokens; with causal set token i sees tokens 0..i of its sequence.
func Attention(h Heads, q, k, v []float32, n, tokens int, scale float32, causal bool) []float32 {
	var out []float32
	for s := range n {
		for i := range tokens {
			length := tokens
			if causal {
				length = i + 1
			}
			r := s*tokens + i
			out = append(out, Attend(h, q[r*h.Q*h.Dim:], k, v, s*tokens, length, scale)...)
		}
	}
	return out
}
