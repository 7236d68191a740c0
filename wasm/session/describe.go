package session

import (
	"slices"
	"strings"

	"tabtune/zo/task"
)

type labelInfo struct {
	Name       string `json:"name"`
	Verbalizer string `json:"verbalizer"`
	Token      int32  `json:"token"`
	Count      int    `json:"count"` // training rows
}

type previewRow struct {
	Text   string `json:"text"`
	Prompt string `json:"prompt"`
	Label  string `json:"label"` // the label, the right option or the answer
	Tokens int    `json:"tokens"`
	// Rendered is everything that the model reads and is scored on; Scored are the
	// places in it, in bytes, of the scored tokens.
	Rendered string   `json:"rendered"`
	Scored   [][2]int `json:"scored"`
	Options  []string `json:"options,omitempty"`
}

type warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Rows    []int  `json:"rows"`
}

type dataInfo struct {
	Kind      string       `json:"kind"`   // labels, choice, completion
	Metric    string       `json:"metric"` // what the task is judged by
	TrainRows int          `json:"trainRows"`
	ValRows   int          `json:"valRows"`
	Longest   int          `json:"longest"` // tokens of the longest row
	Labels    []labelInfo  `json:"labels"`
	Preview   []previewRow `json:"preview"`
	Warnings  []warning    `json:"warnings"`
}

// previewRows is how many training rows data.open shows.
const previewRows = 5

func describe(m *model, ds *task.Dataset, d *dataset) dataInfo {
	info := dataInfo{Kind: string(d.kind), Metric: string(d.metric), TrainRows: len(ds.Train), ValRows: len(ds.Val), Longest: d.longest(), Labels: []labelInfo{},
		Preview: []previewRow{}, Warnings: []warning{}}
	for _, l := range ds.Labels {
		info.Labels = append(info.Labels, labelInfo{l.Name, l.Verbalizer, l.Token, l.Train})
	}
	for i := range ds.Train[:min(previewRows, len(ds.Train))] {
		info.Preview = append(info.Preview, m.preview(&ds.Train[i], ds.Labels))
	}
	for _, w := range ds.Warnings {
		rows := w.Rows
		if rows == nil {
			rows = []int{}
		}
		info.Warnings = append(info.Warnings, warning{w.Code, w.Message, rows})
	}
	return info
}

// longest is the number of tokens of the longest row.
func (d *dataset) longest() int {
	n := 0
	for _, it := range slices.Concat(d.all(d.train), d.val) {
		n = max(n, it.example.Longest())
	}
	return n
}

// preview renders an example, a choice with its right option.
func (m *model) preview(e *task.Example, labels []task.Label) previewRow {
	p := previewRow{Text: e.Text, Prompt: e.Prompt, Options: e.Options}
	seq := e.Sequences[0]
	targets := seq.Targets
	switch {
	case labels != nil:
		l := labels[e.Label]
		p.Label, targets = l.Name, []int32{l.Token}
	case e.Options != nil:
		p.Label = e.Options[e.Label]
		seq = e.Sequences[e.Label]
		targets = seq.Targets
	default:
		p.Label = e.Answers[0]
	}
	p.Tokens = len(seq.IDs)
	ids := seq.IDs
	if last := len(seq.At) - 1; int(seq.At[last]) == len(ids)-1 {
		ids = slices.Concat(ids, targets[last:last+1])
	}
	stream, at := m.tok.NewStream(), 0
	var text strings.Builder
	for i, id := range ids {
		begin := text.Len()
		text.WriteString(stream.Next(id))
		if at < len(seq.At) && int(seq.At[at]) == i-1 {
			p.Scored = append(p.Scored, [2]int{begin, text.Len()})
			at++
		}
	}
	text.WriteString(stream.Flush())
	p.Rendered = text.String()
	return p
}
