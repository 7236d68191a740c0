//go:build !wasip1

package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"tabtune/engine/kernel/ref"
)

func randomBytes(r *rand.Rand, n int) []uint8 {
	b := make([]uint8, n)
	for i := range b {
		b[i] = uint8(r.Uint32())
	}
	return b
}

// elements cuts bytes into elements.
func elements(b []uint8, size int) [][8]uint8 {
	out := make([][8]uint8, len(b)/size)
	for i := range out {
		copy(out[i][:], b[i*size:(i+1)*size])
	}
	return out
}

func joined(e [][8]uint8, size int) []uint8 {
	var b []uint8
	for _, v := range e {
		b = append(b, v[:size]...)
	}
	return b
}

func TestCopyND(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(10, 1))
	shapes := append([][]int{{1, 1, 1}, {16, 16}, {15, 17}, {31, 33}, {1, 100}, {100, 1}, {3, 64, 5, 16}, {2, 9, 37, 64}, {129, 131}}, ndShapes...)
	for _, dims := range shapes {
		for round := range 12 {
			size := 1 << (round % 4)
			func() {
				defer freeAll(d)()
				d.SetThreads(1 + round/4%2)
				n := product(dims)
				ss, length := anyStrides(r, dims, round >= 8)
				src := randomBytes(r, length*size)
				out := put(t, d, slices.Repeat([]uint8{0xA5}, n*size+8))
				d.CopyNd(int32(size), out, put(t, d, src), describe(t, d, dims, contiguous(dims), ss))
				what := fmt.Sprintf("copy of %v, size %d, strides %v", dims, size, ss)
				picked := joined(ref.PickND(elements(src, size), 0, dims, ss), size)
				match(t, what, get[uint8](d, out, n*size+8), append(slices.Clone(picked), slices.Repeat([]uint8{0xA5}, 8)...))
				// And from contiguous to strides that do not repeat, where every element comes back from its place.
				sd, room := anyStrides(r, dims, false)
				spread := put(t, d, slices.Repeat([]uint8{0xA5}, room*size))
				d.CopyNd(int32(size), spread, put(t, d, picked), describe(t, d, dims, sd, contiguous(dims)))
				back := ref.PickND(elements(get[uint8](d, spread, room*size), size), 0, dims, sd)
				match(t, what+" spread", joined(back, size), picked)
			}()
		}
	}
}

func TestCopyNegativeStride(t *testing.T) {
	d := open(t, 1)
	src, out := put(t, d, []int32{1, 2, 3, 4, 5, 6, 7}), alloc(t, d, 28)
	d.CopyNd(4, out, src+24, describe(t, d, []int{7}, []int{1}, []int{-1}))
	match(t, "flip", get[int32](d, out, 7), []int32{7, 6, 5, 4, 3, 2, 1})
}

func TestRows(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(11, 1))
	for _, bytes := range []int{1, 3, 4, 15, 16, 17, 255, 257, 577, 2304} {
		for _, n := range []int{1, 2, 7, 131} {
			func() {
				defer freeAll(d)()
				d.SetThreads(1 + n%2)
				const limit = 23
				pad := 5
				table := randomBytes(r, limit*(bytes+pad))
				index := make([]int64, n)
				for i := range index {
					index[i] = int64(r.IntN(limit))
				}
				bad := -1
				if n > 2 {
					bad = n / 2
					index[bad] = []int64{-1, limit, 1 << 40, -1 << 63}[r.IntN(4)]
				}
				pt, pi := put(t, d, table), put(t, d, index)
				if got := d.IndexCheck(pi, int32(n), limit); int(got) != bad {
					t.Errorf("index_check says %d, want %d", got, bad)
				}
				what := fmt.Sprintf("%d rows of %d bytes", n, bytes)
				out := put(t, d, slices.Repeat([]uint8{0xA5}, n*(bytes+2)))
				want := slices.Repeat([]uint8{0xA5}, n*(bytes+2))
				d.GatherRows(out, int32(bytes+2), pt, int32(bytes+pad), pi, int32(n), int32(bytes), limit)
				for i, k := range index {
					row := make([]uint8, bytes)
					if i != bad {
						copy(row, table[int(k)*(bytes+pad):])
					}
					copy(want[i*(bytes+2):], row)
				}
				match(t, "gather of "+what, get[uint8](d, out, len(want)), want)

				d.ScatterRows(pt, int32(bytes+pad), out, int32(bytes+2), pi, int32(n), int32(bytes), limit)
				for i, k := range index {
					if i != bad {
						copy(table[int(k)*(bytes+pad):][:bytes], want[i*(bytes+2):])
					}
				}
				match(t, "scatter of "+what, get[uint8](d, pt, len(table)), table)

				d.CopyRows(out, int32(bytes+2), pt, int32(bytes), int32(bytes), int32(min(n, limit)))
				for i := range min(n, limit) {
					copy(want[i*(bytes+2):][:bytes], table[i*bytes:])
				}
				match(t, "copy of "+what, get[uint8](d, out, len(want)), want)
			}()
		}
	}
}

// TestScatterLastWins: of rows written to the same place the last one stays, for any number of threads.
func TestScatterLastWins(t *testing.T) {
	d := open(t, 2)
	const n, cols = 50, 3000
	src := make([]int32, n*cols)
	for i := range src {
		src[i] = int32(i / cols)
	}
	out, ps, pi := alloc(t, d, 4*cols), put(t, d, src), put(t, d, make([]int64, n))
	d.ScatterRows(out, 4*cols, ps, 4*cols, pi, n, 4*cols, 1)
	match(t, "scatter", get[int32](d, out, cols), slices.Repeat([]int32{n - 1}, cols))
}
