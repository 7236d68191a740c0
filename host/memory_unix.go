//go:build unix

package host

import (
	"context"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// guestLimit bounds the module's own memory: Go's heap, which holds offsets, token ids and what is read from files, but no tensors.
const guestLimit = 2 << 30

// withGuestMemory makes the module's memory a reservation that grows in place. wazero would copy it each time it grows, and the
// copies would be heap of this process. Address space alone is reserved; pages count once the module has grown into them.
func withGuestMemory(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
		b, err := unix.Mmap(-1, 0, guestLimit, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			b = nil // the first Reallocate fails, and with it the instantiation
		}
		return &mapping{reserved: b}
	}))
}

type mapping struct {
	reserved  []byte
	committed uint64
}

// Reallocate implements experimental.LinearMemory. nil means that the memory cannot grow to size.
func (m *mapping) Reallocate(size uint64) []byte {
	if size > uint64(len(m.reserved)) {
		return nil
	}
	if size > m.committed {
		if unix.Mprotect(m.reserved[m.committed:size], unix.PROT_READ|unix.PROT_WRITE) != nil {
			return nil
		}
		m.committed = size
	}
	return m.reserved[:size:size]
}

// Free implements experimental.LinearMemory.
func (m *mapping) Free() {
	if m.reserved != nil {
		_ = unix.Munmap(m.reserved)
		m.reserved = nil
	}
}
