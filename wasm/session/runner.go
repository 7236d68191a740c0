package session

import (
	"slices"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/engine/kernel/code"
	"tabtune/lora"
	"tabtune/lora/replay"
	"tabtune/wasm/rpc"
	"tabtune/zo"
)

// runner drives one training program through its contract.
type runner struct {
	s    *Session
	spec lora.Spec
	rt   Runtime
	// lastSeeds and lastCoefs are the update that the next forward applies.
	lastSeeds []int64
	lastCoefs []float32
	stale     bool // the runtime's B is not what it should be: it must not run
}

// newRunner builds and loads a program with the methods that the session calls.
func (s *Session) newRunner(spec lora.Spec) (*runner, error) {
	spec.NoLogits = true
	return s.loadRunner(spec)
}

func (s *Session) loadRunner(spec lora.Spec) (*runner, error) {
	m, err := s.needModel()
	if err != nil {
		return nil, err
	}
	// Validate also fills in the defaults that this runner goes by, such as how many rows prefix takes.
	if err := spec.Validate(); err != nil {
		return nil, invalid("%v", err)
	}
	file, err := lora.Build(spec)
	if err != nil {
		return nil, invalid("%v", err)
	}
	q := max(spec.Queries, 1)
	r := &runner{s: s, spec: spec, lastSeeds: make([]int64, q), lastCoefs: make([]float32, q)}
	if s.stock != nil {
		r.rt, err = s.stock(spec)
		return r, err
	}
	prog, err := engine.Load(s.dev, file, engine.Options{Data: []engine.DataSource{m.weights}, ShareArena: true, Consume: true})
	if err != nil {
		return nil, err
	}
	r.rt = &engineRuntime{dev: s.dev, prog: prog}
	return r, nil
}

func (r *runner) close() { r.rt.Close() }

func (s *Session) dropRunner() {
	if s.runner != nil {
		s.runner.close()
		s.runner = nil
	}
}

// memory is what the named methods need together.
func (r *runner) memory(methods ...string) (int64, error) { return r.rt.Memory(methods...) }

// row is one row of a forward: a sequence's tokens, or their cached prefix, and
// the positions that are scored.
type row struct {
	ids     []int32
	prefix  kernel.Addr // f32[len(ids), dim]; 0: run prefix now
	at      []int32
	targets []int32
}

// scored is the number of scored positions of rows.
func scored(rows []row) int {
	n := 0
	for _, r := range rows {
		n += len(r.at)
	}
	return n
}

// prefixes runs prefix over rows (at most spec.PrefixRows) and returns the
// output's address, valid until the next call, and its row length in tokens.
func (r *runner) prefixes(rows []row) (kernel.Addr, int, error) {
	width := longest(rows)
	ids := make([]int64, len(rows)*width)
	for i, row := range rows {
		for j, id := range row.ids {
			ids[i*width+j] = int64(id)
		}
	}
	if err := set(r.s.dev, r.rt, "prefix", 0, engine.Int64s(ids, len(rows), width)); err != nil {
		return 0, 0, err
	}
	out, err := r.rt.Call("prefix", len(rows), width, r.spec.Model.Dim)
	return out.Addr, width, err
}

func longest(rows []row) int {
	n := 1
	for _, r := range rows {
		n = max(n, len(r.ids))
	}
	return n
}

// fill writes rows, repeated so many times, to h (input 0 of a method) and
// returns T. Positions behind a row's end are zero: causal attention keeps them
// out of every scored position.
func (r *runner) fill(method string, rows []row, repeat int) (int, error) {
	dev := r.s.dev
	line := int64(4 * r.spec.Model.Dim)
	rows, free, err := r.withPrefixes(rows)
	defer free()
	if err != nil {
		return 0, err
	}
	width := longest(rows)
	h, err := r.rt.Input(method, 0, engine.F32, len(rows)*repeat, width, r.spec.Model.Dim)
	if err != nil {
		return 0, err
	}
	one := int64(width) * line
	for i, row := range rows {
		at, n := h.Addr+kernel.Addr(int64(i)*one), int64(len(row.ids))*line
		dev.MemCopy(at, row.prefix, n)
		dev.MemSet(at+kernel.Addr(n), 0, one-n)
	}
	all := one * int64(len(rows))
	for k := 1; k < repeat; k++ {
		dev.MemCopy(h.Addr+kernel.Addr(int64(k)*all), h.Addr, all)
	}
	return width, nil
}

