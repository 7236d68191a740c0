package ui

import (
	"math"
	"strconv"
	"strings"
)

// Hello is what the engine says of itself after boot.
type Hello struct {
	Version string `json:"version"`
	Threads int    `json:"threads"`
	Shared  bool   `json:"shared"` // threads share memory; false: the single-thread path
	Memory  Memory `json:"memory"`
}

// Memory is what the browser holds for the engine, in bytes.
type Memory struct {
	Device  int64 `json:"device"`
	Module  int64 `json:"module"`
	Limit   int64 `json:"limit"`
	Threads int   `json:"threads"`
}

// Stored lists the page's private storage.
type Stored struct {
	Files []struct {
		Path  string `json:"path"`
		Bytes int64  `json:"bytes"`
	} `json:"files"`
	Usage int64 `json:"usage"`
	Quota int64 `json:"quota"`
	// Temporary says why the browser gives the page no storage, in its own words: what is stored is in memory and goes with the tab.
	Temporary string `json:"temporary"`
}

// Free is how many bytes more can be stored, as far as is known.
func (s Stored) Free() int64 {
	if s.Temporary != "" {
		return math.MaxInt64
	}
	return max(0, s.Quota-s.Usage)
}

// Text says how much is stored, and of what.
func (s Stored) Text() string {
	switch {
	case s.Temporary != "":
		return Bytes(s.Usage) + " in memory, until this tab closes."
	case s.Quota == 0:
		return "Nothing is stored yet."
	}
	return Bytes(s.Usage) + " used of " + Bytes(s.Quota) + " that this browser allows."
}

// Bytes is the size of a stored file, or -1.
func (s Stored) Bytes(path string) int64 {
	for _, f := range s.Files {
		if f.Path == path {
			return f.Bytes
		}
	}
	return -1
}

// Model describes an opened model.
type Model struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Parameters   int64  `json:"parameters"`
	Layers       int    `json:"layers"`
	Dim          int    `json:"dim"`
	Vocab        int    `json:"vocab"`
	DType        string `json:"dtype"`
	FileBytes    int64  `json:"fileBytes"`
	WeightBytes  int64  `json:"weightBytes"`
	SHA256       string `json:"sha256"`
	License      string `json:"license"`
	Quantization string `json:"quantization"`
}

// About is what a model file says of itself.
type About struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	License      string `json:"license"`
	Quantization string `json:"quantization"`
	Parameters   int64  `json:"parameters"`
}

// Text is the card of a stored model: what is known of it, in a line.
func (a *About) Text() string {
	var parts []string
	if a.Parameters > 0 {
		parts = append(parts, Count(a.Parameters)+" parameters")
	}
	for _, s := range []string{a.Architecture, a.Quantization} {
		if s != "" {
			parts = append(parts, plain(s, 100))
		}
	}
	return strings.Join(append(parts, Licence(a.License)), ", ")
}

// Licence names the licence that a model file states.
func Licence(s string) string {
	if s = plain(s, 100); s == "" {
		return "licence not stated"
	}
	return "licence " + s
}

// DataInfo describes opened data.
type DataInfo struct {
	TrainRows int       `json:"trainRows"`
	ValRows   int       `json:"valRows"`
	Kind      string    `json:"kind"` // labels, choice, completion
	Labels    []Label   `json:"labels"`
	Preview   []Preview `json:"preview"`
	Warnings  []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Rows    []int  `json:"rows"`
	} `json:"warnings"`
}

// Label is one of the labels.
type Label struct {
	Name       string `json:"name"`
	Verbalizer string `json:"verbalizer"`
	Count      int    `json:"count"`
}

// Preview is a row as the model will read it: Scored are the places in Rendered, in bytes, that the loss is taken of.
type Preview struct {
	Text     string   `json:"text"`
	Prompt   string   `json:"prompt"`
	Label    string   `json:"label"`
	Tokens   int      `json:"tokens"`
	Rendered string   `json:"rendered"`
	Scored   [][2]int `json:"scored"`
}

// Span is a piece of a rendered row.
type Span struct {
	Text   string
	Scored bool
}

