package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
)

// The table of functions as Go's runtime reads it (runtime/symtab.go, type pcHeader; runtime/runtime2.go, type _func), in a module of
// 64-bit words. An offset of 0 as a function's table of files or lines means that it has none: a stack trace then has "?" for the file.
const (
	headerBytes = 8 + 8*8
	funcBytes   = 11 * 4
	fieldSP     = 4
	fieldFile   = 5
	fieldLine   = 6
	fieldCount  = 7 // of the tables after the struct
	fieldStart  = 9
)

// lines clears the tables that only line numbers need. It goes by the runtime of this very Go version.
func (m *module) lines() error {
	at, err := m.functions()
	if err != nil {
		return fmt.Errorf("the table of functions of %s: %w", runtime.Version(), err)
	}
	le := binary.LittleEndian
	word := func(k int) uint64 { return le.Uint64(m.image[at+8+8*k:]) }
	count, files, pctab, funcs := word(0), word(5), word(6), word(7)
	if files > pctab || pctab > funcs || funcs > uint64(len(m.image)-at) || count > (uint64(len(m.image)-at)-funcs)/8 {
		return fmt.Errorf("the table of functions at %#x lies outside the data", at)
	}
	table := m.image[at+int(pctab) : at+int(funcs)]
	all := m.image[at+int(funcs):]
	used := make([]bool, len(table))
	for i := range int(count) {
		f := uint64(le.Uint32(all[8*i+4:]))
		if f+funcBytes > uint64(len(all)) {
			return fmt.Errorf("function %d lies outside the data", i)
		}
		field := func(k int) []byte { return all[f+4*uint64(k):][:4] }
		le.PutUint32(field(fieldFile), 0)
		le.PutUint32(field(fieldLine), 0)
		le.PutUint32(field(fieldStart), 0)
		n := uint64(le.Uint32(field(fieldCount)))
		if n > (uint64(len(all))-f-funcBytes)/4 {
			return fmt.Errorf("function %d has %d tables", i, n)
		}
		for k := range int(n) + 1 {
			off := le.Uint32(field(fieldSP))
			if k > 0 {
				off = le.Uint32(all[f+funcBytes+4*uint64(k-1):])
			}
			if err := mark(used, table, off); err != nil {
				return fmt.Errorf("function %d: %w", i, err)
			}
		}
	}
	for i, u := range used {
		if !u {
			table[i] = 0
		}
	}
	clear(m.image[at+int(files) : at+int(pctab)])
	return nil
}

// functions finds the header of the table of functions.
func (m *module) functions() (int, error) {
	magic := []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8} // of Go 1.20 and later; words of 8 bytes
	at := bytes.Index(m.image, magic)
	if at < 0 {
		return 0, fmt.Errorf("none is known")
	}
	if len(m.image)-at < headerBytes {
		return 0, fmt.Errorf("it is cut short")
	}
	if next := bytes.Index(m.image[at+1:], magic); next >= 0 {
		return 0, fmt.Errorf("two places look like one: %#x and %#x", at, at+1+next)
	}
	return at, nil
}

// mark notes the bytes of the table at off: pairs of varints up to a pair that begins with 0. Offset 0 is no table.
func mark(used []bool, table []byte, off uint32) error {
	if off == 0 {
		return nil
	}
	for i := uint64(off); ; {
		for k := range 2 {
			_, n := binary.Uvarint(table[min(i, uint64(len(table))):])
			if n <= 0 {
				return fmt.Errorf("the table at %d does not end", off)
			}
			end := k == 0 && i > uint64(off) && table[i] == 0
			for ; n > 0; n-- {
				used[i] = true
				i++
			}
			if end {
				return nil
			}
		}
	}
}
