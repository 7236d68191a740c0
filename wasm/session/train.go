package session

import (
	"time"

	"tabtune/lora"
	"tabtune/lora/peft"
	"tabtune/lora/replay"
	"tabtune/wasm/rpc"
	"tabtune/zo"
	"tabtune/zo/task"
)

// score is a result on validation rows.
type score struct {
	Step     int     `json:"step"`
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"`
	Averaged bool    `json:"averaged,omitempty"` // of the average of the iterates up to the step, not of the last
	metrics
}

// metrics are further numbers, where the task has them.
type metrics struct {
	Perplexity *float64 `json:"perplexity,omitempty"` // exp of the mean loss of a scored token
	F1         *float64 `json:"f1,omitempty"`         // of labels, or of the words of generated answers
	ExactMatch *float64 `json:"exactMatch,omitempty"`
	Answered   int      `json:"answered,omitempty"` // rows whose answers were generated
}

type trainResult struct {
	Steps         int     `json:"steps"`
	Rows          int64   `json:"rows"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	PeakBytes     int64   `json:"peakBytes"`
	ZeroShot      score   `json:"zeroShot"`
	Accuracy      float64 `json:"accuracy"`
	Loss          float64 `json:"loss"`
	metrics
	Best    score   `json:"best"`
	LR      float64 `json:"lr"`
	Seconds float64 `json:"seconds"`
	// Head is the label head that the best adapter has, if any.
	Head *headInfo `json:"head,omitempty"`
}

type evalEvent struct {
	Type string `json:"type"` // "eval"
	score
	Best bool `json:"best"`
}

type stepEvent struct {
	Type          string  `json:"type"` // "step"
	Step          int     `json:"step"`
	Steps         int     `json:"steps"` // 0 while a run by minutes does not know
	Loss          float64 `json:"loss"`
	LR            float64 `json:"lr"`
	Rows          int64   `json:"rows"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	SecondsLeft   float64 `json:"secondsLeft"`
	PeakBytes     int64   `json:"peakBytes"`
}

// run is a training run in progress.
type run struct {
	s        *Session
	t        *rpc.Task
	c        *runConfig
	r        *runner
	files    *runFiles // nil without an out folder
	sampler  *task.Sampler
	opt      zo.Optimizer // nil: plain descent, which the program applies
	avg      *zo.Average  // of the iterates; nil: none is kept
	waited   int          // evaluations since the best
	step     int
	skipTo   int   // while steps are repeated: no refit before this one
	rows     int64 // forward rows of training, the unit of cost
	spent    time.Duration
	before   time.Duration // of earlier sittings of the run
	res      trainResult
	period   int               // subspaces before this one
	packed   []string          // the matrices A as the log has them, where they are not random
	head     *lora.HeadAdapter // that training goes on under; nil: none
	headInfo headInfo
	best     bestState
}

// bestState is the best adapter so far.
type bestState struct {
	spec       lora.Spec // of the program that b is of
	b          [][]float32
	head       *lora.HeadAdapter
	classifier *lora.Classifier
}

func (s *Session) train(t *rpc.Task, p trainParams) (trainResult, error) {
	c, err := s.normalise(p)
	if err != nil {
		return trainResult{}, err
	}
	est, err := s.estimateRun(c)
	if err != nil {
		return trainResult{}, err
	}
	if err := s.fits("this run", est); err != nil {
		return trainResult{}, err
	}
	s.adapter = nil
	s.dev.ResetPeak()
	u := &run{s: s, t: t, c: c}
	if c.Runtime != "" {
		end, err := s.useStock(t, c)
		if err != nil {
			return trainResult{}, err
		}
		defer end()
	}
	first := c.spec
	if c.head {
		if first, err = s.headSpec(s.model, s.data, &c.trainParams); err != nil {
			return trainResult{}, err
		}
	}
	if u.r, err = s.programFor(first); err != nil {
		return trainResult{}, err
	}
	ended := false
	defer func() {
		u.close()
		if !ended {
			s.dropRunner() // its adapter is half trained and nobody's
		}
	}()
	if err := u.begin(); err != nil {
		return trainResult{}, err
	}
	if err := u.loop(); err != nil {
		return trainResult{}, err
	}
	res, err := u.finish()
	ended = err == nil && !c.manyPrograms() // the program may be another than the best adapter's
	return res, err
}

func (s *Session) programFor(spec lora.Spec) (*runner, error) {
	s.dropRunner()
	r, err := s.newRunner(spec)
	if err != nil {
		return nil, err
	}
	s.runner = r
	return r, nil
}

func (u *run) close() {
	if u.files != nil {
		u.files.close()
	}
}

