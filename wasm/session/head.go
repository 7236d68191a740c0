package session

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/engine/pte"
	"tabtune/lora"
	"tabtune/lora/peft"
	"tabtune/zo/head"
)

// headInfo says how a label head was fitted.
type headInfo struct {
	Layer    int     `json:"layer"`  // whose output is read; the model's layers: the final norm's
	Lambda   float64 `json:"lambda"` // the penalty chosen
	Rows     int     `json:"rows"`   // it was fitted to
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"` // both cross-validated
}

type headEvent struct {
	Type string `json:"type"` // "head"
	headInfo
}

// headBudget bounds the features that are held to choose a layer: 40 M floats,
// 160 MB.
const headBudget = 40 << 20

// headRows are the training rows that a head is fitted to: all, or as many as the
// budget allows, spread evenly.
func (u *run) headRows(states int) []item {
	return u.s.data.probe(max(1, headBudget/(states*u.s.model.ckpt.Config.Dim)))
}

// features returns what heads may read of items, f32[n, 2 Top+1, d] (see
// lora.Build).
func (u *run) features(items []item) ([]float32, error) {
	// Longest together, as in evaluate.
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(items[a].example.IDs) - len(items[b].example.IDs) })
	states := 2*u.r.spec.Top + 1
	each := states * u.r.spec.Model.Dim
	out := make([]float32, len(items)*each)
	progress := u.s.paced(u.t, "progress", "features")
	for done := 0; done < len(order); {
		n := min(u.r.spec.Rows, len(order)-done)
		rows := make([]row, n)
		for i, x := range order[done : done+n] {
			rows[i] = items[x].row()
		}
		width, err := u.r.fill("features", rows, 1)
		if err != nil {
			return nil, err
		}
		if err := set(u.s.dev, u.r.rt, "features", 1, engine.Int64s(last(rows, 1, width), n)); err != nil {
			return nil, err
		}
		v, err := u.r.rt.Call("features", n, states, u.r.spec.Model.Dim)
		if err != nil {
			return nil, err
		}
		got := u.s.floats(v)
		for i, x := range order[done : done+n] {
			copy(out[x*each:(x+1)*each], got[i*each:(i+1)*each])
		}
		done += n
		if err := progress(int64(done), int64(len(order))); err != nil {
			return nil, err
		}
	}
	u.rows += int64(len(items))
	return out, nil
}

// headStage fits label heads to the model as it is and scores them on the
// validation rows: one on the final norm's output, which is a LoRA on the output
// head, and a classifier on the layer below that cross-validates best, which also
// sees the mean over the sequence. The better one becomes the best so far.
// Training goes on under the first.
func (u *run) headStage() error {
	top := u.r.spec.Top
	items := u.headRows(2*top + 1)
	x, err := u.features(items)
	if err != nil {
		return err
	}
	final, info, err := u.fitState(x, items, top)
	if err != nil {
		return err
	}
	if u.head, err = u.outputHead(final); err != nil {
		return err
	}
	try := func(h *lora.HeadAdapter, c *lora.Classifier, info headInfo) error {
		spec := u.r.spec
		spec.Head, spec.Classifier, spec.Features = h, c, false
		if u.r, err = u.s.programFor(spec); err != nil {
			return err
		}
		sc, _, err := u.evaluate()
		if err != nil {
			return err
		}
		if err := u.t.Emit(headEvent{"head", info}); err != nil {
			return err
		}
		best := sc.Loss < u.res.Best.Loss
		if best {
			u.res.Best, u.res.Head = sc, &info
			u.best = bestState{head: h, classifier: c}
		}
		if u.files != nil && u.files.resumed != nil { // metrics.jsonl has it already
			return u.t.Emit(evalEvent{"eval", sc, best})
		}
		return u.emitEval(sc, best)
	}
	u.headInfo = info
	if err := try(u.head, nil, info); err != nil {
		return err
	}
	if u.c.Head != "output" {
		layer, err := u.headLayer(x, items, top)
		if err != nil {
			return err
		}
		if layer < 0 { // a model of one layer
			u.res.Accuracy, u.res.Loss, u.res.metrics = u.res.Best.Accuracy, u.res.Best.Loss, u.res.Best.metrics
			return nil
		}
		m, info, err := u.fitState(x, items, layer)
		if err != nil {
			return err
		}
		if err := try(nil, &lora.Classifier{Layer: info.Layer, Mean: true, Weight: m.Weight, Bias: m.Bias}, info); err != nil {
			return err
		}
	}
	u.res.Accuracy, u.res.Loss, u.res.metrics = u.res.Best.Accuracy, u.res.Best.Loss, u.res.Best.metrics
	return nil
}