// Spans cuts a rendered row at its scored places, which must be in order and inside it; otherwise it is one piece.
func (p *Preview) Spans() []Span {
	if p.Rendered == "" {
		return []Span{{p.Prompt, false}, {p.Label, true}}
	}
	var out []Span
	at := 0
	for _, s := range p.Scored {
		if s[0] < at || s[1] < s[0] || s[1] > len(p.Rendered) {
			return []Span{{p.Rendered, false}}
		}
		if s[0] > at {
			out = append(out, Span{p.Rendered[at:s[0]], false})
		}
		if n := len(out); n > 0 && out[n-1].Scored && s[0] == at {
			out[n-1].Text += p.Rendered[s[0]:s[1]]
		} else if s[1] > s[0] {
			out = append(out, Span{p.Rendered[s[0]:s[1]], true})
		}
		at = s[1]
	}
	if at < len(p.Rendered) {
		out = append(out, Span{p.Rendered[at:], false})
	}
	return out
}

// Label is the name of label i; where there are none (choices), its number.
func (d *DataInfo) Label(i int) string {
	if len(d.Labels) == 0 && i >= 0 {
		return "option " + strconv.Itoa(i+1)
	}
	if i < 0 || i >= len(d.Labels) {
		return "?"
	}
	return d.Labels[i].Name
}

// Score is a validation result.
type Score struct {
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"`
	Step     int     `json:"step,omitempty"`
	Rows     int     `json:"rows,omitempty"`
}

// Event is any event of a task; Type says which fields count.
type Event struct {
	Type          string  `json:"type"`
	Phase         string  `json:"phase"`
	Done          int64   `json:"done"`
	Total         int64   `json:"total"`
	Step          int     `json:"step"`
	Steps         int     `json:"steps"`
	Loss          float64 `json:"loss"`
	LR            float64 `json:"lr"`
	Accuracy      float64 `json:"accuracy"`
	Best          bool    `json:"best"`
	Averaged      bool    `json:"averaged"`
	Rows          int64   `json:"rows"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	SecondsLeft   float64 `json:"secondsLeft"`
	PeakBytes     int64   `json:"peakBytes"`
	Text          string  `json:"text"`
	P             float64 `json:"p"` // probability of a generated token
}

// TrainResult is the value of train.start. Stopped is the worker's own answer to a stopped task.
type TrainResult struct {
	Stopped       bool    `json:"stopped"`
	Steps         int     `json:"steps"`
	Rows          int64   `json:"rows"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	PeakBytes     int64   `json:"peakBytes"`
	ZeroShot      Score   `json:"zeroShot"`
	Accuracy      float64 `json:"accuracy"`
	Loss          float64 `json:"loss"`
	Best          Score   `json:"best"`
	LR            float64 `json:"lr"`
	Seconds       float64 `json:"seconds"`
}

// EvalResult is the value of eval.start.
type EvalResult struct {
	Stopped     bool         `json:"stopped"`
	Accuracy    float64      `json:"accuracy"`
	Loss        float64      `json:"loss"`
	Perplexity  *float64     `json:"perplexity"`
	F1          *float64     `json:"f1"`
	ExactMatch  *float64     `json:"exactMatch"`
	Rows        int          `json:"rows"`
	Predictions []Prediction `json:"predictions"`
}

// Prediction is one validation row's outcome. Row counts the rows of the file from 1; labels are indices into the data's.
type Prediction struct {
	Row       int     `json:"row"`
	Text      string  `json:"text"`
	Label     int     `json:"label"`
	Predicted int     `json:"predicted"`
	Loss      float64 `json:"loss"`
	// Of completions: what was to come, what was generated, and whether that is the same.
	Answer     string   `json:"answer"`
	Output     *string  `json:"output"`
	ExactMatch *float64 `json:"exactMatch"`
}

// Estimate is the value of the estimate method.
type Estimate struct {
	Bytes   int64   `json:"bytes"`
	Fits    bool    `json:"fits"`
	Limit   int64   `json:"limit"`
	Seconds float64 `json:"seconds"`
}

// Failure is an error of the worker or the module. It is an error whose text is fit to be shown.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  string `json:"detail"`
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }
