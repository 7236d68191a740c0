package pte

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// FormatError says where a file breaks its format.
type FormatError struct {
	File   string // name that was given to Decode or DecodeData
	Where  string // enclosing object, e.g. `method "forward": values[3]`; may be empty
	Field  string // "Table.field" of the schema
	Offset int64  // byte offset in the file; -1 if the object has no place in a file (a program made in memory)
	Msg    string
}

// Error names file, object, field and byte offset.
func (e *FormatError) Error() string {
	s := e.File + ": "
	if e.Where != "" {
		s += e.Where + ": "
	}
	s += e.Field
	if e.Offset >= 0 {
		s += fmt.Sprintf(" at byte %d", e.Offset)
	}
	return s + ": " + e.Msg
}

// reader gives bounds-checked access to one flatbuffer, whose first byte is the
// file's first byte, so that positions are file offsets.
//
// The first error sticks: every accessor then returns zero values, so code that
// decodes is straight-line and only loops look at err. Nesting is bounded by
// the schema, which has no recursive table. Work and memory are bounded by
// budget: a flatbuffer may share vectors and tables, so a small hostile file
// could otherwise describe a decoded program of any size. Files of the stock
// exporter and of Encode share nothing and spend at most their own size.
type reader struct {
	file   string
	at     place
	buf    []byte
	budget int64
	err    error
}

// place is the object that is being read or checked, for errors.
type place struct {
	method string // method name, quoted; empty outside methods
	list   string // e.g. "values"; empty outside lists
	index  int
}

func (p place) String() string {
	s := ""
	if p.method != "" {
		s = "method " + p.method
	}
	if p.list != "" {
		if s != "" {
			s += ": "
		}
		s += fmt.Sprintf("%s[%d]", p.list, p.index)
	}
	return s
}

// newReader returns a reader that lets a file be visited twice over.
func newReader(file string, buf []byte) *reader {
	return &reader{file: file, buf: buf, budget: 2*int64(len(buf)) + 1024}
}

func (r *reader) fail(field string, pos int, format string, args ...any) {
	if r.err == nil {
		r.err = &FormatError{r.file, r.at.String(), field, int64(pos), fmt.Sprintf(format, args...)}
	}
}

// spend takes n bytes off the budget.
func (r *reader) spend(field string, pos, n int) bool {
	r.budget -= int64(n)
	if r.budget < 0 {
		r.fail(field, pos, "the file refers to the same bytes again and again")
	}
	return r.err == nil
}

// in says whether n bytes at pos are inside the buffer.
func (r *reader) in(pos, n int) bool {
	return pos >= 0 && n >= 0 && pos <= len(r.buf)-n
}

func (r *reader) u16(pos int) int    { return int(binary.LittleEndian.Uint16(r.buf[pos:])) }
func (r *reader) u32(pos int) uint32 { return binary.LittleEndian.Uint32(r.buf[pos:]) }
func (r *reader) u64(pos int) uint64 { return binary.LittleEndian.Uint64(r.buf[pos:]) }

// follow returns the target of the unsigned offset stored at pos, of which at
// least four bytes are inside the buffer.
func (r *reader) follow(field string, pos int) (int, bool) {
	if r.err != nil {
		return 0, false
	}
	if !r.in(pos, 4) {
		r.fail(field, pos, "offset is outside the %d bytes of the flatbuffer", len(r.buf))
		return 0, false
	}
	off := int64(r.u32(pos))
	target := int64(pos) + off
	if off == 0 || target > int64(len(r.buf)-4) {
		r.fail(field, pos, "offset %d points outside the %d bytes of the flatbuffer", off, len(r.buf))
		return 0, false
	}
	return int(target), true
}

// table is one flatbuffer table; the zero value, or any table after an error,
// has all fields absent.
type table struct {
	r      *reader
	name   string // schema name
	pos    int
	vtable int
	slots  int // entries of the vtable
}

// table checks the table at pos and its vtable.
func (r *reader) table(name string, pos int) table {
	none := table{r: r, name: name, pos: pos}
	if r.err != nil {
		return none
	}
	if !r.in(pos, 4) {
		r.fail(name, pos, "table is outside the %d bytes of the flatbuffer", len(r.buf))
		return none
	}
	vt := int64(pos) - int64(int32(r.u32(pos)))
	if vt < 0 || vt > int64(len(r.buf)-4) {
		r.fail(name, pos, "vtable offset %d points outside the flatbuffer", vt)
		return none
	}
	v := int(vt)
	vtSize, size := r.u16(v), r.u16(v+2)
	if vtSize < 4 || vtSize%2 != 0 || !r.in(v, vtSize) {
		r.fail(name, v, "vtable of %d bytes is malformed", vtSize)
		return none
	}
	if size < 4 || !r.in(pos, size) {
		r.fail(name, v, "table of %d bytes does not fit in the flatbuffer", size)
		return none
	}
	if !r.spend(name, pos, size) {
		return none
	}
	return table{r: r, name: name, pos: pos, vtable: v, slots: (vtSize - 4) / 2}
}

// field returns the position of a field of n bytes, or false if it is absent.
func (t table) field(slot int, field string, n int) (int, bool) {
	if t.r.err != nil || slot >= t.slots {
		return 0, false
	}
	off := t.r.u16(t.vtable + 4 + 2*slot)
	if off == 0 {
		return 0, false
	}
	// Against the buffer, not against the table's size: builders share vtables
	// between tables that differ only in size (Go's vtableEqual and Python's do
	// not compare it), so the size may be too small. The C++ verifier does the
	// same.
	if off < 4 || !t.r.in(t.pos+off, n) {
		t.fail(field, t.vtable+4+2*slot, "field offset %d of the table at %d is outside the flatbuffer", off, t.pos)
		return 0, false
	}
	return t.pos + off, true
}

func (t table) fail(field string, pos int, format string, args ...any) {
	t.r.fail(t.name+"."+field, pos, format, args...)
}

func (t table) u8(slot int, field string) uint8 {
	if p, ok := t.field(slot, field, 1); ok {
		return t.r.buf[p]
	}
	return 0
}

func (t table) i8(slot int, field string) int8 { return int8(t.u8(slot, field)) }

func (t table) bool(slot int, field string) bool { return t.u8(slot, field) != 0 }

func (t table) u32(slot int, field string) uint32 {
	if p, ok := t.field(slot, field, 4); ok {
		return t.r.u32(p)
	}
	return 0
}

func (t table) i32(slot int, field string) int32 { return int32(t.u32(slot, field)) }

func (t table) u64(slot int, field string) uint64 {
	if p, ok := t.field(slot, field, 8); ok {
		return t.r.u64(p)
	}
	return 0
}

// size64 reads an unsigned 64-bit size or offset, which must fit in an int64.
func (t table) size64(slot int, field string) int64 {
	v := t.u64(slot, field)
	if v > math.MaxInt64 {
		t.fail(field, t.pos, "value %d is too large", v)
		return 0
	}
	return int64(v)
}

// child returns the table that a field points to, or false if it is absent.
func (t table) child(slot int, field, name string) (table, bool) {
	p, ok := t.field(slot, field, 4)
	if !ok {
		return table{r: t.r, name: name}, false
	}
	target, ok := t.r.follow(t.name+"."+field, p)
	if !ok {
		return table{r: t.r, name: name}, false
	}
	c := t.r.table(name, target)
	return c, t.r.err == nil
}

// vector returns position and length of the elements of a vector of elements
// of elem bytes; an absent vector is empty.
func (t table) vector(slot int, field string, elem int) (pos, n int) {
	p, ok := t.field(slot, field, 4)
	if !ok {
		return 0, 0
	}
	name := t.name + "." + field
	target, ok := t.r.follow(name, p)
	if !ok {
		return 0, 0
	}
	count := int64(t.r.u32(target))
	if count*int64(elem) > int64(len(t.r.buf)-target-4) {
		t.r.fail(name, target, "vector of %d elements of %d bytes does not fit in the flatbuffer", count, elem)
		return 0, 0
	}
	if !t.r.spend(name, target, 4+int(count)*elem) {
		return 0, 0
	}
	return target + 4, int(count)
}

// str reads a string; an absent one is empty.
func (t table) str(slot int, field string) string {
	pos, n := t.vector(slot, field, 1)
	if t.r.err != nil || n == 0 {
		return ""
	}
	b := t.r.buf[pos : pos+n]
	if !t.r.in(pos, n+1) || t.r.buf[pos+n] != 0 {
		t.fail(field, pos, "string of %d bytes does not end with a zero byte", n)
		return ""
	}
	if !utf8.Valid(b) {
		t.fail(field, pos, "string is not UTF-8")
		return ""
	}
	return string(b)
}

// bytes returns a byte vector without copying it; nil if absent.
func (t table) bytes(slot int, field string) []byte {
	pos, n := t.vector(slot, field, 1)
	if t.r.err != nil || pos == 0 {
		return nil
	}
	return t.r.buf[pos : pos+n : pos+n]
}

// ints reads a vector of 32-bit indices.
func (t table) ints(slot int, field string) []int {
	pos, n := t.vector(slot, field, 4)
	if n == 0 {
		return nil
	}
	v := make([]int, n)
	for i := range v {
		v[i] = int(int32(t.r.u32(pos + 4*i)))
	}
	return v
}

func (t table) int32s(slot int, field string) []int32 {
	pos, n := t.vector(slot, field, 4)
	if n == 0 {
		return nil
	}
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(t.r.u32(pos + 4*i))
	}
	return v
}

// int64s reads a vector of signed 64-bit numbers.
func (t table) int64s(slot int, field string) []int64 {
	pos, n := t.vector(slot, field, 8)
	if n == 0 {
		return nil
	}
	v := make([]int64, n)
	for i := range v {
		v[i] = int64(t.r.u64(pos + 8*i))
	}
	return v
}

// each visits a vector of tables until an error.
func (t table) each(slot int, field, name string, visit func(i int, e table)) int {
	pos, n := t.vector(slot, field, 4)
	for i := 0; i < n && t.r.err == nil; i++ {
		target, ok := t.r.follow(t.name+"."+field, pos+4*i)
		if !ok {
			break
		}
		visit(i, t.r.table(name, target))
	}
	return n
}
