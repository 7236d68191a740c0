package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Info describes a task template.
type Info struct {
	Name   string
	Kind   Kind
	Metric Metric
	Files  string // the form of the files that it reads
}

// Tasks lists the task templates by name. The prompts of SST-2, RTE, CB, BoolQ, WSC,
// WiC, MultiRC, COPA, ReCoRD, SQuAD and DROP are those of MeZO (arXiv 2305.17333,
// appendix E.2), those of MRPC, QQP, QNLI, WNLI and WinoGrande of MobiZO (arXiv
// 2409.15520). ARC and HellaSwag score the options as GPT-3 does (arXiv 2005.14165,
// appendix G); the templates with -letters ask for the option's letter, as MobiZO does.
func Tasks() []Info {
	out := make([]Info, len(templates))
	for i, t := range templates {
		out[i] = Info{t.name, t.kind(), t.metric, t.files}
	}
	return out
}

// taskTemplate is how the rows of a published data set become prompts.
type taskTemplate struct {
	name, files string
	metric      Metric
	stop        string
	// fields are the columns that are read, by the name that prompts use, each with the
	// other names it has in distributed files.
	fields map[string][]string
	expand func(*Table) (*Table, error) // of nested files, to a row a question
	// Label tasks: the prompt with {label} at its end, the classes in order, their
	// words, and the values of field label that mean them.
	prompt func(get getter) (string, error)
	space  bool // in front of the word
	words  []string
	labels []string
	values []string // "value=label", besides the labels themselves
	// Other tasks render the whole record.
	render func(get getter) (record, error)
	choice bool
}

// getter returns a field of a row.
type getter func(field string) string

func (t *taskTemplate) kind() Kind {
	switch {
	case t.words != nil:
		return KindLabels
	case t.choice:
		return KindChoice
	}
	return KindCompletion
}

// named is the definition of a task template.
func (b *builder) named(name string) (*definition, error) {
	key := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	i := slices.IndexFunc(templates, func(t taskTemplate) bool { return strings.ReplaceAll(t.name, "-", "") == key })
	if i < 0 {
		var names []string
		for _, t := range templates {
			names = append(names, t.name)
		}
		return nil, fmt.Errorf("task %q is not known; there are %s", name, strings.Join(names, ", "))
	}
	t := &templates[i]
	def := &definition{name: t.name, kind: t.kind(), metric: t.metric, stop: t.stop, expand: t.expand}
	if t.words != nil {
		b.o.Labels, b.o.Verbalizers = t.labels, t.words
		def.prompt = &Template{space: t.space}
	}
	def.bind = func(b *builder, s *source) error {
		columns := map[string]int{}
		for _, field := range sortedKeys(t.fields) {
			at := -1
			for _, c := range append([]string{field}, t.fields[field]...) {
				if i := slices.Index(s.t.Columns, c); i >= 0 {
					at = i
					break
				}
			}
			if at < 0 {
				return fmt.Errorf("task %s: %s: no column %q; the columns are %q; want %s", t.name, s.t.Name, field,
					s.t.Columns[:min(20, len(s.t.Columns))], t.files)
			}
			columns[field] = at
		}
		get := func(r *Row) getter {
			return func(field string) string { return strings.TrimSpace(r.Values[columns[field]]) }
		}
		if t.words == nil {
			s.render = func(r *Row) (record, error) { return t.render(get(r)) }
			return nil
		}
		s.label = func(r *Row) string { return t.labelOf(get(r)("label")) }
		s.render = func(r *Row) (record, error) {
			prompt, err := t.prompt(get(r))
			return record{text: prompt, prompt: prompt}, err
		}
		return nil
	}
	return def, nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// labelOf puts a label as files have it into the template's words for it.
func (t *taskTemplate) labelOf(v string) string {
	for _, pair := range t.values {
		if from, to, _ := strings.Cut(pair, "="); strings.EqualFold(from, v) {
			return to
		}
	}
	return v
}

// need returns fields that must not be empty.
func need(get getter, fields ...string) ([]any, error) {
	out := make([]any, len(fields))
	for i, f := range fields {
		v := get(f)
		if v == "" {
			return nil, errEmptyRow
		}
		out[i] = v
	}
	return out, nil
}

// says is a prompt of fields put into a format.
func says(format string, fields ...string) func(getter) (string, error) {
	return func(get getter) (string, error) {
		v, err := need(get, fields...)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf(format, v...), nil
	}
}

var noYes = []string{"No", "Yes"}

var templates = []taskTemplate{
	{name: "sst2", files: "GLUE: sentence, label (0, 1)", metric: Accuracy, fields: map[string][]string{"sentence": {"text"}, "label": nil},
		prompt: says("%s It was", "sentence"), space: true, words: []string{"terrible", "great"}, labels: []string{"negative", "positive"},
		values: []string{"0=negative", "1=positive"}},
	{name: "rte", files: "SuperGLUE: premise, hypothesis, label; GLUE: sentence1, sentence2, label", metric: Accuracy,
		fields: map[string][]string{"premise": {"sentence1"}, "hypothesis": {"sentence2"}, "label": nil},
		prompt: says("%s\nDoes this mean that \"%s\" is true? Yes or No?\n", "premise", "hypothesis"),
		words:  []string{"Yes", "No"}, labels: []string{"entailment", "not_entailment"}, values: []string{"0=entailment", "1=not_entailment"}},
	{name: "cb", files: "SuperGLUE: premise, hypothesis, label", metric: Accuracy,
		fields: map[string][]string{"premise": nil, "hypothesis": nil, "label": nil},
		prompt: says("Suppose %s Can we infer that \"%s\"? Yes, No, or Maybe?\n", "premise", "hypothesis"),
		words:  []string{"Yes", "No", "Maybe"}, labels: []string{"entailment", "contradiction", "neutral"},
		values: []string{"0=entailment", "1=contradiction", "2=neutral"}},
	{name: "boolq", files: "SuperGLUE: passage, question, label (true, false)", metric: Accuracy,
		fields: map[string][]string{"passage": nil, "question": nil, "label": {"answer"}}, prompt: boolqPrompt, space: true,
		words: noYes, labels: []string{"false", "true"}, values: []string{"0=false", "1=true"}},
	{name: "wsc", files: "SuperGLUE: text, target, label; or span1_text and span2_text in place of target", metric: Accuracy, expand: expandWSC,
		fields: map[string][]string{"text": nil, "span1_text": nil, "span2_text": nil, "label": nil}, prompt: wscPrompt,
		words: noYes, labels: []string{"false", "true"}, values: []string{"0=false", "1=true"}},
	{name: "wic", files: "SuperGLUE: word, sentence1, sentence2, label", metric: Accuracy,
		fields: map[string][]string{"word": nil, "sentence1": nil, "sentence2": nil, "label": nil},
		prompt: says("Does the word \"%s\" have the same meaning in these two sentences? Yes, No?\n%s\n%s\n", "word", "sentence1", "sentence2"),
		words:  noYes, labels: []string{"false", "true"}, values: []string{"0=false", "1=true"}},
	{name: "multirc", files: "SuperGLUE: passage with its questions and their answers; or paragraph, question, answer, label", metric: Accuracy,
		expand: expandMultiRC, fields: map[string][]string{"paragraph": nil, "question": nil, "answer": nil, "label": nil},
		prompt: says("%s\nQuestion: %s\nI found this answer \"%s\". Is that correct? Yes or No?\n", "paragraph", "question", "answer"),
		words:  noYes, labels: []string{"0", "1"}},
	{name: "copa", files: "SuperGLUE: premise, choice1, choice2, question (cause, effect), label (0, 1)", metric: Accuracy, choice: true,
		fields: map[string][]string{"premise": nil, "choice1": nil, "choice2": nil, "question": nil, "label": nil}, render: renderCOPA},
	{name: "record", files: "SuperGLUE: passage, qas; or passage, query, entities, answers", metric: Accuracy, choice: true, expand: expandReCoRD,
		fields: map[string][]string{"passage": nil, "query": nil, "entities": nil, "answers": nil}, render: renderReCoRD},
	{name: "squad", files: "SQuAD 1.1 or 2.0: a .json of articles; or title, context, question, answers", metric: F1, stop: "\n", expand: expandSQuAD,
		fields: map[string][]string{"title": nil, "context": nil, "question": nil, "answers": nil}, render: renderSQuAD},
	{name: "drop", files: "DROP: a .json of passages with qa_pairs; or passage, question, answers_spans", metric: F1, stop: "\n", expand: expandDROP,
		fields: map[string][]string{"passage": nil, "question": nil, "answers": {"answers_spans"}}, render: renderDROP},
	{name: "mrpc", files: "GLUE: sentence1, sentence2, label; or Quality, #1 String, #2 String", metric: F1,
		fields: map[string][]string{"sentence1": {"#1 String"}, "sentence2": {"#2 String"}, "label": {"Quality"}},
		prompt: says("Do the following two sentences mean the same thing? Yes or No?\nSentence 1: %s\nSentence 2: %s\n", "sentence1", "sentence2"),
		words:  noYes, labels: []string{"not_equivalent", "equivalent"}, values: []string{"0=not_equivalent", "1=equivalent"}},
	{name: "qqp", files: "GLUE: question1, question2, is_duplicate or label", metric: F1,
		fields: map[string][]string{"question1": nil, "question2": nil, "label": {"is_duplicate"}},
		prompt: says("Are these two questions asking the same thing? Yes or No?\nQuestion 1: %s\nQuestion 2: %s\n", "question1", "question2"),
		words:  noYes, labels: []string{"not_duplicate", "duplicate"}, values: []string{"0=not_duplicate", "1=duplicate"}},
	{name: "qnli", files: "GLUE: question, sentence, label", metric: Accuracy, fields: map[string][]string{"question": nil, "sentence": nil, "label": nil},
		prompt: says("Does this sentence answer the question? Yes or No?\nQuestion: %s\nSentence: %s\n", "question", "sentence"),
		words:  []string{"Yes", "No"}, labels: []string{"entailment", "not_entailment"}, values: []string{"0=entailment", "1=not_entailment"}},
	{name: "wnli", files: "GLUE: sentence1, sentence2, label", metric: Accuracy, fields: map[string][]string{"sentence1": nil, "sentence2": nil, "label": nil},
		prompt: says("Given the first sentence, is the second sentence true? Yes or No?\nSentence 1: %s\nSentence 2: %s\n", "sentence1", "sentence2"),
		words:  noYes, labels: []string{"not_entailment", "entailment"}, values: []string{"0=not_entailment", "1=entailment"}},
	{name: "arc", files: "ARC: question with stem and choices, answerKey; or question, choices, answerKey", metric: Accuracy, choice: true,
		fields: map[string][]string{"question": nil, "choices": nil, "answerKey": nil}, expand: expandARC, render: renderARC},
	{name: "arc-letters", files: "ARC: question with stem and choices, answerKey; or question, choices, answerKey", metric: Accuracy, choice: true,
		fields: map[string][]string{"question": nil, "choices": nil, "answerKey": nil}, expand: expandARC, render: renderARCLetters},
	{name: "hellaswag", files: "HellaSwag: activity_label, ctx_a, ctx_b, endings, label", metric: Accuracy, choice: true,
		fields: map[string][]string{"activity_label": nil, "ctx_a": nil, "ctx_b": nil, "endings": nil, "label": nil}, render: renderHellaSwag},
	{name: "hellaswag-letters", files: "HellaSwag: activity_label, ctx, endings, label", metric: Accuracy, choice: true,
		fields: map[string][]string{"activity_label": nil, "ctx": nil, "endings": nil, "label": nil}, render: renderHellaSwagLetters},
	{name: "winogrande", files: "WinoGrande: sentence with a _, option1, option2, answer (1, 2)", metric: Accuracy, choice: true,
		fields: map[string][]string{"sentence": nil, "option1": nil, "option2": nil, "answer": nil}, render: renderWinoGrande},
}

func boolqPrompt(get getter) (string, error) {
	v, err := need(get, "passage", "question")
	if err != nil {
		return "", err
	}
	q := upperFirst(v[1].(string))
	if !strings.HasSuffix(q, "?") {
		q += "?"
	}
	return fmt.Sprintf("%s %s", v[0], q), nil
}

func wscPrompt(get getter) (string, error) {
	v, err := need(get, "text", "span1_text", "span2_text")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\nIn the previous sentence, does the pronoun \"%s\" refer to %s? Yes or No?\n", v[0], strings.ToLower(v[2].(string)), v[1]), nil
}

