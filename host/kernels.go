package host

import (
	"context"

	"github.com/tetratelabs/wazero"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/wazerohost"
)

// openKernels puts the modules "kernels" and "dev" into the runtime: device memory, its worker threads and bulk copies.
func openKernels(ctx context.Context, r wazero.Runtime, o Options) (*wazerohost.Kernels, error) {
	k, err := wazerohost.Instantiate(ctx, r, kernel.Wasm, wazerohost.Config{Threads: o.Threads, MemoryLimit: o.MemoryLimit})
	if err != nil {
		return nil, err
	}
	return k, k.InstantiateDev(ctx)
}
