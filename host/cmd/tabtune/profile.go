package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// runResult is the part of run's value that is printed.
type runResult struct {
	Profile []profileRow `json:"profile"`
}

// profileRow is what all calls of one operator took.
type profileRow struct {
	Method   string  `json:"method"`
	Operator string  `json:"operator"`
	By       string  `json:"by"`
	Calls    int     `json:"calls"`
	Seconds  float64 `json:"seconds"`
	Share    float64 `json:"share"`
	Read     int64   `json:"read"`
	Written  int64   `json:"written"`
}

// writeProfile prints the rows: MB are 10^6 bytes, GB/s what was read and written in the time.
func writeProfile(w io.Writer, rows []profileRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	cell := func(format string, args ...any) { fmt.Fprintf(t, format, args...) } // errors come back from Flush
	cell("ms\tshare\tcalls\tread MB\twritten MB\tGB/s\tby\t  operator\n")
	for _, r := range rows {
		rate := 0.0
		if r.Seconds > 0 {
			rate = float64(r.Read+r.Written) / r.Seconds / 1e9
		}
		cell("%.3f\t%.1f%%\t%d\t%.3f\t%.3f\t%.2f\t%s\t  %s: %s\n", r.Seconds*1e3, 100*r.Share, r.Calls, float64(r.Read)/1e6, float64(r.Written)/1e6, rate, r.By, r.Method, r.Operator)
	}
	return t.Flush()
}
