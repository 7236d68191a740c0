package host

import (
	"context"
	"encoding/json"
	"fmt"
)

// Hello is what the module says of itself.
type Hello struct {
	Version     string `json:"version"`
	Threads     int    `json:"threads"`
	DeviceBytes int64  `json:"deviceBytes"` // most device memory it may use
}

// ModelParams says which model to open and how to hold its weights.
type ModelParams struct {
	Path   string `json:"path"`             // a .gguf file
	DType  string `json:"dtype,omitempty"`  // int8 (default), f32, q4
	Window int    `json:"window,omitempty"` // tokens a row; 0 means the module's default
}

// ModelInfo describes an open model. Sizes are in bytes.
type ModelInfo struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Parameters   int64  `json:"parameters"`
	Layers       int    `json:"layers"`
	Dim          int    `json:"dim"`
	Heads        int    `json:"heads"`
	KVHeads      int    `json:"kvHeads"`
	Vocab        int    `json:"vocab"`
	DType        string `json:"dtype"`
	FileBytes    int64  `json:"fileBytes"`
	WeightBytes  int64  `json:"weightBytes"`
	SHA256       string `json:"sha256"`
	Chat         bool   `json:"chat"`         // has a chat template
	License      string `json:"license"`      // as its file says, or ""
	Quantization string `json:"quantization"` // of a GGUF file: the matrices' types, the most frequent first
}