// state is the data of one of the layers in x, the state at the scored position
// and the mean beside it, or of the final norm, which is number top.
func (u *run) state(x []float32, items []item, at int) *head.Data {
	dim := u.s.model.ckpt.Config.Dim
	each := len(x) / len(items)
	from := 2 * at * dim
	d := &head.Data{Dim: min(2*dim, each-from), Y: labelsOf(items), Classes: len(u.s.data.labels)}
	for i := range items {
		d.X = append(d.X, x[i*each+from:][:d.Dim]...)
	}
	return d
}

// labelsOf are the classes of items.
func labelsOf(items []item) []int {
	out := make([]int, len(items))
	for i, it := range items {
		out[i] = it.example.Label
	}
	return out
}

// headLayer returns the layer below the final norm with the lowest
// cross-validated loss, or -1 if there is none. Of many every second one is tried, with one penalty:
// neighbours differ little.
func (u *run) headLayer(x []float32, items []item, top int) (int, error) {
	best, at, stride := 0.0, -1, 1
	if top > 8 {
		stride = 2
	}
	progress := u.s.paced(u.t, "progress", "head")
	for l := 0; l < top; l += stride {
		if u.s.model.ckpt.Config.Layers-top+l == 0 {
			continue // the embedding
		}
		_, cv, err := choose(u.state(x, items, l), head.Options{Intercept: true, Folds: min(3, len(items)), Lambdas: []float64{300}},
			func(int64, int64) error { return progress(int64(l), int64(top)) })
		if err != nil {
			return 0, err
		}
		if at < 0 || cv.Loss < best {
			best, at = cv.Loss, l
		}
		if err := progress(int64(l+1), int64(top)); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// choose is head.Choose, interrupted when progress, called with the fits done and
// the most there can be, says so.
func choose(d *head.Data, o head.Options, progress func(done, total int64) error) (*head.Model, head.Score, error) {
	var done int64
	var stop error
	o.Progress = func() error {
		done++
		stop = progress(done, int64(o.Folds*len(o.Lambdas)))
		return stop
	}
	m, cv, err := head.Choose(d, o)
	if err != nil && stop == nil {
		err = invalid("%v", err)
	}
	return m, cv, err
}

func (u *run) fitState(x []float32, items []item, at int) (*head.Model, headInfo, error) {
	c := &u.s.model.ckpt.Config
	top := (len(x)/len(items)/c.Dim - 1) / 2
	m, cv, err := choose(u.state(x, items, at), head.Options{Intercept: at != top, Folds: min(5, len(items)), Lambdas: head.Lambdas()}, u.s.paced(u.t, "progress", "head"))
	if err != nil {
		return nil, headInfo{}, err
	}
	return m, headInfo{Layer: c.Layers - top + at, Lambda: m.Lambda, Rows: len(items), Accuracy: cv.Accuracy, Loss: cv.Loss}, nil
}

// outputHead is a head on the final norm's output as a LoRA on the output head:
// A holds for each label what has to be added to its token's row of the matrix,
// and B says which token that is. A label's score becomes the head's plus the
// mean of what the tokens had, so that the labels together stay as likely as they
// were against other tokens.
func (u *run) outputHead(m *head.Model) (*lora.HeadAdapter, error) {
	tokens := u.s.data.labelTokens()
	w, err := u.s.model.headRows(u.s.dev, tokens)
	if err != nil {
		return nil, err
	}
	c := &u.s.model.ckpt.Config
	n, dim := len(tokens), c.Dim
	h := u.noHead()
	for j := range dim {
		var mean float64
		for k := range n {
			mean += float64(w[k*dim+j]) / float64(n)
		}
		for k := range n {
			h.A[k*dim+j] = float32(float64(m.Weight[k*dim+j]) + mean - float64(w[k*dim+j]))
		}
	}
	return h, nil
}

// headRows returns the output head's rows of tokens as f32[len(tokens), dim].
func (m *model) headRows(dev *kernel.Device, tokens []int32) ([]float32, error) {
	c := &m.ckpt.Config
	name := "lm_head.weight"
	if c.TiedHead {
		name = "model.embed_tokens.weight"
	}
	w, ok := m.weights[name]
	if !ok {
		return nil, fmt.Errorf("the model has no %s", name)
	}
	size := int64(4)
	if w.DType == pte.Char {
		size = 1
	}
	out := make([]float32, 0, len(tokens)*c.Dim)
	raw := make([]byte, int64(c.Dim)*size)
	for _, t := range tokens {
		dev.Read(raw, w.Addr+kernel.Addr(int64(t)*int64(len(raw))))
		if size == 4 {
			for j := range c.Dim {
				out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:])))
			}
			continue
		}
		var scale [4]byte
		dev.Read(scale[:], m.weights[name+".scale"].Addr+kernel.Addr(4*int64(t)))
		s := math.Float32frombits(binary.LittleEndian.Uint32(scale[:]))
		for _, b := range raw {
			out = append(out, s*float32(int8(b)))
		}
	}
	return out, nil
}

