package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/host"
	"tabtune/zo/task"
)

// TestReport: a section and a plot for every task with records, with its own measure.
func TestReport(t *testing.T) {
	sets, err := dataSets("reviews,passages,tickets")
	if err != nil {
		t.Fatal(err)
	}
	f1 := 0.25
	done := func(set, name string, loss float64) record {
		s := host.Score{Step: 3, Accuracy: 0.75, Loss: loss, Metrics: host.Metrics{F1: &f1}}
		return record{Task: set, Setting: name, Result: host.TrainResult{Rows: 640, Best: s, ZeroShot: host.Score{Loss: 2}}, Curve: []point{{0, 0.5, 2}, {640, 0.75, loss}}}
	}
	out := t.TempDir()
	if err := report([]record{done("reviews", "prge", 0.5), done("passages", "rows", 1.5)}, sets, 640, out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(out, "study-640.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## reviews", "640 rows. Zero-shot: accuracy", "| 1 | 640 | 0.750 | 0.5000 | 0.5000 |", "## passages", "320 rows. Zero-shot: f1 0.000",
		"| 1 | 640 | 0.250 | 1.5000 | 1.5000 |", "](study-640-passages.svg)"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
	if strings.Contains(string(b), "## tickets") {
		t.Error("a task without records has a section")
	}
	if _, err := os.Stat(filepath.Join(out, "study-640-passages.svg")); err != nil {
		t.Error(err)
	}
}

// TestDataSets: the tasks' files are made, and open as what the study says they are.
func TestDataSets(t *testing.T) {
	if _, err := dataSets("reviews,other"); err == nil {
		t.Error("an unknown task is taken")
	}
	sets, err := dataSets("all")
	if err != nil || len(sets) < 5 {
		t.Fatalf("%d tasks, %v", len(sets), err)
	}
	dir := t.TempDir()
	head := setting{Name: "head", Alone: true}
	notLabels := 0
	for i := range sets {
		d := &sets[i]
		if d.has(head) != d.labels || !d.has(setting{Name: "prge"}) || d.has(setting{Name: "muon"}) == d.Few {
			t.Errorf("%s runs other settings than it should", d.Name)
		}
		p, err := d.files(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d.make == nil {
			continue
		}
		f, err := os.Open(p.Path)
		if err != nil {
			t.Fatal(err)
		}
		tab, err := task.ReadTable(f, p.Path, task.ReadOptions{})
		f.Close() // read only
		if err != nil || string(task.GuessKind(tab)) != d.make.Kind || d.What == "" {
			t.Errorf("%s: %v, %s", d.Name, err, task.GuessKind(tab))
		}
		if d.make.Kind != "labels" {
			notLabels++
		}
	}
	if notLabels < 2 {
		t.Errorf("%d tasks are not of labels", notLabels)
	}
}
