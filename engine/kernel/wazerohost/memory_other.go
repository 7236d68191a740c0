//go:build !unix

package wazerohost

import "github.com/tetratelabs/wazero/experimental"

// reserve returns nil: wazero's own allocator, a Go slice of the maximum size.
func reserve(uint64) (experimental.MemoryAllocator, error) { return nil, nil }
