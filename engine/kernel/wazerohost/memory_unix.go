//go:build unix

package wazerohost

import (
	"fmt"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// reserve returns an allocator that hands out one reservation of size bytes. Its pages cost nothing
// until touched, growing never moves them (shared memory must not move), and unlike a Go slice of
// the maximum size they do not count as heap, which would put off the garbage collector by
// gigabytes. It reserves now, since an allocator has no way to report an error.
func reserve(size uint64) (experimental.MemoryAllocator, error) {
	b, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	m := &mapping{b}
	return experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return m }), nil
}

type mapping struct{ bytes []byte }

// Reallocate implements experimental.LinearMemory; nil means that the memory cannot grow so far.
func (m *mapping) Reallocate(size uint64) []byte {
	if size > uint64(len(m.bytes)) {
		return nil
	}
	return m.bytes[:size:len(m.bytes)]
}

// Free implements experimental.LinearMemory.
func (m *mapping) Free() {
	if m.bytes != nil {
		_ = syscall.Munmap(m.bytes)
		m.bytes = nil
	}
}
