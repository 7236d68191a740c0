// Package replay is the log of a training run: for each step the seeds of its
// random directions and the coefficients they were applied with. Together with
// the header it rebuilds the adapter exactly,
//
//	for each record:  B <- B - sum over j of coef[j] * z(seed[j])
//
// in float32, summed from 0 in the order of j, on any machine, so the log is checkpoint, resume
// file and audit trail in one. Where the header names an optimizer the sum is the
// gradient estimate that it is given, and B <- B - rate * its step (zo.Optimizer).
//
// # Format
//
// All integers are little-endian; "varint" is the unsigned LEB128 of
// encoding/binary, "zigzag" its signed form; CRC is CRC-32C (Castagnoli).
//
//	header:  magic "TTREPLAY" | u32 version | u32 n | n bytes of JSON (Config)
//	         | u32 CRC of everything before
//	record:  varint m | m bytes of body | u32 CRC of (the four CRC bytes before
//	         this record, varint, body)
//	body:    varint step | varint k | k x zigzag seed delta | k x f32 bits
//	         | f32 bits of the rate, not in version 1
//
// Version 3 is written where the header has matrices A or changes them, version 2
// where it has an optimizer or a noise, version 1 otherwise.
//
// A seed's delta is its distance, modulo 2^64, from the seed before it in the
// file plus one (the first: from 0), so consecutive seeds take one byte each.
// Steps go up by one. Each CRC covers the one before, so a record that was
// removed, moved or taken from another log is found, not only one that changed.
//
// # Damage
//
// A process that dies while appending leaves a torn tail: an incomplete or
// garbled last record. Reading stops in front of it and says how many bytes were
// left out. A bad record that is followed by a good one, or by more than two
// records' worth of bytes, is no torn tail but corruption, and an error.
package replay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
)

