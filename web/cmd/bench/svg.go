package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// plot draws the ratios of rates as bars on a logarithmic axis, with the aim as a mark. Rows whose peer is a limit are left out.
func plot(rows []row) []byte {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.PeerName == "limit" || strings.Contains(r.Name, "_T") || !(r.Ratio > 0) })
	const line, left, width, right = 20, 230, 460, 60
	lo, hi := -0.5, 0.5
	for _, r := range rows {
		lo, hi = min(lo, math.Log10(r.Ratio)), max(hi, math.Log10(r.Ratio))
	}
	lo, hi = math.Floor(2*lo)/2, math.Ceil(2*hi)/2
	x := func(ratio float64) float64 { return left + width*(math.Log10(ratio)-lo)/(hi-lo) }
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="#fff"/>`+"\n",
		left+width+right, line*len(rows)+40)
	for e := math.Ceil(lo); e <= hi; e++ {
		at := x(math.Pow(10, e))
		fmt.Fprintf(&b, `<path d="M%.1f 10V%d" stroke="#ccc"/><text x="%.1f" y="%d" text-anchor="middle" fill="#555">%gx</text>`+"\n", at, line*len(rows)+14, at, line*len(rows)+30, math.Pow(10, e))
	}
	for i, r := range rows {
		y := 10 + line*i
		from, to := min(x(1), x(r.Ratio)), max(x(1), x(r.Ratio))
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" fill="#222">%s</text><rect x="%.1f" y="%d" width="%.1f" height="12" fill="#4a7fb5"/><text x="%.1f" y="%d" fill="#222">%.3g</text>`,
			left-8, y+12, html.EscapeString(r.Name), from, y+3, max(1, to-from), to+4, y+13, r.Ratio)
		if a, ok := aims[r.Name]; ok {
			fmt.Fprintf(&b, `<path d="M%.1f %dv16" stroke="#b5432f" stroke-width="2"/>`, x(a.ratio), y+1)
		}
		b.WriteByte('\n')
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
