package lora

import (
	"encoding/binary"
	"math"

	"tabtune/engine/pte"
	"tabtune/internal/collect"
	"tabtune/lora/graph"
)

// Build returns the program for s. Weights are external tensors, named as the checkpoint names them
// (int8 adds ".scale" f32[out]; q4 adds ".scale" and ".min" f16[out, in/32] and
// packs the weight as u8[out, in/2]).
//
//	prefix(ids i64[n,T]) -> h f32[n,T,d]
//	forward(h f32[n,T,d], rows i64[m], targets i64[m], seeds i64[q], eps f32[],
//	        last_seeds i64[q], last_coefs f32[q]) -> nll f32[m]
//	logits(h f32[n,T,d], rows i64[m]) -> f32[m,V]; not with NoLogits
//	scores(h f32[n,T,d], rows i64[m]) -> f32[m,L], log-probabilities among the
//	        L label tokens; only with Labels
//	features(h f32[n,T,d], rows i64[n]) -> f32[n,2 Top+1,d], one position a
//	        sequence: the hidden state there and the mean up to there, of prefix
//	        and of each layer above but the last; then the final norm's output
//	        there. Only with Features
//	inputs(h f32[n,T,d], rows i64[m]) -> f32[m, sum of Groups' widths]: what each
//	        group of adapted modules reads there; only with Inputs
//	decode: see there; only with Decode
//
// n and m are multiples of R and replica-major: rows[i] lies in replica
// i/(m/R). Without adapters forward takes h, rows and targets only.
func Build(s Spec) (*pte.Program, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	p := graph.NewProgram()
	b := newBuilder(&s)
	b.constant(p)
	p.Add(b.prefix())
	p.Add(b.forward())
	if !s.NoLogits {
		p.Add(b.logits())
	}
	if s.Labels != nil {
		p.Add(b.scores())
	}
	if s.Features {
		p.Add(b.features())
	}
	if s.Inputs {
		p.Add(b.inputs())
	}
	if s.Decode {
		p.Add(b.decode())
	}
	return p.Finish(), nil
}

type builder struct {
	spec *Spec
	g    *graph.Graph
	// Of all methods: the adapters with their places by module name, and the bytes of A and of the rotary tables, made once.
	adapted  []Adapted
	place    map[string]int
	matrices map[int][]byte
	angles   map[float64][2][]byte               // by rotary base
	mask     *graph.Tensor                       // causal mask [T,T]
	turns    map[float64][2]*graph.Tensor        // cos and sin [T,1,headDim] of this method, by rotary base
	turn     func(cosOrSin []byte) *graph.Tensor // makes those from a table, at this method's positions
	rep      map[string]*graph.Tensor            // perturbed B as [R,rank,out], by module name; nil outside forward
	tap      func(i int, x *graph.Tensor)        // called with what adapter i reads, unless nil
}

func newBuilder(s *Spec) *builder {
	b := &builder{spec: s, adapted: s.Adapters(), place: map[string]int{}, matrices: map[int][]byte{}, angles: map[float64][2][]byte{}}
	for i, a := range b.adapted {
		b.place[a.Name] = i
	}
	return b
}

var (
	dimN = graph.Sym("n")
	dimT = graph.Sym("T")
	dimM = graph.Sym("m")
)

func (b *builder) constant(p *graph.Program) {
	s := b.spec
	names := ""
	for i, m := range AllModules {
		for _, have := range s.Modules {
			if have == m {
				if names != "" {
					names += ","
				}
				names += AllModules[i]
			}
		}
	}
	p.ConstantMethod("get_queries", s.Queries)
	p.ConstantMethod("get_replicas", s.Replicas())
	p.ConstantMethod("get_sides", s.Sides.String())
	p.ConstantMethod("get_modules", names)
	p.ConstantMethod("get_layers", s.Top)
	p.ConstantMethod("get_rank", s.Rank)
	p.ConstantMethod("get_alpha", s.Alpha)
	p.ConstantMethod("get_adapter_seed", s.Seed)
	if s.Noise != Normal {
		p.ConstantMethod("get_noise", string(s.Noise))
	}
	p.ConstantMethod("get_dtype", string(s.DType))
	p.ConstantMethod("get_window", s.Window)
	p.ConstantMethod("get_dim", s.Model.Dim)
	p.ConstantMethod("get_vocab_size", s.Model.Vocab)
}

