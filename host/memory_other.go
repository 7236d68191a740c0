//go:build !unix

package host

import "context"

// withGuestMemory leaves the module's memory to wazero where there is no mmap.
func withGuestMemory(ctx context.Context) context.Context { return ctx }
