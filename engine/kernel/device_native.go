//go:build !wasip1

package kernel

import (
	"context"
	_ "embed"
	"fmt"
	"runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"tabtune/engine/kernel/wazerohost"
)

// Wasm is kernels.wasm, built by build.sh. It needs shared memory, atomics and simd128.
//
//go:embed kernels.wasm
var Wasm []byte

// Config sets up a Device. Under wasip1 the host decides and the fields only lower its choice.
type Config struct {
	Threads     int    // 0: one a processor
	MemoryLimit int64  // bytes of device memory with the kernels' own data; 0: MaxMemory
	CacheDir    string // folder for compiled code; "": compile each time
}

// impl is the native part of a Device: a wazero instance.
type impl struct {
	ctx     context.Context
	runtime wazero.Runtime
	cache   wazero.CompilationCache
	host    *wazerohost.Kernels
	fns     [len(kernelNames)]api.Function
	stack   [32]uint64 // maxArgs of internal/gen
}

// New starts a device in this process. Close ends it.
func New(ctx context.Context, c Config) (*Device, error) {
	if c.Threads <= 0 {
		c.Threads = runtime.NumCPU()
	}
	c.Threads = min(c.Threads, MaxThreads)
	if c.MemoryLimit <= 0 || c.MemoryLimit > MaxMemory {
		c.MemoryLimit = MaxMemory
	}
	d := &Device{started: c.Threads}
	d.ctx = ctx
	config := wazerohost.RuntimeConfig()
	if c.CacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(c.CacheDir)
		if err != nil {
			return nil, fmt.Errorf("kernel: compilation cache: %w", err)
		}
		d.cache = cache
		config = config.WithCompilationCache(cache)
	}
	d.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	host, err := wazerohost.Instantiate(ctx, d.runtime, Wasm, wazerohost.Config{Threads: c.Threads, MemoryLimit: c.MemoryLimit})
	if err != nil {
		d.Close()
		return nil, err
	}
	d.host = host
	for i, name := range kernelNames {
		// One that is listed but not built yet fails when called, and says so.
		d.fns[i] = host.Module().ExportedFunction(name)
	}
	if err := d.initHeap(c.MemoryLimit); err != nil {
		d.Close()
		return nil, err
	}
	d.SetThreads(c.Threads)
	return d, nil
}

// Close stops the threads and releases the memory.
func (d *Device) Close() error {
	var err error
	if d.host != nil {
		err = d.host.Close(d.ctx)
	}
	if e := d.runtime.Close(d.ctx); err == nil {
		err = e
	}
	if d.cache != nil {
		if e := d.cache.Close(d.ctx); err == nil {
			err = e
		}
	}
	return err
}

// call runs export number i with the arguments on d.stack, where it leaves the result.
func (d *Device) call(i int) {
	f := d.fns[i]
	if f == nil {
		panic(fmt.Sprintf("kernel: kernels.wasm does not export %s", kernelNames[i]))
	}
	if err := f.CallWithStack(d.ctx, d.stack[:]); err != nil {
		panic(fmt.Sprintf("kernel: %s: %v", kernelNames[i], err))
	}
}

// Write copies src to device memory at dst.
func (d *Device) Write(dst Addr, src []byte) {
	if !d.host.Memory().Write(uint32(dst), src) {
		panic(fmt.Sprintf("kernel: write of %d bytes at %d is outside device memory", len(src), dst))
	}
}

// Read copies device memory at src to dst.
func (d *Device) Read(dst []byte, src Addr) {
	b, ok := d.host.Memory().Read(uint32(src), uint32(len(dst)))
	if !ok {
		panic(fmt.Sprintf("kernel: read of %d bytes at %d is outside device memory", len(dst), src))
	}
	copy(dst, b)
}