// withPrefixes runs prefix for the rows that have none cached, into memory that
// free gives back.
func (r *runner) withPrefixes(rows []row) (out []row, free func(), err error) {
	dev := r.s.dev
	line := int64(4 * r.spec.Model.Dim)
	out = slices.Clone(rows)
	var taken []kernel.Addr
	free = func() {
		for _, a := range taken {
			dev.Free(a)
		}
	}
	for i := 0; i < len(out); i++ {
		if out[i].prefix != 0 {
			continue
		}
		end := i + 1
		for end < len(out) && end-i < r.spec.PrefixRows && out[end].prefix == 0 {
			end++
		}
		src, width, err := r.prefixes(out[i:end])
		if err != nil {
			return nil, free, err
		}
		size := int64(end-i) * int64(width) * line
		at, err := dev.Alloc(size, 64)
		if err != nil {
			return nil, free, err
		}
		taken = append(taken, at)
		dev.MemCopy(at, src, size)
		for k := i; k < end; k++ {
			out[k].prefix = at + kernel.Addr(int64(k-i)*int64(width)*line)
		}
		i = end - 1
	}
	return out, free, nil
}

// passing is what withPrefixes takes for so many rows that have none cached.
func passing(s *lora.Spec, rows int) int64 {
	return int64(rows) * spanBytes(int64(s.Window)*int64(4*s.Model.Dim))
}

// spanBytes is what an allocation of n bytes takes of the device.
func spanBytes(n int64) int64 { return (n + 63) &^ 63 }

// last returns the positions of every row's last token, flattened over T = width.
func last(rows []row, repeat, width int) []int64 {
	out := make([]int64, 0, len(rows)*repeat)
	for k := 0; k < repeat; k++ {
		for i, r := range rows {
			out = append(out, int64((k*len(rows)+i)*width+len(r.ids)-1))
		}
	}
	return out
}

// forward applies the pending update and returns the loss of every scored
// position, for the perturbations of seeds. With one group all replicas take its
// rows; with as many as replicas, each takes its own, and the groups have equally
// many rows. The losses of replica k begin at k*per, in the order of its rows and
// positions; where groups score fewer than per, the rest is filling.
func (r *runner) forward(groups [][]row, seeds []int64, eps float32) (nll []float32, per int, err error) {
	reps := r.spec.Replicas()
	rows, repeat := groups[0], reps
	if len(groups) > 1 {
		rows, repeat = slices.Concat(groups...), 1
	}
	for _, g := range groups {
		per = max(per, scored(g))
	}
	at, targets := make([]position, 0, reps*per), make([]int64, 0, reps*per)
	for k := range reps {
		g := groups[k%len(groups)]
		for i, row := range g {
			for j, p := range row.at {
				at, targets = append(at, position{k*len(g) + i, int(p)}), append(targets, int64(row.targets[j]))
			}
		}
		for len(at) < (k+1)*per {
			at, targets = append(at, position{k * len(g), 0}), append(targets, 0)
		}
	}
	nll, err = r.call(rows, repeat, at, targets, seeds, eps)
	return nll, per, err
}

// position is a scored place: a row of the call and a token in it.
type position struct{ row, token int }

// call runs forward once.
func (r *runner) call(rows []row, repeat int, at []position, targets []int64, seeds []int64, eps float32) ([]float32, error) {
	if r.stale {
		return nil, rpc.Errorf("runtime", "this runtime cannot be given an adapter")
	}
	width, err := r.fill("forward", rows, repeat)
	if err != nil {
		return nil, err
	}
	flat := make([]int64, len(at))
	for i, p := range at {
		flat[i] = int64(p.row*width + p.token)
	}
	in := []engine.Tensor{engine.Int64s(flat, len(flat)), engine.Int64s(targets, len(targets))}
	if len(r.spec.Modules) > 0 {
		in = append(in, engine.Int64s(seeds, len(seeds)), engine.Float32s([]float32{eps}),
			engine.Int64s(r.lastSeeds, len(r.lastSeeds)), engine.Float32s(r.lastCoefs, len(r.lastCoefs)))
	}
	for i, t := range in {
		if err := set(r.s.dev, r.rt, "forward", i+1, t); err != nil {
			return nil, err
		}
	}
	out, err := r.rt.Call("forward", len(at))
	if err != nil {
		return nil, err
	}
	if !r.rt.Shows() && r.pending() {
		if err := r.applyHere(r.lastSeeds, r.lastCoefs); err != nil {
			return nil, err
		}
	}
	clear(r.lastCoefs)
	return r.s.floats(out), nil
}

