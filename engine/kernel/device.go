// Package kernel owns device memory and the C kernels that compute in it.
//
// kernels.wasm has a linear memory of its own, apart from Go's: Go's WebAssembly memory cannot be
// shared between threads, and tensors of a gigabyte are nothing for a collector to walk. Go holds
// offsets into it (Addr) and moves bytes in bulk with Write and Read. Kernels are listed in
// kernels.def, written in c/, and appear here as one generated method each.
//
// The package has two builds with the same methods. Under GOOS=wasip1 a method is a direct call of
// an import that the host links to kernels.wasm's export. Everywhere else the device runs the
// embedded kernels.wasm in wazero. Results have the same bits in both, for any number of threads.
//
// A Device is for one goroutine at a time. Kernels trust their arguments: callers check shapes and
// sizes before. An address outside device memory traps, which panics in the native build and ends
// the module under wasip1; it never reaches memory outside the device.
package kernel

import "fmt"

// Addr is a byte offset into device memory. 0 is never allocated and means none.
type Addr uint32

// PageSize is the size of a WebAssembly memory page in bytes.
const PageSize = 65536

// MaxMemory is the most device memory in bytes: one page below the 4 GiB that 32 bits address, so
// that sizes in bytes fit 32 bits too.
const MaxMemory = 65535 * PageSize

// MaxThreads is TT_MAX_THREADS of c/parallel.h.
const MaxThreads = 32

// Device runs kernels and allocates the memory they work in. See New.
type Device struct {
	heap
	threads int // in use
	started int // that exist: the caller's and its workers
	impl
}

// initHeap sets up the allocator between the module's own data and limit bytes of memory.
func (d *Device) initHeap(limit int64) error {
	base := int64(uint32(d.heapBase()))
	if limit > MaxMemory {
		limit = MaxMemory
	}
	if limit <= base {
		return fmt.Errorf("kernel: memory limit of %d bytes, but the kernels alone need %d", limit, base)
	}
	d.heap.init(base, limit, func(end int64) bool {
		have := int64(uint32(d.memPages()))
		want := (end + PageSize - 1) / PageSize
		return want <= have || d.memGrow(int32(want-have)) != -1
	})
	return nil
}

// Threads returns how many threads kernels use.
func (d *Device) Threads() int { return d.threads }

// SetThreads sets how many threads kernels use, clamped to 1 and to the number started by New.
// Results do not depend on it.
func (d *Device) SetThreads(n int) {
	d.threads = int(d.threadsSet(int32(max(1, min(n, d.started)))))
}
