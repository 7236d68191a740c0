package session

import (
	"tabtune/engine/kernel"
	"tabtune/engine/kernel/code"
	"tabtune/lora"
	"tabtune/lora/gguf"
)

// stage is device memory through which rows of a model file pass on their way to the weights: kernels convert them there, many
// times as fast as Go does without vector instructions, to the same bits.
type stage struct {
	dev     *kernel.Device
	weights weights
	addr    kernel.Addr
	size    int64
}

// stored are the types that the kernels read.
var stored = map[gguf.Type]int32{
	gguf.F32: code.StoredF32, gguf.F16: code.StoredF16, gguf.BF16: code.StoredBf16, gguf.Q8_0: code.StoredQ80, gguf.Q4_0: code.StoredQ40, gguf.Q4_1: code.StoredQ41,
	gguf.Q5_0: code.StoredQ50, gguf.Q5_1: code.StoredQ51, gguf.Q4_K: code.StoredQ4K, gguf.Q5_K: code.StoredQ5K, gguf.Q6_K: code.StoredQ6K,
}

// maxStoredCols is how long a row the kernel takes that quantises it in its scratch area.
const maxStoredCols = 1 << 17

// rows puts rows of a file where the weight lies that they become, or says that Go has to: types that the kernels do not read,
// values that are not finite (Go names them), no memory to stage.
func (g *stage) rows(r lora.StoredRows) bool {
	typ, ok := stored[r.Type]
	if !ok || r.Cols > maxStoredCols || r.Format == lora.Q4 && r.Type != gguf.Q4_1 {
		return false
	}
	if need := int64(len(r.Raw)); g.size < need {
		g.close()
		addr, err := g.dev.Alloc(need, 64)
		if err != nil {
			return false
		}
		g.addr, g.size = addr, need
	}
	g.dev.Write(g.addr, r.Raw)
	at := func(suffix string) kernel.Addr { return g.weights[r.Name+suffix].Addr }
	first, n, cols, half := int32(r.First), int32(r.N), int32(r.Cols), int32(r.HalfHead)
	switch r.Format {
	case lora.F32:
		return g.dev.F32FromStored(typ, at(""), g.addr, first, n, cols, half) == 0
	case lora.Int8:
		return g.dev.I8FromStored(typ, at(""), at(".scale"), g.addr, first, n, cols, half) == 0
	}
	return g.dev.Q4FromStored(at(""), at(".scale"), at(".min"), g.addr, first, n, cols, half) == 0
}

func (g *stage) close() {
	g.dev.Free(g.addr)
	g.addr, g.size = 0, 0
}
