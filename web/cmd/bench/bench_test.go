package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestFalls(t *testing.T) {
	want := baseline{"a": 2}
	for got, bad := range map[float64]bool{2: false, 3: false, 1.61: false, 1.59: true} {
		if falls(want, "a", got) != bad {
			t.Errorf("%g against 2: %v", got, !bad)
		}
	}
}

// rates answers one rate after the other.
func rates(v ...float64) func(context.Context) (float64, error) {
	return func(context.Context) (float64, error) {
		x := v[0]
		v = v[1:]
		return x, nil
	}
}

func TestContest(t *testing.T) {
	b := &bench{rounds: 3}
	// The machine halves its speed in the second round that counts: each ratio is within a round.
	r, err := b.contest(t.Context(), contestant{"us", rates(1, 20, 10, 22)}, contestant{"them", rates(1, 10, 5, 10)})
	if err != nil {
		t.Fatal(err)
	}
	rep := &report{}
	r.add(rep, "x", "us", "them", "tokens/s", "make bench")
	got := rep.rows[0]
	if got.Ratio != 2 || got.Low != 2 || got.High != 2.2 || got.Ours != 20 || got.Peer != 10 || got.Rounds != 3 {
		t.Errorf("%+v", got)
	}
	if _, err := b.contest(t.Context(), contestant{"broken", rates(0)}); err == nil {
		t.Error("a rate of zero was taken")
	}
	failing := errors.New("no")
	if _, err := b.contest(t.Context(), contestant{"f", func(context.Context) (float64, error) { return 0, failing }}); !errors.Is(err, failing) {
		t.Errorf("%v", err)
	}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	rep := &report{}
	rep.add(row{Name: "forward_vs_ort_int8_t1", Ours: 100, Peer: 200, Unit: "tokens/s", Ratio: 0.5, Command: "make bench", OursName: "a", PeerName: "b", Rounds: 3})
	rep.add(row{Name: "download", Ours: 1, Peer: 2, Unit: "MB", Ratio: 0.5, Command: "make bench", OursName: "c", PeerName: "limit", Rounds: 1})
	rep.add(row{Name: "download", Ours: 1.5, Peer: 2, Unit: "MB", Ratio: 0.75, Command: "make bench", OursName: "c", PeerName: "limit", Rounds: 1})
	if err := rep.write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := readReport(dir)
	if err != nil || len(again.rows) != 2 || again.rows[1].Ratio != 0.75 {
		t.Fatalf("%+v, %v", again, err)
	}
	var list []map[string]any
	data, err := os.ReadFile(dir + "/benchmarks.json")
	if err != nil || json.Unmarshal(data, &list) != nil {
		t.Fatalf("benchmarks.json: %v\n%s", err, data)
	}
	for _, key := range []string{"name", "ours", "peer", "unit", "ratio", "command"} {
		if _, ok := list[0][key]; !ok {
			t.Errorf("no %s in %v", key, list[0])
		}
	}
	md := string(rep.markdown())
	for _, want := range []string{"| `forward_vs_ort_int8_t1` | 100 a | 200 b | tokens/s | 0.5 |  | at least 1.2, missed |", "| `download` | 1.5 c | 2 limit | MB | 0.75 |  | at most 1 |"} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	for d := xml.NewDecoder(bytes.NewReader(plot(rep.rows))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
}

func TestVisitBytes(t *testing.T) {
	n, err := visitBytes(fstest.MapFS{"page.wasm": {Data: make([]byte, 9)}, "page.wasm.br": {Data: make([]byte, 5)}, "kernels.wasm.br": {Data: make([]byte, 3)},
		"kernels_single.wasm.br": {Data: make([]byte, 3)}, "worker/worker.js.br": {Data: make([]byte, 2)}, "worker/worker.js.gz": {Data: make([]byte, 4)}})
	if err != nil || n != 10 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