func renderCOPA(get getter) (record, error) {
	v, err := need(get, "premise", "choice1", "choice2")
	if err != nil {
		return record{}, err
	}
	word := map[string]string{"cause": "because", "effect": "so"}[get("question")]
	if word == "" {
		return record{}, fmt.Errorf("question %q: want cause or effect", get("question"))
	}
	right, err := numbered(get("label"), 0, 2)
	if err != nil {
		return record{}, err
	}
	// The premise becomes the first half of a sentence, the choice its second.
	options := make([]string, 2)
	for i := range options {
		first, rest, _ := strings.Cut(v[1+i].(string), " ")
		if first != "I" {
			first = strings.ToLower(first)
		}
		options[i] = strings.TrimSpace(first + " " + rest)
	}
	return choose(strings.TrimSuffix(v[0].(string), ".")+" "+word, options, []int{right})
}

func renderReCoRD(get getter) (record, error) {
	v, err := need(get, "passage", "query")
	if err != nil {
		return record{}, err
	}
	var entities, answers []string
	if err := unmarshal("entities", get("entities"), &entities); err != nil {
		return record{}, err
	}
	if err := unmarshal("answers", get("answers"), &answers); err != nil {
		return record{}, err
	}
	if !strings.Contains(v[1].(string), "@placeholder") {
		return record{}, errors.New("the query has no @placeholder")
	}
	var options []string
	var right []int
	for i, e := range entities {
		options = append(options, strings.ReplaceAll(v[1].(string), "@placeholder", e))
		if slices.Contains(answers, e) {
			right = append(right, i)
		}
	}
	if right == nil {
		return record{}, errors.New("no entity is an answer")
	}
	rec, err := choose(strings.ReplaceAll(v[0].(string), "@highlight\n", "- ")+"\n-", options, right)
	rec.options = entities
	return rec, err
}

