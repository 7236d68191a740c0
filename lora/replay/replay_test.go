package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func config() Config {
	return Config{Model: "SmolLM2-135M-Instruct", ModelSHA256: strings.Repeat("0a", 32), DType: "int8", Window: 64, ASeed: 7,
		Rank: 16, Alpha: 32, Modules: []string{"model.layers.26.self_attn.q_proj", "model.layers.26.self_attn.v_proj"}, Layers: []int{26},
		Estimator: "prge", Queries: 4, Batch: 4, Eps: 1e-2, LR: 0.2, Schedule: "linear", Steps: 150, Seed: 3, Extra: json.RawMessage(`{"a":[1]}`)}
}

// records makes n steps: consecutive seeds, now and then wild ones.
func records(n int) []Record {
	out := make([]Record, n)
	for i := range out {
		r := Record{Step: int64(i)}
		for j := 0; j < 4; j++ {
			r.Seeds = append(r.Seeds, int64(1000+4*i+j))
			r.Coefs = append(r.Coefs, float32(i-j)/3)
		}
		switch i % 7 {
		case 3:
			r.Seeds[1], r.Seeds[2] = math.MinInt64, math.MaxInt64
			r.Coefs[0], r.Coefs[1] = math.Float32frombits(1), float32(math.Copysign(0, -1))
		case 5:
			r.Seeds, r.Coefs = r.Seeds[:1], r.Coefs[:1]
		}
		out[i] = r
	}
	return out
}

// write makes a log file of n records and returns its path and bytes.
func write(t testing.TB, n int) (string, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "replay.log")
	w, err := Create(path, config())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records(n) {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, b
}

func read(b []byte) (*Log, error) { return Read(bytes.NewReader(b), int64(len(b)), "replay.log") }

// same compares records by the bits of their coefficients.
func same(a, b []Record) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Step != b[i].Step || !reflect.DeepEqual(a[i].Seeds, b[i].Seeds) || len(a[i].Coefs) != len(b[i].Coefs) {
			return false
		}
		for j := range a[i].Coefs {
			if math.Float32bits(a[i].Coefs[j]) != math.Float32bits(b[i].Coefs[j]) {
				return false
			}
		}
	}
	return true
}

func TestRoundTrip(t *testing.T) {
	path, b := write(t, 100)
	l, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l.Config, config()) || !same(l.Records, records(100)) || l.Cut != 0 || l.End != int64(len(b)) {
		t.Errorf("came back different: %+v", l.Config)
	}
	if _, err := Create(path, config()); !errors.Is(err, os.ErrExist) {
		t.Errorf("an existing log was overwritten: %v", err)
	}
	// Four consecutive seeds: length, step, count, 4 seeds, 16 bytes of coefficients, checksum.
	var s state
	s.seed = 8
	if n := len(s.encode(nil, &Record{Step: 2, Seeds: []int64{8, 9, 10, 11}, Coefs: make([]float32, 4)})); n != 1+1+1+4+16+4 {
		t.Errorf("a plain record takes %d bytes", n)
	}
}

// Cutting a log anywhere loses the cut record at most, and says how much.
func TestTornTail(t *testing.T) {
	_, full := write(t, 12)
	_, head := write(t, 0)
	want := records(12)
	ends := []int{len(head)}
	for i := 1; i <= 12; i++ {
		_, b := write(t, i)
		ends = append(ends, len(b))
	}
	for n := len(head); n <= len(full); n++ {
		whole := 0
		for whole < 12 && ends[whole+1] <= n {
			whole++
		}
		l, err := read(full[:n])
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if !same(l.Records, want[:whole]) || l.Cut != int64(n-ends[whole]) || l.End != int64(ends[whole]) {
			t.Fatalf("cut at %d: %d records, cut %d, want %d, %d", n, len(l.Records), l.Cut, whole, n-ends[whole])
		}
	}
	for n := 0; n < len(head); n++ {
		var e *Error
		if _, err := read(full[:n]); !errors.As(err, &e) || e.Record != -1 {
			t.Fatalf("header cut at %d: %v", n, err)
		}
	}
	// A file that grew before its data arrived ends in zeros.
	l, err := read(append(bytes.Clone(full[:ends[11]+9]), make([]byte, 500)...))
	if err != nil || !same(l.Records, want[:11]) || l.Cut != 509 {
		t.Errorf("zeros: %v %+v", err, l)
	}
}

