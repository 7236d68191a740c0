//go:build !wasip1

package kernel

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"tabtune/engine/kernel/code"
	"testing"
	"time"

	"tabtune/engine/kernel/ref"
)

// cacheDir keeps the compiled kernels between the tests of one run.
var cacheDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kernels")
	if err != nil {
		panic(err)
	}
	cacheDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// open starts a device for a test.
func open(t testing.TB, threads int) *Device {
	t.Helper()
	d, err := New(context.Background(), Config{Threads: threads, MemoryLimit: 1 << 30, CacheDir: cacheDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func alloc(t testing.TB, d *Device, n int64) Addr {
	t.Helper()
	a, err := d.Alloc(n, 64)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDeviceMemory(t *testing.T) {
	d := open(t, 2)
	a, b := alloc(t, d, 1<<20), alloc(t, d, 32<<20)
	d.MemSet(a, 7, 1000)
	d.MemCopy(b+5, a+1, 900)
	got := make([]byte, 900)
	d.Read(got, b+5)
	if !bytes.Equal(got, bytes.Repeat([]byte{7}, 900)) {
		t.Errorf("MemCopy of MemSet bytes: got % x...", got[:8])
	}
	d.Write(b, []byte("tensor"))
	d.Read(got[:6], b)
	if string(got[:6]) != "tensor" {
		t.Errorf("Read after Write: %q", got[:6])
	}
	defer func() {
		if recover() == nil {
			t.Error("Write outside device memory did not panic")
		}
	}()
	d.Write(1<<31, []byte{1})
}

func TestThreadsAreClamped(t *testing.T) {
	d := open(t, 3)
	for _, c := range []struct{ set, want int }{{0, 1}, {-4, 1}, {2, 2}, {3, 3}, {99, 3}} {
		d.SetThreads(c.set)
		if d.Threads() != c.want {
			t.Errorf("SetThreads(%d) of 3: Threads() = %d, want %d", c.set, d.Threads(), c.want)
		}
	}
}

func TestMemoryLimitTooSmall(t *testing.T) {
	if _, err := New(context.Background(), Config{Threads: 1, MemoryLimit: 100000}); err == nil {
		t.Error("a device of 100000 bytes: no error")
	}
}

// TestThreadPool runs many short jobs with more threads than processors, changing their number:
// what a lost wake-up, a chunk done twice or a worker in the wrong job would show in.
func TestThreadPool(t *testing.T) {
	d := open(t, 8)
	r := rand.New(rand.NewPCG(9, 9))
	const m, n, k = 33, 1030, 40
	a, b := randomF32(r, m*k), randomF32(r, n*k)
	want := make([]float32, m*n)
	ref.F32GEMM(want, a, b, nil, m, n, k, k, k, n, 1, false, false)
	da, db, dc := put(t, d, a), put(t, d, b), alloc(t, d, m*n*4)
	for i := range 300 {
		d.SetThreads(1 + r.IntN(8))
		d.MemSet(dc, 0xff, m*n*4)
		d.F32GemmNT(dc, da, db, 0, m, n, k, k, k, n, 1, 0)
		equal(t, fmt.Sprintf("call %d, %d threads", i, d.Threads()), get[float32](d, dc, m*n), want)
	}
}

// TestThreadPoolJobsOfDifferentSizes follows short jobs by ones with many more
// units: a worker that is late for the one must not do units of the other, which
// would never end then.
func TestThreadPoolJobsOfDifferentSizes(t *testing.T) {
	d := open(t, 12)
	const large = 1 << 18
	src, dst := alloc(t, d, 4*large), alloc(t, d, 4*large)
	d.MemSet(src, 0, 4*large)
	calls := 20000
	if testing.Short() {
		calls = 2000
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range calls {
			d.F32Unary(code.F32Neg, dst, src, 10000)
			d.F32Unary(code.F32Neg, dst, src, large)
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		t.Fatal("a job never ended")
	}
}

// TestScratchOfThreadsThatExist: a thread that is not there takes no memory, one that is has its half megabyte below the heap.
func TestScratchOfThreadsThatExist(t *testing.T) {
	one, three := open(t, 1).heapBase(), open(t, 3).heapBase()
	if one > 4<<20 {
		t.Errorf("the kernels alone take %d bytes", one)
	}
	if got, want := three-one, int32(2*512<<10); got < want || got >= want+64 {
		t.Errorf("two more threads take %d bytes, want %d", got, want)
	}
	d := open(t, 2)
	d.SetThreads(3)
	if d.Threads() != 2 {
		t.Errorf("%d threads of 2", d.Threads())
	}
}
