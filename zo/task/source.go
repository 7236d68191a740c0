package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // "system", "user", "assistant", ...
	Content string `json:"content"`
}

// definition is a kind of task as it reads tables: what a user described by
// columns and a prompt, or one of the templates in Tasks.
type definition struct {
	name   string
	kind   Kind
	metric Metric
	stop   string
	prompt *Template // label tasks: for the space in front of the verbalizer
	expand func(*Table) (*Table, error)
	bind   func(b *builder, s *source) error
}

const (
	promptColumn     = "prompt"
	completionColumn = "completion"
	messagesColumn   = "messages"
	optionsColumn    = "options"
	answerColumn     = "answer"
)

// choose finds what the table is to be read as.
func (b *builder) choose(t *Table) (err error) {
	o := &b.o
	switch {
	case o.Task != "":
		if err := o.ownColumns(); err != nil {
			return err
		}
		if b.def, err = b.named(o.Task); err != nil {
			return err
		}
	default:
		kind := o.Kind
		if kind == "" {
			kind = o.kindOf(t)
		}
		switch kind {
		case KindLabels:
			b.def, err = b.labelTask()
		case KindChoice:
			b.def, err = b.choiceTask()
		case KindCompletion:
			b.def, err = b.completionTask(t)
		default:
			err = fmt.Errorf("kind %q: want %s, %s or %s", o.Kind, KindLabels, KindChoice, KindCompletion)
		}
		if err != nil {
			return err
		}
	}
	b.ds.Kind, b.ds.Metric, b.ds.Stop = b.def.kind, b.def.metric, b.def.stop
	return nil
}

// ownColumns refuses columns and words beside a task's template, which has its own.
func (o *Options) ownColumns() error {
	for name, v := range map[string]string{"a text column": o.TextColumn, "a label column": o.LabelColumn, "a prompt template": o.Template,
		"a prompt column": o.PromptColumn, "a completion column": o.CompletionColumn, "a messages column": o.MessagesColumn,
		"option columns": strings.Join(o.OptionColumns, ","), "an answer column": o.AnswerColumn, "labels": strings.Join(o.Labels, ","),
		"verbalizers": strings.Join(o.Verbalizers, ","), "a kind": string(o.Kind)} {
		if v != "" {
			return fmt.Errorf("task %s has its own prompt and columns; %s cannot be given beside it", o.Task, name)
		}
	}
	return nil
}

// kindOf goes by the columns that were named, then by those that the table has.
func (o *Options) kindOf(t *Table) Kind {
	has := func(name string) bool { return slices.Contains(t.Columns, name) }
	switch {
	case o.OptionColumns != nil || o.AnswerColumn != "":
		return KindChoice
	case o.PromptColumn != "" || o.CompletionColumn != "" || o.MessagesColumn != "" || o.Chat:
		return KindCompletion
	case o.TextColumn != "" || o.LabelColumn != "" || o.Labels != nil || o.Verbalizers != nil:
		return KindLabels
	case has(messagesColumn), has(promptColumn) && has(completionColumn):
		return KindCompletion
	case has(optionsColumn) && has(answerColumn):
		return KindChoice
	}
	return KindLabels
}

// GuessKind is the kind of task that the names of a table's columns suggest.
func GuessKind(t *Table) Kind { return (&Options{}).kindOf(t) }

