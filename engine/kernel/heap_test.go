package kernel

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// newHeap returns a heap over [base, limit) that records the end of the memory asked for.
func newHeap(base, limit int64) (*heap, *int64) {
	h, end := new(heap), new(int64)
	h.init(base, limit, func(e int64) bool { *end = e; return true })
	return h, end
}

func TestHeapAlignsAndCounts(t *testing.T) {
	h, _ := newHeap(1000, 1<<20)
	for _, c := range []struct{ n, align, used int64 }{
		{1, 1, 64}, {0, 0, 128}, {64, 64, 192}, {65, 16, 320}, {100, 4096, 448},
	} {
		a, err := h.Alloc(c.n, c.align)
		if err != nil {
			t.Fatal(err)
		}
		if align := max(c.align, 64); int64(a)%align != 0 || int64(a) < 1000 {
			t.Errorf("Alloc(%d, %d) = %d", c.n, c.align, a)
		}
		if h.InUse() != c.used || h.Peak() != c.used {
			t.Errorf("after Alloc(%d, %d): %d in use, peak %d, want %d", c.n, c.align, h.InUse(), h.Peak(), c.used)
		}
	}
	for _, bad := range [][2]int64{{-1, 64}, {8, 3}, {8, -64}} {
		if _, err := h.Alloc(bad[0], bad[1]); err == nil {
			t.Errorf("Alloc(%d, %d): no error", bad[0], bad[1])
		}
	}
}

func TestHeapOutOfMemory(t *testing.T) {
	h, _ := newHeap(64, 64+1024)
	if h.Limit() != 1024 {
		t.Fatalf("Limit() = %d, want 1024", h.Limit())
	}
	a, err := h.Alloc(512, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{513, 1 << 40, 1<<63 - 1} {
		_, err := h.Alloc(n, 64)
		var oom *OutOfMemory
		if !errors.As(err, &oom) {
			t.Fatalf("Alloc(%d) of 512 free: %v", n, err)
		}
		if oom.Need != n || oom.Have != 512 || oom.Limit != 1024 {
			t.Errorf("Alloc(%d): %+v", n, *oom)
		}
	}
	h.Free(a)
	if b, err := h.Alloc(1024, 64); err != nil || b != a {
		t.Errorf("everything after Free: %d, %v", b, err)
	}
	if h.Peak() != 1024 {
		t.Errorf("Peak() = %d", h.Peak())
	}
}

func TestHeapGrowthRefused(t *testing.T) {
	h := new(heap)
	h.init(64, 1<<30, func(end int64) bool { return end <= 1<<20 })
	if _, err := h.Alloc(1<<19, 64); err != nil {
		t.Fatalf("half a MiB of one that the host grants: %v", err)
	}
	var oom *OutOfMemory
	if _, err := h.Alloc(1<<20, 64); !errors.As(err, &oom) || oom.Have >= 1<<20 {
		t.Errorf("beyond what the host grants: %v", err)
	}
	if h.InUse() != 1<<19 {
		t.Errorf("InUse() = %d after a refusal", h.InUse())
	}
}

func TestHeapFreePanics(t *testing.T) {
	h, _ := newHeap(64, 1<<20)
	h.Free(0)
	a, err := h.Alloc(64, 64)
	if err != nil {
		t.Fatal(err)
	}
	h.Free(a)
	for _, bad := range []Addr{a, a + 64, 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Free(%d), which is not allocated, did not panic", bad)
				}
			}()
			h.Free(bad)
		}()
	}
}

// TestHeapRandom checks after each of many random calls that blocks and free spans tile the heap.
func TestHeapRandom(t *testing.T) {
	const base, limit = 4096, 4096 + 1<<18
	h, end := newHeap(base, limit)
	r := rand.New(rand.NewPCG(1, 1))
	var live []Addr
	for range 5000 {
		if r.IntN(5) < 3 {
			n, align := int64(r.IntN(9000)), int64(1)<<r.IntN(13)
			a, err := h.Alloc(n, align)
			if err == nil {
				live = append(live, a)
				if int64(a)+n > *end {
					t.Fatalf("block [%d, %d) past the memory grown to %d", a, int64(a)+n, *end)
				}
			}
		} else if len(live) > 0 {
			i := r.IntN(len(live))
			h.Free(live[i])
			live = slices.Delete(live, i, i+1)
		}
		checkTiling(t, h, base, limit)
	}
	for _, a := range live {
		h.Free(a)
	}
	if h.InUse() != 0 || len(h.free) != 1 || h.free[0] != (span{base, limit}) {
		t.Errorf("after freeing all: %d in use, free %v", h.InUse(), h.free)
	}
}

func checkTiling(t *testing.T, h *heap, base, limit int64) {
	t.Helper()
	spans := slices.Clone(h.free)
	used := int64(0)
	for a, n := range h.live {
		spans = append(spans, span{int64(a), int64(a) + n})
		used += n
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.start - b.start) })
	at := base
	for _, s := range spans {
		if s.start != at || s.end <= s.start {
			t.Fatalf("span [%d, %d) at %d", s.start, s.end, at)
		}
		at = s.end
	}
	if at != limit || used != h.InUse() {
		t.Fatalf("spans end at %d of %d; %d in use, counted %d", at, limit, h.InUse(), used)
	}
	for i := 1; i < len(h.free); i++ {
		if h.free[i-1].end >= h.free[i].start {
			t.Fatalf("free spans %v and %v are not merged", h.free[i-1], h.free[i])
		}
	}
}
