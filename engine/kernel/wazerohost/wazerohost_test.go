//go:build !wasip1

package wazerohost_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/wazerohost"
)

// buildGuest compiles internal/guest for wasip1.
func buildGuest(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, "tabtune/engine/kernel/internal/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// startGuest instantiates the guest next to kernels of the given number of threads.
func startGuest(t *testing.T, wasm []byte, threads int) api.Module {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazerohost.RuntimeConfig())
	t.Cleanup(func() { rt.Close(ctx) })
	k, err := wazerohost.Instantiate(ctx, rt, kernel.Wasm, wazerohost.Config{Threads: threads, MemoryLimit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := k.InstantiateDev(ctx); err != nil {
		t.Fatal(err)
	}
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	m, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithStartFunctions("_initialize").WithStdout(os.Stderr).WithStderr(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGuestOnDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a wasip1 program")
	}
	wasm := buildGuest(t)
	for _, threads := range []int{1, 2} {
		m := startGuest(t, wasm, threads)
		got, err := m.ExportedFunction("check").Call(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if int32(got[0]) != int32(threads) {
			t.Errorf("check with %d threads returned %d", threads, int32(got[0]))
		}
	}
	m := startGuest(t, wasm, 1)
	if _, err := m.ExportedFunction("outside").Call(context.Background()); err == nil || !strings.Contains(err.Error(), "dev.write") {
		t.Errorf("a write outside device memory: error %v, want one that names dev.write", err)
	}
}

func TestInstantiateErrors(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		wasm   []byte
		config wazerohost.Config
	}{
		"no threads":       {kernel.Wasm, wazerohost.Config{Threads: 0, MemoryLimit: 1 << 30}},
		"too many threads": {kernel.Wasm, wazerohost.Config{Threads: 33, MemoryLimit: 1 << 30}},
		"no memory":        {kernel.Wasm, wazerohost.Config{Threads: 1, MemoryLimit: 1 << 16}},
		"negative memory":  {kernel.Wasm, wazerohost.Config{Threads: 1, MemoryLimit: -1}},
		"not a module":     {[]byte("kernels"), wazerohost.Config{Threads: 1, MemoryLimit: 1 << 30}},
		"no memory import": {[]byte("\x00asm\x01\x00\x00\x00"), wazerohost.Config{Threads: 1, MemoryLimit: 1 << 30}},
	} {
		rt := wazero.NewRuntimeWithConfig(ctx, wazerohost.RuntimeConfig())
		if _, err := wazerohost.Instantiate(ctx, rt, c.wasm, c.config); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := rt.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
