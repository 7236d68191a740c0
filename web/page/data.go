//go:build js && wasm

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tabtune/web/ui"
)

// The kinds of task that the data step offers.
const (
	kindLabels     = "labels"
	kindCompletion = "completion"
	kindAnswers    = "answers"
	kindChat       = "chat"
	kindChoice     = "choice"
)

// labelTemplate is the prompt of label tasks until somebody writes another.
const labelTemplate = "{text} It was {label}"

// DataKind is a kind of task with its name.
type DataKind struct{ ID, Label, Hint string }

// DataKinds lists them.
func (a *App) DataKinds() []DataKind {
	return []DataKind{
		{kindLabels, "Sort texts by label", "The model chooses between one word a label."},
		{kindCompletion, "Continue a prompt", "A prompt and what is to follow it; judged by perplexity."},
		{kindAnswers, "Answer questions", "The same, judged by the words of generated answers (F1)."},
		{kindChat, "Conversations", "Lists of messages in the model's own chat form."},
		{kindChoice, "Choose between options", "The option of the highest mean log-probability wins."},
	}
}

// samples are the data sets written for this page, below its own address.
var samples = []struct {
	id   string
	data DataState
}{
	{"support", DataState{Kind: kindLabels, Name: "Support tickets", Path: "/data/support-tickets.csv", Columns: []string{"text", "label"}, Text: "text", Label: "label",
		Template: "{text}\nThis message is about {label}", Verbalizers: "billing, delivery, returns, account, technical", Labels: "billing, delivery, returns, account, technical", ValRows: "50", Window: "96"}},
	{"plain", DataState{Kind: kindCompletion, Name: "Plain language", Path: "/data/plain-language.jsonl", Columns: []string{"prompt", "completion"}, Text: "prompt", Label: "completion", ValRows: "40", Window: "96"}},
	{"yesno", DataState{Kind: kindLabels, Name: "Yes or no", Path: "/data/yes-no.csv", Columns: []string{"text", "question", "label"}, Text: "text", Label: "label",
		Template: "{text} {question} The answer is {label}", Verbalizers: "yes, no", Labels: "yes, no", ValRows: "50", Window: "96"}},
}

// SampleButton is one ready data set.
type SampleButton struct{ ID, Label string }

// Samples lists those that are not in use.
func (a *App) Samples() []SampleButton {
	var out []SampleButton
	for _, s := range samples {
		if s.data.Path != a.Data.Path {
			out = append(out, SampleButton{s.id, s.data.Name})
		}
	}
	return out
}

// OnSample takes a ready data set.
func (a *App) OnSample(id string) {
	for _, s := range samples {
		if s.id == id {
			go a.chain(func() error {
				a.now(func() { a.Data = s.data })
				return a.openData()
			})
		}
	}
}

// fetchData brings ready data into storage, unless it is there.
func (a *App) fetchData() error {
	var urls []string
	if a.Data.Sample {
		urls = []string{"assets/" + sampleTrain, "assets/" + sampleVal}
	}
	for _, s := range samples {
		if s.data.Path == a.Data.Path {
			urls = []string{"samples/" + base(s.data.Path)}
		}
	}
	for _, u := range urls {
		if err := a.client.Call("store.download", map[string]any{"url": u, "path": "/data/" + base(u)}, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// guessKind goes by the columns' names.
func guessKind(cols []string) string {
	has := func(name string) bool { return slices.Contains(cols, name) }
	switch {
	case has("messages"):
		return kindChat
	case has("prompt") && has("completion"):
		return kindCompletion
	case has("options") && has("answer"):
		return kindChoice
	}
	return kindLabels
}

// dataParams turns the form into the parameters of data.open.start.
func (a *App) dataParams() (map[string]any, error) {
	d := &a.Data
	window, err := a.window()
	if err != nil {
		return nil, err
	}
	p := map[string]any{"path": d.Path, "window": window, "seed": 0}
	switch d.Kind {
	case kindCompletion, kindAnswers:
		p["kind"], p["promptColumn"], p["completionColumn"] = "completion", d.Text, d.Label
		if d.Kind == kindAnswers {
			p["metric"] = "f1"
		}
	case kindChat:
		p["kind"], p["messagesColumn"] = "completion", d.Text
	case kindChoice:
		p["kind"], p["answerColumn"] = "choice", d.Label
		if d.Options != "" {
			p["optionColumns"] = ui.List(d.Options)
		}
		p["template"] = d.Template
		if strings.TrimSpace(d.Template) == "" {
			p["template"] = "{" + d.Text + "}"
		}
	default:
		p["textColumn"], p["labelColumn"], p["template"], p["verbalizers"], p["labels"] = d.Text, d.Label, d.Template, ui.List(d.Verbalizers), ui.List(d.Labels)
		if !strings.HasSuffix(strings.TrimSpace(d.Template), "{label}") {
			return nil, fmt.Errorf("Template: it must end in {label}, which the model fills in")
		}
	}
	if d.Sample {
		p["val"] = map[string]any{"path": "/data/" + sampleVal}
	} else {
		n, err := strconv.Atoi(strings.TrimSpace(d.ValRows))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("Rows kept for validation: %q is not a number of rows", d.ValRows)
		}
		p["val"] = map[string]any{"rows": n}
	}
	if s := strings.TrimSpace(d.TrainRows); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("Training rows: %q is not a number of rows", s)
		}
		p["trainRows"] = n
	}
	return p, nil
}

