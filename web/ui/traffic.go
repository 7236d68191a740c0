package ui

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Request is one entry of the browser's log of requests (PerformanceResourceTiming).
type Request struct {
	Name  string `json:"name"`  // address
	Bytes int64  `json:"bytes"` // of the answer's body as it was received
	By    string `json:"-"`     // which part of the page asked
}

// Traffic is what the page asked for so far, by address.
type Traffic struct {
	Origin string // the page's own
	Rows   []TrafficRow
}

// TrafficRow is one address.
type TrafficRow struct {
	Address, By string // Address without the page's own origin
	Times       int
	Bytes       int64
	Away        bool // another origin
}

// NewTraffic sums up requests: other origins first, then by size. Addresses inside the browser (data:, blob:) are no requests.
func NewTraffic(origin string, requests []Request) Traffic {
	t := Traffic{Origin: origin}
	at := map[string]int{}
	for _, r := range requests {
		u, err := url.Parse(r.Name)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		row := TrafficRow{Address: r.Name, By: r.By, Away: u.Scheme+"://"+u.Host != origin}
		if !row.Away {
			row.Address = strings.TrimPrefix(r.Name, origin)
		}
		i, ok := at[row.Address]
		if !ok {
			i = len(t.Rows)
			at[row.Address] = i
			t.Rows = append(t.Rows, row)
		}
		t.Rows[i].Times++
		t.Rows[i].Bytes += r.Bytes
	}
	slices.SortStableFunc(t.Rows, func(a, b TrafficRow) int {
		if a.Away != b.Away {
			if a.Away {
				return -1
			}
			return 1
		}
		return int(b.Bytes - a.Bytes)
	})
	return t
}

// Summary says it in a sentence.
func (t *Traffic) Summary() string {
	var own, away int
	var hosts []string
	for _, r := range t.Rows {
		if !r.Away {
			own += r.Times
			continue
		}
		away += r.Times
		if u, err := url.Parse(r.Address); err == nil && !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	s := fmt.Sprintf("Nothing you loaded left this device. The browser's log has %s to this page's own address", plural(own, "request"))
	if away == 0 {
		return s + " and none to any other."
	}
	return fmt.Sprintf("%s, and %s to %s, for the model whose address you gave.", s, plural(away, "request"), strings.Join(hosts, ", "))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", Count(int64(n)), what)
}