// Progress is an event that counts. Done and Total are bytes or rows, by phase.
type Progress struct {
	Type  string `json:"type"`
	Phase string `json:"phase"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// DataParams says which rows to read and how to turn them into prompts. A task of labels has a text and a label column, one of
// completions a prompt and a completion column, or conversations; a choice a prompt, options and the answer. Without any of these
// the kind is found from the columns that the file has.
type DataParams struct {
	Path             string     `json:"path"`
	Format           string     `json:"format,omitempty"` // csv, tsv, jsonl, json; by the file's name when empty; chat: in the model's chat template
	Kind             string     `json:"kind,omitempty"`   // labels, choice, completion
	Task             string     `json:"task,omitempty"`   // the name of a task's template, which knows the columns
	Metric           string     `json:"metric,omitempty"` // accuracy, f1, em, perplexity; the task's own when empty
	TextColumn       string     `json:"textColumn,omitempty"`
	LabelColumn      string     `json:"labelColumn,omitempty"`
	PromptColumn     string     `json:"promptColumn,omitempty"`
	CompletionColumn string     `json:"completionColumn,omitempty"`
	MessagesColumn   string     `json:"messagesColumn,omitempty"`
	OptionColumns    []string   `json:"optionColumns,omitempty"` // one that holds a JSON list, or one for each option
	AnswerColumn     string     `json:"answerColumn,omitempty"`  // the right option: its text, letter or number
	Template         string     `json:"template,omitempty"`      // of labels with {label} at the end; else what the answer follows
	Verbalizers      []string   `json:"verbalizers,omitempty"`
	Labels           []string   `json:"labels,omitempty"`
	Val              *ValParams `json:"val,omitempty"`
	TrainRows        int        `json:"trainRows,omitempty"` // at most so many
	Window           int        `json:"window,omitempty"`
	AnswerTokens     int        `json:"answerTokens,omitempty"` // most tokens of a generated answer; 0: as the longest right one
	LongRows         string     `json:"longRows,omitempty"`     // rows longer than the window: truncate (default), skip
	Seed             int64      `json:"seed"`
}

// Peek shows what a data file holds: its columns, its first rows with long values cut, and the kind of task that the columns suggest.
type Peek struct {
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Total   int        `json:"total"`
	Kind    string     `json:"kind"`
}

// TaskTemplate is a published task that DataParams.Task can name.
type TaskTemplate struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Metric string `json:"metric"`
	Files  string `json:"files"` // the form of the files that it reads
}

// ValParams says where validation rows come from: a file of their own, or Rows rows held out of the data.
type ValParams struct {
	Path string `json:"path,omitempty"`
	Rows int    `json:"rows,omitempty"` // with Path: at most so many of it
}

// DataInfo describes the data that was read.
type DataInfo struct {
	Kind      string    `json:"kind"`   // labels, choice, completion
	Metric    string    `json:"metric"` // what the task is judged by
	TrainRows int       `json:"trainRows"`
	ValRows   int       `json:"valRows"`
	Longest   int       `json:"longest"` // tokens of the longest row
	Labels    []Label   `json:"labels"`
	Preview   []Preview `json:"preview"`
	Warnings  []Warning `json:"warnings"`
}

// Label is a class and the token that stands for it.
type Label struct {
	Name       string `json:"name"`
	Verbalizer string `json:"verbalizer"`
	Token      int    `json:"token"`
	Count      int    `json:"count"` // training rows
}

// Preview is a row as the model will see it.
type Preview struct {
	Text   string `json:"text"`
	Prompt string `json:"prompt"`
	Label  string `json:"label"` // the label, the right option or the answer
	Tokens int    `json:"tokens"`
	// Rendered is everything that the model reads and is scored on; Scored are the places of the scored tokens in it, in bytes.
	Rendered string   `json:"rendered"`
	Scored   [][2]int `json:"scored"`
	Options  []string `json:"options,omitempty"`
}

// Warning is something about the data that a person should know before the run. Rows are numbers of rows in the file.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Rows    []int  `json:"rows"`
}

// TrainParams configures a run. Zero values are left to the module's defaults. Give one of Steps, Rows and Minutes.
type TrainParams struct {
	Estimator  string          `json:"estimator,omitempty"` // auto (default), head, prge, rows, mezo, fzoo, grzo, greedy
	Queries    int             `json:"queries,omitempty"`
	Batch      int             `json:"batch,omitempty"`
	Eps        json.RawMessage `json:"eps,omitempty"`       // AutoEps or Eps(x), the size of the perturbation
	LR         json.RawMessage `json:"lr,omitempty"`        // AutoLR or LR(x)
	Schedule   string          `json:"schedule,omitempty"`  // linear (default), cosine, constant
	Warmup     float64         `json:"warmup,omitempty"`    // share of the run over which the rate rises
	Optimizer  string          `json:"optimizer,omitempty"` // sgd (default), momentum, adam, radazo, scalar, muon, mopi, hizoo
	Beta       *float64        `json:"beta,omitempty"`      // its momentum; 0.9 when nil
	Noise      string          `json:"noise,omitempty"`     // normal (default; fzoo: rademacher), rademacher
	Head       string          `json:"head,omitempty"`      // where a label head reads: any layer (default), or output: the final norm
	Clip       float64         `json:"clip,omitempty"`      // bound of a coefficient, times the step's median; 0: none
	Average    string          `json:"average,omitempty"`   // "" (default: none), tail, or a decay such as 0.95: an average of the iterates is scored too
	Subspace   string          `json:"subspace,omitempty"`  // where A comes from: random (default), activations: what the modules read, labels: what tells labels apart in it, or auto: labels where rows have some
	Resample   int             `json:"resample,omitempty"`  // go on in another random subspace every so many steps; 0: never
	Refit      int             `json:"refit,omitempty"`     // fit the label head again every so many steps; 0: never
	Patience   int             `json:"patience,omitempty"`  // evaluations without a better one that end the run; 0: none
	Rank       int             `json:"rank,omitempty"`
	Alpha      float64         `json:"alpha,omitempty"`
	Modules    []string        `json:"modules,omitempty"` // q k v o gate up down, or one "auto"
	Layers     json.RawMessage `json:"layers,omitempty"`  // AllLayers, AutoLayers or Layers(k), the top k
	Steps      int             `json:"steps,omitempty"`
	Rows       int             `json:"rows,omitempty"`
	Minutes    float64         `json:"minutes,omitempty"`
	Seed       int64           `json:"seed"`
	EvalEvery  int             `json:"evalEvery,omitempty"`  // steps between evaluations
	EvalRows   int             `json:"evalRows,omitempty"`   // at most so many validation rows each time
	AnswerRows int             `json:"answerRows,omitempty"` // at most so many validation rows answered by generation each time
	Objective  string          `json:"objective,omitempty"`  // nll (default), likelihood (of a choice's right option), error, f1
	Out        string          `json:"out,omitempty"`        // folder of the run, under a writable mount
	Resume     bool            `json:"resume,omitempty"`     // go on from Out's replay log if there is one
}

// AutoLR asks for the learning-rate finder, AutoEps for a perturbation whose slopes agree with those of its neighbour in size; AllLayers adapts every layer.
var (
	AutoLR    = json.RawMessage(`"auto"`)
	AutoEps   = json.RawMessage(`"auto"`)
	AllLayers = json.RawMessage(`"all"`)
	// AutoLayers has a probe choose the number of layers; one "auto" as Modules, the modules.
	AutoLayers = json.RawMessage(`"auto"`)
)

// LR is a fixed learning rate, which must be finite.
func LR(lr float64) json.RawMessage { b, _ := json.Marshal(lr); return b }

// Eps is a fixed size of the perturbation.
func Eps(eps float64) json.RawMessage { return LR(eps) }

// Layers adapts the top k layers.
func Layers(k int) json.RawMessage { b, _ := json.Marshal(k); return b }

// TrainEvent is one event of a run. Which fields are set depends on Type:
// prefix and progress (Done, Total, Phase), head (Layer, Accuracy, Loss), eps (Eps), probe (Layers, Modules, Gain, Chosen), lr (LR), eval (Step, Accuracy, Loss, Best; Averaged: of the average of the iterates), step (Step to PeakBytes), checkpoint (Step).
type TrainEvent struct {
	Type          string  `json:"type"`
	Phase         string  `json:"phase"`
	Done          int64   `json:"done"`
	Total         int64   `json:"total"`
	Layer         int     `json:"layer"`
	Step          int     `json:"step"`
	Steps         int     `json:"steps"`
	Loss          float64 `json:"loss"`
	Accuracy      float64 `json:"accuracy"`
	Best          bool    `json:"best"`
	Averaged      bool    `json:"averaged"`
	LR            float64 `json:"lr"`
	Eps           float64 `json:"eps"`
	Rows          int64   `json:"rows"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	SecondsLeft   float64 `json:"secondsLeft"`
	PeakBytes     int64   `json:"peakBytes"`
	// Layers and Modules were tried as the adapter's place, with this gain of a step for what a row costs; the largest is chosen.
	Layers  int      `json:"layers"`
	Modules []string `json:"modules"`
	Gain    float64  `json:"gain"`
	Chosen  bool     `json:"chosen"`
	Metrics
}

