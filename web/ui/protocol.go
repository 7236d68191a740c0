package ui

import "encoding/json"

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
}

// DataInfo describes opened data.
type DataInfo struct {
	TrainRows int `json:"trainRows"`
	ValRows   int `json:"valRows"`
	Labels    []struct {
		Name       string `json:"name"`
		Verbalizer string `json:"verbalizer"`
		Count      int    `json:"count"`
	} `json:"labels"`
	Preview []struct {
		Text   string `json:"text"`
		Prompt string `json:"prompt"`
		Label  string `json:"label"`
		Tokens int    `json:"tokens"`
	} `json:"preview"`
	Warnings []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Rows    []int  `json:"rows"`
	} `json:"warnings"`
}

// Label is the name of label i.
func (d *DataInfo) Label(i int) string {
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
	Rows          int64   `json:"rows"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	SecondsLeft   float64 `json:"secondsLeft"`
	PeakBytes     int64   `json:"peakBytes"`
	Text          string  `json:"text"`
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

// SavedRun is the page's own record beside a run's files (page.json): enough to open the same model and data again.
type SavedRun struct {
	ID    string          `json:"id"`
	Model json.RawMessage `json:"model"` // parameters of model.open.start
	Data  json.RawMessage `json:"data"`  // parameters of data.open.start
	Train json.RawMessage `json:"train"` // parameters of train.start
	Step  int             `json:"step"`
	Steps int             `json:"steps"`
	Done  bool            `json:"done"`
}