// A changed byte is found wherever it is: an error, or (in the last record) a torn tail.
func TestFlippedByte(t *testing.T) {
	_, b := write(t, 12)
	_, most := write(t, 11)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		l, err := read(bad)
		if i >= len(most) {
			if err != nil || !same(l.Records, records(11)) || l.Cut != int64(len(b)-len(most)) {
				t.Fatalf("byte %d: %v", i, err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.File != "replay.log" || e.Offset > int64(i) && e.Record >= 0 {
			t.Fatalf("byte %d of %d: %v", i, len(b), err)
		}
	}
}

// Records that were removed, doubled or swapped are found.
func TestSplicedRecords(t *testing.T) {
	_, b := write(t, 6)
	var at []int
	for i := 0; i <= 6; i++ {
		_, p := write(t, i)
		at = append(at, len(p))
	}
	rec := func(i int) []byte { return b[at[i]:at[i+1]] }
	for name, list := range map[string][]int{"removed": {0, 1, 3, 4, 5}, "doubled": {0, 1, 1, 2, 3, 4, 5}, "swapped": {0, 2, 1, 3, 4, 5}} {
		bad := bytes.Clone(b[:at[0]])
		for _, i := range list {
			bad = append(bad, rec(i)...)
		}
		_, err := read(bad)
		if err == nil || !strings.Contains(err.Error(), "replay log replay.log: record ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResume(t *testing.T) {
	path, b := write(t, 10)
	if err := os.WriteFile(path, b[:len(b)-3], 0o644); err != nil {
		t.Fatal(err)
	}
	l, w, err := Resume(path, -1)
	if err != nil || len(l.Records) != 9 || l.Cut == 0 {
		t.Fatalf("%+v %v", l, err)
	}
	for _, r := range records(20)[9:] {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = ReadFile(path); err != nil || !same(l.Records, records(20)) || l.Cut != 0 {
		t.Fatalf("%v", err)
	}
	// The same bytes as a log that was never interrupted.
	_, whole := write(t, 20)
	if got, _ := os.ReadFile(path); !bytes.Equal(got, whole) {
		t.Error("a resumed log differs from an uninterrupted one")
	}
	for _, keep := range []int{13, 1, 0} {
		l, w, err := Resume(path, keep)
		if err != nil || !same(l.Records, records(keep)) {
			t.Fatalf("keep %d: %v", keep, err)
		}
		for _, r := range records(20)[keep:] {
			if err := w.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if got, _ := os.ReadFile(path); !bytes.Equal(got, whole) {
			t.Errorf("keep %d: a resumed log differs from an uninterrupted one", keep)
		}
	}
	if _, _, err := Resume(path, 21); err == nil || !strings.Contains(err.Error(), "has 20 records, 21 are to be kept") {
		t.Error(err)
	}
	// Corruption is reported and the file left alone.
	bad := bytes.Clone(whole)
	bad[len(bad)/2] ^= 1
	os.WriteFile(path, bad, 0o644)
	if _, _, err := Resume(path, -1); err == nil {
		t.Error("corruption was resumed")
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, bad) {
		t.Error("a corrupt log was changed")
	}
}

func TestFlushEvery(t *testing.T) {
	path := filepath.Join(t.TempDir(), "replay.log")
	w, err := Create(path, config())
	if err != nil {
		t.Fatal(err)
	}
	w.FlushEvery = 3
	for i, r := range records(5) {
		w.Append(r)
		if l, err := ReadFile(path); err != nil || len(l.Records) != (i+1)/3*3 {
			t.Errorf("after %d: %d on disk, %v", i+1, len(l.Records), err)
		}
	}
	w.Close()
	if l, err := ReadFile(path); err != nil || len(l.Records) != 5 {
		t.Error(err)
	}
}

func TestRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"modelSha256": func(c *Config) { c.ModelSHA256 = "abc" },
		"rank 0":      func(c *Config) { c.Rank = 0 },
		"alpha -1":    func(c *Config) { c.Alpha = -1 },
		"queries -1":  func(c *Config) { c.Queries = -1 },
	} {
		c := config()
		change(&c)
		path := filepath.Join(t.TempDir(), "l")
		if _, err := Create(path, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ...%s...", err, want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("a refused log left a file")
		}
	}
	path, _ := write(t, 0)
	_, w, err := Resume(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Append(Record{Step: 4, Seeds: []int64{1}, Coefs: []float32{1}}); err != nil {
		t.Fatal(err)
	}
	inf := float32(math.Inf(1))
	for want, r := range map[string]Record{
		"step 4 cannot follow step 4":  {4, []int64{1}, []float32{1}, 0},
		"step 6 cannot follow step 4":  {6, []int64{1}, []float32{1}, 0},
		"step -1 is negative":          {-1, []int64{1}, []float32{1}, 0},
		"0 seeds":                      {5, nil, nil, 0},
		"1 seeds and 2 coefficients":   {5, []int64{1}, []float32{1, 2}, 0},
		"coefficient 1 is +Inf":        {5, []int64{1, 2}, []float32{1, inf}, 0},
		"4097 seeds and 4097 coeffici": {5, make([]int64, 4097), make([]float32, 4097), 0},
	} {
		if err := w.Append(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ...%s...", err, want)
		}
	}
	if l, err := ReadFile(path); err != nil || len(l.Records) != 1 || l.Records[0].Step != 4 {
		t.Errorf("%+v %v", l, err)
	}
	big := Record{Step: 5, Seeds: make([]int64, MaxSeeds), Coefs: make([]float32, MaxSeeds)}
	for i := range big.Seeds {
		big.Seeds[i] = int64(i%2) * math.MinInt64
	}
	if err := w.Append(big); err != nil {
		t.Fatal(err)
	}
	if l, err := ReadFile(path); err != nil || !same(l.Records[1:], []Record{big}) {
		t.Errorf("the largest record: %v", err)
	}
}

func TestHostileHeader(t *testing.T) {
	_, b := write(t, 1)
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "header at byte 0: not a replay log"},
		{"magic", []byte("GGUFxxxxxxxxxxxxxxxxxxxx"), "not a replay log"},
		{"version", append([]byte("TTREPLAY\x04\x00\x00\x00"), b[12:]...), "at byte 8: version 4 is not supported"},
		{"length", append([]byte("TTREPLAY\x01\x00\x00\x00\xff\xff\xff\xff"), b[16:]...), "at byte 12: configuration of 4294967295 bytes does not fit"},
		{"json", append([]byte("TTREPLAY\x01\x00\x00\x00\x02\x00\x00\x00"), "[]\x17\x1a\x1c\x00"...), "checksum is wrong"},
	} {
		if _, err := read(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	_, b := write(f, 9)
	f.Add(b)
	f.Add(b[:len(b)-2])
	f.Add(append(bytes.Clone(b), 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := read(b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("not an *Error: %v", err)
			}
			return
		}
		if l.End+l.Cut != int64(len(b)) {
			t.Fatalf("end %d, cut %d of %d bytes", l.End, l.Cut, len(b))
		}
		again, err := read(b[:l.End])
		if err != nil || again.Cut != 0 || !same(again.Records, l.Records) {
			t.Fatalf("without its tail: %v", err)
		}
	})
}

// Version 1 of the format never changes: old logs have to stay readable, and the
// same run has to give the same bytes.
func TestFormatIsForEver(t *testing.T) {
	_, b := write(t, 12)
	h := sha256.Sum256(b)
	if got := hex.EncodeToString(h[:8]); got != "2734ca409251fc07" {
		t.Errorf("digest %s of %d bytes", got, len(b))
	}
}

// TestRates: a log of a run with an optimizer has a rate in each record.
func TestRates(t *testing.T) {
	c := config()
	c.Optimizer, c.Beta = "muon", 0.9
	path := filepath.Join(t.TempDir(), "replay.log")
	w, err := Create(path, c)
	if err != nil {
		t.Fatal(err)
	}
	want := records(9)
	for i := range want {
		want[i].Rate = 0.5 / float32(i+1)
		if err := w.Append(want[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []float32{-1, float32(math.NaN()), float32(math.Inf(1))} {
		if err := w.Append(Record{Step: 9, Seeds: []int64{1}, Coefs: []float32{1}, Rate: bad}); err == nil || !strings.Contains(err.Error(), "rate") {
			t.Errorf("rate %v: %v", bad, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := ReadFile(path)
	if err != nil || !reflect.DeepEqual(l.Records, want) || !reflect.DeepEqual(l.Config, c) {
		t.Fatalf("%+v %v", l, err)
	}
	for _, keep := range []int{4, 0} { // cut back, and go on
		l, w, err := Resume(path, keep)
		if err != nil || len(l.Records) != keep {
			t.Fatal(err)
		}
		for _, r := range want[keep:] {
			if err := w.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err := ReadFile(path); err != nil || !reflect.DeepEqual(l.Records, want) {
			t.Fatal(err)
		}
	}
	// The version and the optimizer go together.
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[8] = plain
	n := 16 + int(binary.LittleEndian.Uint32(b[12:]))
	binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], castagnoli))
	if _, err := Read(bytes.NewReader(b), int64(len(b)), "log"); err == nil || !strings.Contains(err.Error(), "optimizer \"muon\"") {
		t.Errorf("error %v", err)
	}
	path, _ = write(t, 0)
	if _, w, err = Resume(path, -1); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Append(want[0]); err == nil || !strings.Contains(err.Error(), "without an optimizer") {
		t.Errorf("a rate in a plain log: %v", err)
	}
}
