package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tabtune/engine/kernel"
	"tabtune/lora/chat"
	"tabtune/lora/tokenizer"
	"tabtune/wasm/rpc"
	"tabtune/zo/task"
)

// defaultWindow is how many tokens a row may have when nobody says.
const defaultWindow = 256

// dataset is the open data: examples with the places of their cached prefixes.
type dataset struct {
	kind   task.Kind
	metric task.Metric
	stop   string // text that ends a generated answer
	labels []task.Label
	train  *split
	val    []item
	window int // tokens of the longest example, and of what is generated
	answer int // most tokens of a generated answer
	hash   string
	rowParams
	info dataInfo

	cachedTop int // the prefixes are those of programs with this Top; -1: none
	cached    []kernel.Addr
}

func (d *dataset) all(s *split) []item {
	out := make([]item, len(s.examples))
	for i := range out {
		out[i] = s.item(i)
	}
	return out
}

func (d *dataset) lengths(s *split) []int { return task.Lengths(s.examples) }

// probe returns up to n training examples, evenly spread.
func (d *dataset) probe(n int) []item {
	all := d.all(d.train)
	if len(all) <= n {
		return all
	}
	out := make([]item, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out
}

// labelTokens are the tokens that label tasks score among; nil: the vocabulary.
func (d *dataset) labelTokens() []int32 {
	if d.kind != task.KindLabels {
		return nil
	}
	out := make([]int32, len(d.labels))
	for i, l := range d.labels {
		out[i] = l.Token
	}
	return out
}

type dataParams struct {
	Path             string   `json:"path"`
	Format           string   `json:"format"` // csv, tsv, jsonl, json; chat: by the name, put into the model's chat template
	Kind             string   `json:"kind"`   // labels, choice, completion; by the columns when empty
	Task             string   `json:"task"`   // a template's name
	Metric           string   `json:"metric"` // what the task is judged by; its own when empty
	TextColumn       string   `json:"textColumn"`
	LabelColumn      string   `json:"labelColumn"`
	PromptColumn     string   `json:"promptColumn"`
	CompletionColumn string   `json:"completionColumn"`
	MessagesColumn   string   `json:"messagesColumn"`
	OptionColumns    []string `json:"optionColumns"`
	AnswerColumn     string   `json:"answerColumn"`
	Template         string   `json:"template"`
	Verbalizers      []string `json:"verbalizers"`
	Labels           []string `json:"labels"`
	Val              *struct {
		Path string `json:"path"`
		Rows int    `json:"rows"`
	} `json:"val"`
	TrainRows    int    `json:"trainRows"`
	Window       int    `json:"window"`
	Encoding     string `json:"encoding"` // "utf-8" (default) or "latin-1"
	NoHeader     bool   `json:"noHeader"`
	LongRows     string `json:"longRows"` // "truncate" (default) or "skip"
	Seed         int64  `json:"seed"`
	AnswerTokens int    `json:"answerTokens"` // most tokens of a generated answer; 0: as many as the longest right one
}

// rowParams are the choices, besides the files, that decide what the examples
// are. A run is continued with the same ones.
type rowParams struct {
	Kind             string   `json:"kind,omitempty"`
	Task             string   `json:"task,omitempty"`
	Format           string   `json:"format,omitempty"`
	Template         string   `json:"template"`
	TextColumn       string   `json:"textColumn"`
	LabelColumn      string   `json:"labelColumn"`
	PromptColumn     string   `json:"promptColumn,omitempty"`
	CompletionColumn string   `json:"completionColumn,omitempty"`
	MessagesColumn   string   `json:"messagesColumn,omitempty"`
	OptionColumns    []string `json:"optionColumns,omitempty"`
	AnswerColumn     string   `json:"answerColumn,omitempty"`
	LongRows         string   `json:"longRows"`
	Labels           []string `json:"labels"`
	Verbalizers      []string `json:"verbalizers"`
	MaxTokens        int      `json:"maxTokens"`
	TrainRows        int      `json:"trainRows"`
	ValRows          int      `json:"valRows"`
	DataSeed         int64    `json:"dataSeed"`
}

func (s *Session) openData(t *rpc.Task, p dataParams) (dataInfo, error) {
	m, err := s.needModel()
	if err != nil {
		return dataInfo{}, err
	}
	s.closeData()
	sum := sha256.New()
	train, err := readTable(p, p.Path, sum)
	if err != nil {
		return dataInfo{}, err
	}
	if err := t.Emit(progress{"progress", "read", int64(len(train.Rows)), int64(len(train.Rows))}); err != nil {
		return dataInfo{}, err
	}
	o := task.Options{Kind: task.Kind(p.Kind), Task: p.Task, TextColumn: p.TextColumn, LabelColumn: p.LabelColumn, Template: p.Template,
		PromptColumn: p.PromptColumn, CompletionColumn: p.CompletionColumn, MessagesColumn: p.MessagesColumn, OptionColumns: p.OptionColumns,
		AnswerColumn: p.AnswerColumn, Labels: p.Labels, Verbalizers: p.Verbalizers, Window: p.Window, Long: task.LongRows(p.LongRows),
		TrainRows: p.TrainRows, Seed: p.Seed, Chat: strings.EqualFold(p.Format, chatFormat)}
	m.textTokens(&o)
	if o.Window == 0 {
		o.Window = m.window
	}
	if o.Window == 0 {
		o.Window = min(defaultWindow, m.ckpt.Config.Context)
	}
	if o.Window < 0 || o.Window > m.ckpt.Config.Context {
		return dataInfo{}, invalid("window: %d tokens, want 1 to the model's context %d", o.Window, m.ckpt.Config.Context)
	}
	var val *task.Table
	if p.Val != nil {
		o.ValRows = p.Val.Rows
		if p.Val.Path != "" {
			if val, err = readTable(p, p.Val.Path, sum); err != nil {
				return dataInfo{}, err
			}
		}
	} else {
		o.ValRows = min(500, len(train.Rows)/5)
	}
	ds, err := task.Build(train, val, m.tok, o)
	if err != nil {
		var de *task.DataError
		if errors.As(err, &de) {
			return dataInfo{}, rpc.Errorf("data", "%v", err)
		}
		return dataInfo{}, invalid("%v", err)
	}
	if len(ds.Train) == 0 {
		return dataInfo{}, rpc.Errorf("data", "%s: no rows are left to train on", p.Path)
	}
	if len(ds.Val) == 0 {
		return dataInfo{}, rpc.Errorf("data", "%s: there are no validation rows; give a validation file or how many rows to hold out", p.Path)
	}
	d := &dataset{kind: ds.Kind, metric: ds.Metric, stop: ds.Stop, labels: ds.Labels, train: newSplit(ds.Train), cachedTop: -1}
	if p.Metric != "" {
		if d.metric, err = task.ParseMetric(p.Metric, ds.Kind); err != nil {
			return dataInfo{}, invalid("%v", err)
		}
	}
	d.val = d.all(newSplit(ds.Val))
	if err := d.measure(ds, p.AnswerTokens, m.ckpt.Config.Context); err != nil {
		return dataInfo{}, err
	}
	d.hash = hex.EncodeToString(sum.Sum(nil))
	d.rowParams = rowParams{Kind: p.Kind, Task: p.Task, Template: o.Template, TextColumn: o.TextColumn, LabelColumn: o.LabelColumn,
		PromptColumn: o.PromptColumn, CompletionColumn: o.CompletionColumn, MessagesColumn: o.MessagesColumn, OptionColumns: o.OptionColumns,
		AnswerColumn: o.AnswerColumn, LongRows: p.LongRows, MaxTokens: o.Window, TrainRows: len(ds.Train), ValRows: len(ds.Val), DataSeed: o.Seed}
	if o.Chat {
		d.rowParams.Format = chatFormat
	}
	for _, l := range ds.Labels {
		d.Labels, d.Verbalizers = append(d.Labels, l.Name), append(d.Verbalizers, l.Verbalizer)
	}
	d.info = describe(m, ds, d)
	s.data = d
	return d.info, nil
}

// chatFormat is the value of format that puts rows into the model's chat template.
const chatFormat = "chat"

// maxAnswer is how many tokens an answer has at most when nobody says.
const maxAnswer = 64

// measure finds how many tokens rows and answers have.
func (d *dataset) measure(ds *task.Dataset, answer, context int) error {
	prompt := 0
	for _, list := range [][]task.Example{ds.Train, ds.Val} {
		for i := range list {
			e := &list[i]
			d.window = max(d.window, e.Longest())
			prompt = max(prompt, len(e.IDs))
			if d.kind == task.KindCompletion {
				d.answer = max(d.answer, e.Scored())
			}
		}
	}
	if answer < 0 || answer > context {
		return invalid("answerTokens: %d, want 1 to the model's context %d", answer, context)
	}
	if d.answer = min(d.answer, maxAnswer); answer > 0 {
		d.answer = answer
	}
	if d.kind == task.KindCompletion && d.metric.Generated() {
		d.window = max(d.window, min(prompt+d.answer, context))
	}
	return nil
}

// templateDate is today for chat templates that print the date, so that the same
// data makes the same prompts on any day.
var templateDate = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// begin are the tokens that begin every text.
func (m *model) begin() []int32 {
	if b := m.tok.BOS(); m.tok.AddBOS() && b != tokenizer.None {
		return []int32{b}
	}
	return nil
}

// textTokens says how the model wants texts to begin and end, and how it renders
// conversations.
func (m *model) textTokens(o *task.Options) {
	o.Begin = m.begin()
	if m.tok.EOS() != tokenizer.None {
		o.End = []int32{m.tok.EOS()}
	}
	if m.template == "" {
		return
	}
	var tmpl *chat.Template
	o.Render = func(list []task.Message, open bool) (string, error) {
		if tmpl == nil {
			var err error
			if tmpl, err = chat.Parse(m.template); err != nil {
				return "", err
			}
		}
		messages := make([]chat.Message, len(list))
		for i, msg := range list {
			messages[i] = chat.Message{Role: msg.Role, Content: msg.Content}
		}
		c := m.chatOptions(open)
		c.Now = templateDate
		return tmpl.Render(messages, c)
	}
}

// maxData bounds a data file; its text is held in memory.
const maxData = 256 << 20

func readTable(p dataParams, path string, sum io.Writer) (*task.Table, error) {
	o := task.ReadOptions{Format: task.Format(strings.ToLower(p.Format)), NoHeader: p.NoHeader}
	if o.Format == chatFormat {
		o.Format = ""
	}
	switch strings.ToLower(p.Encoding) {
	case "", "utf-8", "utf8":
	case "latin-1", "latin1", "iso-8859-1":
		o.Latin1 = true
	default:
		return nil, invalid("encoding: %q, want utf-8 or latin-1", p.Encoding)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxData+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxData {
		return nil, invalid("%s: larger than %d MB", path, maxData>>20)
	}
	sum.Write(b) // a hash does not fail
	table, err := task.ReadTable(bytes.NewReader(b), filepath.Clean(path), o)
	if err != nil {
		return nil, rpc.Errorf("data", "%v", err)
	}
	return table, nil
}

func (s *Session) closeData() {
	if s.data != nil {
		s.freePrefixes()
		s.data = nil
	}
}
