//go:build js && wasm

package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hack-pad/safejs"
	"github.com/vugu/vugu"

	"tabtune/web/ui"
)

// What the page offers ready-made. The server that serves the page has these files under assets/.
const (
	sampleModel      = "SmolLM2-135M-Instruct.Q4_1.gguf"
	sampleModelBytes = 98362432
	sampleTrain      = "movie-reviews-train.csv"
	sampleVal        = "movie-reviews-val.csv"
)

// Phase is how far a step has come.
type Phase string

// The phases of every step.
const (
	Idle    Phase = ""
	Working Phase = "working"
	Ready   Phase = "ready"
	Failed  Phase = "failed"
)

// App is the page's state. Its fields change only under the renderer's lock: in event handlers, or in [App.update].
type App struct {
	env    vugu.EventEnv
	client *Client
	dirty  bool // the picture is older than the state
	urgent bool // and a person waits for it

	Boot    Phase
	Hello   ui.Hello
	Stored  ui.Stored
	Problem *ui.Failure     // what went wrong last, shown until dealt with
	Busy    bool            // a chain of actions is under way
	Notice  string          // a quiet confirmation
	Open    map[string]bool // folds, by id: an attribute that the browser set itself would be lost at the next drawing

	Model ModelState
	Data  DataState
	Train TrainState
	Out   ResultState
	Bench string

	URL, SHA   string // typed: where a model is, and its hash
	Fetching   string // the file being downloaded from another address
	Unfinished []ui.Unfinished
	fetching   *Request

	Abouts  map[string]ui.About // what stored model files say of themselves, by path and size
	Shared  *ui.Shared          // a run that came with the page's address
	BadLink string              // what is wrong with one

	Keeping  string          // what is being written
	Compared map[string]bool // ids of the runs whose curves are drawn together
	RunsPage ui.Pager

	Traffic     ui.Traffic // what the page asked for, as the browser logged it
	TrafficPage ui.Pager
	fetched     []ui.Request // the log of download workers, which are gone
}

// ModelState is step 1.
type ModelState struct {
	Phase       Phase
	Name, Path  string
	Sample      bool
	What        string // what is being done
	Done, Total int64
	started     time.Time
	Info        ui.Model
	opened      string // parameters of the model that is open
}

// DataState is step 2.
type DataState struct {
	Phase                      Phase
	Name, Path                 string
	Sample                     bool
	Columns                    []string
	Kind                       string // a key of dataKinds
	Text, Label, Options       string // columns; Options: of choices, separated by commas
	Template, Verbalizers      string
	Labels                     string
	ValRows, TrainRows, Window string
	Info                       ui.DataInfo
	opened                     string
	Pasted                     string // text typed or pasted
	NewText, NewLabel          string // of a row that is being typed
}

// TrainState is step 3.
type TrainState struct {
	Phase    Phase
	Settings ui.Settings
	Run      *ui.SavedRun // the run shown, or nil
	Saved    []ui.SavedRun
	Estimate *ui.Estimate
	What     string
	Paused   bool
	Stopping bool
	Stopped  bool
	Last     ui.Event // last step
	LR       float64
	Best     ui.Score
	Zero     *ui.Score
	Chart    ui.Chart
	Memory   ui.Memory
	request  *Request
	Share    string // of the time that a run may work, in percent
	Patience string // evaluations without a better score before the run is ended; empty: never
	stale    int    // evaluations since the best
	early    bool   // the run was ended for that
	wake     safejs.Value
}

// ResultState is step 4.
type ResultState struct {
	Phase          Phase
	Train          ui.TrainResult
	Took           float64 // seconds of a whole run, with the scoring before and after it; 0: unknown
	Estimated      float64 // the same, told before it
	Before, After  *ui.EvalResult
	Prompt         string
	Generating     bool
	TextBefore     []Token
	TextAfter      []Token
	MaxTokens      string
	HasBeforeAfter bool
	Order          string // of Pairs
	Pairs          []ui.Pair
	PairsPage      ui.Pager
	Opened         bool   // of a stored run, not trained just now
	Link           string // that was made of the run
}

// Token is a piece of a generated answer with its probability.
type Token struct {
	Text string
	P    float64
}

// NewApp returns the state of a fresh page.
func NewApp(env vugu.EventEnv) *App {
	a := &App{env: env, Open: map[string]bool{}, Compared: map[string]bool{}, Abouts: map[string]ui.About{}}
	a.Train.Settings = ui.DefaultSettings(cores())
	a.Model = ModelState{Name: sampleModel, Path: "/models/" + sampleModel, Sample: true}
	a.useSampleData()
	a.Train.Share = "100"
	a.Out.Prompt, a.Out.MaxTokens = "An unforgettable film, warm and funny. It was", "24"
	return a
}

func (a *App) useSampleData() {
	a.Data = DataState{Kind: kindLabels, Name: "Movie reviews", Path: "/data/" + sampleTrain, Sample: true, Columns: []string{"text", "label"}, Text: "text", Label: "label",
		Template: labelTemplate, Verbalizers: "terrible, great", Labels: "negative, positive", Window: "128"}
}

// update changes the state from a goroutine; the picture follows within a fifth of a second.
func (a *App) update(f func()) {
	a.env.Lock()
	f()
	a.dirty = true
	a.env.UnlockOnly()
}

// now is update for changes that answer a person: the picture follows at the next tick. It does not draw itself, because all goroutines that
// can go on do so within one task of the main thread, and three drawings in one task are a long one.
func (a *App) now(f func()) {
	a.env.Lock()
	f()
	a.dirty, a.urgent = true, true
	a.env.UnlockOnly()
}

