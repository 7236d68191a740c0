// Package wazerohost runs kernels.wasm in wazero: shared memory, one instance a thread, and the
// "dev" host module through which a guest reaches device memory.
//
// package kernel uses it natively, host/ uses it beneath tabtune.wasm. In one wazero.Runtime:
//
//	rt := wazero.NewRuntimeWithConfig(ctx, wazerohost.RuntimeConfig())
//	k, err := wazerohost.Instantiate(ctx, rt, kernel.Wasm, wazerohost.Config{Threads: n, MemoryLimit: limit})
//	err = k.InstantiateDev(ctx) // module "dev": write, read, limit, threads
//	// now a guest that imports "kernels" and "dev" can be instantiated in rt
//	err = k.Close(ctx)          // before rt.Close
package wazerohost

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// Names of the modules that Instantiate and InstantiateDev put in the runtime.
const (
	MemoryModule  = "env"     // exports the device memory as "memory"
	KernelsModule = "kernels" // the instance of the calling thread
	DevModule     = "dev"
)

const (
	pageSize   = 65536
	maxPages   = 65535 // 4 GiB less a page, so that sizes in bytes fit uint32
	maxThreads = 32    // TT_MAX_THREADS of c/parallel.h
)

// Config says how much of the machine the kernels may use.
type Config struct {
	Threads     int   // 1 to 32, the caller's own included
	MemoryLimit int64 // bytes of device memory; rounded down to pages of 64 KiB
}

// RuntimeConfig returns the features that kernels.wasm needs. The caller may add a compilation
// cache. WithCloseOnContextDone would put a check into every loop of the kernels: leave it off.
func RuntimeConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesThreads)
}

// Kernels is kernels.wasm at work in a runtime: one instance for the caller, and one for each
// worker thread, all on one memory.
type Kernels struct {
	runtime wazero.Runtime
	config  Config
	memory  api.Memory
	modules []api.Module // memory first, then the caller's instance, then the workers'
	main    api.Module
	workers sync.WaitGroup
}

// Instantiate compiles wasm (kernel.Wasm), gives it a shared memory of at most c.MemoryLimit bytes,
// and starts c.Threads-1 workers, each a goroutine parked until a kernel has work for it.
func Instantiate(ctx context.Context, rt wazero.Runtime, wasm []byte, c Config) (*Kernels, error) {
	if c.Threads < 1 || c.Threads > maxThreads {
		return nil, fmt.Errorf("wazerohost: %d threads, want 1 to %d", c.Threads, maxThreads)
	}
	code, err := rt.CompileModule(ctx, wasm)
	if err != nil {
		return nil, fmt.Errorf("wazerohost: compile the kernels: %w", err)
	}
	imports := code.ImportedMemories()
	if len(imports) != 1 {
		return nil, fmt.Errorf("wazerohost: the kernels import %d memories, want 1", len(imports))
	}
	minPages := imports[0].Min()
	limit := uint32(min(max(c.MemoryLimit, 0)/pageSize, maxPages))
	if limit < minPages {
		return nil, fmt.Errorf("wazerohost: memory limit of %d bytes, but the kernels alone need %d", c.MemoryLimit, int64(minPages)*pageSize)
	}
	c.MemoryLimit = int64(limit) * pageSize
	k := &Kernels{runtime: rt, config: c}
	if err := k.start(ctx, code, minPages, limit); err != nil {
		return nil, errors.Join(err, k.Close(ctx))
	}
	return k, nil
}

func (k *Kernels) start(ctx context.Context, code wazero.CompiledModule, minPages, limit uint32) error {
	allocator, err := reserve(uint64(limit) * pageSize)
	if err != nil {
		return fmt.Errorf("wazerohost: device memory: %w", err)
	}
	memory, err := k.runtime.InstantiateWithConfig(experimental.WithMemoryAllocator(ctx, allocator),
		memoryModule(minPages, limit), wazero.NewModuleConfig().WithName(MemoryModule))
	if err != nil {
		return fmt.Errorf("wazerohost: device memory: %w", err)
	}
	k.modules = append(k.modules, memory)
	k.memory = memory.ExportedMemory("memory")
	for tid := range k.config.Threads {
		name := KernelsModule
		if tid > 0 {
			name = "" // anonymous: only the first is there to be linked to
		}
		m, err := k.runtime.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(name))
		if err != nil {
			return fmt.Errorf("wazerohost: instantiate the kernels of thread %d: %w", tid, err)
		}
		k.modules = append(k.modules, m)
		if tid == 0 {
			k.main = m
			continue
		}
		if err := k.startWorker(ctx, m, tid); err != nil {
			return fmt.Errorf("wazerohost: start thread %d: %w", tid, err)
		}
	}
	if k.config.Threads > 1 {
		if _, err := k.main.ExportedFunction("threads_set").Call(ctx, uint64(k.config.Threads)); err != nil {
			return fmt.Errorf("wazerohost: threads_set: %w", err)
		}
	}
	return nil
}

// startWorker gives instance m a stack of its own (all instances begin with the same) and parks a
// goroutine in its worker_main.
func (k *Kernels) startWorker(ctx context.Context, m api.Module, tid int) error {
	top, err := k.main.ExportedFunction("worker_stack").Call(ctx, uint64(tid))
	if err != nil {
		return err
	}
	sp, ok := m.ExportedGlobal("__stack_pointer").(api.MutableGlobal)
	if !ok {
		return errors.New("the kernels do not export __stack_pointer")
	}
	sp.Set(top[0])
	worker := m.ExportedFunction("worker_main")
	k.workers.Add(1)
	go func() {
		defer k.workers.Done()
		// An error means a trap in a kernel, which the caller's own share, or its wait for this
		// worker's, cannot survive either: there is nobody to hand it to but the crash report.
		if _, err := worker.Call(ctx, uint64(tid)); err != nil {
			panic(fmt.Sprintf("wazerohost: kernel thread %d: %v", tid, err))
		}
	}()
	return nil
}

// Module returns the instance of the calling thread, named "kernels" in the runtime.
func (k *Kernels) Module() api.Module { return k.main }

// Memory returns the device memory.
func (k *Kernels) Memory() api.Memory { return k.memory }

// Threads returns how many threads exist, the caller's included.
func (k *Kernels) Threads() int { return k.config.Threads }

// MemoryLimit returns the most device memory in bytes.
func (k *Kernels) MemoryLimit() int64 { return k.config.MemoryLimit }

// Close stops the workers and closes the instances. No kernel may be running.
func (k *Kernels) Close(ctx context.Context) error {
	var errs []error
	if k.main != nil {
		if _, err := k.main.ExportedFunction("threads_stop").Call(ctx); err != nil {
			errs = append(errs, fmt.Errorf("wazerohost: stop the threads: %w", err))
		} else {
			k.workers.Wait()
		}
	}
	for i := len(k.modules) - 1; i >= 0; i-- {
		errs = append(errs, k.modules[i].Close(ctx))
	}
	k.main, k.modules = nil, nil
	return errors.Join(errs...)
}

// memoryModule encodes a module that defines a shared memory and exports it as "memory":
// WebAssembly core specification, section 5.5, with the limits flag 3 of the threads proposal.
func memoryModule(minPages, maxPages uint32) []byte {
	memory := append([]byte{1, 3}, uleb(minPages)...)
	memory = append(memory, uleb(maxPages)...)
	export := append([]byte{1, 6}, "memory\x02\x00"...)
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = append(append(b, 5, byte(len(memory))), memory...)
	return append(append(b, 7, byte(len(export))), export...)
}

// uleb encodes n as LEB128.
func uleb(n uint32) []byte {
	var b []byte
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}