// losses returns the loss of every scored position of rows with the current
// adapter. All replicas are alike then, so rows are dealt out to them. Rows and
// positions must be within the program's bounds (room).
func (r *runner) losses(rows []row) ([][]float32, error) {
	reps := r.spec.Replicas()
	all := slices.Clone(rows)
	var at []position
	var targets []int64
	for i, row := range rows {
		for j, p := range row.at {
			at, targets = append(at, position{i, int(p)}), append(targets, int64(row.targets[j]))
		}
	}
	for len(all)%reps != 0 {
		all = append(all, rows[0])
	}
	for len(at)%reps != 0 {
		at, targets = append(at, at[0]), append(targets, targets[0])
	}
	nll, err := r.call(all, 1, at, targets, make([]int64, len(r.lastSeeds)), 0)
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(rows))
	for i, row := range rows {
		out[i], nll = nll[:len(row.at)], nll[len(row.at):]
	}
	return out, nil
}

// room is how many of rows, at least one, losses can take at once.
func (r *runner) room(rows []row) int {
	reps := r.spec.Replicas()
	positions := 0
	for i, row := range rows {
		positions += len(row.at)
		if i > 0 && (i >= r.spec.Rows/reps*reps || (positions+reps-1)/reps*reps > r.spec.Scored) {
			return i
		}
	}
	return len(rows)
}

// update leaves a step's seeds and coefficients for the next forward.
func (r *runner) update(seeds []int64, coefs []float32) {
	copy(r.lastSeeds, seeds)
	copy(r.lastCoefs, coefs)
}

// pending says whether there is an update that the next forward applies.
func (r *runner) pending() bool {
	return slices.ContainsFunc(r.lastCoefs, func(c float32) bool { return c != 0 })
}

// flush applies the pending update now, with a forward of one token a replica.
func (r *runner) flush() error {
	if !r.pending() {
		return nil
	}
	_, _, err := r.forward([][]row{{{ids: []int32{0}, at: []int32{0}, targets: []int32{0}}}}, make([]int64, len(r.lastSeeds)), 0)
	return err
}

// settle applies the pending update now, without a forward where the runtime shows
// its memory.
func (r *runner) settle() error {
	if !r.pending() || !r.rt.Shows() {
		return r.flush()
	}
	if err := r.applyHere(r.lastSeeds, r.lastCoefs); err != nil {
		return err
	}
	clear(r.lastCoefs)
	return nil
}

// scores returns the log-probabilities [rows, labels] of the label tokens with
// the current adapter.
func (r *runner) scores(rows []row) ([]float32, error) {
	width, err := r.fill("scores", rows, 1)
	if err != nil {
		return nil, err
	}
	if err := set(r.s.dev, r.rt, "scores", 1, engine.Int64s(last(rows, 1, width), len(rows))); err != nil {
		return nil, err
	}
	out, err := r.rt.Call("scores", len(rows), len(r.spec.Labels))
	if err != nil {
		return nil, err
	}
	return r.s.floats(out), nil
}

// decode runs ids, which stand at positions from first on, through the method decode, and returns the scores of all
// tokens after the last of them. The positions before first are in the cache from earlier calls.
func (r *runner) decode(ids []int32, first int) ([]float32, error) {
	tokens, positions := make([]int64, len(ids)), make([]int64, len(ids))
	for i, id := range ids {
		tokens[i], positions[i] = int64(id), int64(first+i)
	}
	for i, x := range [][]int64{tokens, positions, {int64(len(ids) - 1)}} {
		if err := set(r.s.dev, r.rt, "decode", i, engine.Int64s(x, len(x))); err != nil {
			return nil, err
		}
	}
	out, err := r.rt.Call("decode", 1, r.spec.Model.Vocab)
	if err != nil {
		return nil, err
	}
	return r.s.floats(out), nil
}

// buffers calls f for every B of the program, in the order of the adapters.
func (r *runner) buffers(f func(i int, a lora.Adapted, b engine.View) error) error {
	if len(r.spec.Modules) == 0 {
		return nil
	}
	for i, a := range r.spec.Adapters() {
		v, err := r.rt.Buffer(lora.BufferName(a.Name))
		if err != nil {
			return err
		}
		if err := f(i, a, v); err != nil {
			return err
		}
	}
	return nil
}

// readB copies every B to Go's memory; writeB is its inverse (nil: zeros).
func (r *runner) readB() ([][]float32, error) {
	var out [][]float32
	err := r.buffers(func(_ int, _ lora.Adapted, b engine.View) error {
		out = append(out, r.s.floats(b))
		return nil
	})
	return out, err
}