func renderSQuAD(get getter) (record, error) {
	v, err := need(get, "title", "context", "question")
	if err != nil {
		return record{}, err
	}
	answers, err := answerTexts(get("answers"), "text")
	if err != nil {
		return record{}, err
	}
	if len(answers) == 0 {
		answers = []string{"no answer"} // SQuAD 2.0's questions without one, as MeZO has them
	}
	return complete(fmt.Sprintf("Title: %s\nContext: %s\nQuestion: %s\nAnswer:", v...), answers, "\n", false), nil
}

func renderDROP(get getter) (record, error) {
	v, err := need(get, "passage", "question")
	if err != nil {
		return record{}, err
	}
	answers, err := answerTexts(get("answers"), "spans")
	if err != nil {
		return record{}, err
	}
	if len(answers) == 0 {
		return record{}, errEmptyRow
	}
	return complete(fmt.Sprintf("Passage: %s\nQuestion: %s\nAnswer:", v...), answers, "\n", false), nil
}

func renderARC(get getter) (record, error) {
	q, list, right, err := arcRow(get)
	if err != nil {
		return record{}, err
	}
	return choose("Question: "+q+"\nAnswer:", list.Text, []int{right})
}

func renderARCLetters(get getter) (record, error) {
	q, list, right, err := arcRow(get)
	if err != nil {
		return record{}, err
	}
	var s strings.Builder
	s.WriteString("Pick the most correct option to answer the following question.\n" + q + "\nOptions:\n")
	for i, text := range list.Text {
		fmt.Fprintf(&s, "- %s: %s\n", list.Label[i], text)
	}
	return choose(s.String()+"Answer:", list.Label, []int{right})
}

