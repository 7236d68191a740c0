package tokenizer

// added is a set of tokens to cut out of a text: a trie over bytes. Tokens are at
// most maxAddedBytes long, so looking for one takes a bounded number of steps a byte.
type added struct {
	first [256]bool // bytes that begin a token
	nodes []trieNode
}

type trieNode struct {
	id   int32 // token that ends here, or None
	next map[byte]int32
}

func (a *added) insert(text string, id int32) {
	if a.nodes == nil {
		a.nodes = []trieNode{{id: None}}
	}
	a.first[text[0]] = true
	at := int32(0)
	for i := range len(text) {
		to, ok := a.nodes[at].next[text[i]]
		if !ok {
			to = int32(len(a.nodes))
			a.nodes = append(a.nodes, trieNode{id: None})
			if a.nodes[at].next == nil {
				a.nodes[at].next = make(map[byte]int32, 1)
			}
			a.nodes[at].next[text[i]] = to
		}
		at = to
	}
	a.nodes[at].id = id
}

// match returns the longest token at the start of s and its length in bytes, or None.
// Special tokens count only when special is set.
func (a *added) match(s string, kinds []uint8, special bool) (id int32, n int) {
	id = None
	at, ok := int32(0), true
	for i := 0; i < len(s); i++ {
		if at, ok = a.nodes[at].next[s[i]]; !ok {
			break
		}
		if to := a.nodes[at].id; to != None && (special || kinds[to] != kindSpecial) {
			id, n = to, i+1
		}
	}
	return id, n
}

// split calls emit for every token found in s, with the text in front of it, and
// once more with None for the text behind the last.
func (a *added) split(s string, kinds []uint8, special bool, emit func(gap string, id int32)) {
	start := 0
	if a.nodes != nil {
		for i := 0; i < len(s); {
			if a.first[s[i]] {
				if id, n := a.match(s[i:], kinds, special); n > 0 {
					emit(s[start:i], id)
					i += n
					start = i
					continue
				}
			}
			i++
		}
	}
	emit(s[start:], None)
}
