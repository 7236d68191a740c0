package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tabtune/host"
	"tabtune/internal/assets"
	"tabtune/internal/atomicfile"
	"tabtune/internal/studydata"
)

// dataSet is a task of the study.
type dataSet struct {
	Name   string
	What   string // for the report
	Metric string // what stands in its table: accuracy, f1, em
	Few    bool   // runs the settings in few alone, with half the rows
	labels bool   // has an exact label head
	params host.DataParams
	make   *studydata.Set // nil: the files are there
}

// few are the settings that the smaller tasks run.
var few = []string{"paper", "prge", "rows", "fzoo", "mezo", "head"}

var whats = map[string]string{
	"agreement": "which of two endings agrees with the subject, past a distracting noun: a choice of options by mean log-probability",
	"passages":  "a question about one of several facts in a passage: generated answers, judged by F1 on 32 rows",
	"records":   "a sentence to be rewritten as a record in a fixed form: generated, judged by exact match on 32 rows",
	"tickets":   "the intent of a message to a shop, four labels",
}

// dataSets are the tasks with these names, comma separated.
func dataSets(names string) ([]dataSet, error) {
	cache, err := assets.Dir()
	if err != nil {
		return nil, err
	}
	all := []dataSet{{Name: "reviews", Metric: "accuracy", labels: true,
		What: `movie reviews, 1,000 training and 500 validation sentences, prompt "{text} It was", " terrible" / " great"`,
		params: host.DataParams{Path: filepath.Join(cache, assets.ReviewsTrain), Val: &host.ValParams{Path: filepath.Join(cache, assets.ReviewsVal)},
			Labels: []string{"negative", "positive"}, Verbalizers: []string{"terrible", "great"}}}}
	for i := range studydata.Sets {
		s := &studydata.Sets[i]
		d := dataSet{Name: s.Name, What: whats[s.Name], Metric: s.Metric, Few: true, labels: s.Kind == "labels", make: s,
			params: host.DataParams{Labels: s.Labels, Verbalizers: s.Words}}
		if s.Kind == "completion" {
			d.params.Metric = s.Metric
		}
		if s.Name == "tickets" {
			d.params.Template = "{text}\nThis message is about {label}"
		}
		all = append(all, d)
	}
	if names == "all" {
		return all, nil
	}
	var out []dataSet
	for _, n := range strings.Split(names, ",") {
		i := slices.IndexFunc(all, func(d dataSet) bool { return d.Name == n })
		if i < 0 {
			return nil, fmt.Errorf("no task %q", n)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// has tells whether the task runs a setting.
func (d *dataSet) has(s setting) bool {
	return (!d.Few || slices.Contains(few, s.Name)) && (!s.Alone || d.labels)
}

// rows is how many rows through the model its runs may use.
func (d *dataSet) rows(all int) int {
	if d.Few {
		return all / 2
	}
	return all
}

// files makes the task's rows under dir, if it has none yet.
func (d *dataSet) files(dir string) (host.DataParams, error) {
	p := d.params
	if d.make == nil {
		return p, nil
	}
	dir, err := filepath.Abs(filepath.Join(dir, "data"))
	if err != nil {
		return p, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return p, err
	}
	var train, val bytes.Buffer
	if err := d.make.Write(&train, &val, 1); err != nil {
		return p, err
	}
	p.Path, p.Val = filepath.Join(dir, d.Name+"-train.jsonl"), &host.ValParams{Path: filepath.Join(dir, d.Name+"-val.jsonl")}
	for path, b := range map[string]*bytes.Buffer{p.Path: &train, p.Val.Path: &val} {
		if err := atomicfile.Write(path, func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err }); err != nil {
			return p, err
		}
	}
	return p, nil
}

// quality is the number that the task is judged by.
func (d *dataSet) quality(s host.Score) float64 {
	v := &s.Accuracy
	switch d.Metric {
	case "f1":
		v = s.F1
	case "em":
		v = s.ExactMatch
	}
	if v == nil {
		return 0 // no answer was generated
	}
	return *v
}
