//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"os/exec"
	"strings"
	"testing"

	"tabtune/engine/kernel/code"
)

// TestSameBitsInNode runs testdata/cross.mjs, which calls the same kernels in V8 with one thread, and compares checksums
// with wazero's with two.
func TestSameBitsInNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	output, err := exec.Command(node, "testdata/cross.mjs", "kernels_single.wasm").CombinedOutput()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, output)
	}
	d := open(t, 2)
	const n = 1 << 20
	base := alloc(t, d, 40*n)
	words := make([]uint32, n)
	for i := range words {
		words[i] = uint32(i) * 4093
	}
	writeAll(d, base, words)
	var got strings.Builder
	report := func(what string, a Addr, count int) {
		h := uint32(2166136261)
		for _, v := range get[float32](d, a, count) {
			w := math.Float32bits(v)
			if v != v {
				w = 0x7fc00000
			}
			h = (h ^ w) * 16777619
		}
		fmt.Fprintf(&got, "%s %d\n", what, h)
	}
	out := base + 8*n
	for op := code.F32Neg; op <= code.F32Sign; op++ {
		d.F32Unary(op, out, base, n)
		report(fmt.Sprintf("unary %d", op), out, n)
	}
	d.ZoNoise(code.ZoNormal, out, 77, 5, n)
	report("noise", out, n)
	to := out + 4*n
	d.F32Attention(to, 576, out, 576, out, 192, out+4096, 192, 8, 67, 9, 3, 64, 0.125, 1)
	report("attention", to, 8*67*576)
	d.F32Softmax(code.Softmax, to, 1021, out, 1021, 1021, 1021, 1)
	report("softmax", to, 1021*1021)
	d.F32Rmsnorm(to, 1021, out, 1021, out, 1e-5, 1021, 1021)
	report("rmsnorm", to, 1021*1021)
	d.F32Scalar(code.F32Pow, to, out, 2.7, 1, 1, n)
	report("pow", to, n)
	q, sx, sums, halves := to+8*n, to+12*n, to+13*n, to+14*n
	const m, cols, k = 257, 131, 576
	d.F32GemmNT(to, out, out+65536, 0, m, cols, k, k, k, cols, 0.3, 0)
	report("f32_gemm", to, m*cols)
	d.I16QuantizeRows(q, sx, sums, out, m, k, k)
	d.I8Gemm(to, q, sx, base, out, 0, m, cols, k, k, cols, 0)
	report("i8_gemm", to, m*cols)
	d.MemSet(halves, 0x2c, cols*k/16)
	d.Q4Gemm(to, q, sx, sums, base, halves, halves, 0, m, cols, k, cols, 0)
	report("q4_gemm", to, m*cols)
	if got.String() != string(output) {
		t.Errorf("wazero:\n%snode:\n%s", got.String(), output)
	}
}

// BenchmarkUnary reports the time an element takes of the elementary functions, with one thread.
func BenchmarkUnary(b *testing.B) {
	d := open(b, 1)
	const n = 1 << 16
	src, out := alloc(b, d, 4*n), alloc(b, d, 4*n)
	d.ZoNoise(code.ZoNormal, src, 1, 0, n)
	for _, u := range unaries {
		b.Run(u.name, func(b *testing.B) {
			for b.Loop() {
				d.F32Unary(u.op, out, src, n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
		})
	}
}