const (
	magic   = "TTREPLAY"
	plain   = 1 // version of logs whose coefficients hold the rate
	rated   = 2 // version of logs with a rate in each record
	stacked = 3 // the same, of adapters whose A is not the seed's alone

	// MaxSeeds is the largest number of seeds in one record.
	MaxSeeds = 4096

	maxConfig  = 8 << 20
	maxModules = 1 << 14
	maxBody    = 2*binary.MaxVarintLen64 + MaxSeeds*(binary.MaxVarintLen64+4) + 4
	maxRecord  = binary.MaxVarintLen32 + maxBody + 4
	maxLog     = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Error reports damage in a log.
type Error struct {
	File   string
	Record int   // index of the record, from 0; -1 for the header
	Offset int64 // byte offset in the file
	Msg    string
	Err    error // the cause, or nil
}

// Error names the file, the record and the offset.
func (e *Error) Error() string {
	where := "header"
	if e.Record >= 0 {
		where = fmt.Sprintf("record %d", e.Record)
	}
	s := fmt.Sprintf("replay log %s: %s at byte %d: %s", e.File, where, e.Offset, e.Msg)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Config is the header: what the adapter depends on besides the records, and
// what a reader wants to know about the run.
type Config struct {
	Model       string `json:"model"`       // name of the base model
	ModelSHA256 string `json:"modelSha256"` // of the model file, 64 hex digits
	DataSHA256  string `json:"dataSha256,omitempty"`
	DType       string `json:"dtype"` // of the frozen weights: f32, int8, q4
	Window      int    `json:"window"`
	ASeed       int64  `json:"aSeed"` // makes every A
	// A holds the matrices in its place, one for the modules that read the same tensor
	// (lora.Spec.Groups, zo.UnpackMatrix); Resample is after how many steps, again and
	// again, A is another and B 0, what was trained staying as it is (zo.SubspaceSeed).
	A         []string `json:"a,omitempty"`
	Resample  int      `json:"resample,omitempty"`
	Rank      int      `json:"rank"`
	Alpha     float64  `json:"alpha"`
	Modules   []string `json:"modules"` // full names, in the order that numbers z's elements
	Layers    []int    `json:"layers"`
	Estimator string   `json:"estimator"`
	Queries   int      `json:"queries"`
	Batch     int      `json:"batch"`
	Eps       float64  `json:"eps"`
	LR        float64  `json:"lr"`
	Schedule  string   `json:"schedule"`
	Steps     int      `json:"steps"` // planned
	Seed      int64    `json:"seed"`  // of the run
	// Optimizer and Beta name what turns estimates into steps; "" is plain descent.
	Optimizer string  `json:"optimizer,omitempty"`
	Beta      float64 `json:"beta,omitempty"`
	// Average names the mean of the iterates that the run scored beside them (zo.Average);
	// it does not change what the records rebuild.
	Average string `json:"average,omitempty"`
	// Noise is the distribution of the directions: "" is normal.
	Noise string `json:"noise,omitempty"`
	// Extra is the writer's own JSON, kept as it is.
	Extra json.RawMessage `json:"extra,omitempty"`
}

func (c *Config) validate() error {
	switch sum, err := hex.DecodeString(c.ModelSHA256); {
	case err != nil || len(sum) != 32:
		return fmt.Errorf("modelSha256 %q is not 64 hexadecimal digits", c.ModelSHA256)
	case c.Rank < 1 || c.Rank > 1<<16:
		return fmt.Errorf("rank %d is out of range", c.Rank)
	case !(c.Alpha > 0):
		return fmt.Errorf("alpha %v is not positive", c.Alpha)
	case c.Queries < 0 || c.Queries > MaxSeeds:
		return fmt.Errorf("queries %d is outside 0 to %d", c.Queries, MaxSeeds)
	case len(c.Modules) > maxModules:
		return fmt.Errorf("%d modules, the limit is %d", len(c.Modules), maxModules)
	case len(c.A) > maxModules:
		return fmt.Errorf("%d matrices A, the limit is %d", len(c.A), maxModules)
	case c.Resample < 0:
		return fmt.Errorf("resample %d is negative", c.Resample)
	case c.Optimizer != "" && !(c.Beta >= 0 && c.Beta < 1):
		return fmt.Errorf("beta %v is outside 0 to below 1", c.Beta)
	}
	return nil
}

// version is the one that a log with this header has: the first only where a
// reader of the first would rebuild the same adapter.
func (c *Config) version() uint32 {
	if len(c.A) > 0 || c.Resample > 0 {
		return stacked
	}
	if c.Optimizer != "" || c.Noise != "" {
		return rated
	}
	return plain
}

// Record is one step.
type Record struct {
	Step  int64
	Seeds []int64   // 1 to MaxSeeds
	Coefs []float32 // as many; finite
	Rate  float32   // of the optimizer's step; 0 in a log without one
}

func (r *Record) validate() error {
	if r.Step < 0 {
		return fmt.Errorf("step %d is negative", r.Step)
	}
	if len(r.Seeds) < 1 || len(r.Seeds) > MaxSeeds || len(r.Coefs) != len(r.Seeds) {
		return fmt.Errorf("step %d: %d seeds and %d coefficients (1 to %d of each are valid)", r.Step, len(r.Seeds), len(r.Coefs), MaxSeeds)
	}
	for j, x := range r.Coefs {
		if x-x != 0 {
			return fmt.Errorf("step %d: coefficient %d is %v", r.Step, j, x)
		}
	}
	if !(r.Rate >= 0) || math.IsInf(float64(r.Rate), 0) {
		return fmt.Errorf("step %d: rate %v is not a positive number", r.Step, r.Rate)
	}
	return nil
}

// state is what the next record depends on.
type state struct {
	rated   bool // records have a rate
	started bool
	step    int64 // of the last record
	seed    int64 // the last one plus one
	crc     uint32
}

// encode appends the record to b and moves the state on.
func (s *state) encode(b []byte, r *Record) []byte {
	var body []byte
	body = binary.AppendUvarint(body, uint64(r.Step))
	body = binary.AppendUvarint(body, uint64(len(r.Seeds)))
	for _, seed := range r.Seeds {
		body = binary.AppendVarint(body, seed-s.seed)
		s.seed = seed + 1
	}
	for _, x := range r.Coefs {
		body = binary.LittleEndian.AppendUint32(body, math.Float32bits(x))
	}
	if s.rated {
		body = binary.LittleEndian.AppendUint32(body, math.Float32bits(r.Rate))
	}
	at := len(b)
	b = binary.AppendUvarint(b, uint64(len(body)))
	b = append(b, body...)
	s.crc = sum(s.crc, b[at:])
	s.step, s.started = r.Step, true
	return binary.LittleEndian.AppendUint32(b, s.crc)
}

// sum is the CRC of a record whose predecessor (or header) ended in crc prev.
func sum(prev uint32, b []byte) uint32 {
	var p [4]byte
	binary.LittleEndian.PutUint32(p[:], prev)
	return crc32.Update(crc32.Checksum(p[:], castagnoli), castagnoli, b)
}

// frame splits the record at the start of b, given the CRC before it, without
// looking into the body. n is its whole length; 0 means no intact record.
func frame(b []byte, prev uint32) (body []byte, n int) {
	m, w := binary.Uvarint(b)
	if w <= 0 || w > binary.MaxVarintLen32 || m == 0 || m > maxBody || uint64(len(b)) < uint64(w)+m+4 {
		return nil, 0
	}
	end := w + int(m)
	if binary.LittleEndian.Uint32(b[end:]) != sum(prev, b[:end]) {
		return nil, 0
	}
	return b[w:end], end + 4
}

// decode reads a body whose CRC was right and moves the state on.
func (s *state) decode(body []byte, crc uint32) (Record, error) {
	short := errors.New("body is too short or has a malformed number")
	step, w := binary.Uvarint(body)
	if w <= 0 || step > math.MaxInt64 {
		return Record{}, short
	}
	body = body[w:]
	k, w := binary.Uvarint(body)
	if w <= 0 {
		return Record{}, short
	}
	body = body[w:]
	if k < 1 || k > MaxSeeds || k*5 > uint64(len(body)) {
		return Record{}, fmt.Errorf("%d seeds in a body of %d bytes", k, len(body))
	}
	r := Record{Step: int64(step), Seeds: make([]int64, k), Coefs: make([]float32, k)}
	for j := range r.Seeds {
		d, w := binary.Varint(body)
		if w <= 0 {
			return Record{}, short
		}
		body = body[w:]
		r.Seeds[j] = s.seed + d
		s.seed = r.Seeds[j] + 1
	}
	want := 4 * k
	if s.rated {
		want += 4
	}
	if uint64(len(body)) != want {
		return Record{}, fmt.Errorf("%d bytes for %d coefficients, want %d", len(body), k, want)
	}
	if s.rated {
		r.Rate = math.Float32frombits(binary.LittleEndian.Uint32(body[4*k:]))
	}
	for j := range r.Coefs {
		r.Coefs[j] = math.Float32frombits(binary.LittleEndian.Uint32(body[4*j:]))
	}
	if err := r.validate(); err != nil {
		return Record{}, err
	}
	if s.started && r.Step != s.step+1 {
		return Record{}, fmt.Errorf("step %d follows step %d", r.Step, s.step)
	}
	s.step, s.started, s.crc = r.Step, true, crc
	return r, nil
}

// Log is a log that was read.
type Log struct {
	Config  Config
	Records []Record
	Cut     int64 // bytes of torn tail left out; 0 for a log that ended well
	End     int64 // where the last whole record ends
}

// ReadFile reads a log from the file system.
func ReadFile(path string) (*Log, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("replay log: %w", err)
	}
	defer h.Close()
	st, err := h.Stat()
	if err != nil {
		return nil, fmt.Errorf("replay log: %w", err)
	}
	return Read(h, st.Size(), path)
}

// Read reads the size bytes of r. name is used in messages only. Damage other
// than a torn tail is an *Error.
func Read(r io.Reader, size int64, name string) (*Log, error) {
	l := &Log{}
	_, err := scan(r, size, name, l, func(rec Record, _ int64) error {
		l.Records = append(l.Records, rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// scan reads header and records, calling fn with each record and where it ends,
// and fills in all of l but Records.
func scan(r io.Reader, size int64, name string, l *Log, fn func(Record, int64) error) (state, error) {
	s := state{}
	index := -1
	fail := func(off int64, err error, format string, args ...any) error {
		return &Error{File: name, Record: index, Offset: off, Msg: fmt.Sprintf(format, args...), Err: err}
	}
	if size > maxLog {
		return s, fail(0, nil, "%d bytes, the limit is %d", size, int64(maxLog))
	}
	br := bufio.NewReaderSize(io.LimitReader(r, size), 2*maxRecord)
	head, err := readHeader(br, size, l, fail)
	if err != nil {
		return s, err
	}
	s.crc, s.rated = binary.LittleEndian.Uint32(head[len(head)-4:]), l.Config.version() >= rated
	l.End = int64(len(head))
	for index = 0; ; index++ {
		b, err := br.Peek(2 * maxRecord) // shorter near the end
		if err != nil && !errors.Is(err, io.EOF) {
			return s, fail(l.End, err, "cannot read")
		}
		if len(b) == 0 {
			if l.End != size {
				return s, fail(l.End, io.ErrUnexpectedEOF, "cannot read")
			}
			return s, nil
		}
		body, n := frame(b, s.crc)
		if n == 0 {
			rest := size - l.End
			if at := resync(b, s); at > 0 || rest > int64(len(b)) {
				return s, fail(l.End, nil, "is corrupt (checksum or length), and it is not the last one")
			}
			l.Cut = rest
			return s, nil
		}
		rec, err := s.decode(body, binary.LittleEndian.Uint32(b[n-4:]))
		if err != nil {
			return s, fail(l.End, err, "is not valid")
		}
		br.Discard(n) // within what Peek returned
		l.End += int64(n)
		if err := fn(rec, l.End); err != nil {
			return s, err
		}
	}
}

// resync looks behind a bad record for an intact one with a later step, and
// returns its distance, or 0. The CRC before a record lies in the four bytes in
// front of it, unless these are what is bad: then the bad record's length and
// body give it.
func resync(b []byte, s state) int {
	if m, w := binary.Uvarint(b); w > 0 && m <= maxBody && uint64(len(b)) > uint64(w)+m+4 {
		end := w + int(m)
		if _, n := frame(b[end+4:], sum(s.crc, b[:end])); n > 0 {
			return end + 4
		}
	}
	last := s.step
	for at := 5; at < len(b); at++ {
		m, w := binary.Uvarint(b[at:])
		if w <= 0 || m > maxBody {
			continue
		}
		step, _ := binary.Uvarint(b[at+w:])
		if step <= uint64(last) || step-uint64(last) > 2*maxRecord {
			continue // cheaper than the checksum, and true of every later record here
		}
		if _, n := frame(b[at:], binary.LittleEndian.Uint32(b[at-4:])); n > 0 {
			return at
		}
	}
	return 0
}

// readHeader reads and checks the header, and returns its bytes.
func readHeader(br *bufio.Reader, size int64, l *Log, fail func(int64, error, string, ...any) error) ([]byte, error) {
	head := make([]byte, len(magic)+8)
	if n, err := io.ReadFull(br, head); err != nil {
		if n < len(magic) || string(head[:len(magic)]) != magic {
			return nil, fail(0, nil, "not a replay log")
		}
		return nil, fail(int64(n), err, "cut short")
	}
	if string(head[:len(magic)]) != magic {
		return nil, fail(0, nil, "not a replay log")
	}
	v := binary.LittleEndian.Uint32(head[8:])
	if v < plain || v > stacked {
		return nil, fail(8, nil, "version %d is not supported (%d to %d are)", v, plain, stacked)
	}
	n := binary.LittleEndian.Uint32(head[12:])
	if n > maxConfig || int64(n) > size-int64(len(head))-4 {
		return nil, fail(12, nil, "configuration of %d bytes does not fit (file of %d, limit %d)", n, size, maxConfig)
	}
	rest := make([]byte, n+4)
	if k, err := io.ReadFull(br, rest); err != nil {
		return nil, fail(16+int64(k), err, "cut short")
	}
	head = append(head, rest...)
	end := len(head) - 4
	if crc32.Checksum(head[:end], castagnoli) != binary.LittleEndian.Uint32(head[end:]) {
		return nil, fail(int64(end), nil, "checksum is wrong")
	}
	dec := json.NewDecoder(bytes.NewReader(head[16:end]))
	if err := dec.Decode(&l.Config); err != nil {
		return nil, fail(16+dec.InputOffset(), err, "configuration is not valid JSON")
	}
	if err := l.Config.validate(); err != nil {
		return nil, fail(16, err, "configuration")
	}
	if l.Config.version() != v {
		return nil, fail(8, nil, "version %d does not go with optimizer %q, noise %q, resample %d and %d matrices A", v, l.Config.Optimizer, l.Config.Noise, l.Config.Resample, len(l.Config.A))
	}
	return head, nil
}

// header encodes the header.
func header(c *Config) ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if len(b) > maxConfig {
		return nil, fmt.Errorf("configuration of %d bytes, the limit is %d", len(b), maxConfig)
	}
	h := append([]byte(magic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(h[8:], c.version())
	binary.LittleEndian.PutUint32(h[12:], uint32(len(b)))
	h = append(h, b...)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli)), nil
}
