package engine

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
)

var fuzzDevice = sync.OnceValues(func() (*kernel.Device, error) {
	return kernel.New(context.Background(), kernel.Config{Threads: 1, MemoryLimit: 28 << 20, CacheDir: filepath.Join(os.TempDir(), "tabtune-test-cache")})
})

// loadRun loads a program and runs every method on zeros; all it asserts is that errors come as errors.
func loadRun(t testing.TB, b []byte, opt Options) {
	file, err := pte.Decode(bytes.NewReader(b), "fuzz")
	if err != nil {
		return
	}
	dev, err := fuzzDevice()
	if err != nil {
		t.Fatal(err)
	}
	opt.MaxSteps = 2000
	before := dev.InUse()
	p, err := Load(dev, file, opt)
	if err != nil {
		return
	}
	for _, name := range p.MethodNames() {
		m, err := p.Method(name)
		if err != nil {
			continue
		}
		for i, in := range m.Inputs() {
			if in.Kind == KindTensor {
				if numel64(in.Sizes) > 1<<20 {
					continue
				}
				_ = m.SetInput(i, Tensor{in.DType, in.Sizes, make([]byte, numel(in.Sizes)*dtypeSize(in.DType))})
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		for range 2 {
			if m.Execute(ctx) != nil {
				break
			}
		}
		cancel()
		for i := range m.Outputs() {
			if v, err := m.Output(i); err == nil {
				p.Read(v)
			}
		}
		m.Release()
	}
	p.Close()
	if dev.InUse() != before {
		t.Errorf("%d bytes of device memory leaked", dev.InUse()-before)
	}
}

// FuzzLoadRun mutates stock programs: loading and running them must never panic, trap or run for ever. Run it with
// -fuzzminimizetime 1x: minimising a program of 80 KB takes a minute each time.
func FuzzLoadRun(f *testing.F) {
	for _, name := range []string{"linear", "control", "shared", "ops", "xnnpack_f32", "xnnpack_layout", "xnnpack_conv", "xnnpack_qs8", "xnnpack_qd8"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".pte"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(0))
		f.Add(b, byte(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, mode byte) {
		opt := []Options{{}, {Reference: true}, {NoPasses: true}, {FilePlan: true}}[mode%4]
		loadRun(t, b, opt)
	})
}

// TestMutatedPrograms changes words of small programs one by one, which reaches further than random bytes: most are sizes, indices and
// operator numbers.
func TestMutatedPrograms(t *testing.T) {
	step := 7
	if testing.Short() {
		step = 61
	}
	for _, name := range []string{"linear", "control", "shared", "xnnpack_qd8"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".pte"))
		if err != nil {
			t.Fatal(err)
		}
		k := 0
		for at := 64; at+4 <= len(b); at += 4 {
			for _, v := range [][]byte{{0, 0, 0, 0}, {1, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 0x10}, {3, 0, 0, 0}, {0xff, 0xff, 0xff, 0x7f}} {
				if k++; k%step != 0 {
					continue
				}
				c := bytes.Clone(b)
				copy(c[at:], v)
				loadRun(t, c, []Options{{}, {Reference: true}, {NoPasses: true}, {FilePlan: true}}[k/step%4])
			}
		}
	}
}

// TestRandomBytes changes a few random bytes of programs with every kind of operator.
func TestRandomBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 77))
	runs := 3000
	if testing.Short() {
		runs = 300
	}
	var files [][]byte
	for _, name := range []string{"linear", "control", "shared", "ops", "xnnpack_f32", "xnnpack_layout", "xnnpack_conv", "xnnpack_qs8", "xnnpack_qd8"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".pte"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
	}
	for k := range runs {
		b := bytes.Clone(files[k%len(files)])
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		loadRun(t, b, []Options{{}, {Reference: true}, {NoPasses: true}, {FilePlan: true}}[r.IntN(4)])
	}
}
