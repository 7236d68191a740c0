package main

import (
	"tabtune/host"
)

// dataFlags say which rows to read and how.
type dataFlags struct {
	data, format, kind, task, metric                          string
	text, label, template, verbalizers, labels, val, longRows string
	prompt, completion, messages, options, answer             string
	valRows, trainRows, answerTokens                          int
}

func (f *flags) dataFlags() *dataFlags {
	d := &dataFlags{}
	f.StringVar(&d.data, "data", "", "the rows: a .csv, .tsv, .jsonl or .json `file`")
	f.StringVar(&d.format, "format", "", "`csv|tsv|jsonl|json` (default: by the file's name); chat puts prompts and completions into the model's chat template")
	f.StringVar(&d.task, "task", "", "the `name` of a published task's template: "+taskNames()+"; --data is a file as that is distributed")
	f.StringVar(&d.kind, "kind", "", "`labels|choice|completion`: one of a few words, the best of options, or text (default: by the columns)")
	f.StringVar(&d.metric, "metric", "", "`accuracy|f1|em|perplexity`: what the task is judged by (default: the task's own); f1 and em of completions need generated answers")
	f.StringVar(&d.text, "text-column", "", "the `column` that holds the text (default text)")
	f.StringVar(&d.label, "label-column", "", "the `column` that holds the label (default label)")
	f.StringVar(&d.prompt, "prompt-column", "", "the `column` that holds the prompt of a choice or completion (default prompt)")
	f.StringVar(&d.completion, "completion-column", "", "the `column` that holds the completion; a JSON list there holds several that are right (default completion)")
	f.StringVar(&d.messages, "messages-column", "", "the `column` that holds conversations, lists of {\"role\", \"content\"} (default messages)")
	f.StringVar(&d.options, "option-columns", "", "the `columns` of a choice's options, or one that holds a JSON list (default options)")
	f.StringVar(&d.answer, "answer-column", "", "the `column` that says which option is right: its text, letter or number (default answer)")
	f.StringVar(&d.template, "template", "", "the `prompt`; with labels it ends in {label} (default '{text} It was {label}'), else the answer follows it (default '{prompt}')")
	f.StringVar(&d.verbalizers, "verbalizers", "", "the `words` that stand for the labels in the prompt, in order, separated by commas: 'terrible,great'")
	f.StringVar(&d.labels, "labels", "", "the `labels` as the file has them, or names for 0, 1, ... in it: 'negative,positive'")
	f.StringVar(&d.val, "val", "", "validation rows: another `file` of the same form")
	f.IntVar(&d.valRows, "val-rows", 0, "hold `N` rows of --data out for validation")
	f.IntVar(&d.trainRows, "train-rows", 0, "use at most `N` training rows")
	f.IntVar(&d.answerTokens, "answer-tokens", 0, "end generated answers after `N` tokens (0: as many as the longest right one)")
	f.StringVar(&d.longRows, "long-rows", "", "`truncate|skip` rows that are longer than the window (default truncate)")
	return d
}

// params makes parameters of the flags, and the mounts that they need.
func (d *dataFlags) params(window int, seed int64) (p host.DataParams, mounts []host.Mount, err error) {
	path, err := inputFile("--data", d.data)
	if err != nil {
		return p, nil, err
	}
	p = host.DataParams{Path: path, Format: d.format, Kind: d.kind, Task: d.task, Metric: d.metric, TextColumn: d.text, LabelColumn: d.label,
		PromptColumn: d.prompt, CompletionColumn: d.completion, MessagesColumn: d.messages, OptionColumns: list(d.options), AnswerColumn: d.answer,
		Template: d.template, Verbalizers: list(d.verbalizers), Labels: list(d.labels), TrainRows: d.trainRows, Window: window,
		AnswerTokens: d.answerTokens, LongRows: d.longRows, Seed: seed}
	mounts = append(mounts, host.File(path))
	switch {
	case d.val != "" && d.valRows != 0:
		return p, nil, usagef("--val and --val-rows exclude each other")
	case d.valRows < 0 || d.trainRows < 0 || d.answerTokens < 0:
		return p, nil, usagef("--val-rows, --train-rows and --answer-tokens must not be negative")
	case d.val != "":
		val, err := inputFile("--val", d.val)
		if err != nil {
			return p, nil, err
		}
		p.Val = &host.ValParams{Path: val}
		mounts = append(mounts, host.File(val))
	case d.valRows > 0:
		p.Val = &host.ValParams{Rows: d.valRows}
	}
	return p, mounts, nil
}
