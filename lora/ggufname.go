package lora

// GGUFTensor is where a GGUF file of this architecture keeps an adaptable linear layer.
type GGUFTensor struct {
	Module string // model.layers.26.self_attn.q_proj
	Name   string // blk.26.attn_q.weight
	In     int
	Out    int
	src    source
}

// Row is the row of the module's weight, in Hugging Face's order, that a GGUF file has at row i: the rows of q and k of the llama architecture
// are interleaved there, since its rotary embedding pairs neighbours.
func (t *GGUFTensor) Row(i int) int { return t.src.hfRow(i) }

// GGUFTensors lists the adaptable layers in the order of a GGUF file, also for a model that came from a Hugging Face folder.
func (c *Checkpoint) GGUFTensors() []GGUFTensor {
	var out []GGUFTensor
	for _, s := range c.ggufSources() {
		if s.linear {
			out = append(out, GGUFTensor{Module: s.name[:len(s.name)-len(".weight")], Name: s.file, In: s.cols, Out: s.rows, src: s})
		}
	}
	return out
}
