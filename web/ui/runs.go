package ui

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// SavedRun is the page's own record beside a run's files (page.json): enough to open the same model and data again, and to draw its curves.
type SavedRun struct {
	ID     string          `json:"id"`
	Name   string          `json:"name,omitempty"` // given by the visitor
	Model  json.RawMessage `json:"model"`          // parameters of model.open.start
	Data   json.RawMessage `json:"data"`           // parameters of data.open.start
	Train  json.RawMessage `json:"train"`          // Settings
	Step   int             `json:"step"`
	Steps  int             `json:"steps"`
	Done   bool            `json:"done"`
	Zero   *Score          `json:"zero,omitempty"`
	Best   *Score          `json:"best,omitempty"`
	Losses []Point         `json:"losses,omitempty"` // thinned
	Evals  []Point         `json:"evals,omitempty"`
	// Adapter is what adapter.load or, with Replay, adapter.replay takes for a run that was not made here; empty: the run's folder.
	Adapter string `json:"adapter,omitempty"`
	Replay  bool   `json:"replay,omitempty"`
}

// Title is the run's name, or its time.
func (r *SavedRun) Title() string {
	if r.Name != "" {
		return r.Name
	}
	return "Run of " + r.when()
}

// when is the time that an id is made of, as a person writes it.
func (r *SavedRun) when() string {
	const form = "2006-01-02-150405"
	at, rest := r.ID[:min(len(form), len(r.ID))], r.ID[min(len(form), len(r.ID)):]
	t, err := time.Parse(form, at)
	if err != nil {
		return r.ID
	}
	return t.Local().Format("2 Jan 2006, 15:04:05") + strings.Replace(rest, "-", ", no. ", 1)
}

// Text says how the run stands.
func (r *SavedRun) Text() string {
	s := fmt.Sprintf("step %d of %d", r.Step, r.Steps)
	if r.Adapter != "" {
		s = "imported"
	}
	if r.Zero != nil && r.Best != nil {
		s += fmt.Sprintf(", accuracy %s before, %s at best", Percent(r.Zero.Accuracy), Percent(r.Best.Accuracy))
	}
	return s
}

// Thin reduces a curve to at most n points by means over equal stretches, leaving out what is not finite.
func Thin(pts []Point, n int) []Point {
	stride := max(1, (len(pts)+n-1)/n)
	var out []Point
	for i := 0; i < len(pts); i += stride {
		sum, k, step := 0.0, 0, 0
		for _, p := range pts[i:min(i+stride, len(pts))] {
			if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
				sum, k, step = sum+p.Value, k+1, p.Step
			}
		}
		if k > 0 {
			out = append(out, Point{step, sum / float64(k)})
		}
	}
	return out
}

// Curves draws several runs' losses, and accuracies dashed, over the same axes.
type Curves struct {
	Chart Chart // the union of all, for axes and labels
	Runs  []SavedRun
}

// NewCurves puts runs into one picture.
func NewCurves(runs []SavedRun) *Curves {
	c := &Curves{Runs: runs}
	for _, r := range runs {
		c.Chart.Steps = max(c.Chart.Steps, r.Steps)
		c.Chart.Loss = append(c.Chart.Loss, r.Losses...)
	}
	return c
}

// LossLine is the points attribute of run i's smoothed losses, AccuracyLine that of its validation accuracies.
func (c *Curves) LossLine(i int) string { return c.Chart.line(smoothed(c.Runs[i].Losses)) }

// AccuracyLine is the points attribute of run i's validation accuracies.
func (c *Curves) AccuracyLine(i int) string {
	one := Chart{Evals: c.Runs[i].Evals, Steps: c.Chart.Steps}
	return one.AccuracyLine()
}

// Bounds of an archive that is imported.
const (
	maxArchiveFiles = 4096
	maxArchiveBytes = 256 << 20
)

// Unzip reads an archive from outside: at most 64 files and 256 MB, plain relative names.
func Unzip(data []byte) ([]File, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("this is no .zip file, or it is cut short: %w", err)
	}
	if len(z.File) > maxArchiveFiles {
		return nil, fmt.Errorf("the archive has %d files, at most %d can be read", len(z.File), maxArchiveFiles)
	}
	var files []File
	left := int64(maxArchiveBytes)
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
			return nil, fmt.Errorf("the archive's files are larger than %s", Bytes(maxArchiveBytes))
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

// RunsFolder holds the runs in an archive of several, each in a folder of its own.
const RunsFolder = "runs/"

// ImportAll recognises what Import does, and an archive of several runs.
func ImportAll(files []File) ([]Imported, error) {
	var ids []string
	byRun := map[string][]File{}
	for _, f := range files {
		rest, ok := strings.CutPrefix(f.Name, RunsFolder)
		id, name, ok2 := strings.Cut(rest, "/")
		if !ok || !ok2 {
			in, err := Import(files)
			return []Imported{in}, err
		}
		if byRun[id] == nil {
			ids = append(ids, id)
		}
		byRun[id] = append(byRun[id], File{name, f.Data})
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("the archive is empty")
	}
	var out []Imported
	for _, id := range ids {
		in, err := Import(byRun[id])
		if err == nil && in.Run == nil {
			err = fmt.Errorf("no page.json")
		}
		if err != nil {
			return nil, fmt.Errorf("%s%s: %w", RunsFolder, id, err)
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
