package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"tabtune/internal/assets"
	"tabtune/web/drive"
)

// loading times opening the example model: from the GGUF for the first time, and again from what the first time kept, to the first step.
func loading(ctx context.Context, b *bench) error {
	var imports, firsts []float64
	for range b.rounds {
		t, opened, end, err := b.ours(ctx, "Q4_1", "int8")
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "  opened in %.1f s, phases %v\n", opened.Open/1000, opened.Phases)
		imports = append(imports, opened.Open/1000)
		var first float64
		if err == nil {
			first, err = b.again(t)
		}
		end()
		if err != nil {
			return err
		}
		firsts = append(firsts, first)
	}
	b.report.add(row{Name: "import_gguf", Ours: median(imports), Peer: 5, Unit: "s", Ratio: median(imports) / 5, Command: cmd("loading"),
		OursName: "GGUF to int8 in device memory", PeerName: "limit", Rounds: len(imports)})
	b.report.add(row{Name: "open_to_first_step", Ours: median(firsts), Peer: 1.5, Unit: "s", Ratio: median(firsts) / 1.5, Command: cmd("loading"),
		OursName: "new worker, stored model, one step", PeerName: "limit", Rounds: len(firsts)})
	var interactive []float64
	for range b.rounds {
		s, err := b.interactive(ctx)
		if err != nil {
			return err
		}
		interactive = append(interactive, s)
	}
	b.report.add(row{Name: "page_interactive", Ours: median(interactive), Peer: 1, Unit: "s", Ratio: median(interactive), Command: cmd("loading"),
		OursName: "navigation to the first drawn page", PeerName: "limit", Rounds: len(interactive)})
	return nil
}

// again opens the stored model in a new worker of the same browser and runs a step; in seconds.
func (b *bench) again(t *tab) (float64, error) {
	p := map[string]any{"threads": runtime.NumCPU(), "url": "/assets/" + assets.Model, "file": assets.Model, "dtype": "int8"}
	var r struct{ Boot, Open float64 }
	if err := t.call("reopen", p, &r); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := t.method("bench.start", map[string]any{"only": []string{"prge_top"}, "queries": 1, "batch": 1, "seconds": 0.001, "turns": 1}, nil); err != nil {
		return 0, err
	}
	return (r.Boot+r.Open)/1000 + time.Since(began).Seconds(), nil
}

// interactive is how long after the start of navigation the page's program has drawn its controls, with a warm cache of the browser; in seconds.
func (b *bench) interactive(ctx context.Context) (float64, error) {
	br, err := drive.Open(ctx, drive.Options{})
	if err != nil {
		return 0, err
	}
	defer br.Close()
	var ms float64
	for range 2 { // the first visit fills the caches
		if err := br.Goto(b.url + "/?bench"); err != nil {
			return 0, err
		}
		err := br.Eval(`new Promise((ok) => { const see = () => document.getElementById("starting") ? requestAnimationFrame(see) : ok(performance.now()); see(); })`, &ms)
		if err != nil {
			return 0, err
		}
	}
	return ms / 1000, nil
}

// download counts what the first visit transfers, brotli, without the model.
func download(_ context.Context, b *bench) error {
	total, err := visitBytes(os.DirFS(b.dist))
	if err != nil {
		return err
	}
	b.report.add(row{Name: "download", Ours: float64(total) / 1e6, Peer: 2, Unit: "MB", Ratio: float64(total) / 2e6, Command: cmd("download"),
		OursName: "page, worker and kernels, brotli", PeerName: "limit", Rounds: 1})
	return nil
}

// visitBytes is the size of the compressed files that a browser with threads loads. Of the builds of the kernels it takes one.
func visitBytes(dist fs.FS) (int64, error) {
	var total int64
	err := fs.WalkDir(dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".br" {
			return err
		}
		switch path.Base(name) {
		case "kernels_single.wasm.br", "LICENSE-MIT.br":
			return nil
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// native runs one of the session's contestants in the command under wazero.
func (b *bench) native(ctx context.Context, only string) (float64, error) {
	c := exec.CommandContext(ctx, filepath.Join("bin", "tabtune"), "bench", "--json", "--model", b.model("Q8_0"), "--only", only, "--seconds", fmt.Sprint(b.seconds))
	var msg bytes.Buffer
	c.Stderr = &msg
	out, err := c.Output()
	if err != nil {
		return 0, fmt.Errorf("tabtune bench: %w: %s", err, msg.Bytes())
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var r struct{ Rows []struct{ Value float64 } }
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		return 0, fmt.Errorf("tabtune bench: %w", err)
	}
	if len(r.Rows) != 1 {
		return 0, fmt.Errorf("tabtune bench gave %d rows", len(r.Rows))
	}
	return r.Rows[0].Value, nil
}
