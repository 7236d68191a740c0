package gguf

import "fmt"

// Type is a tensor element type, numbered as in the file (ggml_type).
type Type uint32

// The types whose size is known, so that files containing them can be opened.
// CanDequantize says which of them DequantizeRow reads.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
)

// layout is the block format of a type: elems values in bytes bytes.
type layout struct {
	name         string
	elems, bytes int64
	dequant      func(dst []float32, raw []byte) // len(dst)/elems blocks; nil if unsupported
}

// layouts is filled once; sizes are those of ggml's block structures.
var layouts = map[Type]layout{
	F32:     {"F32", 1, 4, dequantF32},
	F16:     {"F16", 1, 2, dequantF16},
	Q4_0:    {"Q4_0", 32, 18, dequantQ4_0},
	Q4_1:    {"Q4_1", 32, 20, dequantQ4_1},
	Q5_0:    {"Q5_0", 32, 22, dequantQ5_0},
	Q5_1:    {"Q5_1", 32, 24, dequantQ5_1},
	Q8_0:    {"Q8_0", 32, 34, dequantQ8_0},
	Q2_K:    {"Q2_K", 256, 84, nil},
	Q3_K:    {"Q3_K", 256, 110, nil},
	Q4_K:    {"Q4_K", 256, 144, dequantQ4_K},
	Q5_K:    {"Q5_K", 256, 176, dequantQ5_K},
	Q6_K:    {"Q6_K", 256, 210, dequantQ6_K},
	IQ2_XXS: {"IQ2_XXS", 256, 66, nil},
	IQ2_XS:  {"IQ2_XS", 256, 74, nil},
	IQ3_XXS: {"IQ3_XXS", 256, 98, nil},
	IQ1_S:   {"IQ1_S", 256, 50, nil},
	IQ4_NL:  {"IQ4_NL", 32, 18, nil},
	IQ3_S:   {"IQ3_S", 256, 110, nil},
	IQ2_S:   {"IQ2_S", 256, 82, nil},
	IQ4_XS:  {"IQ4_XS", 256, 136, nil},
	I8:      {"I8", 1, 1, nil},
	I16:     {"I16", 1, 2, nil},
	I32:     {"I32", 1, 4, nil},
	I64:     {"I64", 1, 8, nil},
	F64:     {"F64", 1, 8, dequantF64},
	IQ1_M:   {"IQ1_M", 256, 56, nil},
	BF16:    {"BF16", 1, 2, dequantBF16},
	TQ1_0:   {"TQ1_0", 256, 54, nil},
	TQ2_0:   {"TQ2_0", 256, 66, nil},
	MXFP4:   {"MXFP4", 32, 17, nil},
}

// String is ggml's name of the type.
func (t Type) String() string {
	if l, ok := layouts[t]; ok {
		return l.name
	}
	return fmt.Sprintf("type(%d)", uint32(t))
}

// Known says whether the type's size is known.
func (t Type) Known() bool { _, ok := layouts[t]; return ok }

// CanDequantize says whether DequantizeRow reads the type.
func (t Type) CanDequantize() bool { return layouts[t].dequant != nil }

// BlockSize returns the number of values in a block and its size in bytes, or
// zeros for an unknown type.
func (t Type) BlockSize() (elems, bytes int64) {
	l := layouts[t]
	return l.elems, l.bytes
}

// RowBytes is the size of a row of cols values. It fails for an unknown type and
// when cols is not a positive multiple of the block.
func RowBytes(t Type, cols int64) (int64, error) {
	l, ok := layouts[t]
	if !ok {
		return 0, fmt.Errorf("unknown tensor type %d", uint32(t))
	}
	if cols <= 0 || cols > maxElements || cols%l.elems != 0 {
		return 0, fmt.Errorf("row of %d values is not a positive multiple of %s's block of %d", cols, l.name, l.elems)
	}
	return cols / l.elems * l.bytes, nil
}