type arcChoices struct {
	Text  []string `json:"text"`
	Label []string `json:"label"`
}

func arcRow(get getter) (question string, list arcChoices, right int, err error) {
	v, err := need(get, "question", "answerKey")
	if err != nil {
		return "", list, 0, err
	}
	if err := unmarshal("choices", get("choices"), &list); err != nil {
		return "", list, 0, err
	}
	if len(list.Text) != len(list.Label) {
		return "", list, 0, fmt.Errorf("choices: %d texts and %d labels", len(list.Text), len(list.Label))
	}
	if right = slices.Index(list.Label, v[1].(string)); right < 0 {
		return "", list, 0, fmt.Errorf("answerKey %q is none of %q", v[1], list.Label)
	}
	return v[0].(string), list, right, nil
}

func renderHellaSwag(get getter) (record, error) {
	v, err := need(get, "activity_label", "ctx_a")
	if err != nil {
		return record{}, err
	}
	options, right, err := endings(get)
	if err != nil {
		return record{}, err
	}
	prompt := fmt.Sprintf("%s: %s %s", v[0], v[1], upperFirst(get("ctx_b")))
	return choose(strings.Join(strings.Fields(prompt), " "), options, []int{right})
}

func renderHellaSwagLetters(get getter) (record, error) {
	v, err := need(get, "activity_label", "ctx")
	if err != nil {
		return record{}, err
	}
	options, right, err := endings(get)
	if err != nil {
		return record{}, err
	}
	var s strings.Builder
	fmt.Fprintf(&s, "How does this sentence end?\n\n%s\n\n", v[1])
	letters := make([]string, len(options))
	for i, o := range options {
		letters[i] = string(rune('a' + i))
		fmt.Fprintf(&s, "(%s)  %s\n", letters[i], o)
	}
	fmt.Fprintf(&s, "\nHint: the topic of the sentence is %s\n\nAnswer:", v[0])
	return choose(s.String(), letters, []int{right})
}

func endings(get getter) (options []string, right int, err error) {
	if err := unmarshal("endings", get("endings"), &options); err != nil {
		return nil, 0, err
	}
	if err := checkOptions(options); err != nil {
		return nil, 0, fmt.Errorf("endings: %w", err)
	}
	right, err = numbered(get("label"), 0, len(options))
	return options, right, err
}

// renderWinoGrande scores each option and what follows it, given the sentence in
// front of it.
func renderWinoGrande(get getter) (record, error) {
	v, err := need(get, "sentence", "option1", "option2")
	if err != nil {
		return record{}, err
	}
	before, after, ok := strings.Cut(v[0].(string), "_")
	if !ok || strings.Contains(after, "_") {
		return record{}, errors.New("the sentence has no _, or several")
	}
	right, err := numbered(get("answer"), 1, 2)
	if err != nil {
		return record{}, err
	}
	rec, err := choose(before, []string{v[1].(string) + after, v[2].(string) + after}, []int{right})
	rec.text, rec.options = v[0].(string), []string{v[1].(string), v[2].(string)}
	return rec, err
}

// numbered reads the number of one of n options, counted from base.
func numbered(v string, base, n int) (int, error) {
	for i := range n {
		if v == fmt.Sprint(base+i) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is not the number of one of %d options (%d to %d)", v, n, base, base+n-1)
}

func upperFirst(s string) string {
	for i, r := range s {
		return strings.ToUpper(s[:i+len(string(r))]) + s[i+len(string(r)):]
	}
	return s
}

func unmarshal(field, v string, to any) error {
	if err := json.Unmarshal([]byte(v), to); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}
