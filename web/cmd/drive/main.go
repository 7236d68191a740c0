// Command drive fine-tunes in the page, in a headless Chromium, and prints progress and the before/after table:
//
//	go run ./web/cmd/drive --url http://127.0.0.1:8080 --steps 150
//
// It exits with 1 and the page's own words when the page shows an error, and when any request left the page's origin.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"tabtune/web/drive"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "drive:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	address := flag.String("url", "http://127.0.0.1:8080/", "address of the page")
	shots := flag.String("screenshots", "", "folder for screenshots of every step")
	out := flag.String("out", "", "folder for the saved adapter; empty: saved and thrown away")
	asJSON := flag.Bool("json", false, "print one JSON object on standard output at the end")
	timeout := flag.Duration("timeout", 30*time.Minute, "give up after so long")
	knobs := map[string]string{}
	for flagName, id := range map[string]string{"steps": "steps", "layers": "layers", "queries": "queries", "batch": "batch", "lr": "lr", "eps": "eps", "rank": "rank",
		"alpha": "alpha", "modules": "modules", "seed": "seed", "threads": "threads", "eval-every": "evalEvery", "dtype": "dtype", "estimator": "estimator",
		"subspace": "subspace"} {
		flag.Func(flagName, "the page's setting of that name", func(v string) error {
			knobs[id] = v
			return nil
		})
	}
	flag.Parse()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()

	downloads := *out
	if downloads == "" {
		tmp, err := os.MkdirTemp("", "tabtune-download")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		downloads = tmp
	}
	downloads, err := filepath.Abs(downloads)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(downloads, 0o755); err != nil {
		return err
	}
	b, err := drive.Open(ctx, drive.Options{Downloads: downloads})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := b.Goto(*address); err != nil {
		return fmt.Errorf("opening %s: %w", *address, err)
	}
	p := printer{}
	s, err := b.FineTune(ctx, drive.Run{Knobs: knobs, Progress: p.state, Shot: func(name string, b *drive.Browser) error {
		if *shots == "" {
			return nil
		}
		return b.Screenshot(filepath.Join(*shots, name+".png"))
	}})
	if err != nil {
		if *shots != "" {
			_ = b.Screenshot(filepath.Join(*shots, "error.png"))
		}
		return err
	}
	saved, err := waitFile(ctx, downloads, "tabtune-*.zip")
	if err != nil {
		return err
	}
	if err := b.CloseAndCheck(*address); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "\n%-12s %10s %10s\n", "", "before", "after")
	for _, name := range []string{"Accuracy", "Loss"} {
		v := s.Table[name]
		fmt.Fprintf(os.Stderr, "%-12s %10.3f %10.3f\n", name, v[0], v[1])
	}
	fmt.Fprintln(os.Stderr, s.Result.Text)
	fmt.Fprintln(os.Stderr, "No request left", *address)
	if *out != "" {
		fmt.Fprintln(os.Stderr, "Adapter:", saved)
	}
	if !*asJSON {
		return nil
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"accuracy": s.Table["Accuracy"][1], "loss": s.Table["Loss"][1], "steps": s.Number("Step"), "rows_per_second": s.Number("Rows per second"),
		"zero_shot": map[string]float64{"accuracy": s.Table["Accuracy"][0], "loss": s.Table["Loss"][0]},
		"memory":    s.Facts["Memory"], "engine": s.Engine,
	})
}

// printer writes a line whenever what the page says changes, at most once a second.
type printer struct {
	last string
	when time.Time
}

func (p *printer) state(s drive.State) {
	line := ""
	switch {
	case s.Train.Phase == "working":
		line = s.Train.Text
		for _, f := range []string{"Loss", "Validation accuracy", "Rows per second", "Time left", "Memory"} {
			if v := s.Facts[f]; v != "" && strings.HasPrefix(line, "Training,") {
				line += "  " + strings.ToLower(f) + " " + v
			}
		}
	case s.Train.Phase != "":
		line = s.Train.Text
	case s.Model.Phase != "ready":
		line = s.Model.Text
	case s.Data.Phase != "ready":
		line = s.Data.Text
	}
	if line != "" && line != p.last && time.Since(p.when) >= time.Second {
		p.last, p.when = line, time.Now()
		fmt.Fprintln(os.Stderr, line)
	}
}

// waitFile waits for a finished download.
func waitFile(ctx context.Context, dir, pattern string) (string, error) {
	for {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			if st, err := os.Stat(found[0]); err == nil && st.Size() > 0 {
				return found[0], nil
			}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("the adapter was not saved: %w", ctx.Err())
		}
	}
}