// dataRecord is dataParams as a run's record keeps them.
type dataRecord struct {
	Path, Kind, Metric                             string
	TextColumn, LabelColumn                        string
	PromptColumn, CompletionColumn, MessagesColumn string
	AnswerColumn, Template                         string
	OptionColumns, Verbalizers, Labels             []string
	Window, TrainRows                              int
	Val                                            struct{ Rows int }
}

// state puts a record back into the form.
func (r *dataRecord) state() DataState {
	d := DataState{Kind: kindLabels, Name: base(r.Path), Path: r.Path, Text: r.TextColumn, Label: r.LabelColumn, Template: r.Template,
		Verbalizers: join(r.Verbalizers), Labels: join(r.Labels), Window: fmt.Sprint(r.Window)}
	switch {
	case r.MessagesColumn != "":
		d.Kind, d.Text = kindChat, r.MessagesColumn
	case r.Kind == "completion":
		d.Kind, d.Text, d.Label = kindCompletion, r.PromptColumn, r.CompletionColumn
		if r.Metric == "f1" {
			d.Kind = kindAnswers
		}
	case r.Kind == "choice":
		d.Kind, d.Label, d.Options = kindChoice, r.AnswerColumn, join(r.OptionColumns)
		// The prompt's column is in the template alone, which is nothing else unless somebody wrote one.
		_, rest, _ := strings.Cut(r.Template, "{")
		d.Text, _, _ = strings.Cut(rest, "}")
		if r.Template == "{"+d.Text+"}" {
			d.Template = ""
		}
	}
	for _, c := range append([]string{d.Text, d.Label}, r.OptionColumns...) {
		if c != "" && !slices.Contains(d.Columns, c) {
			d.Columns = append(d.Columns, c)
		}
	}
	if base(r.Path) == sampleTrain {
		d.Name, d.Sample = "Movie reviews", true
	} else {
		d.ValRows = fmt.Sprint(r.Val.Rows)
	}
	for _, s := range samples {
		if s.data.Path == r.Path {
			d.Name = s.data.Name
		}
	}
	if r.TrainRows > 0 {
		d.TrainRows = fmt.Sprint(r.TrainRows)
	}
	return d
}

// DataFields lists the text fields of the data step.
func (a *App) DataFields() []Knob {
	d := &a.Data
	var fields []Knob
	if d.Kind == kindLabels {
		fields = append(fields,
			Knob{"template", "Template", "The prompt made of each row: {text} is where its text goes, {column} any other column, {label} at the end what the model says.", &d.Template},
			Knob{"verbalizers", "Answer words", "One word a label, which the model has to choose between, separated by commas.", &d.Verbalizers},
			Knob{"labels", "Labels", "The labels as they stand in the file, in the order of the words. Empty: as found.", &d.Labels})
	}
	if d.Kind == kindChoice {
		fields = append(fields,
			Knob{"template", "Template", "The prompt in front of each option: {column} is where a column's value goes.", &d.Template},
			Knob{"options", "Option columns", "Columns that hold the options, separated by commas. Empty: one column named options with a list.", &d.Options})
	}
	fields = append(fields, Knob{"trainRows", "Training rows", "Empty: all that are left.", &d.TrainRows},
		Knob{"window", "Longest row", "In tokens. Longer rows are reported before training.", &d.Window})
	if !d.Sample {
		fields = append(fields, Knob{"valRows", "Rows kept for validation", "Never trained on, only scored.", &d.ValRows})
	}
	return fields
}

// OnKind changes the kind of task; what the form says of the other kinds stays.
func (a *App) OnKind(kind string) {
	a.Data.Kind = kind
	switch {
	case kind == kindLabels && a.Data.Template == "":
		a.Data.Template = labelTemplate
	case kind != kindLabels && a.Data.Template == labelTemplate: // nobody wrote it, and choices have no label
		a.Data.Template = ""
	}
}

// OnAddRow appends the row that was typed to the pasted text.
func (a *App) OnAddRow() {
	d := &a.Data
	if strings.TrimSpace(d.NewText) == "" || strings.TrimSpace(d.NewLabel) == "" {
		return
	}
	if strings.TrimSpace(d.Pasted) == "" {
		d.Pasted = "text,label\n"
	}
	d.Pasted = strings.TrimRight(d.Pasted, "\n") + "\n" + ui.CSVLine(d.NewText, d.NewLabel)
	d.NewText, d.NewLabel = "", ""
}

// OnUsePasted takes the pasted text as the data.
func (a *App) OnUsePasted() { go a.chain(a.usePasted) }

func (a *App) usePasted() error {
	text := a.Data.Pasted
	ext := ui.PastedFormat(text)
	cols, textCol, label := ui.Columns("x"+ext, []byte(text))
	if len(cols) == 0 {
		return fmt.Errorf("Paste a table with a header line (text,label), or one JSON object a line")
	}
	path := "/data/pasted" + ext
	if err := a.makeRoom(path); err != nil {
		return err
	}
	if err := a.client.Call("store.write", map[string]string{"path": path, "text": text}, nil, nil); err != nil {
		return err
	}
	rows := strings.Count(strings.TrimSpace(text), "\n")
	a.now(func() {
		a.Data = DataState{Kind: guessKind(cols), Name: "Pasted text", Path: path, Columns: cols, Text: textCol, Label: label, Window: a.Data.Window,
			ValRows: fmt.Sprint(max(1, rows/5)), Pasted: text}
		if a.Data.Kind == kindLabels {
			a.Data.Template = labelTemplate
		}
		a.Open["columns"] = true
	})
	return a.refresh()
}