// Metrics are further results, where the task has them.
type Metrics struct {
	Perplexity *float64 `json:"perplexity,omitempty"` // exp of the mean loss of a scored token
	F1         *float64 `json:"f1,omitempty"`         // of labels, or of the words of generated answers
	ExactMatch *float64 `json:"exactMatch,omitempty"`
	Answered   int      `json:"answered,omitempty"` // rows whose answers were generated
}

// Score is a result on the validation rows. Loss is in nats: the mean negative log-likelihood of the label or the right option
// among all, or of a completion's tokens. Accuracy is the share of right labels, options or generated answers.
type Score struct {
	Step     int     `json:"step"`
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"`
	Averaged bool    `json:"averaged,omitempty"` // of the average of the iterates
	Metrics
}

// TrainResult is the outcome of a run.
type TrainResult struct {
	Steps         int     `json:"steps"`
	Rows          int64   `json:"rows"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	PeakBytes     int64   `json:"peakBytes"`
	ZeroShot      Score   `json:"zeroShot"`
	Accuracy      float64 `json:"accuracy"`
	Loss          float64 `json:"loss"`
	Metrics
	Best    Score   `json:"best"`
	LR      float64 `json:"lr"`
	Seconds float64 `json:"seconds"`
	Head    *Head   `json:"head"` // the label head of the best adapter; nil: none
}

// Head says how a label head was fitted: on the output of which layer (the model's last: after the final norm), to how many
// training rows, with which penalty, and what cross-validation gave.
type Head struct {
	Layer    int     `json:"layer"`
	Lambda   float64 `json:"lambda"`
	Rows     int     `json:"rows"`
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"`
}

// EvalResult is the outcome of an evaluation.
type EvalResult struct {
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"`
	Metrics
	Rows        int          `json:"rows"`
	Predictions []Prediction `json:"predictions"`
}

// Prediction is one validation row's outcome.
type Prediction struct {
	Row       int     `json:"row"` // of the file, from 1
	Text      string  `json:"text"`
	Label     int     `json:"label"`     // index into DataInfo.Labels, or of the right option; -1: none
	Predicted int     `json:"predicted"` // the same
	Loss      float64 `json:"loss"`
	// In completions: what was to come, what was generated, and how well that fits.
	Answer     string   `json:"answer,omitempty"`
	Output     *string  `json:"output,omitempty"`
	F1         *float64 `json:"f1,omitempty"`
	ExactMatch *float64 `json:"exactMatch,omitempty"`
}

// GenerateParams asks for text.
type GenerateParams struct {
	Prompt      string  `json:"prompt"`
	MaxTokens   int     `json:"maxTokens,omitempty"`
	Temperature float64 `json:"temperature"` // 0 picks the most likely token
	Seed        int64   `json:"seed"`
	Chat        bool    `json:"chat"`    // put the prompt into the model's chat template
	Adapter     bool    `json:"adapter"` // use the loaded or trained adapter
}

// Token is one event of generation.
type Token struct {
	Type string `json:"type"`
	Text string `json:"text"`
	ID   int    `json:"id"`
}

// GenerateResult is the generated text.
type GenerateResult struct {
	Text    string  `json:"text"`
	Tokens  int     `json:"tokens"`
	Seconds float64 `json:"seconds"`
}

// Estimate is what a run would need, in bytes of device memory.
type Estimate struct {
	Bytes int64 `json:"bytes"`
	Fits  bool  `json:"fits"`
	Limit int64 `json:"limit"`
	// Seconds is about how long the run takes on this machine, with its evaluations; 0: unknown.
	Seconds float64 `json:"seconds"`
}

