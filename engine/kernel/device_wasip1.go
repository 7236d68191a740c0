package kernel

import (
	"context"
	"unsafe"
)

// Config sets up a Device. Under wasip1 the host decides and the fields only lower its choice.
type Config struct {
	Threads     int    // 0: as many as the host started
	MemoryLimit int64  // bytes of device memory with the kernels' own data; 0: the host's limit
	CacheDir    string // not used here: the host compiles
}

// impl is empty: this build calls imports.
type impl struct{}

//go:wasmimport dev write
//go:noescape
func devWrite(dst uint32, src unsafe.Pointer, n uint32)

//go:wasmimport dev read
//go:noescape
func devRead(dst unsafe.Pointer, src uint32, n uint32)

//go:wasmimport dev limit
func devLimit() int64

//go:wasmimport dev threads
func devThreads() int32

// New returns the device that the host linked to this module. There is one: call New once.
func New(_ context.Context, c Config) (*Device, error) {
	d := &Device{started: max(1, int(devThreads()))}
	limit := devLimit()
	if c.MemoryLimit > 0 {
		limit = min(limit, c.MemoryLimit)
	}
	if err := d.initHeap(limit); err != nil {
		return nil, err
	}
	threads := d.started
	if c.Threads > 0 {
		threads = c.Threads
	}
	d.SetThreads(threads)
	return d, nil
}

// Close does nothing: the host owns the device.
func (d *Device) Close() error { return nil }

// Write copies src to device memory at dst.
func (d *Device) Write(dst Addr, src []byte) {
	if len(src) > 0 {
		devWrite(uint32(dst), unsafe.Pointer(unsafe.SliceData(src)), uint32(len(src)))
	}
}

// Read copies device memory at src to dst.
func (d *Device) Read(dst []byte, src Addr) {
	if len(dst) > 0 {
		devRead(unsafe.Pointer(unsafe.SliceData(dst)), uint32(src), uint32(len(dst)))
	}
}