// scored is how many positions a call scores: one a sequence under a classifier
// that pools.
func (s *Spec) scored() graph.Dim {
	if s.Classifier != nil && s.Classifier.Mean {
		return dimN
	}
	return dimM
}

func (b *builder) start(name string, rows, scored int) {
	b.g = graph.New(name, map[string]int{"n": rows, "T": b.spec.Window, "m": scored})
	b.mask, b.rep, b.turn, b.turns = nil, nil, nil, map[float64][2]*graph.Tensor{}
}

func (b *builder) prefix() *graph.Graph {
	s := b.spec
	b.start("prefix", s.PrefixRows, 1)
	g := b.g
	ids := g.Input(pte.Long, dimN, dimT)
	g.Size(ids, 0)
	g.Size(ids, 1)
	h := b.embedding(ids)
	if low := s.Model.Layers - s.Top; low > 0 {
		b.tables()
		x := g.View(h, dimN.Times(dimT), graph.D(s.Model.Dim))
		for l := 0; l < low; l++ {
			x = b.layer(x, l, nil)
		}
		h = g.View(x, dimN, dimT, graph.D(s.Model.Dim))
	}
	g.Output(h)
	return g
}

// head runs the adapted layers and the final norm.
func (b *builder) head(h, rows *graph.Tensor) *graph.Tensor {
	return b.norm(b.layers(h, rows, b.spec.Model.Layers, nil), "model.norm.weight")
}

// layers runs the layers above prefix up to the end-th and returns the hidden
// states [m,d] at rows, or all [n*T,d] where rows is nil; the last layer continues
// at the scored positions alone once its attention is done. each, if not nil, gets
// all states before every layer.
func (b *builder) layers(h, rows *graph.Tensor, end int, each func(x *graph.Tensor)) *graph.Tensor {
	s, g := b.spec, b.g
	g.Size(h, 0)
	g.Size(h, 1)
	x := g.View(h, dimN.Times(dimT), graph.D(s.Model.Dim))
	first := s.Model.Layers - s.Top
	if first >= end {
		if rows == nil {
			return x
		}
		return g.IndexSelect(x, rows)
	}
	b.tables()
	for l := first; l < end; l++ {
		if each != nil {
			each(x)
		}
		at := rows
		if l != end-1 {
			at = nil
		}
		x = b.layer(x, l, at)
	}
	return x
}

func (b *builder) forward() *graph.Graph {
	s := b.spec
	b.start("forward", s.Rows, s.Scored)
	g := b.g
	h := g.Input(pte.Float, dimN, dimT, graph.D(s.Model.Dim))
	m := s.scored()
	rows := g.Input(pte.Long, m)
	targets := g.Input(pte.Long, m)
	if len(s.Modules) > 0 {
		q := graph.D(s.Queries)
		seeds := g.Input(pte.Long, q)
		eps := g.Input(pte.Float)
		lastSeeds := g.Input(pte.Long, q)
		lastCoefs := g.Input(pte.Float, q)
		b.adapters(seeds, eps, lastSeeds, lastCoefs)
	}
	logp := g.LogSoftmax(b.labelScores(h, rows))
	nll := g.Neg(g.Gather(logp, g.View(targets, m, graph.D(1))))
	g.Output(g.View(nll, m))
	return g
}

func (b *builder) scores() *graph.Graph {
	s := b.spec
	b.start("scores", s.Rows, s.Rows)
	h := b.g.Input(pte.Float, dimN, dimT, graph.D(s.Model.Dim))
	rows := b.g.Input(pte.Long, s.scored())
	b.g.Output(b.g.LogSoftmax(b.labelScores(h, rows)))
	return b.g
}

func (b *builder) logits() *graph.Graph {
	s := b.spec
	b.start("logits", s.LogitRows, max(1, s.LogitRows))
	g := b.g
	h := g.Input(pte.Float, dimN, dimT, graph.D(s.Model.Dim))
	rows := g.Input(pte.Long, dimM)
	g.Output(b.vocabulary(b.head(h, rows)))
	return g
}

// embedding returns the rows of the token table at ids, of gemma3 times sqrt(dim).
func (b *builder) embedding(ids *graph.Tensor) *graph.Tensor {
	h := b.rowsOf("model.embed_tokens.weight", ids)
	if b.spec.Model.gemma() {
		h = b.g.MulScalar(h, math.Sqrt(float64(b.spec.Model.Dim)))
	}
	return h
}

