//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/ref"
)

func TestAttention(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(18, 1))
	for _, h := range []ref.Heads{{Q: 1, KV: 1, Dim: 1}, {Q: 2, KV: 1, Dim: 3}, {Q: 3, KV: 3, Dim: 7}, {Q: 4, KV: 2, Dim: 8}, {Q: 3, KV: 1, Dim: 64}, {Q: 2, KV: 2, Dim: 67}, {Q: 1, KV: 1, Dim: 257}} {
		for _, tokens := range []int{1, 2, 3, 4, 5, 7, 8, 9, 13, 31, 63, 64, 65, 67, 128, 131, 197} {
			if tokens > 70 && h.Dim != 7 && h.Dim != 64 {
				continue
			}
			for causal := range int32(2) {
				func() {
					defer freeAll(d)()
					n := 1
					if tokens < 20 {
						n = 3
					}
					rows, wide, narrow := n*tokens, h.Q*h.Dim, h.KV*h.Dim
					q, k, v := randomF32(r, rows*wide), randomF32(r, rows*narrow), randomF32(r, rows*narrow)
					scale := float32(2 / math.Sqrt(float64(h.Dim)))
					pq, pk, pv := put(t, d, padRows(q, wide, 1)), put(t, d, padRows(k, narrow, 2)), put(t, d, padRows(v, narrow, 3))
					out := put(t, d, filled(rows*(wide+5), guard))
					what := fmt.Sprintf("attention %+v, %d x %d, causal %d", h, n, tokens, causal)
					got := threads(t, d, what, out, rows*(wide+5), func() {
						d.F32Attention(out, int32(wide+5), pq, int32(wide+1), pk, int32(narrow+2), pv, int32(narrow+3), int32(n), int32(tokens), int32(h.Q), int32(h.KV), int32(h.Dim), scale, causal)
					})
					want := ref.Attention(h, q, k, v, n, tokens, scale, causal == 1)
					near(t, what, unpadRows(t, what, got, wide, 5), want, 3e-6+4e-8*float64(h.Dim), 3e-6) // long dot products in one lane each
				}()
			}
		}
	}
}

// TestAttentionExtremes: scores far apart, as a peaked head has them, neither overflow nor lose the peak.
func TestAttentionExtremes(t *testing.T) {
	d := open(t, 1)
	r := rand.New(rand.NewPCG(19, 1))
	h := ref.Heads{Q: 2, KV: 1, Dim: 8}
	const tokens = 150
	q, k, v := randomF32(r, tokens*16), randomF32(r, tokens*8), randomF32(r, tokens*8)
	for i := range k {
		k[i] *= float32(i%tokens) / 2
	}
	out := alloc(t, d, 4*tokens*16)
	d.F32Attention(out, 16, put(t, d, q), 16, put(t, d, k), 8, put(t, d, v), 8, 1, tokens, 2, 1, 8, 1, 1)
	near(t, "peaked attention", get[float32](d, out, tokens*16), ref.Attention(h, q, k, v, 1, tokens, 1, true), 1e-4, 1e-4)
}

func TestAttentionRows(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(20, 1))
	for _, h := range []ref.Heads{{Q: 1, KV: 1, Dim: 1}, {Q: 2, KV: 1, Dim: 5}, {Q: 4, KV: 2, Dim: 8}, {Q: 9, KV: 3, Dim: 64}, {Q: 2, KV: 1, Dim: 67}} {
		func() {
			defer freeAll(d)()
			const kvRows = 601
			starts := []int64{0, 600, 3, 17, 100, 0, 0, 45, 601, -1, 5, 600}
			lengths := []int64{1, 1, 2, 7, 256, 257, 601, 513, 1, 3, 0, 2}
			bad := map[int]bool{8: true, 9: true, 10: true, 11: true}
			m, wide, narrow := len(starts), h.Q*h.Dim, h.KV*h.Dim
			q, k, v := randomF32(r, m*wide), randomF32(r, kvRows*narrow), randomF32(r, kvRows*narrow)
			pq, pk, pv := put(t, d, padRows(q, wide, 1)), put(t, d, padRows(k, narrow, 2)), put(t, d, padRows(v, narrow, 3))
			ps, pl := put(t, d, starts), put(t, d, lengths)
			out := put(t, d, filled(m*(wide+5), guard))
			what := fmt.Sprintf("attention rows %+v", h)
			got := unpadRows(t, what, threads(t, d, what, out, m*(wide+5), func() {
				d.F32AttentionRows(out, int32(wide+5), pq, int32(wide+1), pk, int32(narrow+2), pv, int32(narrow+3), ps, pl, int32(m), kvRows, int32(h.Q), int32(h.KV), int32(h.Dim), 0.3)
			}), wide, 5)
			for i := range m {
				want := filled(wide, float32(math.NaN()))
				if !bad[i] {
					want = ref.Attend(h, q[i*wide:], k, v, int(starts[i]), int(lengths[i]), 0.3)
				}
				near(t, fmt.Sprintf("%s, row %d", what, i), got[i*wide:(i+1)*wide], want, 3e-6, 3e-6)
			}
		}()
	}
}

// BenchmarkAttention reports the multiply-adds that a causal attention needs, twice, a second.
func BenchmarkAttention(b *testing.B) {
	d := open(b, 1)
	for _, tokens := range []int{16, 32, 64, 128, 256} {
		b.Run(fmt.Sprint(tokens), func(b *testing.B) {
			defer freeAll(d)()
			const heads, kv, dim = 9, 3, 64
			n := 1024 / tokens
			r := rand.New(rand.NewPCG(21, 1))
			q, k, v := put(b, d, randomF32(r, 1024*heads*dim)), put(b, d, randomF32(r, 1024*kv*dim)), put(b, d, randomF32(r, 1024*kv*dim))
			out := alloc(b, d, 4*1024*heads*dim)
			for b.Loop() {
				d.F32Attention(out, heads*dim, q, heads*dim, k, kv*dim, v, kv*dim, int32(n), int32(tokens), heads, kv, dim, 0.125, 1)
			}
			flops := 4 * float64(n*heads*dim) * float64(tokens) * float64(tokens+1) / 2
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