func (r *runner) writeB(bs [][]float32) error {
	clear(r.lastCoefs)
	if bs == nil {
		r.stale = false
		return r.rt.Reset()
	}
	r.stale = !r.rt.Shows() // the runtime's own B cannot be given values
	return r.buffers(func(i int, _ lora.Adapted, b engine.View) error {
		if 4*len(bs[i]) != int(b.Bytes()) {
			return invalid("B of module %d has %d elements, want %v", i, len(bs[i]), b.Sizes)
		}
		r.s.dev.Write(b.Addr, engine.Float32s(bs[i]).Data)
		return nil
	})
}

// apply subtracts sum_j coefs[j] z(seeds[j]) from the buffers at once.
func (r *runner) apply(seeds []int64, coefs []float32) error {
	if len(seeds) == 0 || len(seeds) > replay.MaxSeeds || len(coefs) != len(seeds) {
		return invalid("a step has %d seeds and %d coefficients", len(seeds), len(coefs))
	}
	if r.rt.Shows() {
		return r.applyHere(seeds, coefs)
	}
	for q := len(r.lastSeeds); len(seeds) > 0; {
		n := min(q, len(seeds))
		r.update(seeds[:n], coefs[:n])
		if err := r.flush(); err != nil {
			return err
		}
		seeds, coefs = seeds[n:], coefs[n:]
	}
	return nil
}

// applyHere does it to the buffers in device memory, with the kernel and so with
// the bits of our engine's own update.
func (r *runner) applyHere(seeds []int64, coefs []float32) error {
	dev, n := r.s.dev, int64(len(seeds))
	scratch, err := dev.Alloc(12*n, 64)
	if err != nil {
		return err
	}
	defer dev.Free(scratch)
	dev.Write(scratch, engine.Int64s(seeds, len(seeds)).Data)
	dev.Write(scratch+kernel.Addr(8*n), engine.Float32s(coefs, len(coefs)).Data)
	return r.buffers(func(_ int, a lora.Adapted, b engine.View) error {
		dev.ZoUpdate(r.distribution(), b.Addr, scratch, scratch+kernel.Addr(8*n), int32(len(seeds)), a.Base, int32(b.Len()))
		return nil
	})
}

// distribution is the kernels' number of the program's noise.
func (r *runner) distribution() int32 {
	if r.spec.Noise == lora.Rademacher {
		return code.ZoRademacher
	}
	return code.ZoNormal
}

// step gives the estimate sum_j coefs[j] z(seeds[j]) to an optimizer and applies
// its step at the rate, in place of apply. The matrices pass through Go's memory,
// so a runtime that hides them cannot do this.
func (r *runner) step(opt zo.Optimizer, seeds []int64, coefs []float32, rate float32) error {
	var again []int64 // the same directions, with their bends
	var bends []float32
	if _, ok := opt.(zo.Curved); ok {
		q := len(seeds) / 2
		if q == 0 || len(seeds) != 2*q || len(coefs) != 2*q {
			return invalid("a step with bends has %d seeds and %d coefficients", len(seeds), len(coefs))
		}
		seeds, again, coefs, bends = seeds[:q], seeds[q:], coefs[:q], coefs[q:]
	}
	if err := r.flush(); err != nil {
		return err
	}
	now, err := r.readB()
	if err != nil {
		return err
	}
	if err := r.writeB(nil); err != nil {
		return err
	}
	if err := r.apply(seeds, coefs); err != nil { // the buffers now hold the estimate, negative
		return err
	}
	est, err := r.readB()
	if err != nil {
		return err
	}
	if c, ok := opt.(zo.Curved); ok {
		if err := r.bend(c, again, bends); err != nil {
			return err
		}
	}
	for i, a := range r.spec.Adapters() {
		g := est[i]
		for k := range g {
			g[k] = -g[k]
		}
		opt.Step(i, a.Out, r.spec.Rank, g)
		for k, d := range g {
			now[i][k] -= float32(rate * d)
		}
	}
	return r.writeB(now)
}

// bend shows an optimizer each direction and its bend. The buffers hold a direction
// at a time.
func (r *runner) bend(opt zo.Curved, seeds []int64, bends []float32) error {
	for j := range seeds {
		if err := r.writeB(nil); err != nil {
			return err
		}
		if err := r.apply(seeds[j:j+1], []float32{-1}); err != nil {
			return err
		}
		z, err := r.readB()
		if err != nil {
			return err
		}
		for i := range z {
			opt.Bend(i, z[i], bends[j])
		}
	}
	return nil
}

// repeat applies a recorded step to the buffers, through an optimizer if the run
// had one.
func (r *runner) repeat(s replay.Record, opt zo.Optimizer) error {
	if opt != nil {
		return r.step(opt, s.Seeds, s.Coefs, s.Rate)
	}
	return r.apply(s.Seeds, s.Coefs)
}
