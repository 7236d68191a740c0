//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
)

var zoSizes = []int{1, 2, 3, 4, 5, 7, 13, 127, 509, 511, 512, 513, 1021, 9216, 10007}

// TestNoiseBits holds the kernel to the reference, bit for bit, for any seed, start, length and thread count.
func TestNoiseBits(t *testing.T) {
	d := open(t, 2)
	for _, n := range zoSizes {
		for _, seed := range []int64{0, 1, 42, 1 << 31, 1<<32 + 7, 1<<62 - 1} {
			for _, base := range []int64{0, 1, 9216, 1<<31 - int64(n)} {
				for _, dist := range []int32{code.ZoNormal, code.ZoRademacher} {
					func() {
						defer freeAll(d)()
						out := put(t, d, filled(n+3, guard))
						d.SetThreads(1 + n%2)
						d.ZoNoise(dist, out, seed, base, int32(n))
						got := get[float32](d, out, n+3)
						match(t, fmt.Sprintf("noise of seed %d from %d", seed, base), got[:n], ref.Noise(dist, seed, base, n))
						match(t, "past the end", got[n:], filled(3, guard))
					}()
				}
			}
		}
	}
}

// TestNoiseGolden pins the generator: these values were computed in Python with numpy from the definition (zocheck.py).
func TestNoiseGolden(t *testing.T) {
	k := ref.NewKey(1234567890123)
	for _, c := range []struct{ i, want uint32 }{{0, 0x42ec3852}, {1, 0x1583652c}, {2, 0x7d2f4de4}, {1000, 0x603d553a}, {4294967295, 0x348a69af}} {
		if got := k.Hash(c.i); got != c.want {
			t.Errorf("H(%d) = %#x, want %#x", c.i, got, c.want)
		}
	}
}

// TestNoiseStatistics: moments, tails, and the independence of neighbours and of neighbouring seeds, each within five
// standard errors.
func TestNoiseStatistics(t *testing.T) {
	const n, seeds = 100_000, 12
	z := make([][]float64, seeds)
	for s := range z {
		seed := int64(s)
		if s >= seeds/2 {
			seed <<= 32 // seeds that differ in the high half only
		}
		z[s] = make([]float64, n)
		for i, v := range ref.Noise(code.ZoNormal, seed, 0, n) {
			z[s][i] = float64(v)
		}
	}
	near := func(what string, got, want, deviation float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 5*deviation) {
			t.Errorf("%s is %.5f, want %.5f +- %.5f", what, got, want, deviation)
		}
	}
	dot := func(a, b []float64) (sum float64) {
		for i := range b {
			sum += a[i] * b[i]
		}
		return sum / float64(len(b))
	}
	root := math.Sqrt(n)
	var all [4]float64
	inside := 0
	for s, v := range z {
		var m [4]float64
		for _, x := range v {
			m[0] += x / n
			m[1] += x * x / n
			m[2] += x * x * x / n
			m[3] += x * x * x * x / n
			if math.Abs(x) < 1.959964 {
				inside++
			}
		}
		near(fmt.Sprintf("mean of seed %d", s), m[0], 0, 1/root)
		near(fmt.Sprintf("variance of seed %d", s), m[1], 1, math.Sqrt(2)/root)
		for i := range all {
			all[i] += m[i] / seeds
		}
		for _, lag := range []int{1, 2, 3, 4, 16, 576} {
			near(fmt.Sprintf("correlation of seed %d at distance %d", s, lag), dot(v, v[lag:]), 0, 1/root)
		}
		for o := range s {
			near(fmt.Sprintf("correlation of seeds %d and %d", o, s), dot(v, z[o]), 0, 1/root)
			near(fmt.Sprintf("correlation of seeds %d and %d one apart", o, s), dot(v, z[o][1:]), 0, 1/root)
		}
	}
	total := root * math.Sqrt(seeds)
	near("mean", all[0], 0, 1/total)
	near("variance", all[1], 1, math.Sqrt(2)/total)
	near("skewness", all[2], 0, math.Sqrt(15)/total)
	near("kurtosis", all[3], 3, math.Sqrt(96)/total)
	near("share within 1.96", float64(inside)/(n*seeds), 0.95, math.Sqrt(0.95*0.05)/total)
	signs := 0.0
	for _, v := range ref.Noise(code.ZoRademacher, 3, 0, n) {
		signs += float64(v)
	}
	near("mean of the signs", signs/n, 0, 1/root)
}

func TestPerturb(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range zoSizes {
		for _, q := range []int{1, 2, 5} {
			for sides := int32(0); sides <= 2; sides++ {
				for _, dist := range []int32{code.ZoNormal, code.ZoRademacher} {
					func() {
						defer freeAll(d)()
						b, seeds := randomF32(r, n), make([]int64, q)
						for j := range seeds {
							seeds[j] = r.Int64N(1 << 62)
						}
						want := ref.Perturb(dist, b, seeds, 0.01, 77, sides)
						out := put(t, d, filled(len(want)+4, guard))
						ab, as := put(t, d, b), put(t, d, seeds)
						for threads := 1; threads <= 2; threads++ {
							d.SetThreads(threads)
							d.MploraPerturb(dist, out, ab, as, 0.01, int32(q), 77, int32(n), sides)
							got := get[float32](d, out, len(want)+4)
							match(t, fmt.Sprintf("perturb n %d q %d sides %d", n, q, sides), got[:len(want)], want)
							match(t, "past the end", got[len(want):], filled(4, guard))
						}
					}()
				}
			}
		}
	}
}

func TestUpdate(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range zoSizes {
		for _, k := range []int{0, 1, 2, 7} {
			for zeros := range 3 {
				func() {
					defer freeAll(d)()
					b, coefs, seeds := randomF32(r, n), randomF32(r, k), make([]int64, k)
					b[0] = float32(math.Copysign(0, -1))
					for j := range seeds {
						seeds[j] = r.Int64N(1 << 62)
						if zeros == 1 && j%2 == 0 || zeros == 2 {
							coefs[j] = 0
						}
					}
					ab := put(t, d, append(append([]float32{}, b...), guard, guard, guard))
					d.SetThreads(1 + k%2)
					d.ZoUpdate(code.ZoNormal, ab, put(t, d, append(seeds, 0)), put(t, d, append(coefs, 0)), int32(k), 5, int32(n))
					before := append([]float32{}, b...)
					ref.Update(code.ZoNormal, b, seeds, coefs, 5)
					got := get[float32](d, ab, n+3)
					match(t, fmt.Sprintf("update n %d k %d zeros %d", n, k, zeros), got[:n], b)
					match(t, "past the end", got[n:], filled(3, guard))
					if zeros == 2 {
						match(t, "update by zeros", got[:n], before)
					}
				}()
			}
		}
	}
}

func TestAXPY(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range zoSizes {
		func() {
			defer freeAll(d)()
			w := randomF32(r, n)
			aw := put(t, d, append(append([]float32{}, w...), guard, guard, guard))
			d.ZoAxpy(code.ZoNormal, aw, 99, -0.125, 1000, int32(n))
			ref.AXPY(code.ZoNormal, w, 99, -0.125, 1000)
			got := get[float32](d, aw, n+3)
			match(t, "axpy", got[:n], w)
			match(t, "past the end", got[n:], filled(3, guard))
		}()
	}
}

func BenchmarkNoise(b *testing.B) {
	d := open(b, 1)
	const n = 1 << 18
	out := alloc(b, d, 4*n)
	for b.Loop() {
		d.ZoNoise(code.ZoNormal, out, 1, 0, n)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
}