// begin opens the run's files, evaluates the model as it is or rebuilds the state
// of an interrupted run, and settles the learning rate.
func (u *run) begin() (err error) {
	s, d := u.s, u.s.data
	if u.c.est != nil {
		n := u.c.Batch
		if u.c.est.Spread() {
			n *= u.c.est.Queries()
		}
		if u.sampler, err = task.NewSampler(d.lengths(d.train), n, u.c.Seed); err != nil {
			return err
		}
		if u.opt, err = zo.NewOptimizer(u.c.Optimizer, *u.c.Beta); err != nil {
			return err
		}
		if u.avg, err = zo.NewAverage(u.c.Average); err != nil {
			return err
		}
	}
	s.cacheFor(u.r.spec.Top)
	if u.c.Out != "" {
		if u.files, err = openRun(u); err != nil {
			return err
		}
	}
	if u.files != nil && u.files.resumed != nil {
		if u.c.findLayers || u.c.findModules { // what the log's run chose
			if !u.c.head {
				if u.r, err = u.s.programFor(u.c.spec); err != nil {
					return err
				}
			}
			u.s.cacheFor(u.r.spec.Top)
		}
		return u.restore(u.files.resumed)
	}
	z, _, err := u.evaluate()
	if err != nil {
		return err
	}
	u.res.ZeroShot, u.res.Best = z, z
	u.res.Accuracy, u.res.Loss, u.res.metrics = z.Accuracy, z.Loss, z.metrics
	if err := u.keepBest(); err != nil {
		return err
	}
	if err := u.emitEval(z, true); err != nil {
		return err
	}
	if err := u.stageHead(); err != nil {
		return err
	}
	if err := u.findPlace(); err != nil {
		return err
	}
	if u.c.ownA() {
		if err := u.findSubspace(); err != nil {
			return err
		}
	}
	if u.c.est != nil {
		began := u.s.now()
		if u.c.findEps {
			if err := u.findEps(); err != nil {
				return err
			}
		}
		if u.c.lr == 0 {
			if err := u.findLR(); err != nil {
				return err
			}
		}
		if u.c.Minutes > 0 {
			u.before += u.s.now().Sub(began)
		}
		u.res.LR = u.c.lr
		if err := u.t.Emit(map[string]any{"type": "lr", "lr": u.c.lr}); err != nil {
			return err
		}
	}
	if u.files != nil {
		return u.files.start(u)
	}
	return nil
}

// stageHead fits the head of a run that has one and puts the program that goes on
// under it in place.
func (u *run) stageHead() error {
	if !u.c.head {
		return nil
	}
	began := u.s.now()
	if err := u.headStage(); err != nil {
		return err
	}
	u.before += u.s.now().Sub(began)
	if u.c.est == nil {
		return nil
	}
	u.c.spec.Head = u.head
	u.s.cacheFor(u.c.top)
	var err error
	u.r, err = u.s.programFor(u.c.spec)
	return err
}

func (u *run) keepBest() (err error) {
	u.best = bestState{head: u.r.spec.Head}
	if u.c.head && u.best.head == nil {
		u.best.head = u.noHead()
	}
	if u.r.spec.Modules != nil {
		u.best.spec = u.r.spec
		u.best.b, err = u.r.readB()
	}
	return err
}

func (u *run) evaluate() (score, []prediction, error) {
	if err := u.r.flush(); err != nil {
		return score{}, nil, err
	}
	rows := u.s.data.val
	if u.c.EvalRows > 0 && u.c.EvalRows < len(rows) {
		rows = rows[:u.c.EvalRows]
	}
	sc, pred, err := u.s.evaluate(u.t, u.r, rows, u.c.AnswerRows)
	sc.Step = u.step
	return sc, pred, err
}

func (u *run) emitEval(sc score, best bool) error {
	e := evalEvent{"eval", sc, best}
	if u.files != nil {
		if err := u.files.metric(e); err != nil {
			return err
		}
	}
	return u.t.Emit(e)
}

// progress is how far the run is, 0 to 1.
func (u *run) progress() float64 {
	if u.c.Minutes > 0 {
		return (u.before + u.spent).Minutes() / u.c.Minutes
	}
	return float64(u.step) / float64(u.c.Steps)
}

func (u *run) done() bool {
	if u.c.Patience > 0 && u.waited >= u.c.Patience {
		return true
	}
	if u.c.Minutes > 0 {
		return u.progress() >= 1
	}
	return u.step >= u.c.Steps
}

// evalDue says whether the step just made is one to evaluate after.
func (u *run) evalDue() bool { return u.step%u.c.EvalEvery == 0 || u.done() }

