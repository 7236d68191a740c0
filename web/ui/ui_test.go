package ui

import (
	"archive/zip"
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	p, err := DefaultSettings(2).Train()
	if err != nil {
		t.Fatal(err)
	}
	if p["lr"] != "auto" || p["layers"] != 4 || p["queries"] != 8 || p["eps"] != 0.01 || p["steps"] != 150 {
		t.Errorf("defaults: %v", p)
	}
	for _, e := range []string{"auto", "head"} { // the module chooses
		s := DefaultSettings(1)
		s.Estimator = e
		p, err := s.Train()
		if err != nil || p["estimator"] != e || p["queries"] != nil || p["lr"] != nil || p["modules"] != nil || p["seed"] != 0 {
			t.Errorf("%s: %v, %v", e, p, err)
		}
	}
	more := DefaultSettings(1)
	more.Estimator, more.Average, more.Refit, more.Eps, more.Optimizer = "auto", " tail", "25", "auto", "muon "
	if p, err := more.Train(); err != nil || p["optimizer"] != nil || p["average"] != "tail" || p["refit"] != 25 || p["eps"] != nil {
		t.Errorf("%v, %v", p, err)
	}
	more.Estimator, more.Refit, more.Layers, more.Modules = "rows", "", "auto", " auto"
	if p, err := more.Train(); err != nil || p["eps"] != "auto" || p["optimizer"] != "muon" || p["refit"] != nil || p["layers"] != "auto" || p["modules"].([]string)[0] != "auto" {
		t.Errorf("%v, %v", p, err)
	}
	own := DefaultSettings(1)
	own.Runtime = " assets/executorch.js "
	if q, err := own.Train(); err != nil || q["runtime"] != "assets/executorch.js" || p["runtime"] != nil {
		t.Errorf("runtime %v and %v, %v", q["runtime"], p["runtime"], err)
	}
	for _, c := range []struct {
		change func(*Settings)
		want   string // part of the error
	}{
		{func(s *Settings) { s.Steps = "0" }, "Steps"},
		{func(s *Settings) { s.Steps = "1e3" }, "Steps"},
		{func(s *Settings) { s.LR = "NaN" }, "Learning rate"},
		{func(s *Settings) { s.LR = "-1" }, "Learning rate"},
		{func(s *Settings) { s.Eps = "+Inf" }, "Epsilon"},
		{func(s *Settings) { s.Layers = "some" }, "Layers"},
		{func(s *Settings) { s.Modules = "q,x" }, `"x"`},
		{func(s *Settings) { s.Modules = "q q" }, "twice"},
		{func(s *Settings) { s.Modules = "q auto" }, `"auto"`},
		{func(s *Settings) { s.Modules = " , " }, "at least one"},
		{func(s *Settings) { s.Estimator = "adam" }, "Estimator"},
		{func(s *Settings) { s.Average = "1" }, "Average"},
		{func(s *Settings) { s.Optimizer = "lion" }, "Optimizer"},
		{func(s *Settings) { s.Refit = "5" }, "head again"},
		{func(s *Settings) { s.Resample = "0" }, "New subspace"},
		{func(s *Settings) { s.Subspace = "pca" }, "Subspace"},
		{func(s *Settings) { s.Runtime = "https://example.com/" }, "Runtime"},
	} {
		s := DefaultSettings(1)
		c.change(&s)
		if _, err := s.Train(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error with %q, got %v", c.want, err)
		}
	}
}

