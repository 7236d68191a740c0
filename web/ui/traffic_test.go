package ui

import (
	"strings"
	"testing"
)

func TestTraffic(t *testing.T) {
	page := "http://here:80"
	got := NewTraffic(page, []Request{{page + "/a.js", 5, "page"}, {page + "/b.wasm", 900, "worker"}, {page + "/a.js", 5, "worker"}, {"blob:" + page + "/x", 1, "page"}, {"data:,x", 1, "page"}})
	if len(got.Rows) != 2 || got.Rows[0].Address != "/b.wasm" || got.Rows[1].Times != 2 || got.Rows[1].Bytes != 10 {
		t.Errorf("rows %+v", got.Rows)
	}
	if s := got.Summary(); !strings.Contains(s, "3 requests to this page's own address and none") {
		t.Errorf("summary %q", s)
	}
	got = NewTraffic(page, []Request{{page + "/a.js", 5, "page"}, {"https://models.example/m.gguf", 1, "download"}, {"http://here:81/m", 1, "download"}})
	if !got.Rows[0].Away || !got.Rows[1].Away || !strings.Contains(got.Summary(), "1 request to this page's own address, and 2 requests to ") {
		t.Errorf("away: %+v, %q", got.Rows, got.Summary())
	}
}

func TestPager(t *testing.T) {
	p := Pager{}
	if lo, hi := p.Range(23); lo != 0 || hi != 10 || p.Last(23) || !p.First() {
		t.Errorf("first page %d %d", lo, hi)
	}
	p.Move(1)
	p.Move(1)
	if p.Text(23) != "21 to 23 of 23" || !p.Last(23) {
		t.Errorf("last page %q", p.Text(23))
	}
	if lo, hi := p.Range(4); lo != 0 || hi != 4 {
		t.Errorf("a list that became short: %d %d", lo, hi)
	}
	if p.Text(0) != "None." {
		t.Errorf("empty: %q", p.Text(0))
	}
}
