package session

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"tabtune/lora/chat"
	"tabtune/lora/tokenizer"
	"tabtune/wasm/rpc"
	"tabtune/zo/task"
)

type generateParams struct {
	Prompt      string  `json:"prompt"`
	MaxTokens   int     `json:"maxTokens"`
	Temperature float64 `json:"temperature"` // 0: the most likely token
	Seed        int64   `json:"seed"`
	Chat        bool    `json:"chat"`    // put the prompt into the model's chat template
	Adapter     bool    `json:"adapter"` // with the current adapter
}

type tokenEvent struct {
	Type string `json:"type"` // "token"
	Text string `json:"text"`
	ID   int32  `json:"id"`
	// P is the probability that the model gave this token, before any temperature.
	P float64 `json:"p"`
}

type generateResult struct {
	Text    string  `json:"text"`
	Tokens  int     `json:"tokens"`
	Seconds float64 `json:"seconds"`
}

// maxNewTokens bounds a generation whatever is asked.
const maxNewTokens = 1 << 16

func (s *Session) generate(t *rpc.Task, p generateParams) (generateResult, error) {
	var res generateResult
	m, err := s.needModel()
	if err != nil {
		return res, err
	}
	if p.MaxTokens == 0 {
		p.MaxTokens = 64
	}
	if p.MaxTokens < 0 || p.MaxTokens > maxNewTokens {
		return res, invalid("maxTokens: %d, want 1 to %d", p.MaxTokens, maxNewTokens)
	}
	if !(p.Temperature >= 0 && p.Temperature <= 100) {
		return res, invalid("temperature: %g, want 0 to 100", p.Temperature)
	}
	if p.Adapter && s.adapter == nil {
		return res, rpc.Errorf("no_adapter", "there is no adapter: train one or load one first")
	}
	ids, err := m.promptIDs(p)
	if err != nil {
		return res, err
	}
	limit := min(m.ckpt.Config.Context, len(ids)+p.MaxTokens)
	if m.window > 0 {
		limit = min(limit, m.window)
	}
	if len(ids) >= limit {
		return res, invalid("prompt: %d tokens leave no room in a window of %d", len(ids), limit)
	}
	r, err := s.generator(m, limit, p.Adapter)
	if err != nil {
		return res, err
	}
	began := s.now()
	rng := rand.New(rand.NewPCG(uint64(p.Seed), 0x7ab7))
	stream := m.tok.NewStream()
	var text strings.Builder
	for cached := 0; len(ids) < limit; {
		logits, err := r.decode(ids[cached:], cached)
		if err != nil {
			return res, err
		}
		cached = len(ids)
		id := sample(logits[:m.tok.Len()], p.Temperature, rng)
		if id == m.tok.EOS() || m.endOfTurn(id) {
			break
		}
		ids = append(ids, id)
		piece := stream.Next(id)
		text.WriteString(piece)
		res.Tokens++
		if err := t.Emit(tokenEvent{"token", piece, id, probability(logits[:m.tok.Len()], id)}); err != nil {
			return res, err
		}
	}
	if rest := stream.Flush(); rest != "" {
		text.WriteString(rest)
	}
	res.Text, res.Seconds = text.String(), s.now().Sub(began).Seconds()
	return res, nil
}

// generator returns a program for so many tokens, with the adapter or without.
func (s *Session) generator(m *model, window int, with bool) (*runner, error) {
	keep := s.adapter
	if !with {
		s.adapter = nil
	}
	defer func() { s.adapter = keep }()
	spec := s.inferenceSpec(m, window)
	spec.PrefixRows, spec.Decode, spec.Classifier = 1, true, nil // a classifier has no say in text
	r, err := s.useSpec(spec)
	if err != nil {
		return nil, err
	}
	need, err := r.memory("decode")
	if err != nil {
		return nil, err
	}
	return r, s.fits("generating", need)
}

func (m *model) promptIDs(p generateParams) ([]int32, error) {
	text := p.Prompt
	if p.Chat {
		if m.template == "" {
			return nil, rpc.Errorf("no_chat_template", "%s has no chat template", m.path)
		}
		var err error
		if text, err = chat.Render(m.template, []chat.Message{{Role: "user", Content: p.Prompt}}, m.chatOptions(true)); err != nil {
			return nil, err
		}
	}
	ids := task.Begun(m.begin(), m.tok.Encode(text, p.Chat)) // as in training data
	if len(ids) == 0 {
		return nil, invalid("prompt: empty")
	}
	return ids, nil
}

// chatOptions are what the model's chat template sees; open: up to the
// assistant's next turn.
func (m *model) chatOptions(open bool) chat.Options {
	o := chat.Options{AddGenerationPrompt: open}
	if b := m.tok.BOS(); b != tokenizer.None {
		o.BOS = m.tok.TokenText(b)
	}
	if e := m.tok.EOS(); e != tokenizer.None {
		o.EOS = m.tok.TokenText(e)
	}
	return o
}

// endOfTurn tells the tokens that end an answer in the common chat formats.
func (m *model) endOfTurn(id int32) bool {
	if !m.tok.IsSpecial(id) {
		return false
	}
	switch m.tok.TokenText(id) {
	case "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "</s>":
		return true
	}
	return false
}

// probability is softmax(logits)[id].
func probability(logits []float32, id int32) float64 {
	top := slices.Max(logits)
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l - top))
	}
	return math.Exp(float64(logits[id]-top)) / sum
}

// sample draws from softmax(logits/temperature), or takes the first largest.
func sample(logits []float32, temperature float64, rng *rand.Rand) int32 {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	if temperature == 0 {
		return int32(best)
	}
	var sum float64
	p := make([]float64, len(logits))
	for i, l := range logits {
		p[i] = math.Exp((float64(l) - float64(logits[best])) / temperature)
		sum += p[i]
	}
	u := rng.Float64() * sum
	for i, x := range p {
		if u -= x; u < 0 {
			return int32(i)
		}
	}
	return int32(best)
}
