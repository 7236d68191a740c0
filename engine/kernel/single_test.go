//go:build !wasip1

package kernel

import (
	"context"
	_ "embed"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"

	"tabtune/engine/kernel/ref"
)

//go:embed kernels_single.wasm
var singleWasm []byte

// TestSingleBuild runs kernels_single.wasm, the build for browsers without shared memory: it exports
// the same kernels and returns the same bits.
func TestSingleBuild(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx) // no threads feature: the build may not use it
	defer rt.Close(ctx)
	// (module (memory (export "memory") 64 1024)), unshared.
	memory := []byte("\x00asm\x01\x00\x00\x00\x05\x05\x01\x01\x40\x80\x08\x07\x0a\x01\x06memory\x02\x00")
	env, err := rt.InstantiateWithConfig(ctx, memory, wazero.NewModuleConfig().WithName("env"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := rt.Instantiate(ctx, singleWasm)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kernelNames {
		if m.ExportedFunction(name) == nil {
			t.Errorf("kernels_single.wasm does not export %s", name)
		}
	}
	const rows, n, k = 67, 19, 33
	r := rand.New(rand.NewPCG(4, 4))
	a, b := randomF32(r, rows*k), randomF32(r, n*k)
	want := make([]float32, rows*n)
	ref.F32GEMM(want, a, b, nil, rows, n, k, k, k, n, 1, false, false)
	base, err := m.ExportedFunction("heap_base").Call(ctx)
	if err != nil {
		t.Fatal(err)
	}
	da := (uint32(base[0]) + 63) &^ 63
	db := da + rows*k*4
	dc := db + n*k*4
	env.Memory().Write(da, encode(t, a))
	env.Memory().Write(db, encode(t, b))
	if _, err := m.ExportedFunction("f32_gemm_nt").Call(ctx, uint64(dc), uint64(da), uint64(db), 0, rows, n, k, k, k, n, 0x3f800000, 0); err != nil {
		t.Fatal(err)
	}
	got, ok := env.Memory().Read(dc, rows*n*4)
	if !ok {
		t.Fatal("the result lies outside the memory")
	}
	if string(got) != string(encode(t, want)) {
		t.Error("f32_gemm_nt differs from the reference")
	}
}