// Hello asks the module for its version and limits.
func (h *Host) Hello(ctx context.Context) (r Hello, err error) {
	err = h.Call(ctx, "hello", nil, &r)
	return r, err
}

// OpenModel reads a model file and puts its weights into device memory. progress may be nil.
func (h *Host) OpenModel(ctx context.Context, p ModelParams, progress func(Progress) error) (ModelInfo, error) {
	return task[ModelInfo](ctx, h, "model.open", p, progress)
}

// OpenData reads training and validation rows. A model must be open: prompts are tokenised and checked here.
func (h *Host) OpenData(ctx context.Context, p DataParams) (DataInfo, error) {
	return task[DataInfo](ctx, h, "data.open", p, func(Progress) error { return nil })
}

// PeekData shows the columns and up to rows rows of a file; no model need be open.
func (h *Host) PeekData(ctx context.Context, path string, rows int) (r Peek, err error) {
	err = h.Call(ctx, "data.peek", map[string]any{"path": path, "rows": rows}, &r)
	return r, err
}

// Tasks lists the templates of published tasks.
func (h *Host) Tasks(ctx context.Context) (r []TaskTemplate, err error) {
	err = h.Call(ctx, "data.tasks", nil, &r)
	return r, err
}

// Train runs or continues a fine-tuning run. Stopping it (by ctx, or an error from event) leaves a log from which the same call
// with Resume goes on.
func (h *Host) Train(ctx context.Context, p TrainParams, event func(TrainEvent) error) (TrainResult, error) {
	return task[TrainResult](ctx, h, "train", p, event)
}

// Eval scores the validation rows with the adapter that is loaded or was trained. progress may be nil.
func (h *Host) Eval(ctx context.Context, progress func(Progress) error) (EvalResult, error) {
	return task[EvalResult](ctx, h, "eval", map[string]string{"split": "val"}, progress)
}

// Generate continues a prompt. event, which may be nil, receives the tokens one by one.
func (h *Host) Generate(ctx context.Context, p GenerateParams, event func(Token) error) (GenerateResult, error) {
	return task[GenerateResult](ctx, h, "generate", p, event)
}

// LoadAdapter loads an adapter folder (PEFT) or a GGUF adapter into the open model; a run's "adapter" folder is one.
func (h *Host) LoadAdapter(ctx context.Context, path string) error {
	return h.Call(ctx, "adapter.load", map[string]string{"path": path}, nil)
}

// ClearAdapter goes back to the model as it was opened.
func (h *Host) ClearAdapter(ctx context.Context) error {
	return h.Call(ctx, "adapter.clear", nil, nil)
}

// ExportAdapter writes the current adapter as a PEFT folder.
func (h *Host) ExportAdapter(ctx context.Context, path string) error {
	return h.Call(ctx, "adapter.export", map[string]string{"path": path}, nil)
}

// Export is what to write for other programs.
type Export struct {
	Format string `json:"format"`        // peft, gguf-adapter, gguf-q8_0, gguf-f16 or card
	Path   string `json:"path"`          // the file, for peft a folder
	Run    string `json:"run,omitempty"` // a run's folder: its adapter, or the run that the card is about
}

// Export writes the current adapter for other programs, merged into the model if so asked, or a run's model card. progress may be nil.
func (h *Host) Export(ctx context.Context, p Export, progress func(Progress) error) error {
	_, err := task[struct{}](ctx, h, "export", p, progress)
	return err
}

// Estimate tells what a run with these parameters would need, without beginning it.
func (h *Host) Estimate(ctx context.Context, p TrainParams) (r Estimate, err error) {
	err = h.Call(ctx, "estimate", p, &r)
	return r, err
}

// Tokenize returns the token ids of a text: special tokens in it recognised, none added.
func (h *Host) Tokenize(ctx context.Context, text string) ([]int, error) {
	var r struct {
		IDs []int `json:"ids"`
	}
	err := h.Call(ctx, "tokenize", map[string]string{"text": text}, &r)
	return r.IDs, err
}

// Inspect describes a .pte program as text.
func (h *Host) Inspect(ctx context.Context, path string) (string, error) {
	var r struct {
		Text string `json:"text"`
	}
	err := h.Call(ctx, "inspect", map[string]string{"path": path}, &r)
	return r.Text, err
}

// task runs a task with typed events and value.
func task[R, E any](ctx context.Context, h *Host, name string, params any, event func(E) error) (r R, err error) {
	value, err := h.Task(ctx, name, params, func(raw json.RawMessage) error {
		if event == nil {
			return nil
		}
		var e E
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("host: %s: event: %w", name, err)
		}
		return event(e)
	})
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("host: %s: value: %w", name, err)
	}
	return r, nil
}
