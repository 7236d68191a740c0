package session

import (
	"fmt"
	"slices"

	"tabtune/engine"
	"tabtune/lora"
	"tabtune/zo"
	"tabtune/zo/head"
)

// Where the adapters' A come from, if not from the seed: what the adapted modules read,
// or what tells the labels apart in it.
const (
	fromInputs = "activations"
	fromLabels = "labels"
)

// inputRows and inputPlaces are how many training rows, and positions of each, a
// subspace of activations is taken from; labelRows, at the scored position alone, one
// that tells labels apart, if that is within headBudget.
const (
	inputRows   = 64
	inputPlaces = 8
	labelRows   = 2048
)

// ownA says whether A comes from data.
func (c *runConfig) ownA() bool { return c.Subspace == fromInputs || c.Subspace == fromLabels }

// inputPlaces is how many positions of a row A comes from.
func (c *runConfig) inputPlaces() int {
	if c.Subspace == fromLabels {
		return 1
	}
	return inputPlaces
}

// inputSpec is the program that shows what the adapted modules read.
func (c *runConfig) inputSpec() lora.Spec {
	s := c.spec
	s.Queries, s.Sides, s.Rows, s.Scored = 1, lora.Single, 16, 16*c.inputPlaces()
	s.Inputs, s.Features, s.Decode, s.A = true, false, false, nil
	return s
}

// findSubspace takes A from what the modules read of the training rows, at positions
// spread evenly over each and always the scored one, or at that alone, and begins the
// run's program anew with it. The log holds it: a replay has no data.
func (u *run) findSubspace() error {
	r, err := u.s.programFor(u.c.inputSpec())
	if err != nil {
		return err
	}
	_, widths := u.c.spec.Groups()
	states := make([][]float32, len(widths))
	n, most, total := 0, inputRows, sum(widths)
	if u.c.Subspace == fromLabels {
		most = max(headExamples, min(labelRows, headBudget/total))
	}
	items := u.s.data.probe(most)
	if err := u.s.cache(u.t, r, items); err != nil { // all at once: they are sorted by length
		return err
	}
	progress := u.s.paced(u.t, "progress", "features")
	for done := 0; done < len(items); {
		some := items[done:min(len(items), done+r.spec.Rows)]
		got, err := r.inputs(some, u.c.inputPlaces())
		if err != nil {
			return err
		}
		for ; len(got) > 0; got = got[total:] {
			at := 0
			for i, w := range widths {
				states[i] = append(states[i], got[at:at+w]...)
				at += w
			}
			n++
		}
		done += len(some)
		u.rows += int64(len(some))
		if err := progress(int64(done), int64(len(items))); err != nil {
			return err
		}
	}
	packed := make([]string, len(widths))
	for i, w := range widths {
		a, err := u.subspace(states[i], n, w, items)
		if err != nil {
			return err
		}
		packed[i] = zo.PackMatrix(a, u.c.Rank, w)
		if err := progress(int64(i+1), int64(len(widths))); err != nil {
			return err
		}
	}
	return u.useSubspace(packed)
}

// subspace returns A for modules that read x f32[n, d]; for labels a row of x is of an item.
func (u *run) subspace(x []float32, n, d int, items []item) ([]float32, error) {
	if u.c.Subspace == fromInputs {
		return zo.Subspace(x, n, d, u.c.Rank)
	}
	data := &head.Data{X: x, Dim: d, Y: labelsOf(items), Classes: len(u.s.data.labels)}
	m, _, err := choose(data, head.Options{Intercept: true, Folds: min(3, len(items)), Lambdas: head.Lambdas()}, u.s.paced(u.t, "progress", "head"))
	if err != nil {
		return nil, err
	}
	return zo.LabelSubspace(x, n, d, u.c.Rank, m.Weight, data.Classes)
}

// useSubspace begins with the matrices A of a log.
func (u *run) useSubspace(packed []string) (err error) {
	if u.c.spec.A, err = unpackA(&u.c.spec, packed); err != nil {
		return err
	}
	u.packed = packed
	u.r, err = u.s.programFor(u.c.spec)
	return err
}