// tokenRows returns the output head's weight vectors of tokens.
func (b *builder) tokenRows(ids *graph.Tensor) *graph.Tensor { return b.rowsOf(b.headName(), ids) }

func (b *builder) headName() string {
	if b.spec.Model.TiedHead {
		return "model.embed_tokens.weight"
	}
	return "lm_head.weight"
}

func (b *builder) rowsOf(name string, ids *graph.Tensor) *graph.Tensor {
	g, c := b.g, &b.spec.Model
	if b.spec.DType == F32 {
		return g.Embedding(g.External(name, pte.Float, c.Vocab, c.Dim), ids)
	}
	return g.EmbeddingByte(g.External(name, pte.Char, c.Vocab, c.Dim), g.External(name+".scale", pte.Float, c.Vocab), ids)
}

func (b *builder) headWeight() *graph.Tensor {
	g, c := b.g, &b.spec.Model
	name := b.headName()
	if b.spec.DType == F32 {
		return g.External(name, pte.Float, c.Vocab, c.Dim)
	}
	return g.DequantizePerChannel(g.External(name, pte.Char, c.Vocab, c.Dim), g.External(name+".scale", pte.Float, c.Vocab))
}

// rotaryTables returns cos and sin as f32[Window, headDim].
func (b *builder) rotaryTables(base float64) (cos, sin []byte) {
	if a, ok := b.angles[base]; ok {
		return a[0], a[1]
	}
	s, hd := b.spec, b.spec.Model.HeadDim
	cos, sin = make([]byte, 4*s.Window*hd), make([]byte, 4*s.Window*hd)
	for t := 0; t < s.Window; t++ {
		for i := 0; i < hd; i++ {
			angle := float64(t) * math.Pow(base, -float64(2*(i%(hd/2)))/float64(hd))
			sn, cs := math.Sincos(angle)
			binary.LittleEndian.PutUint32(cos[4*(t*hd+i):], math.Float32bits(float32(cs)))
			binary.LittleEndian.PutUint32(sin[4*(t*hd+i):], math.Float32bits(float32(sn)))
		}
	}
	b.angles[base] = [2][]byte{cos, sin}
	return cos, sin
}

// angle returns cos and sin [T,1,headDim] for layer l.
func (b *builder) angle(l int) (cos, sin *graph.Tensor) {
	base := b.spec.Model.ropeBase(l)
	t, ok := b.turns[base]
	if !ok {
		c, s := b.rotaryTables(base)
		t = [2]*graph.Tensor{b.turn(c), b.turn(s)}
		b.turns[base] = t
	}
	return t[0], t[1]
}

// tables makes the causal mask for the T of this call, and prepares angle.
func (b *builder) tables() {
	g, s := b.g, b.spec
	hd := s.Model.HeadDim
	b.turn = func(data []byte) *graph.Tensor {
		return g.View(g.Slice(g.Const(pte.Float, data, s.Window, hd), 0, 0, dimT), dimT, graph.D(1), graph.D(hd))
	}
	// relu(column - row) * -1e30 is 0 up to the diagonal and hugely negative after it.
	at := g.ArangeSize(dimT)
	diff := g.Sub(g.View(at, graph.D(1), dimT), g.View(at, dimT, graph.D(1)))
	b.mask = g.MulScalar(g.Relu(diff), -1e30)
}

// norm is RMSNorm: x / sqrt(mean(x^2) + eps) * w.
func (b *builder) norm(x *graph.Tensor, name string) *graph.Tensor {
	return b.normOf(x, name, b.spec.Model.Dim)
}

func (b *builder) normOf(x *graph.Tensor, name string, width int) *graph.Tensor {
	g := b.g
	r := g.Rsqrt(g.AddScalar(g.MeanLast(g.Mul(x, x)), b.spec.Model.NormEps))
	return g.Mul(g.Mul(x, r), g.External(name, pte.Float, width))
}

// headNorm is RMSNorm of every head of x [.., heads*headDim] for itself.
func (b *builder) headNorm(x *graph.Tensor, name string) *graph.Tensor {
	g, hd := b.g, b.spec.Model.HeadDim
	rows, width := x.Shape[0], x.Shape[1]
	y := b.normOf(g.View(x, rows.Times(graph.D(int(width.Num)/hd)), graph.D(hd)), name, hd)
	return g.View(y, rows, width)
}

