package ui

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestImport(t *testing.T) {
	run := File{"page.json", []byte(`{"id":"2026-01-02-030405","step":3,"steps":5}`)}
	log, cfg, w := File{"replay.log", []byte("l")}, File{"x/adapter_config.json", []byte("{}")}, File{"x/adapter_model.safetensors", []byte("w")}
	got, err := Import([]File{run, log, {"../escape", nil}, {".hidden", nil}, {"adapter/a.b", nil}})
	if err != nil || got.Run == nil || got.Run.Step != 3 || len(got.Files) != 3 {
		t.Errorf("a run: %+v, %v", got, err)
	}
	got, err = Import([]File{cfg, w})
	if err != nil || got.Run != nil || got.Files[0].Name != "adapter/adapter_config.json" || string(got.Files[1].Data) != "w" {
		t.Errorf("an adapter: %+v, %v", got, err)
	}
	got, err = Import([]File{log, {"y/classifier.safetensors", []byte("c")}})
	if err != nil || got.Run != nil || len(got.Files) != 1 || got.Files[0].Name != "adapter/classifier.safetensors" || string(got.Files[0].Data) != "c" {
		t.Errorf("a label head: %+v, %v", got, err)
	}
	for want, files := range map[string][]File{
		"replay.log": {run}, "neither": {w}, "beside it": {cfg}, "cannot be": {{"page.json", []byte(`{"id":"../x"}`)}, log}, "page.json in": {{"page.json", []byte(`{`)}},
	} {
		if _, err := Import(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestImportAll(t *testing.T) {
	page := func(id string) []byte { return []byte(`{"id":"` + id + `","step":3,"steps":5}`) }
	files := []File{{"runs/a/page.json", page("a")}, {"runs/b/replay.log", []byte("b")}, {"runs/a/replay.log", []byte("a")}, {"runs/b/page.json", page("b")}}
	got, err := ImportAll(files)
	if err != nil || len(got) != 2 || got[0].Run.ID != "a" || got[1].Run.ID != "b" || len(got[0].Files) != 2 || string(got[0].Files[1].Data) != "a" {
		t.Errorf("two runs: %+v, %v", got, err)
	}
	got, err = ImportAll([]File{{"x/adapter_config.json", []byte("{}")}, {"x/adapter_model.safetensors", []byte("w")}})
	if err != nil || len(got) != 1 || got[0].Run != nil {
		t.Errorf("an adapter: %+v, %v", got, err)
	}
	for want, bad := range map[string][]File{
		"is empty": nil, "runs/a: the archive holds a run without": files[:1], "runs/b: the archive holds neither": files[1:3],
		"runs/a: no page.json": {{"runs/a/x/classifier.safetensors", nil}}, "cannot be a run's": {{"runs/a/page.json", page("../a")}, files[2]},
	} {
		if _, err := ImportAll(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestUnzip(t *testing.T) {
	good, err := Zip([]File{{"a/b.json", []byte("{}")}, {"c", bytes.Repeat([]byte("x"), 1000)}})
	if err != nil {
		t.Fatal(err)
	}
	files, err := Unzip(good)
	if err != nil || len(files) != 2 || files[0].Name != "a/b.json" || len(files[1].Data) != 1000 {
		t.Errorf("%v %v", files, err)
	}
	for n := 0; n < len(good)-1; n++ {
		if _, err := Unzip(good[:n]); err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
	}
	for _, name := range []string{"../x", "/x", "a/../../x", "a\\b", "./x"} {
		bad, err := Zip([]File{{name, nil}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Unzip(bad); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	var many []File
	for i := range maxArchiveFiles + 1 {
		many = append(many, File{fmt.Sprint(i), nil})
	}
	bad, err := Zip(many)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Unzip(bad); err == nil {
		t.Error("too many files were taken")
	}
}

func TestCurves(t *testing.T) {
	var pts []Point
	for i := range 1000 {
		pts = append(pts, Point{i + 1, 2 - float64(i)/1000})
	}
	pts[5].Value = math.NaN()
	thin := Thin(pts, 100)
	if len(thin) != 100 || thin[99].Step != 1000 || math.IsNaN(thin[0].Value) {
		t.Errorf("%d points, last %+v", len(thin), thin[len(thin)-1])
	}
	c := NewCurves([]SavedRun{{Steps: 1000, Losses: thin, Evals: []Point{{0, 0.5}, {1000, 0.9}}}, {Steps: 500, Losses: thin[:50]}})
	if c.Chart.Steps != 1000 || len(strings.Fields(c.LossLine(1))) != 50 || len(strings.Fields(c.AccuracyLine(0))) != 2 {
		t.Errorf("lines %q %q", c.LossLine(1), c.AccuracyLine(0))
	}
}
