package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"tabtune/host"
	"tabtune/zo/task"
)

// taskNames lists the task templates for a flag's help.
func taskNames() string {
	var names []string
	for _, t := range task.Tasks() {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// dataCommand shows rows and the report without training.
func dataCommand(ctx context.Context, a *app, args []string) error {
	f := a.flags("data")
	m, d := f.modelFlags(), f.dataFlags()
	seed := f.Int64("seed", 0, "seed of the split, when --val-rows is given")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	s, err := newSession(a, m, d, *seed)
	if err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.close()
	if f.json {
		return a.printJSON(s.info)
	}
	for _, l := range s.info.Labels {
		fmt.Fprintf(a.out, "label %s: %q, %d training rows\n", l.Name, l.Verbalizer, l.Count)
	}
	_, err = fmt.Fprintf(a.out, "longest row: %d tokens; scored tokens are shown as [[token]]\n", s.info.Longest)
	for i, p := range s.info.Preview {
		fmt.Fprintf(a.out, "\n-- %d: %d tokens, right: %s\n%s\n", i+1, p.Tokens, p.Label, marked(p))
	}
	return err
}

// marked puts a preview's scored tokens into brackets.
func marked(p host.Preview) string {
	var b strings.Builder
	at := 0
	for _, s := range p.Scored {
		if s[0] < at || s[1] < s[0] || s[1] > len(p.Rendered) {
			continue
		}
		b.WriteString(p.Rendered[at:s[0]] + "[[" + p.Rendered[s[0]:s[1]] + "]]")
		at = s[1]
	}
	return b.String() + p.Rendered[at:]
}

// kindText says what is scored.
func kindText(d host.DataInfo) string {
	switch d.Kind {
	case "choice":
		return "the best of options"
	case "completion":
		return "completions, judged by " + d.Metric
	}
	labels := make([]string, len(d.Labels))
	for i, l := range d.Labels {
		labels[i] = fmt.Sprintf("%s as %q", l.Name, l.Verbalizer)
	}
	return "labels: " + strings.Join(labels, ", ")
}

// measure is a named result.
type measure struct {
	name, value string
}

// measures lists what a score holds. Completions have an accuracy only where answers
// were generated.
func measures(kind string, accuracy, loss float64, m host.Metrics) []measure {
	var out []measure
	add := func(name, format string, v *float64) {
		if v != nil {
			out = append(out, measure{name, fmt.Sprintf(format, *v)})
		}
	}
	if kind != "completion" {
		add("accuracy", "%.3f", &accuracy)
	}
	add("exact match", "%.3f", m.ExactMatch)
	add("F1", "%.3f", m.F1)
	add("loss", "%.4f", &loss)
	add("perplexity", "%.3f", m.Perplexity)
	return out
}

func scoreText(kind string, accuracy, loss float64, m host.Metrics) string {
	var parts []string
	for _, x := range measures(kind, accuracy, loss, m) {
		parts = append(parts, x.name+" "+x.value)
	}
	return strings.Join(parts, "  ")
}

// printScores writes a run's results as a table.
func (a *app) printScores(kind string, r host.TrainResult) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, cells []measure, pick func(measure) string) {
		fmt.Fprint(w, name)
		for _, c := range cells {
			fmt.Fprint(w, "\t", pick(c))
		}
		fmt.Fprint(w, "\t\n")
	}
	value := func(m measure) string { return m.value }
	last := measures(kind, r.Accuracy, r.Loss, r.Metrics)
	line("", last, func(m measure) string { return m.name })
	line("before", measures(kind, r.ZeroShot.Accuracy, r.ZeroShot.Loss, r.ZeroShot.Metrics), value)
	line("after", last, value)
	line(fmt.Sprintf("best, step %d", r.Best.Step), measures(kind, r.Best.Accuracy, r.Best.Loss, r.Best.Metrics), value)
	return w.Flush()
}