func or(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// labelTask is a prompt that ends in a label's word.
func (b *builder) labelTask() (*definition, error) {
	tmpl, err := ParseTemplate(or(b.o.Template, DefaultTemplate))
	if err != nil {
		return nil, err
	}
	bind := func(b *builder, s *source) error {
		text, err := s.t.Column(or(b.o.TextColumn, textPlace))
		if err != nil {
			return fmt.Errorf("text column: %w", err)
		}
		label, err := s.t.Column(or(b.o.LabelColumn, labelPlace))
		if err != nil {
			return fmt.Errorf("label column: %w", err)
		}
		if text == label {
			return fmt.Errorf("%s: text and label are the same column %q", s.t.Name, s.t.Columns[text])
		}
		prompt, err := tmpl.bind(s.t, text)
		if err != nil {
			return err
		}
		for i, c := range prompt.columns {
			if c == label {
				return fmt.Errorf("template: {%s} shows the label in the prompt", tmpl.parts[i].column)
			}
		}
		s.label = func(r *Row) string { return strings.TrimSpace(r.Values[label]) }
		s.render = func(r *Row) (record, error) {
			rec := record{text: strings.TrimSpace(r.Values[text]), prompt: prompt.render(r)}
			if rec.text == "" {
				return rec, errEmptyRow
			}
			return rec, nil
		}
		return nil
	}
	return &definition{name: "labels", kind: KindLabels, metric: Accuracy, prompt: tmpl, bind: bind}, nil
}

// completionTask is a prompt and what is to follow it, or a conversation.
func (b *builder) completionTask(t *Table) (*definition, error) {
	o := &b.o
	def := &definition{name: "completion", kind: KindCompletion, metric: Perplexity}
	if o.MessagesColumn != "" || o.PromptColumn == "" && o.CompletionColumn == "" && o.Template == "" && slices.Contains(t.Columns, messagesColumn) {
		if o.Render == nil {
			return nil, errors.New("conversations need a model with a chat template, and this one has none")
		}
		o.Chat, o.Special, o.Begin = true, true, nil // the template spells out what begins a text
		def.bind = bindMessages
		return def, nil
	}
	prompt, err := ParsePrompt(or(o.Template, "{"+or(o.PromptColumn, promptColumn)+"}"))
	if err != nil {
		return nil, err
	}
	if o.Chat {
		if o.Render == nil {
			return nil, errors.New("the model has no chat template; give the data as plain prompts and completions")
		}
		o.Special, o.Begin = true, nil
	}
	def.bind = func(b *builder, s *source) error {
		ask, err := prompt.bind(s.t, -1)
		if err != nil {
			return err
		}
		answer, err := s.t.Column(or(b.o.CompletionColumn, completionColumn))
		if err != nil {
			return fmt.Errorf("completion column: %w", err)
		}
		for i, c := range ask.columns {
			if c == answer {
				return fmt.Errorf("template: {%s} shows the completion in the prompt", prompt.parts[i].column)
			}
		}
		s.render = func(r *Row) (record, error) {
			text, answers := ask.renderAs(r, false), textList(r.Values[answer])
			if strings.TrimSpace(text) == "" || len(answers) == 0 || strings.TrimSpace(answers[0]) == "" {
				return record{}, errEmptyRow
			}
			if b.o.Chat {
				return b.conversation([]Message{{"user", text}, {"assistant", answers[0]}}, answers)
			}
			return complete(text, answers, "", true), nil
		}
		return nil
	}
	return def, nil
}

// complete is the record of a prompt that the first answer and then stop, or the
// token that ends a text, follow.
func complete(prompt string, answers []string, stop string, end bool) record {
	shown, next := join(prompt, answers[0])
	return record{text: strings.TrimSpace(prompt), prompt: shown, answers: answers,
		seqs: [][]segment{{{text: shown}, {text: next + stop, scored: true, end: end}}}}
}

// textList reads a value that is one text, or a JSON list of texts.
func textList(v string) []string {
	if strings.HasPrefix(strings.TrimSpace(v), "[") {
		var list []string
		if json.Unmarshal([]byte(v), &list) == nil {
			return list
		}
	}
	return []string{v}
}

func bindMessages(b *builder, s *source) error {
	col, err := s.t.Column(or(b.o.MessagesColumn, messagesColumn))
	if err != nil {
		return fmt.Errorf("messages column: %w", err)
	}
	s.render = func(r *Row) (record, error) {
		v := r.Values[col]
		if strings.TrimSpace(v) == "" {
			return record{}, errEmptyRow
		}
		var list []Message
		if err := json.Unmarshal([]byte(v), &list); err != nil {
			return record{}, fmt.Errorf("messages: want a list of {\"role\", \"content\"}: %w", err)
		}
		return b.conversation(list, nil)
	}
	return nil
}

// maxTurns bounds a conversation: every assistant's turn is rendered twice.
const maxTurns = 256

// conversation renders messages; what the assistant says is scored.
func (b *builder) conversation(list []Message, answers []string) (record, error) {
	if len(list) > maxTurns {
		return record{}, fmt.Errorf("%d messages, the limit is %d", len(list), maxTurns)
	}
	rec := record{answers: answers}
	done := ""
	var segs []segment
	for i, m := range list {
		if m.Role == "" {
			return rec, fmt.Errorf("message %d has no role", i+1)
		}
		if m.Role != "assistant" {
			rec.text = m.Content
			continue
		}
		if i == 0 {
			return rec, errors.New("the first message is the assistant's: there is nothing to answer")
		}
		open, err := b.o.Render(list[:i], true)
		if err != nil {
			return rec, err
		}
		whole, err := b.o.Render(list[:i+1], false)
		if err != nil {
			return rec, err
		}
		if !strings.HasPrefix(open, done) || !strings.HasPrefix(whole, open) {
			return rec, fmt.Errorf("the model's chat template renders message %d otherwise when more follow, so the answer cannot be told apart", i+1)
		}
		segs = append(segs, segment{text: open[len(done):]}, segment{text: whole[len(open):], scored: true})
		rec.prompt, done = open, whole
		if answers == nil {
			rec.answers = []string{m.Content}
		}
	}
	if segs == nil {
		return rec, errors.New("no message is the assistant's")
	}
	rec.seqs = [][]segment{segs}
	return rec, nil
}

// choiceTask is a prompt and options, of which the most likely is taken.
func (b *builder) choiceTask() (*definition, error) {
	prompt, err := ParsePrompt(or(b.o.Template, "{"+or(b.o.PromptColumn, promptColumn)+"}"))
	if err != nil {
		return nil, err
	}
	base := -1 // what number the first option has: settled by the training table
	bind := func(b *builder, s *source) error {
		ask, err := prompt.bind(s.t, -1)
		if err != nil {
			return err
		}
		names := b.o.OptionColumns
		if names == nil {
			names = []string{optionsColumn}
		}
		columns := make([]int, len(names))
		for i, n := range names {
			if columns[i], err = s.t.Column(n); err != nil {
				return fmt.Errorf("option column: %w", err)
			}
		}
		answer, err := s.t.Column(or(b.o.AnswerColumn, answerColumn))
		if err != nil {
			return fmt.Errorf("answer column: %w", err)
		}
		for i, c := range ask.columns {
			if c == answer {
				return fmt.Errorf("template: {%s} shows the answer in the prompt", prompt.parts[i].column)
			}
		}
		if base < 0 {
			base = firstNumber(s.t, answer)
		}
		s.render = func(r *Row) (record, error) {
			var options []string
			if len(columns) == 1 {
				options = textList(r.Values[columns[0]])
			} else {
				for _, c := range columns {
					if v := r.Values[c]; strings.TrimSpace(v) != "" {
						options = append(options, v)
					}
				}
			}
			text := ask.renderAs(r, false)
			if strings.TrimSpace(text) == "" {
				return record{}, errEmptyRow
			}
			right, err := rightOption(r.Values[answer], options, base)
			if err != nil {
				return record{}, err
			}
			return choose(text, options, []int{right})
		}
		return nil
	}
	return &definition{name: "choice", kind: KindChoice, metric: Accuracy, bind: bind}, nil
}

const maxOptions = 64

// choose is the record of a prompt that one of the options follows.
func choose(prompt string, options []string, right []int) (record, error) {
	rec := record{text: strings.TrimSpace(prompt), options: options, right: right}
	if err := checkOptions(options); err != nil {
		return rec, err
	}
	for _, o := range options {
		shown, next := join(prompt, o)
		rec.prompt = shown
		rec.seqs = append(rec.seqs, []segment{{text: shown}, {text: next, scored: true}})
	}
	return rec, nil
}

func checkOptions(options []string) error {
	if len(options) < 2 || len(options) > maxOptions {
		return fmt.Errorf("%d options, want 2 to %d", len(options), maxOptions)
	}
	for i, o := range options {
		if strings.TrimSpace(o) == "" {
			return fmt.Errorf("option %d is empty", i+1)
		}
	}
	return nil
}

// firstNumber tells whether a column of option numbers counts from 0 or from 1.
func firstNumber(t *Table, column int) int {
	for i := range t.Rows {
		if strings.TrimSpace(t.Rows[i].Values[column]) == "0" {
			return 0
		}
	}
	return 1
}

// rightOption finds an answer among the options: by its text, its letter, or its
// number counted from base.
func rightOption(answer string, options []string, base int) (int, error) {
	answer = strings.TrimSpace(answer)
	if answer == "" {
		return 0, errors.New("no answer")
	}
	for i, o := range options {
		if strings.TrimSpace(o) == answer {
			return i, nil
		}
	}
	at := -1
	if n, err := strconv.Atoi(answer); err == nil {
		at = n - base
	} else if len(answer) == 1 {
		at = int(strings.ToUpper(answer)[0]) - 'A'
	}
	if at < 0 || at >= len(options) {
		return 0, fmt.Errorf("answer %q is none of the %d options", answer, len(options))
	}
	return at, nil
}
