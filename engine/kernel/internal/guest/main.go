//go:build wasip1

// Command guest is what the test of package wazerohost runs: package kernel in its wasip1 build,
// against the kernels and the "dev" module of a wazero host.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/ref"
)

func main() {}

// check multiplies two matrices on the device and compares with the reference. It returns the
// number of threads, or -1 after printing what went wrong.
//
//go:wasmexport check
func check() int32 {
	d, err := kernel.New(context.Background(), kernel.Config{MemoryLimit: 64 << 20})
	if err == nil {
		err = multiply(d)
	}
	if err != nil {
		fmt.Println("guest:", err)
		return -1
	}
	return int32(d.Threads())
}

// outside writes past the end of device memory, which must end the call.
//
//go:wasmexport outside
func outside() {
	(&kernel.Device{}).Write(0xfffffff0, make([]byte, 64))
}

func multiply(d *kernel.Device) error {
	const m, n, k = 130, 67, 33
	a, b, want := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
	for i := range a {
		a[i] = float32(i%17) - 8
	}
	for i := range b {
		b[i] = float32(i%13)/4 - 1
	}
	ref.F32GEMM(want, a, b, nil, m, n, k, k, k, n, 0.5, false, false)
	var at [3]kernel.Addr
	for i, v := range [][]float32{a, b, want} {
		var err error
		if at[i], err = d.Alloc(int64(len(v)*4), 64); err != nil {
			return err
		}
	}
	d.Write(at[0], encode(a))
	d.Write(at[1], encode(b))
	d.F32GemmNT(at[2], at[0], at[1], 0, m, n, k, k, k, n, 0.5, 0)
	got := make([]byte, m*n*4)
	d.Read(got, at[2])
	if !bytes.Equal(got, encode(want)) {
		return fmt.Errorf("the product differs from the reference")
	}
	if _, err := d.Alloc(64<<20, 64); err == nil {
		return fmt.Errorf("64 MiB of a limit of 64 MiB with the kernels' own data: no error")
	}
	return nil
}

func encode(v []float32) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}
