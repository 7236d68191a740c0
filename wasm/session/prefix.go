package session

import (
	"slices"

	"tabtune/engine/kernel"
	"tabtune/wasm/rpc"
	"tabtune/zo/task"
)

// split is a list of examples; prefix holds a place for each of their sequences
// (from first[i] on), which is 0 where nothing is cached.
type split struct {
	examples []task.Example
	first    []int
	prefix   []kernel.Addr
}

func newSplit(examples []task.Example) *split {
	s := &split{examples: examples}
	n := 0
	for i := range examples {
		s.first = append(s.first, n)
		n += len(examples[i].Sequences)
	}
	s.prefix = make([]kernel.Addr, n)
	return s
}

// item is one example of a split with the prefixes of its sequences.
type item struct {
	example *task.Example
	prefix  []kernel.Addr
}

// row is the example's one row in tasks that have one.
func (i item) row() row { return i.sequence(0) }

// sequence is the k-th row of the example.
func (i item) sequence(k int) row {
	s := &i.example.Sequences[k]
	return row{ids: s.IDs, prefix: i.prefix[k], at: s.At, targets: s.Targets}
}

func (s *split) item(i int) item {
	e := &s.examples[i]
	return item{e, s.prefix[s.first[i] : s.first[i]+len(e.Sequences)]}
}

func (s *Session) freePrefixes() {
	d := s.data
	for _, a := range d.cached {
		s.dev.Free(a)
	}
	d.cached, d.cachedTop = nil, -1
	clear(d.train.prefix)
	for _, it := range d.val {
		clear(it.prefix)
	}
}

// prefixBytes is what the cache of a program with so many adapted layers still
// takes: nothing where prefix is no more than the embedding.
func (s *Session) prefixBytes(top int) int64 {
	c := &s.model.ckpt.Config
	if top == c.Layers {
		return 0
	}
	var n int64
	for _, it := range slices.Concat(s.data.all(s.data.train), s.data.val) {
		for k := range it.prefix {
			if s.data.cachedTop != top || it.prefix[k] == 0 {
				n += spanBytes(int64(len(it.example.Sequences[k].IDs)) * int64(4*c.Dim))
			}
		}
	}
	return n
}

// cacheFor makes the cache one of programs with so many adapted layers.
func (s *Session) cacheFor(top int) {
	if s.data.cachedTop != top {
		s.freePrefixes()
		s.data.cachedTop = top
	}
}

// cache runs the frozen lower layers for the items that have not been through
// them yet and keeps the hidden states: no replica needs them twice, no epoch
// changes them. Where memory does not suffice an item stays uncached, and the
// runner computes its prefix each time.
func (s *Session) cache(t *rpc.Task, r *runner, items []item) error {
	var all []slot
	for _, it := range items {
		for k := range it.prefix {
			all = append(all, slot{it, k})
		}
	}
	return s.cacheSlots(t, r, all)
}

// slot is one sequence of an item.
type slot struct {
	item
	k int
}

func (l slot) row() row { return l.sequence(l.k) }

func (s *Session) cacheSlots(t *rpc.Task, r *runner, slots []slot) error {
	if r.spec.Top == r.spec.Model.Layers {
		return nil // prefix is the embedding alone
	}
	all := int64(len(s.data.train.prefix))
	for _, it := range s.data.val {
		all += int64(len(it.prefix))
	}
	progress := s.paced(t, "prefix", "prefix")
	line := int64(4 * r.spec.Model.Dim)
	missing := slices.Clone(slots)
	missing = slices.DeleteFunc(missing, func(l slot) bool { return l.prefix[l.k] != 0 })
	// Those of a call are filled up to the longest of them, which in their own order costs almost half of the reviews' time.
	slices.SortStableFunc(missing, func(a, b slot) int { return len(a.row().ids) - len(b.row().ids) })
	most := min(len(slots), r.spec.Rows) // that a call may have to compute again
	for len(missing) > 0 {
		n := min(r.spec.PrefixRows, len(missing))
		rows := make([]row, n)
		for k := range rows {
			rows[k] = missing[k].row()
		}
		src, width, err := r.prefixes(rows)
		if err != nil {
			return err
		}
		for k := range rows {
			size := int64(len(rows[k].ids)) * line
			if s.dev.Limit()-s.dev.InUse() < size+passing(&r.spec, most) {
				return nil // full: the rest stays uncached
			}
			addr, err := s.dev.Alloc(size, 64)
			if err != nil {
				return nil // as good as full
			}
			s.data.cached = append(s.data.cached, addr)
			s.dev.MemCopy(addr, src+kernel.Addr(int64(k)*int64(width)*line), size)
			missing[k].prefix[missing[k].k] = addr
		}
		missing = missing[n:]
		if err := progress(int64(len(s.data.cached)), all); err != nil {
			return err
		}
	}
	return nil
}
