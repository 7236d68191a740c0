package ui

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
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
	got, err = ImportAll([]File{{"runs/c/adapter_config.json", []byte("{}")}, {"runs/c/adapter_model.safetensors", []byte("w")}})
	if err != nil || len(got) != 1 || got[0].Run != nil {
		t.Errorf("an adapter from another program's folder: %+v, %v", got, err)
	}
	got, err = ImportAll(append([]File{{"__MACOSX/runs/._a", nil}, {"runs/.DS_Store", nil}}, files...))
	if err != nil || len(got) != 2 {
		t.Errorf("runs packed again by hand: %+v, %v", got, err)
	}
	for want, bad := range map[string][]File{
		"holds neither": nil, "runs/a: the archive holds a run without": files[:1], "runs/b: the archive holds neither": {files[0], files[1], files[2]},
		"runs/c: no page.json": append([]File{{"runs/c/x/classifier.safetensors", nil}}, files...), "cannot be a run's": {{"runs/a/page.json", page("../a")}, files[2]},
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
	for i := range MaxArchiveFiles + 1 {
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

func TestArchive(t *testing.T) {
	stored := func(sizes map[string]int64) (s Stored) {
		for _, path := range slices.Sorted(maps.Keys(sizes)) {
			s.Files = append(s.Files, struct {
				Path  string `json:"path"`
				Bytes int64  `json:"bytes"`
			}{path, sizes[path]})
		}
		return s
	}
	runs := []SavedRun{{ID: "a"}, {ID: "ab"}, {ID: "c", Adapter: "/runs/c/adapter"}}
	s := stored(map[string]int64{"/models/m.gguf": 1 << 40, "/runs/a/page.json": 9, "/runs/a/replay.log": 9, "/runs/a/export/m.gguf": 1 << 40, "/runs/a/x.part": 1 << 40,
		"/runs/ab/page.json": 9, "/runs/c/adapter/w": 9, "/runs/c/page.json": 9, "/runs/d/page.json": 1 << 40})
	got, left, err := s.Archive(runs)
	if want := "/runs/a/page.json /runs/a/replay.log /runs/c/adapter/w /runs/c/page.json"; strings.Join(got, " ") != want || left != 1 || err != nil {
		t.Errorf("%q, %d left out, %v", got, left, err)
	}
	if _, left, err := s.Archive(runs[1:2]); err == nil || left != 1 || !strings.Contains(err.Error(), "no step") {
		t.Errorf("a run without a step: %d left out, %v", left, err)
	}
	// What is refused is what could not be read again: the largest archive that is written is within the bound.
	const rest = 2*headBytes + 2*len("/runs/a/replay.log")
	for over := range int64(2) {
		s := stored(map[string]int64{"/runs/a/replay.log": MaxArchiveBytes - int64(rest) + over})
		if _, _, err := s.Archive(runs[:1]); (err != nil) != (over > 0) {
			t.Errorf("%d over the bound: %v", over, err)
		}
	}
	many := map[string]int64{"/runs/a/replay.log": 1}
	var files []File
	for i := range MaxArchiveFiles - 1 {
		name := fmt.Sprintf("/runs/a/%d", i)
		many[name], files = 1, append(files, File{name[1:], []byte("x")})
	}
	if _, _, err := stored(many).Archive(runs[:1]); err != nil {
		t.Errorf("as many files as are read: %v", err)
	}
	zip, err := Zip(files)
	if err != nil {
		t.Fatal(err)
	}
	size := headBytes
	for _, f := range files {
		size += len(f.Data) + headBytes + 2*len(f.Name)
	}
	if len(zip) > size {
		t.Errorf("the archive has %d bytes, %d were counted", len(zip), size)
	}
	many["/runs/a/more"] = 1
	if _, _, err := stored(many).Archive(runs[:1]); err == nil || !strings.Contains(err.Error(), "one by one") {
		t.Errorf("too many files: %v", err)
	}
	if LeftOut(1) == LeftOut(2) {
		t.Error(LeftOut(2))
	}
}