// noHead is a head adapter that changes nothing: the best of a run whose heads
// did not help.
func (u *run) noHead() *lora.HeadAdapter {
	c, tokens := &u.s.model.ckpt.Config, u.s.data.labelTokens()
	n := len(tokens)
	h := &lora.HeadAdapter{Rank: n, Scale: 1, A: make([]float32, n*c.Dim), B: make([]float32, c.Vocab*n)}
	for k, t := range tokens {
		h.B[int(t)*n+k] = 1
	}
	return h
}

// headModule is a head adapter as PEFT has it: alpha is scale times rank.
func headModule(h *lora.HeadAdapter, c *lora.Config) peft.Module {
	return peft.Module{Name: lora.HeadName, In: c.Dim, Out: c.Vocab, Rank: h.Rank, Alpha: h.Scale * float64(h.Rank), A: h.A, B: h.B}
}

// writeAdapter writes an adapter's folder: PEFT's files or a classifier's, and
// removes the other kind.
func writeAdapter(dir string, a *adapter, labels []string) error {
	stale := []string{lora.ClassifierFile}
	if c := a.spec.Classifier; c != nil {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		if err := lora.WriteClassifier(dir, c, lora.ClassifierInfo{Labels: labels, Model: a.peft.BaseModel}); err != nil {
			return err
		}
		stale = []string{peft.ConfigFile, peft.WeightsFile}
	} else if err := peft.Write(dir, &a.peft); err != nil {
		return err
	}
	for _, name := range stale {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue // as it nearly always is
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// loadClassifier reads a classifier's file.
func (s *Session) loadClassifier(m *model, dir string) (*adapter, error) {
	c, info, err := lora.ReadClassifier(dir)
	if err != nil {
		return nil, err
	}
	cfg := &m.ckpt.Config
	width := cfg.Dim
	if c.Mean {
		width *= 2
	}
	if c.Layer > cfg.Layers || len(c.Weight) != len(c.Bias)*width {
		return nil, fmt.Errorf("%s: a classifier on layer %d of width %d; the model has %d layers of width %d", filepath.Join(dir, lora.ClassifierFile),
			c.Layer, len(c.Weight)/len(c.Bias), cfg.Layers, cfg.Dim)
	}
	spec := lora.Spec{Model: *cfg, DType: m.dtype, Window: 1, Rows: 1, Scored: 1, Top: cfg.Layers - c.Layer, Classifier: c}
	return &adapter{spec: spec, peft: peft.Adapter{BaseModel: info.Model}, labels: info.Labels}, nil
}