// layer runs one transformer layer over x [n*T,d]; with rows it returns [m,d],
// the result at those positions alone.
func (b *builder) layer(x *graph.Tensor, l int, rows *graph.Tensor) *graph.Tensor {
	return b.layerWith(x, l, rows, func(q, k, v *graph.Tensor) *graph.Tensor { return b.attention(l, q, k, v) })
}

func (b *builder) layerWith(x *graph.Tensor, l int, rows *graph.Tensor, attention func(q, k, v *graph.Tensor) *graph.Tensor) *graph.Tensor {
	collect.Now()
	g, gemma := b.g, b.spec.Model.gemma()
	path := func(m string) string { return ModuleName(l, m) }
	base := ModuleName(l, "q")[:len(ModuleName(l, "q"))-len("self_attn.q_proj")]
	y := b.norm(x, base+"input_layernorm.weight")
	q, k, v := b.linear(y, path("q"), "q"), b.linear(y, path("k"), "k"), b.linear(y, path("v"), "v")
	if gemma {
		q, k = b.headNorm(q, base+"self_attn.q_norm.weight"), b.headNorm(k, base+"self_attn.k_norm.weight")
	}
	a := attention(q, k, v)
	if rows != nil {
		x, a = g.IndexSelect(x, rows), g.IndexSelect(a, rows)
	}
	y = b.linear(a, path("o"), "o")
	before := "post_attention_layernorm.weight" // of the MLP
	if gemma {
		y, before = b.norm(y, base+before), "pre_feedforward_layernorm.weight"
	}
	x = g.Add(x, y)
	y = b.norm(x, base+before)
	gate := b.linear(y, path("gate"), "gate")
	if gemma {
		y = g.Mul(g.GeluTanh(gate), b.linear(y, path("up"), "up"))
		return g.Add(x, b.norm(b.linear(y, path("down"), "down"), base+"post_feedforward_layernorm.weight"))
	}
	y = g.Mul(g.Mul(gate, g.Sigmoid(gate)), b.linear(y, path("up"), "up"))
	return g.Add(x, b.linear(y, path("down"), "down"))
}

// rotary is Hugging Face's rotate-half form over x [...,T,heads,headDim].
func (b *builder) rotary(l int, x *graph.Tensor) *graph.Tensor {
	g, hd, last := b.g, b.spec.Model.HeadDim, len(x.Shape)-1
	cos, sin := b.angle(l)
	half := g.Cat(last, g.Neg(g.Slice(x, last, hd/2, graph.D(hd))), g.Slice(x, last, 0, graph.D(hd/2)))
	return g.Add(g.Mul(x, cos), g.Mul(half, sin))
}

// attention is causal with grouped kv heads: the queries of one kv head are rows
// of one matrix, so keys and values are never repeated.
func (b *builder) attention(l int, q, k, v *graph.Tensor) *graph.Tensor {
	g, c := b.g, &b.spec.Model
	group := c.Heads / c.KVHeads
	hd, kv := graph.D(c.HeadDim), graph.D(c.KVHeads)
	nkv, gT := dimN.Times(kv), dimT.Times(graph.D(group))
	q = b.rotary(l, g.View(q, dimN, dimT, graph.D(c.Heads), hd))
	k = b.rotary(l, g.View(k, dimN, dimT, kv, hd))
	v = g.View(v, dimN, dimT, kv, hd)
	qh := g.View(g.Permute(q, 0, 2, 1, 3), nkv, gT, hd)
	kh := g.View(g.Permute(k, 0, 2, 3, 1), nkv, hd, dimT)
	vh := g.View(g.Permute(v, 0, 2, 1, 3), nkv, dimT, hd)
	scores := g.MulScalar(g.BMM(qh, kh), 1/math.Sqrt(float64(c.HeadDim)))
	w := g.Softmax(g.Add(g.View(scores, dimN.Times(graph.D(c.Heads)), dimT, dimT), b.mask))
	o := g.BMM(g.View(w, nkv, gT, dimT), vh)
	o = g.Permute(g.View(o, dimN, graph.D(c.Heads), dimT, hd), 0, 2, 1, 3)
	return g.View(o, dimN.Times(dimT), graph.D(c.Heads*c.HeadDim))
}