func TestFileName(t *testing.T) {
	for in, want := range map[string]string{
		"a b.gguf": "a-b.gguf", "../../etc/passwd": "etc-passwd", "": "file", "ÄÖ.csv": "csv", ".hidden": "hidden", strings.Repeat("x", 300) + ".gguf": strings.Repeat("x", 95) + ".gguf",
	} {
		if got := FileName(in); got != want {
			t.Errorf("FileName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestColumns(t *testing.T) {
	for _, c := range []struct{ name, head, cols, text, label string }{
		{"a.csv", "\ufeffid,Review,sentiment\n1,x,y\n", "id Review sentiment", "Review", "sentiment"},
		{"a.tsv", "first\tsecond\nx\ty\n", "first second", "first", "second"},
		{"a.jsonl", "{\"label\":1,\"text\":\"x\"}\n{", "label text", "text", "label"},
		{"a.jsonl", "\ufeff\r\n {\"a\":{\"text\":[1]},\"b\":2,\"a\":3}", "a b", "a", "b"},
		{"a.jsonl", "{\"completion\":\"y\",\"text\":0,\"prompt\":\"x\"}", "completion text prompt", "prompt", "completion"},
		{"a.jsonl", "{\"answer\":\"y\",\"question\":\"x\"}", "answer question", "question", "answer"},
		{"a.jsonl", "{\"answer\":\"y\",\"options\":[],\"stem\":\"x\"}", "answer options stem", "stem", "answer"},
		{"a.jsonl", "{\"options\":[],\"label\":0,\"answer\":\"y\",\"question\":\"x\"}", "options label answer question", "question", "answer"},
		{"a.jsonl", "{\"id\":\"y\",\"messages\":[{\"role\":\"us", "id messages", "messages", "messages"}, // cut in a long conversation
		{"a.csv", "text,question,label\n", "text question label", "text", "label"},
		{"a.csv", "label,x\n", "label x", "x", "label"},
		{"a.csv", "x,text\n", "x text", "text", "x"},
		{"a.csv", "text\n", "text", "text", "text"},
		{"a.jsonl", "not json", "", "", ""},
		{"a.jsonl", "[1]", "", "", ""},
		{"a.jsonl", "{1:2}", "", "", ""},
		{"a.jsonl", "{\"a\": nothing}", "", "", ""},
		{"a.jsonl", "{", "", "", ""},
		{"a.csv", "", "", "", ""},
	} {
		cols, text, label := Columns(c.name, []byte(c.head))
		if strings.Join(cols, " ") != c.cols || text != c.text || label != c.label {
			t.Errorf("%s %q: %q %q %q", c.name, c.head, cols, text, label)
		}
	}
}

func TestChart(t *testing.T) {
	c := Chart{Steps: 5000}
	for i := range 5000 {
		c.Loss = append(c.Loss, Point{i + 1, 1 / float64(i+1)})
	}
	c.Loss[7].Value = math.NaN()
	if n := len(strings.Fields(c.LossLine())); n == 0 || n > maxVertices {
		t.Errorf("%d vertices, want 1 to %d", n, maxVertices)
	}
	for _, line := range []string{c.LossLine(), c.SmoothLine()} {
		if strings.Contains(line, "NaN") || strings.Contains(line, "Inf") {
			t.Errorf("not a number in the drawing: %.80s", line)
		}
	}
	empty := Chart{}
	if empty.LossLine() != "" || empty.Summary("Accuracy") != "No steps yet." || len(empty.LossTicks()) != 5 {
		t.Error("an empty chart is not empty")
	}
	c.Evals = []Point{{0, 0.5}, {5000, 0.75}}
	if got, want := c.Summary("Probability of a right token"), " Probability of a right token 50.0 % before, 75.0 % at step 5000."; !strings.HasSuffix(got, want) {
		t.Errorf("%q does not end in %q", got, want)
	}
}

func TestText(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(98362432): "98 MB", Bytes(4 << 30): "4.29 GB", Bytes(-1): "unknown", Count(134515008): "134.5 M", Count(10605): "10,605",
		Seconds(8.4): "8 s", Seconds(125): "2 min 05 s", Seconds(4200): "1 h 10 min", Seconds(math.Inf(1)): "unknown",
		Percent(0.684): "68.4 %", Fixed(math.NaN()): "–", Short(0.00001): "1e-05",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestZip(t *testing.T) {
	files := []File{{"a", bytes.Repeat([]byte("x"), 10000)}, {"b.json", []byte("{}")}}
	one, err := Zip(files)
	if err != nil {
		t.Fatal(err)
	}
	if two, _ := Zip(files); !bytes.Equal(one, two) {
		t.Error("equal files, unequal archives")
	}
	z, err := zip.NewReader(bytes.NewReader(one), int64(len(one)))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(r); f.Name != files[i].Name || !bytes.Equal(got, files[i].Data) {
			t.Errorf("%s differs", f.Name)
		}
	}
}