// draw asks for a drawing when something changed: every tick for urgent changes, at most five times a second for progress.
func (a *App) draw() {
	const tick, most = 40 * time.Millisecond, 200 * time.Millisecond
	last := time.Now()
	for range time.Tick(tick) {
		if a.dirty && (a.urgent || time.Since(last) >= most) {
			last = time.Now()
			a.env.Lock()
			a.dirty, a.urgent = false, false
			a.env.UnlockRender()
		}
	}
}

// Start brings up the worker and, where it costs nothing, the sample model and data.
func (a *App) Start() {
	go a.draw()
	a.readLink()
	a.Busy, a.Boot = true, Working
	go a.finish(func() error {
		if err := a.boot(); err != nil {
			return err
		}
		q := query()
		stored := a.Stored.Bytes(a.Model.Path) == sampleModelBytes
		if !stored && !onThisMachine() && !q.Has("bench") {
			return nil
		}
		if err := a.openModel(); err != nil {
			return err
		}
		if q.Has("bench") {
			return a.bench(q.Get("bench"))
		}
		return a.openData()
	})
}

// chain runs one chain of actions on its own goroutine, and shows what goes wrong.
func (a *App) chain(f func() error) {
	busy := false
	a.now(func() {
		if busy = a.Busy; !busy {
			a.Busy, a.Problem, a.Notice = true, nil, ""
		}
	})
	if !busy {
		a.finish(f)
	}
}

// finish runs a chain that holds Busy.
func (a *App) finish(f func() error) {
	err := f()
	a.now(func() {
		a.Busy = false
		a.show(err)
	})
}

// show puts an error where the page shows it. Stopping is no error.
func (a *App) show(err error) {
	if err == nil {
		return
	}
	var f *ui.Failure
	if !errors.As(err, &f) {
		f = &ui.Failure{Code: "failed", Message: err.Error()}
	}
	for _, p := range []*Phase{&a.Boot, &a.Model.Phase, &a.Data.Phase, &a.Train.Phase, &a.Out.Phase} {
		if *p == Working {
			*p = Failed
		}
	}
	if f.Code == "stopped" {
		a.Notice = "Stopped."
		return
	}
	a.Problem = f
}

// boot starts the worker with the chosen number of threads and reads what is stored.
func (a *App) boot() error {
	a.now(func() { a.Boot = Working })
	client, err := NewClient(func(f *ui.Failure) {
		a.update(func() {
			a.Boot, a.Model.opened, a.Data.opened = Failed, "", ""
			a.Problem = f
		})
	})
	if err != nil {
		return err
	}
	a.client = client
	threads := a.threads()
	var hello ui.Hello
	if err := client.Call("boot", map[string]any{"threads": threads, "memoryLimit": int64(1) << 32}, &hello, nil); err != nil {
		return err
	}
	if err := a.refresh(); err != nil {
		return err
	}
	a.now(func() {
		a.Boot, a.Hello, a.Train.Memory = Ready, hello, hello.Memory
		a.Model.opened, a.Data.opened = "", ""
	})
	return nil
}

// restart ends the worker, which frees its memory, and starts another.
func (a *App) restart() error {
	if a.client != nil {
		a.client.Close()
	}
	a.now(func() {
		a.Boot = Idle
		for _, p := range []*Phase{&a.Model.Phase, &a.Data.Phase} {
			*p = Idle
		}
	})
	return a.boot()
}

// refresh lists the storage, and the runs in it that can go on.
func (a *App) refresh() error {
	var stored ui.Stored
	if err := a.client.Call("store.list", struct{}{}, &stored, nil); err != nil {
		return err
	}
	var saved []ui.SavedRun
	for _, f := range stored.Files {
		if !strings.HasPrefix(f.Path, "/runs/") || !strings.HasSuffix(f.Path, "/page.json") {
			continue
		}
		data, err := a.client.Read(f.Path)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		var r ui.SavedRun
		// A record that cannot be read is one that a closed tab cut short: the run is listed under storage, where it can be deleted.
		if json.Unmarshal(data, &r) == nil && strings.Split(f.Path, "/")[2] == r.ID {
			saved = append(saved, r)
		}
	}
	unfinished, err := a.unfinished(&stored)
	if err != nil {
		return err
	}
	abouts := a.abouts(&stored)
	slices.SortFunc(saved, func(x, y ui.SavedRun) int { return strings.Compare(x.ID, y.ID) })
	a.update(func() {
		a.Stored, a.Train.Saved, a.Unfinished, a.Abouts = stored, saved, unfinished, abouts
		for id := range a.Compared {
			if !slices.ContainsFunc(saved, func(r ui.SavedRun) bool { return r.ID == id }) {
				delete(a.Compared, id)
			}
		}
	})
	return nil
}

// gone tells whether a file that was listed is there no longer, since another tab deleted it.
func gone(err error) bool {
	var f *ui.Failure
	return errors.As(err, &f) && f.Code == "not_found"
}

// progress returns an event handler that shows a task's progress in the model step.
func (a *App) progress() func([]byte) {
	return func(raw []byte) {
		var e ui.Event
		if json.Unmarshal(raw, &e) != nil || e.Type != "progress" {
			return
		}
		a.update(func() {
			if a.Model.What != phaseNames[e.Phase] {
				a.Model.What, a.Model.started = phaseNames[e.Phase], time.Now()
			}
			a.Model.Done, a.Model.Total = e.Done, e.Total
		})
	}
}

var phaseNames = map[string]string{"download": "Downloading", "check": "Checking", "checksum": "Checking", "import": "Copying", "weights": "Preparing the weights of", "merge": "Merging into"}

func (a *App) sendFile(method, path string, file safejs.Value, event func([]byte)) error {
	r, err := a.client.Send(method, map[string]string{"path": path}, map[string]safejs.Value{"file": file}, event)
	if err != nil {
		return err
	}
	return r.Decode(nil)
}