// unpackA gives every adapter its group's matrix.
func unpackA(spec *lora.Spec, packed []string) ([][]float32, error) {
	of, widths := spec.Groups()
	if len(packed) != len(widths) {
		return nil, fmt.Errorf("the log has %d matrices A, the modules read %d tensors", len(packed), len(widths))
	}
	groups := make([][]float32, len(widths))
	for i, w := range widths {
		var err error
		if groups[i], err = zo.UnpackMatrix(packed[i], spec.Rank, w); err != nil {
			return nil, fmt.Errorf("matrix A %d: %w", i, err)
		}
	}
	out := make([][]float32, len(of))
	for i, g := range of {
		out[i] = groups[g]
	}
	return out, nil
}

// inputs returns what the groups of modules read of items, at up to each positions of
// every row, the scored one first.
func (r *runner) inputs(items []item, each int) ([]float32, error) {
	rows := make([]row, 0, len(items))
	for _, it := range items {
		rows = append(rows, it.row())
	}
	width, err := r.fill("inputs", rows, 1)
	if err != nil {
		return nil, err
	}
	var places []int64
	for i, row := range rows {
		last := len(row.ids) - 1
		for k := range each {
			p := int64(i*width + last - k*last/max(1, each-1))
			if k == 0 || p != places[len(places)-1] {
				places = append(places, p)
			}
		}
	}
	if err := set(r.s.dev, r.rt, "inputs", 1, engine.Int64s(places, len(places))); err != nil {
		return nil, err
	}
	_, widths := r.spec.Groups()
	out, err := r.rt.Call("inputs", len(places), sum(widths))
	if err != nil {
		return nil, err
	}
	return r.s.floats(out), nil
}

func sum(v []int) (n int) {
	for _, x := range v {
		n += x
	}
	return n
}

// resample leaves the subspace: what was trained in it stays as a part of the stack,
// and B starts from zero under another random A (LOZO, arXiv 2410.07698, on the
// adapter; its projection is our A, resampled every so many steps). Optimizer and
// average begin anew, as their state is of the old subspace.
func (u *run) resample() (err error) {
	if err := u.r.settle(); err != nil {
		return err
	}
	b, err := u.r.readB()
	if err != nil {
		return err
	}
	u.period++
	stack := u.c.spec.Stacked(b)
	if u.opt != nil {
		if u.opt, err = zo.NewOptimizer(u.c.Optimizer, *u.c.Beta); err != nil {
			return err
		}
	}
	if u.avg != nil {
		u.avg.Reset()
	}
	return u.rebuild(func(s *lora.Spec) {
		s.Past, s.A, s.Seed = stack, nil, zo.SubspaceSeed(u.c.Seed, u.period)
	}, nil)
}

// resampleDue says whether the step just made is the last in its subspace. Where the
// adapter has become as wide as it may, the subspace stays. How long the run is to
// be does not matter: it may be continued.
func (u *run) resampleDue() bool {
	return u.c.Resample > 0 && u.step%u.c.Resample == 0 && (u.period+2)*u.c.Rank <= maxStackRank
}

// maxStackRank bounds the rank of the adapter that subspaces add up to.
const maxStackRank = 256

// fullStack is the program of the run's last subspace, for what it needs.
func (c *runConfig) fullStack() lora.Spec {
	s := c.spec
	if c.Resample == 0 {
		return s
	}
	n := maxStackRank/s.Rank - 1
	if c.Steps > 0 {
		n = min(n, c.Steps/c.Resample)
	}
	if n *= s.Rank; n > 0 {
		s.Past = &lora.Stack{Rank: n}
		for i, a := range s.Adapters() {
			pa, pb := make([]float32, n*a.In), make([]float32, n*a.Out)
			pa[0], pb[0] = float32(2*i+1), float32(2*i+2) // equal constants would be one
			s.Past.A, s.Past.B = append(s.Past.A, pa), append(s.Past.B, pb)
		}
	}
	return s
}

// asOne turns an adapter on a stack into one adapter of the whole rank, without the
// present subspace if nothing was trained in it yet.
func asOne(spec lora.Spec, b [][]float32) (lora.Spec, [][]float32) {
	if spec.Past == nil {
		return spec, b
	}
	stack := spec.Past
	if slices.ContainsFunc(b, func(x []float32) bool { return slices.ContainsFunc(x, func(v float32) bool { return v != 0 }) }) {
		stack = spec.Stacked(b)
	}
	spec.Alpha *= float64(stack.Rank) / float64(spec.Rank)
	spec.Rank, spec.A, spec.Past = stack.Rank, stack.A, nil
	return spec, stack.B
}
