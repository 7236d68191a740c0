package main

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"tabtune/internal/atomicfile"
)

// report writes study-ROWS.md, ROWS being the budget, and a plot for every task.
func report(all []record, sets []dataSet, rows int, out string) error {
	var b strings.Builder
	command := "`make study`"
	if rows != fullRows {
		command = fmt.Sprintf("`go run ./host/cmd/study -rows %d`", rows)
	}
	fmt.Fprintf(&b, `# Estimators at %d rows

Made by %s: SmolLM2-135M-Instruct in int8, so many rows through the model for every run, linear decay unless said, under wazero. The
best checkpoint on the validation rows counts, by loss, or by the generated answers where those are what is judged; step 0 is one. It is chosen on the rows it
is scored on, so the loss of the last step stands beside it. Mean and standard deviation over the seeds; the head is fitted without chance, its seeds are one. Rows of a learning-rate search and of evaluations are not counted: a search takes at most 20 steps. [STUDY.md](STUDY.md) says what follows.
`, rows, command)
	for i := range sets {
		d := &sets[i]
		rs := ofTask(all, d.Name)
		if len(rs) == 0 {
			continue
		}
		b.WriteString(text(rs, d, d.rows(rows), d.plotName(rows)))
		if err := atomicfile.Write(filepath.Join(out, d.plotName(rows)), func(w io.Writer) error {
			_, err := io.WriteString(w, plot(rs, d.rows(rows)))
			return err
		}); err != nil {
			return err
		}
	}
	return atomicfile.Write(filepath.Join(out, fmt.Sprintf("study-%d.md", rows)), func(w io.Writer) error {
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func (d *dataSet) plotName(rows int) string { return fmt.Sprintf("study-%d-%s.svg", rows, d.Name) }

// spread is a mean and a sample's standard deviation.
func spread(n int, f func(i int) float64) (mean, std float64) {
	for i := range n {
		mean += f(i) / float64(n)
	}
	for i := range n {
		std += (f(i) - mean) * (f(i) - mean)
	}
	if n > 1 {
		std = math.Sqrt(std / float64(n-1))
	}
	return mean, std
}

// plusMinus writes a mean and, of more than one run, its deviation.
func plusMinus(digits, n int, mean, std float64) string {
	if n < 2 {
		return fmt.Sprintf("%.*f", digits, mean)
	}
	return fmt.Sprintf("%.*f ± %.*f", digits, mean, digits, std)
}

func text(all []record, d *dataSet, rows int, plot string) string {
	var b strings.Builder
	zero := all[0].Result.ZeroShot
	fmt.Fprintf(&b, `
## %s

%s; %d rows. Zero-shot: %s %.3f, loss %.3f.

| setting | what | seeds | rows | %s | loss | loss at the end | rate |
|---|---|---|---|---|---|---|---|
`, d.Name, d.What, rows, d.Metric, d.quality(zero), zero.Loss, d.Metric)
	for _, s := range settings() {
		rs := of(all, s.Name)
		if len(rs) == 0 {
			continue
		}
		n := len(rs)
		acc, accStd := spread(n, func(i int) float64 { return d.quality(rs[i].Result.Best) })
		loss, lossStd := spread(n, func(i int) float64 { return rs[i].Result.Best.Loss })
		used, _ := spread(n, func(i int) float64 { return float64(rs[i].Result.Rows) })
		rate, _ := spread(n, func(i int) float64 { return rs[i].Result.LR })
		last, lastStd := spread(n, func(i int) float64 { return rs[i].Result.Best.Loss })
		if !slices.ContainsFunc(rs, func(r record) bool { return len(r.Curve) == 0 }) {
			last, lastStd = spread(n, func(i int) float64 { return rs[i].Curve[len(rs[i].Curve)-1].Loss })
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %.0f | %s | %s | %s | %.3g |\n", s.Name, s.Note, n, used, plusMinus(3, n, acc, accStd), plusMinus(4, n, loss, lossStd), plusMinus(4, n, last, lastStd), rate)
	}
	fmt.Fprintf(&b, "\n![loss against rows](%s)\n", plot)
	return b.String()
}

// plot draws the validation loss of every setting, mean over the seeds, against rows.
func plot(all []record, rows int) string {
	const width, height, left, top, right, bottom = 760, 420, 50, 20, 110, 40
	colours := []string{"#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#555555", "#1b9e77", "#d95f02", "#7570b3", "#e7298a"}
	lo, hi := math.Inf(1), 0.0
	for _, r := range all {
		for _, p := range r.Curve {
			lo, hi = min(lo, p.Loss), max(hi, min(p.Loss, r.Result.ZeroShot.Loss))
		}
	}
	if hi <= lo {
		hi = lo + 1
	}
	x := func(r float64) float64 { return left + r/float64(rows)*(width-left-right) }
	y := func(l float64) float64 { return top + (hi-min(l, hi))/(hi-lo)*(height-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for i := range 6 {
		l := lo + (hi-lo)*float64(i)/5
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="4" y="%.1f">%.3f</text>`+"\n", left, width-right, y(l), y(l), y(l)+4, l)
		r := float64(rows) * float64(i) / 5
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(r), height-20, r)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">rows through the model</text>`+"\n", (left+width-right)/2, height-5)
	for k, s := range settings() {
		rs := of(all, s.Name)
		if len(rs) == 0 {
			continue
		}
		var path strings.Builder
		var last float64
		for i := range rs[0].Curve {
			n := 0
			var at, loss float64
			for _, r := range rs {
				if i < len(r.Curve) {
					at, loss, n = at+float64(r.Curve[i].Rows), loss+r.Curve[i].Loss, n+1
				}
			}
			last = loss / float64(n)
			fmt.Fprintf(&path, "%.1f,%.1f ", x(at/float64(n)), y(last))
		}
		c := colours[k%len(colours)]
		if s.Alone {
			last = rs[0].Result.Best.Loss
			fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="4"/>`+"\n", left, width-right, y(last), y(last), c)
		} else {
			fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), c)
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="10" height="3" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", width-right+8, top+16*k+4, c, width-right+22, top+16*k+10, s.Name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
