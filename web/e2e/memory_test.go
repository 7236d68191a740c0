package e2e

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"tabtune/internal/assets"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestMemory opens the real model, trains it and ends the engine, three times in one tab: from a picked file, and twice from the browser's storage.
// What all processes of the browser hold at most stays near what the two WebAssembly memories do, opening from storage takes no more than
// the first time did, and nothing is kept after the end.
func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory is read from Linux's /proc")
	}
	model := assets.Need(t, assets.Model)
	b, ctx := open(t, 5*time.Minute, drive.Options{})
	url := serve(t, &site.Site{Dist: realDist(t), Assets: filepath.Dir(model), Isolated: true})
	must(t, b.Goto(url+"sdk/example/index.html"))
	picked := filepath.Join(t.TempDir(), "picked.gguf")
	must(t, os.Symlink(model, picked))
	must(t, b.Pick("#model", picked))

	before, err := b.Memory()
	must(t, err)
	var peaks []int64
	for _, from := range []string{"file: document.getElementById('model').files[0]", "name: 'picked.gguf'", "name: 'picked.gguf'"} {
		peak, stop := watch(b)
		var own int64
		err := b.Eval(`(async () => {
		  const { createTuner } = await import("../tuner.js");
		  const tuner = await createTuner({ threads: 2 });
		  await tuner.openModel({ `+from+` });
		  await tuner.openData({ text: `+"`text,label\\n${'a fine film that I liked,positive\\nnothing in it is new,negative\\n'.repeat(10)}`"+`, labels: ["negative", "positive"], verbalizers: ["terrible", "great"], val: 4 });
		  await tuner.train({ steps: 2, layers: 30, queries: 4, batch: 4, lr: 0.1, evalEvery: 2, subspace: "random" }).result;
		  const { device, module } = await tuner.call("memory");
		  tuner.close();
		  return device + module;
		})()`, &own)
		stop()
		must(t, err)
		var after int64
		gone := wait(ctx, func() bool { // workers are cleared away some time after their end
			n, err := b.Memory()
			must(t, err)
			after = n - before
			return after < own/4
		})
		peaks = append(peaks, *peak-before)
		t.Logf("%.0f MB in WebAssembly memories, %.0f MB more at the peak, %.0f MB more after the end", mb(own), mb(*peak-before), mb(after))
		if gone != nil {
			t.Fatalf("%.0f MB are held after the end", mb(after))
		}
		if peaks[len(peaks)-1] > 3*own { // compiled code, the page and the browser's own processes are in it
			t.Errorf("%.0f MB at the peak, %.0f of them WebAssembly's", mb(*peak-before), mb(own))
		}
	}
	for _, p := range peaks[1:] {
		if p > peaks[0]*7/5 {
			t.Errorf("%.0f MB at the peak from storage, %.0f MB the first time", mb(p), mb(peaks[0]))
		}
	}
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// watch notes the most that the browser holds until stop is called.
func watch(b *drive.Browser) (peak *int64, stop func()) {
	peak = new(int64)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if n, err := b.Memory(); err == nil {
				*peak = max(*peak, n)
			}
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return peak, func() { close(end); <-ended }
}
