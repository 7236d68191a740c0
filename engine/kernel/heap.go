package kernel

import (
	"fmt"
	"slices"
)

// minAlign is the alignment of every allocation: a cache line, and a multiple of a SIMD vector.
const minAlign = 64

// growStep is the least by which memory grows, so that many small allocations grow it rarely.
const growStep = 4 << 20

// OutOfMemory is the error of an allocation that does not fit device memory.
type OutOfMemory struct {
	Need  int64 // bytes asked for
	Have  int64 // bytes of the largest block that could be had
	Limit int64 // bytes that all allocations together may take
}

func (e *OutOfMemory) Error() string {
	return fmt.Sprintf("out of device memory: need %d bytes, %d available, limit %d", e.Need, e.Have, e.Limit)
}

// span is a run of free bytes [start, end).
type span struct{ start, end int64 }

// heap allocates device memory: first fit over address-ordered free spans, merged when freed.
// Its records live in Go, device memory holds nothing but data, so a kernel that writes out of
// bounds cannot corrupt the allocator. A program binds some thousands of tensors at most, which
// keeps a linear scan cheap.
type heap struct {
	base, limit int64
	free        []span         // sorted by address, never adjacent, never empty
	live        map[Addr]int64 // start -> size
	inUse, peak int64
	ready       int64                // memory exists up to here, as far as the heap asked
	grow        func(end int64) bool // makes memory [0, end) exist
}

func (h *heap) init(base, limit int64, grow func(end int64) bool) {
	base = alignUp(base, minAlign)
	limit &^= minAlign - 1
	*h = heap{base: base, limit: limit, live: map[Addr]int64{}, ready: base, grow: grow}
	if base < limit {
		h.free = []span{{base, limit}}
	}
}

// Alloc returns the address of n fresh bytes, whose contents are arbitrary. The address is a
// multiple of align, a power of two, and of 64. Alloc(0) returns an address of its own too.
// The error is *OutOfMemory when the bytes do not fit.
func (h *heap) Alloc(n, align int64) (Addr, error) {
	if n < 0 {
		return 0, fmt.Errorf("kernel: allocation of %d bytes", n)
	}
	if align < 0 || align&(align-1) != 0 {
		return 0, fmt.Errorf("kernel: alignment %d is not a power of two", align)
	}
	align = max(align, minAlign)
	if n > h.limit {
		return 0, h.outOfMemory(n, align)
	}
	size := alignUp(max(n, 1), minAlign)
	for i, s := range h.free {
		start := alignUp(s.start, align)
		end := start + size
		if end > s.end {
			continue
		}
		if !h.ensure(end) {
			break
		}
		var rest []span
		if s.start < start {
			rest = append(rest, span{s.start, start})
		}
		if end < s.end {
			rest = append(rest, span{end, s.end})
		}
		h.free = slices.Replace(h.free, i, i+1, rest...)
		h.live[Addr(start)] = size
		h.inUse += size
		h.peak = max(h.peak, h.inUse)
		return Addr(start), nil
	}
	return 0, h.outOfMemory(n, align)
}

// ensure makes memory exist up to end, more than asked for when it can.
func (h *heap) ensure(end int64) bool {
	if end <= h.ready {
		return true
	}
	if ahead := min(max(end, h.ready+growStep), h.limit); h.grow(ahead) {
		h.ready = ahead
		return true
	}
	if !h.grow(end) {
		return false
	}
	h.ready = end
	return true
}

func (h *heap) outOfMemory(n, align int64) error {
	e := &OutOfMemory{Need: n, Limit: h.Limit()}
	for _, s := range h.free {
		e.Have = max(e.Have, s.end-alignUp(s.start, align))
	}
	// The host may refuse to grow memory below the limit that was set.
	if n <= e.Have {
		e.Have = max(0, h.ready-h.base-h.inUse)
	}
	return e
}

// Free gives back what Alloc returned at a. Free(0) does nothing; an address that is not
// allocated is a bug of the caller and panics.
func (h *heap) Free(a Addr) {
	if a == 0 {
		return
	}
	size, ok := h.live[a]
	if !ok {
		panic(fmt.Sprintf("kernel: free of address %d, which is not allocated", a))
	}
	delete(h.live, a)
	h.inUse -= size
	s := span{int64(a), int64(a) + size}
	i, _ := slices.BinarySearchFunc(h.free, s, func(x, y span) int { return int(x.start - y.start) })
	from, to := i, i
	if i > 0 && h.free[i-1].end == s.start {
		from, s.start = i-1, h.free[i-1].start
	}
	if i < len(h.free) && h.free[i].start == s.end {
		to, s.end = i+1, h.free[i].end
	}
	h.free = slices.Replace(h.free, from, to, s)
}

// InUse returns the bytes allocated now, each allocation rounded up to 64.
func (h *heap) InUse() int64 { return h.inUse }

// Peak returns the most that InUse has been.
func (h *heap) Peak() int64 { return h.peak }

// ResetPeak sets the peak to what is in use now.
func (h *heap) ResetPeak() { h.peak = h.inUse }

// Limit returns the bytes that all allocations together may take.
func (h *heap) Limit() int64 { return h.limit - h.base }

func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }
