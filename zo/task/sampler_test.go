package task

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The orders that seeds give are part of the format of a run: these constants
// must never change.
func TestOrderIsForEver(t *testing.T) {
	for _, c := range []struct {
		seed   int64
		stream uint64
		want   []int
	}{
		{0, streamSplit, []int{0, 4, 7, 9, 3, 6, 5, 1, 8, 2}}, {7, streamEpoch + 3, []int{3, 5, 8, 9, 1, 4, 0, 7, 2, 6}}, {-1, streamVal, []int{1, 7, 4, 8, 2, 0, 9, 6, 5, 3}},
	} {
		if got := newRNG(c.seed, c.stream).perm(10); !reflect.DeepEqual(got, c.want) {
			t.Errorf("seed %d stream %#x: %v, want %v", c.seed, c.stream, got, c.want)
		}
	}
}

func TestBelowIsUniform(t *testing.T) {
	r := newRNG(1, 2)
	var count [7]int
	for i := 0; i < 70000; i++ {
		count[r.below(7)]++
	}
	for i, c := range count {
		if c < 9600 || c > 10400 { // four standard deviations
			t.Errorf("%d came %d times", i, c)
		}
	}
}

func lengthsFor(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 5 + i*i%40
	}
	return out
}

func TestSampler(t *testing.T) {
	lengths := lengthsFor(203)
	s, err := NewSampler(lengths, 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	if s.PerEpoch() != 25 {
		t.Errorf("%d batches an epoch", s.PerEpoch())
	}
	var all [][]int
	for epoch := 0; epoch < 3; epoch++ {
		seen := map[int]bool{}
		padding, total := 0, 0
		for i := int64(0); i < 25; i++ {
			b, err := s.Batch(int64(epoch)*25 + i)
			if err != nil || len(b) != 8 {
				t.Fatalf("%v %v", b, err)
			}
			longest := 0
			for _, j := range b {
				if seen[j] {
					t.Errorf("epoch %d: example %d twice", epoch, j)
				}
				seen[j] = true
				longest = max(longest, lengths[j])
			}
			for _, j := range b {
				padding += longest - lengths[j]
				total += lengths[j]
			}
			all = append(all, b)
		}
		if padding*5 > total { // unsorted, about 70 %
			t.Errorf("epoch %d: %d tokens of padding for %d", epoch, padding, total)
		}
	}
	if reflect.DeepEqual(all[:25], all[25:50]) {
		t.Error("two epochs are the same")
	}
	// Any step, in any order, from a new Sampler.
	for _, step := range []int64{74, 3, 40, 0} {
		again, _ := NewSampler(lengths, 8, 3)
		if b, _ := again.Batch(step); !reflect.DeepEqual(b, all[step]) {
			t.Errorf("step %d: %v, want %v", step, b, all[step])
		}
	}
	other, _ := NewSampler(lengths, 8, 4)
	if b, _ := other.Batch(0); reflect.DeepEqual(b, all[0]) {
		t.Error("two seeds give the same batch")
	}
	b, _ := s.Batch(0)
	b[0] = -1
	if b, _ := s.Batch(0); b[0] == -1 {
		t.Error("the caller can change the sampler")
	}
}

func TestSamplerFewExamples(t *testing.T) {
	s, err := NewSampler([]int{3, 1}, 5, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Batch(9)
	if err != nil || len(b) != 5 || s.PerEpoch() != 1 {
		t.Errorf("%v %v", b, err)
	}
	for _, bad := range []struct {
		n, batch int
	}{{0, 1}, {3, 0}} {
		if _, err := NewSampler(make([]int, bad.n), bad.batch, 0); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if _, err := s.Batch(-1); err == nil {
		t.Error("step -1 was taken")
	}
}

func TestReviews(t *testing.T) {
	dir := os.Getenv("TABTUNE_ASSETS")
	if dir == "" {
		dir = filepath.Join("..", "..", "cache", "assets")
	}
	path := filepath.Join(dir, "movieReviewSnippets_GroundTruth.txt")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("%s is not there; fetch the assets or set TABTUNE_ASSETS", path)
	}
	var train, val bytes.Buffer
	if err := WriteReviewsCSV(bytes.NewReader(raw), &train, &val); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		b    []byte
		rows int
		sum  string
	}{{train.Bytes(), ReviewTrainRows, "1ab7657109a8ea35"}, {val.Bytes(), ReviewValRows, "9a6dd40155210c68"}} {
		h := sha256.Sum256(c.b)
		if got := hex.EncodeToString(h[:8]); got != c.sum {
			t.Errorf("digest %s, want %s", got, c.sum)
		}
		tab, err := ReadTable(bytes.NewReader(c.b), "r.csv", ReadOptions{})
		if err != nil || len(tab.Rows) != c.rows {
			t.Fatalf("%v", err)
		}
		pos := 0
		for _, r := range tab.Rows {
			if r.Values[1] == "positive" {
				pos++
			}
		}
		if pos*10 < c.rows*4 || pos*10 > c.rows*6 {
			t.Errorf("%d of %d are positive", pos, c.rows)
		}
	}
}

func TestReviewsHostile(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "0 sentences",
		"1\t2\n":                  "line 1, byte 0: 2 values",
		"1\t2.5\tok\n2\tx\tbad\n": `line 2, byte 9: "x" is not a score`,
		"1\tNaN\tbad\n":           "is not a score",
		"1\t0.1\t\x00\n":          "a zero byte",
	} {
		var a, b bytes.Buffer
		if err := WriteReviewsCSV(strings.NewReader(in), &a, &b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want ...%s...", in, err, want)
		}
		if a.Len()+b.Len() > 0 {
			t.Errorf("%q: partial output", in)
		}
	}
	// Latin-1 text, scores around the limit.
	var in strings.Builder
	for i := 0; i < 750; i++ {
		in.WriteString("1\t0.5\tcaf\xe9, \"good\"\n2\t-0.5\tbad\n3\t0.49\tso so\n")
	}
	var train, val bytes.Buffer
	if err := WriteReviewsCSV(strings.NewReader(in.String()), &train, &val); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&train).ReadAll()
	if err != nil || len(rows) != 1001 {
		t.Fatal(err)
	}
	for _, r := range rows[1:] {
		if r[0] == "café, \"good\"" && r[1] == "positive" || r[0] == "bad" && r[1] == "negative" {
			continue
		}
		t.Fatalf("%q", r)
	}
}
