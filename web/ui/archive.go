package ui

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// File is one file of an archive.
type File struct {
	Name string
	Data []byte
}

// Zip packs files into a .zip, as they are: weights hardly compress, and compressing half a megabyte of them kept the main thread for 60 ms.
// Times are fixed, so equal content gives equal bytes.
func Zip(files []File) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		out, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err == nil {
			_, err = out.Write(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("closing the archive: %w", err)
	}
	return b.Bytes(), nil
}

// Bounds of an archive that is imported.
const (
	MaxArchiveFiles = 4096
	MaxArchiveBytes = 256 << 20 // packed, and unpacked
)

// headBytes is more than a .zip has beside each file's bytes and, twice, its name.
const headBytes = 160

// Archive lists the files of runs that an archive holds: all but what was written for other programs. Runs without a log and an adapter have nothing to
// bring back; it counts those. What could not be read again as one archive is refused.
func (s Stored) Archive(runs []SavedRun) (paths []string, left int, err error) {
	size := int64(headBytes)
	for _, r := range runs {
		folder, whole := "/runs/"+r.ID+"/", r.Adapter != ""
		var own []string
		var bytes int64
		for _, f := range s.Files {
			name, ok := strings.CutPrefix(f.Path, folder)
			if !ok || strings.HasPrefix(name, "export/") || strings.HasSuffix(name, ".part") {
				continue
			}
			whole = whole || name == "replay.log"
			own, bytes = append(own, f.Path), bytes+f.Bytes+int64(headBytes+2*len(f.Path))
		}
		if !whole {
			left++
			continue
		}
		paths, size = append(paths, own...), size+bytes
	}
	switch {
	case len(paths) == 0:
		return nil, left, errors.New("there is nothing to save yet: no step was made")
	case size > MaxArchiveBytes:
		return nil, left, fmt.Errorf("the runs hold %s and one archive can hold %s: save them one by one", Bytes(size), Bytes(MaxArchiveBytes))
	case len(paths) > MaxArchiveFiles:
		return nil, left, fmt.Errorf("the runs have %d files and one archive can have %d: save them one by one", len(paths), MaxArchiveFiles)
	}
	return paths, left, nil
}

// LeftOut says how many runs are not in an archive, and why.
func LeftOut(n int) string {
	if n == 1 {
		return "1 run without a step was left out."
	}
	return fmt.Sprintf("%d runs without a step were left out.", n)
}

// Unzip reads an archive from outside: at most MaxArchiveFiles files and MaxArchiveBytes, plain relative names.
func Unzip(data []byte) ([]File, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("this is no .zip file, or it is cut short: %w", err)
	}
	if len(z.File) > MaxArchiveFiles {
		return nil, fmt.Errorf("the archive has %d files, at most %d can be read", len(z.File), MaxArchiveFiles)
	}
	var files []File
	left := int64(MaxArchiveBytes)
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if name := path.Clean(f.Name); name != f.Name || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "..") || strings.ContainsAny(name, "\\\x00") {
			return nil, fmt.Errorf("the archive has a file named %q, which leads out of it", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%s in the archive: %w", f.Name, err)
		}
		b, err := io.ReadAll(io.LimitReader(r, left+1))
		if err != nil {
			return nil, fmt.Errorf("%s in the archive: %w", f.Name, err)
		}
		if left -= int64(len(b)); left < 0 {
			return nil, fmt.Errorf("the archive's files are larger than %s", Bytes(MaxArchiveBytes))
		}
		files = append(files, File{f.Name, b})
	}
	return files, nil
}

// Imported is what an archive holds, as files of a run's folder.
type Imported struct {
	Files []File
	Run   *SavedRun // of a whole run; nil for an adapter alone
}

// runsFolder holds the runs in an archive of several, each in a folder of its own.
const runsFolder = "runs/"

// ImportAll recognises what Import does, and an archive of several runs, one of which has its record in runsFolder.
func ImportAll(files []File) ([]Imported, error) {
	several := slices.ContainsFunc(files, func(f File) bool {
		parts := strings.Split(f.Name, "/")
		return len(parts) == 3 && parts[0]+"/" == runsFolder && parts[2] == "page.json"
	})
	if !several { // other programs have folders of this name too
		in, err := Import(files)
		return []Imported{in}, err
	}
	var ids []string
	byRun := map[string][]File{}
	for _, f := range files {
		rest, ok := strings.CutPrefix(f.Name, runsFolder)
		id, name, ok2 := strings.Cut(rest, "/")
		if !ok || !ok2 {
			continue // as what some systems put into every archive
		}
		if byRun[id] == nil {
			ids = append(ids, id)
		}
		byRun[id] = append(byRun[id], File{name, f.Data})
	}
	var out []Imported
	for _, id := range ids {
		in, err := Import(byRun[id])
		if err == nil && in.Run == nil {
			err = fmt.Errorf("no page.json")
		}
		if err != nil {
			return nil, fmt.Errorf("%s%s: %w", runsFolder, id, err)
		}
		out = append(out, in)
	}
	return out, nil
}

// Import recognises a whole run (page.json at the top) or a PEFT adapter (its two files in one folder).
func Import(files []File) (Imported, error) {
	byName := map[string][]byte{}
	for _, f := range files {
		byName[f.Name] = f.Data
	}
	if raw, ok := byName["page.json"]; ok {
		var r SavedRun
		if err := json.Unmarshal(raw, &r); err != nil {
			return Imported{}, fmt.Errorf("page.json in the archive: %w", err)
		}
		if r.ID == "" || FileName(r.ID) != r.ID {
			return Imported{}, fmt.Errorf("page.json in the archive: id %q cannot be a run's", r.ID)
		}
		if byName["replay.log"] == nil && r.Adapter == "" {
			return Imported{}, fmt.Errorf("the archive holds a run without its replay.log")
		}
		var own []File
		for _, f := range files {
			if parts := strings.Split(f.Name, "/"); len(parts) <= 2 && !slices.ContainsFunc(parts, func(s string) bool { return FileName(s) != s }) {
				own = append(own, f)
			}
		}
		return Imported{own, &r}, nil
	}
	for _, f := range files {
		if path.Base(f.Name) != "adapter_config.json" {
			continue
		}
		weights, ok := byName[path.Join(path.Dir(f.Name), "adapter_model.safetensors")]
		if !ok {
			return Imported{}, fmt.Errorf("the archive has %s but no adapter_model.safetensors beside it", f.Name)
		}
		return Imported{Files: []File{{"adapter/adapter_config.json", f.Data}, {"adapter/adapter_model.safetensors", weights}}}, nil
	}
	for _, f := range files {
		if path.Base(f.Name) == "classifier.safetensors" { // a label head
			return Imported{Files: []File{{"adapter/classifier.safetensors", f.Data}}}, nil
		}
	}
	return Imported{}, fmt.Errorf("the archive holds neither a PEFT adapter (adapter_config.json), a label head (classifier.safetensors) nor a run saved by this page (page.json)")
}
