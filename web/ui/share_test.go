package ui

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/lora/replay"
)

// replayLog is a log as the module writes it.
func replayLog(t testing.TB, steps int, change func(*replay.Config)) []byte {
	t.Helper()
	c := replay.Config{Model: "SmolLM2\u202e\x07", ModelSHA256: strings.Repeat("0f", 32), DType: "int8", Window: 128, Rank: 16, Alpha: 32,
		Modules: []string{"model.layers.29.self_attn.q_proj", "model.layers.29.self_attn.v_proj"}, Layers: []int{28, 29}, Queries: 8, Batch: 8, Steps: 150}
	if change != nil {
		change(&c)
	}
	path := filepath.Join(t.TempDir(), "replay.log")
	w, err := replay.Create(path, c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range steps {
		r := replay.Record{Step: int64(i + 1)}
		for j := range 8 {
			r.Seeds, r.Coefs = append(r.Seeds, int64(8*i+j)), append(r.Coefs, float32(i*31+j*17)/1e5)
		}
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func packed(b []byte) string {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, 9)
	_, _ = w.Write(b)
	_ = w.Close()
	return "#replay=" + base64.RawURLEncoding.EncodeToString(out.Bytes())
}

func TestShareLink(t *testing.T) {
	log := replayLog(t, 150, nil)
	link, err := ShareLink("https://a.example/b/", log)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("150 steps: log of %d bytes, link of %d", len(log), len(link))
	page, fragment, _ := strings.Cut(link, "#")
	s, err := OpenLink("#" + fragment)
	if err != nil || page != "https://a.example/b/" || !bytes.Equal(s.Log, log) {
		t.Fatalf("%v, %s", err, page)
	}
	if want := "This link carries a run: 150 steps, rank 16, 2 layers of SmolLM2. "; !strings.HasPrefix(s.Text(), want) {
		t.Errorf("%q", s.Text())
	}
	for name, c := range map[string]struct {
		log  []byte
		want string
	}{
		"head":     {replayLog(t, 1, func(c *replay.Config) { c.Extra = []byte(`{"head":true}`) }), "label head"},
		"only":     {replayLog(t, 1, func(c *replay.Config) { c.Modules = nil }), "label head"},
		"long":     {replayLog(t, 5000, nil), "too much for a link"},
		"no log":   {[]byte(strings.Repeat("{}\n", 100)), "not a replay log's"},
		"no bytes": {nil, "not a replay log's"},
	} {
		if _, err := ShareLink("", c.log); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestHostileLink(t *testing.T) {
	log := replayLog(t, 3, nil)
	change := func(at int, b byte) []byte {
		c := bytes.Clone(log)
		c[at] = b
		return c
	}
	if s, err := OpenLink("#bench"); s != nil || err != nil {
		t.Errorf("another fragment: %v, %v", s, err)
	}
	for name, c := range map[string]struct{ fragment, want string }{
		"long":           {"#replay=" + strings.Repeat("A", 64_001), "64001 characters"},
		"characters":     {"#replay=a/b", "cut short or changed"},
		"empty":          {"#replay=", "cut short or changed"},
		"cut":            {packed(log)[:200], "cut short or changed"},
		"bomb":           {packed(make([]byte, 40<<20)), "more than"},
		"magic":          {packed(change(0, 'x')), "not a replay log's"},
		"version":        {packed(change(8, 3)), "version 3"},
		"header's size":  {packed(change(15, 0xff)), "there are"},
		"header's CRC":   {packed(change(20, 'x')), "checksum"},
		"nothing inside": {packed(nil), "not a replay log's"},
	} {
		if s, err := OpenLink(c.fragment); s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, s, err, c.want)
		}
	}
}

func FuzzOpenLink(f *testing.F) {
	f.Add(packed(replayLog(f, 2, nil)))
	f.Add("#replay=AAAA")
	f.Fuzz(func(t *testing.T, fragment string) {
		s, err := OpenLink(fragment)
		if s != nil && (err != nil || len(s.Log) > maxShared || len([]rune(s.Model)) > 80) {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