func (u *run) loop() error {
	began, first := u.s.now(), u.step
	base := u.before
	for !u.done() {
		lr := u.c.schedule(u.c.lr, u.progress())
		loss, seeds, coefs, err := u.advance(u.step, lr)
		if err != nil {
			return err
		}
		if u.files != nil {
			rec := replay.Record{Step: int64(u.step), Seeds: seeds, Coefs: coefs}
			if u.opt != nil {
				rec.Rate = float32(lr)
			}
			if err := u.files.log.Append(rec); err != nil {
				return err
			}
		}
		u.step++
		u.rows += u.c.perStep()
		if err := u.between(); err != nil {
			return err
		}
		u.spent = u.s.now().Sub(began)
		u.before = base
		rate := 0.0 // steps a second
		if u.spent > 0 {
			rate = float64(u.step-first) / u.spent.Seconds()
		}
		e := stepEvent{Type: "step", Step: u.step, Steps: u.c.Steps, Loss: loss, LR: lr, Rows: u.rows,
			RowsPerSecond: rate * float64(u.c.perStep()), PeakBytes: u.s.dev.Peak()}
		if u.c.Minutes > 0 {
			e.Steps = 0
			e.SecondsLeft = max(0, 60*u.c.Minutes-(u.before+u.spent).Seconds())
		} else if rate > 0 {
			e.SecondsLeft = float64(u.c.Steps-u.step) / rate
		}
		if u.files != nil {
			if err := u.files.metric(e); err != nil {
				return err
			}
		}
		if err := u.t.Emit(e); err != nil {
			return err
		}
		if u.evalDue() {
			if err := u.evalStep(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *run) evalStep() error {
	sc, _, err := u.evaluate()
	if err != nil {
		return err
	}
	u.res.Accuracy, u.res.Loss, u.res.metrics = sc.Accuracy, sc.Loss, sc.metrics
	u.waited++
	if err := u.judge(sc); err != nil {
		return err
	}
	if err := u.averaged(func() error {
		sc, _, err := u.evaluate()
		if err != nil {
			return err
		}
		sc.Averaged = true
		return u.judge(sc)
	}); err != nil {
		return err
	}
	if u.files != nil {
		if err := u.files.checkpoint(u, false); err != nil {
			return err
		}
		return u.t.Emit(map[string]any{"type": "checkpoint", "step": u.step})
	}
	return nil
}

// judge keeps what is in the program now if its score is the best so far, and
// reports it.
func (u *run) judge(sc score) error {
	best := sc.better(u.res.Best, u.s.data)
	if best {
		u.waited = 0
		u.res.Best = sc
		u.res.Head = nil
		if u.head != nil {
			u.res.Head = &u.headInfo
		}
		if err := u.keepBest(); err != nil {
			return err
		}
	}
	return u.emitEval(sc, best)
}

// finish keeps the best adapter and writes the run's summary.
func (u *run) finish() (trainResult, error) {
	u.res.Steps, u.res.Rows = u.step, u.rows
	if u.c.est != nil {
		u.res.LR = u.c.lr
	}
	u.res.Seconds = (u.before + u.spent).Seconds()
	if u.res.Seconds > 0 {
		u.res.RowsPerSecond = float64(u.rows) / u.res.Seconds
	}
	u.res.PeakBytes = u.s.dev.Peak()
	if !u.c.full() {
		if !u.c.manyPrograms() {
			if err := u.r.writeB(u.best.b); err != nil {
				return u.res, err
			}
		}
		u.s.adapter = u.adapter()
	}
	if u.files != nil {
		if err := u.files.checkpoint(u, true); err != nil {
			return u.res, err
		}
	}
	return u.res, nil
}

// adapter is the best adapter so far.
func (u *run) adapter() *adapter {
	b, c := &u.best, &u.s.model.ckpt.Config
	a := &adapter{spec: u.c.spec, peft: peft.Adapter{Rank: u.c.Rank, Alpha: u.c.Alpha, BaseModel: u.s.model.info.Name}, labels: u.s.data.Labels}
	bs := b.b
	if bs == nil { // of the stages before training
		a.spec.Modules, a.spec.Past = nil, nil
	} else {
		a.spec, bs = asOne(b.spec, bs)
		a.peft.Rank, a.peft.Alpha = a.spec.Rank, a.spec.Alpha
	}
	a.spec.Head, a.spec.Classifier, a.spec.Features = b.head, b.classifier, false
	if b.classifier != nil {
		a.spec.Top = c.Layers - b.classifier.Layer
	}
	for i, ad := range a.spec.Adapters() {
		a.peft.Modules = append(a.peft.Modules, peft.Module{Name: ad.Name, In: ad.In, Out: ad.Out, A: a.spec.MatrixA(i), B: bs[i]})
	}
	if b.head != nil {
		a.peft.Modules = append(a.peft.Modules, headModule(b.head, c))
		if a.spec.Modules == nil {
			a.peft.Rank, a.peft.Alpha = b.head.Rank, b.head.Scale*float64(b.head.Rank)
		}
	}
	return a
}
