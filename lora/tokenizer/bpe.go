package tokenizer

// Pieces come back again and again, so their ids are kept: at most cacheSize pieces
// of at most cachePiece bytes, all dropped when full (as cheap as any other policy
// at hit rates above 0.9, and it cannot be driven to grow).
const (
	cacheSize  = 1 << 14
	cachePiece = 48
)

// From this many symbols on a heap finds the next merge; below, looking through all pairs is faster.
const heapFrom = 32

func pairKey(l, r int32) uint64 { return uint64(uint32(l))<<32 | uint64(uint32(r)) }

// scratch is the working memory of one encoding.
type scratch struct {
	sym  []symbol
	heap mergeHeap
}

// symbol is one token of a piece in the making, linked to its neighbours by index (-1: none).
type symbol struct {
	id         int32 // None once merged into its left neighbour
	prev, next int32
	rank       int32 // of the merge with the right neighbour, or noMerge (short pieces only)
	from, to   int32 // in the piece; of vocabularies with U+2581 only
}

const noMerge = 1<<31 - 1

// encodePiece appends the ids of one piece.
func (t *Tokenizer) encodePiece(dst []int32, piece string, w *scratch) []int32 {
	if len(piece) <= cachePiece {
		t.mu.Lock()
		ids, ok := t.cache[piece]
		t.mu.Unlock()
		if ok {
			return append(dst, ids...)
		}
	}
	start := len(dst)
	dst = t.mergePiece(dst, piece, w)
	if len(piece) <= cachePiece {
		ids := append([]int32(nil), dst[start:]...)
		key := string([]byte(piece)) // not a part of the text, which it would keep in memory
		t.mu.Lock()
		if len(t.cache) >= cacheSize {
			clear(t.cache)
		}
		t.cache[key] = ids
		t.mu.Unlock()
	}
	return dst
}

func (t *Tokenizer) mergePiece(dst []int32, piece string, w *scratch) []int32 {
	if t.ignore {
		if id, ok := t.ids[t.spell(piece)]; ok {
			return append(dst, id)
		}
	}
	sym := w.sym[:0]
	if t.meta != nil {
		sym = t.characters(sym, piece)
	} else {
		sym = t.eachByte(sym, piece)
	}
	w.sym = sym
	if len(sym) == 0 {
		return dst
	}
	sym[len(sym)-1].next = -1
	if len(sym) < heapFrom {
		t.mergeShort(sym, piece)
	} else {
		t.mergeLong(sym, piece, w)
	}
	for i := int32(0); i >= 0; i = sym[i].next {
		if sym[i].id == noToken {
			dst = t.spelled(dst, piece[sym[i].from:sym[i].to])
			continue
		}
		dst = append(dst, sym[i].id)
	}
	if cap(w.sym) > 1<<16 { // keep no huge buffer because of one huge word
		w.sym, w.heap = nil, nil
	}
	return dst
}

// eachByte begins a piece of byte-level BPE: a symbol for each byte.
func (t *Tokenizer) eachByte(sym []symbol, piece string) []symbol {
	for i := range len(piece) {
		id := t.bytes[piece[i]]
		if id == None {
			if id = t.unknown; id == None {
				continue // Hugging Face drops what neither the vocabulary nor unk_token covers
			}
		}
		n := int32(len(sym))
		sym = append(sym, symbol{id: id, prev: n - 1, next: n + 1})
	}
	return sym
}

// spell writes a piece as the vocabulary does: in the byte-level alphabet, unless spaces are marked.
func (t *Tokenizer) spell(piece string) string {
	if t.meta != nil {
		return piece
	}
	r := make([]rune, len(piece))
	for i := range len(piece) {
		r[i] = byteToRune[piece[i]]
	}
	return string(r)
}

// rank returns the rank of merging symbol i with its right neighbour, or noMerge.
func (t *Tokenizer) rank(sym []symbol, i int32, piece string) int32 {
	_, rank := t.together(sym, i, piece)
	return rank
}

// join merges symbol i with its right neighbour, which must be a known merge.
func (t *Tokenizer) join(sym []symbol, i int32, piece string) {
	n := sym[i].next
	sym[i].id, _ = t.together(sym, i, piece)
	sym[i].to = sym[n].to
	sym[i].next = sym[n].next
	if sym[n].next >= 0 {
		sym[sym[n].next].prev = i
	}
	sym[n].id = None
}

func (t *Tokenizer) mergeShort(sym []symbol, piece string) {
	for i := range sym {
		sym[i].rank = t.rank(sym, int32(i), piece)
	}
	for {
		best, rank := int32(-1), int32(noMerge)
		for i := int32(0); i >= 0; i = sym[i].next {
			if sym[i].rank < rank {
				best, rank = i, sym[i].rank
			}
		}
		if best < 0 {
			return
		}
		t.join(sym, best, piece)
		sym[best].rank = t.rank(sym, best, piece)
		if p := sym[best].prev; p >= 0 {
			sym[p].rank = t.rank(sym, p, piece)
		}
	}
}

// mergeLong takes merges from a heap ordered by rank, then place. An entry whose
// pair is not there any more is dropped when it comes up. O(n log n).
func (t *Tokenizer) mergeLong(sym []symbol, piece string, w *scratch) {
	h := w.heap[:0]
	push := func(i int32, init bool) {
		if r := t.rank(sym, i, piece); r != noMerge {
			c := candidate{r, i, sym[i].id, sym[sym[i].next].id}
			if init {
				h = append(h, c)
			} else {
				h.push(c)
			}
		}
	}
	for i := range sym {
		push(int32(i), true)
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i, len(h))
	}
	for len(h) > 0 {
		c := h.pop()
		n := sym[c.at].next
		if sym[c.at].id != c.left || n < 0 || sym[n].id != c.right {
			continue
		}
		t.join(sym, c.at, piece)
		push(c.at, false)
		if p := sym[c.at].prev; p >= 0 {
			push(p, false)
		}
	}
	w.heap = h
}

type candidate struct{ rank, at, left, right int32 }

func (c candidate) less(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.at < d.at
}

// mergeHeap is a binary heap; container/heap would allocate for every entry.
type mergeHeap []candidate

func (h *mergeHeap) push(c candidate) {
	*h = append(*h, c)
	a := *h
	for i := len(a) - 1; i > 0; {
		up := (i - 1) / 2
		if !a[i].less(a[up]) {
			break
		}
		a[i], a[up] = a[up], a[i]
		i = up
	}
}

func (h *mergeHeap) pop() candidate {
	a := *h
	top, n := a[0], len(a)-1
	a[0] = a[n]
	*h = a[:n]
	a.down(0, n)
	return top
}

// down moves entry i to its place among the first n.
func (h mergeHeap) down(i, n int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < n; c++ {
			if h[c].less(h[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
