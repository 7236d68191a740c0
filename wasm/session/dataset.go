package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tabtune/engine/kernel"
	"tabtune/wasm/rpc"
	"tabtune/zo/task"
)

// defaultWindow is how many tokens a row may have when nobody says.
const defaultWindow = 256

// dataset is the open data: examples with the places of their cached prefixes.
type dataset struct {
	labels []task.Label
	train  *split
	val    []item
	window int // tokens of the longest example
	hash   string
	rowParams
	info dataInfo

	cachedTop int // the prefixes are those of programs with this Top; -1: none
	cached    []kernel.Addr
}

// split is a list of examples; prefix[i] is 0 where nothing is cached.
type split struct {
	examples []task.Example
	prefix   []kernel.Addr
}

// item is one example of a split.
type item struct {
	example *task.Example
	prefix  *kernel.Addr
}

func (i item) row() row { return row{ids: i.example.IDs, prefix: *i.prefix} }

func (s *split) item(i int) item { return item{&s.examples[i], &s.prefix[i]} }

func (d *dataset) all(s *split) []item {
	out := make([]item, len(s.examples))
	for i := range out {
		out[i] = s.item(i)
	}
	return out
}

func (d *dataset) lengths(s *split) []int { return task.Lengths(s.examples) }

// probe returns up to n training examples, evenly spread.
func (d *dataset) probe(n int) []item {
	all := d.all(d.train)
	if len(all) <= n {
		return all
	}
	out := make([]item, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out
}

func (d *dataset) labelTokens() []int32 {
	out := make([]int32, len(d.labels))
	for i, l := range d.labels {
		out[i] = l.Token
	}
	return out
}

type dataParams struct {
	Path        string   `json:"path"`
	Format      string   `json:"format"`
	TextColumn  string   `json:"textColumn"`
	LabelColumn string   `json:"labelColumn"`
	Template    string   `json:"template"`
	Verbalizers []string `json:"verbalizers"`
	Labels      []string `json:"labels"`
	Val         *struct {
		Path string `json:"path"`
		Rows int    `json:"rows"`
	} `json:"val"`
	TrainRows int    `json:"trainRows"`
	Window    int    `json:"window"`
	Encoding  string `json:"encoding"` // "utf-8" (default) or "latin-1"
	NoHeader  bool   `json:"noHeader"`
	LongRows  string `json:"longRows"` // "truncate" (default) or "skip"
	Seed      int64  `json:"seed"`
}

// rowParams are the choices, besides the files, that decide what the examples
// are. A run is continued with the same ones.
type rowParams struct {
	Template    string   `json:"template"`
	TextColumn  string   `json:"textColumn"`
	LabelColumn string   `json:"labelColumn"`
	LongRows    string   `json:"longRows"`
	Labels      []string `json:"labels"`
	Verbalizers []string `json:"verbalizers"`
	MaxTokens   int      `json:"maxTokens"`
	TrainRows   int      `json:"trainRows"`
	ValRows     int      `json:"valRows"`
	DataSeed    int64    `json:"dataSeed"`
}

type labelInfo struct {
	Name       string `json:"name"`
	Verbalizer string `json:"verbalizer"`
	Token      int32  `json:"token"`
	Count      int    `json:"count"` // training rows
}

type previewRow struct {
	Text   string `json:"text"`
	Prompt string `json:"prompt"`
	Label  string `json:"label"`
	Tokens int    `json:"tokens"`
}

type warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Rows    []int  `json:"rows"`
}

type dataInfo struct {
	TrainRows int          `json:"trainRows"`
	ValRows   int          `json:"valRows"`
	Longest   int          `json:"longest"` // tokens of the longest prompt
	Labels    []labelInfo  `json:"labels"`
	Preview   []previewRow `json:"preview"`
	Warnings  []warning    `json:"warnings"`
}

// previewRows is how many training rows data.open shows.
const previewRows = 5

func (s *Session) openData(t *rpc.Task, p dataParams) (dataInfo, error) {
	m, err := s.needModel()
	if err != nil {
		return dataInfo{}, err
	}
	s.closeData()
	sum := sha256.New()
	train, err := readTable(p, p.Path, sum)
	if err != nil {
		return dataInfo{}, err
	}
	if err := t.Emit(progress{"progress", "read", int64(len(train.Rows)), int64(len(train.Rows))}); err != nil {
		return dataInfo{}, err
	}
	o := task.Options{TextColumn: p.TextColumn, LabelColumn: p.LabelColumn, Template: p.Template, Labels: p.Labels, Verbalizers: p.Verbalizers,
		Window: p.Window, Long: task.LongRows(p.LongRows), TrainRows: p.TrainRows, Seed: p.Seed}
	if o.Window == 0 {
		o.Window = m.window
	}
	if o.Window == 0 {
		o.Window = min(defaultWindow, m.ckpt.Config.Context)
	}
	if o.Window < 0 || o.Window > m.ckpt.Config.Context {
		return dataInfo{}, invalid("window: %d tokens, want 1 to the model's context %d", o.Window, m.ckpt.Config.Context)
	}
	var val *task.Table
	if p.Val != nil {
		o.ValRows = p.Val.Rows
		if p.Val.Path != "" {
			if val, err = readTable(p, p.Val.Path, sum); err != nil {
				return dataInfo{}, err
			}
		}
	} else {
		o.ValRows = min(500, len(train.Rows)/5)
	}
	ds, err := task.Build(train, val, m.tok, o)
	if err != nil {
		var de *task.DataError
		if errors.As(err, &de) {
			return dataInfo{}, rpc.Errorf("data", "%v", err)
		}
		return dataInfo{}, invalid("%v", err)
	}
	if len(ds.Train) == 0 {
		return dataInfo{}, rpc.Errorf("data", "%s: no rows are left to train on", p.Path)
	}
	if len(ds.Val) == 0 {
		return dataInfo{}, rpc.Errorf("data", "%s: there are no validation rows; give a validation file or how many rows to hold out", p.Path)
	}
	d := &dataset{labels: ds.Labels, train: &split{ds.Train, make([]kernel.Addr, len(ds.Train))}, cachedTop: -1}
	v := &split{ds.Val, make([]kernel.Addr, len(ds.Val))}
	d.val = d.all(v)
	for _, e := range slices.Concat(ds.Train, ds.Val) {
		d.window = max(d.window, len(e.IDs))
	}
	d.hash = hex.EncodeToString(sum.Sum(nil))
	d.rowParams = rowParams{Template: o.Template, TextColumn: o.TextColumn, LabelColumn: o.LabelColumn, LongRows: p.LongRows, MaxTokens: o.Window,
		TrainRows: len(ds.Train), ValRows: len(ds.Val), DataSeed: o.Seed}
	for _, l := range ds.Labels {
		d.Labels, d.Verbalizers = append(d.Labels, l.Name), append(d.Verbalizers, l.Verbalizer)
	}
	d.info = describe(ds, d)
	s.data = d
	return d.info, nil
}

func describe(ds *task.Dataset, d *dataset) dataInfo {
	info := dataInfo{TrainRows: len(ds.Train), ValRows: len(ds.Val), Longest: d.window, Labels: []labelInfo{}, Preview: []previewRow{}, Warnings: []warning{}}
	for _, l := range ds.Labels {
		info.Labels = append(info.Labels, labelInfo{l.Name, l.Verbalizer, l.Token, l.Train})
	}
	for _, e := range ds.Train[:min(previewRows, len(ds.Train))] {
		info.Preview = append(info.Preview, previewRow{e.Text, e.Prompt, ds.Labels[e.Label].Name, len(e.IDs)})
	}
	for _, w := range ds.Warnings {
		rows := w.Rows
		if rows == nil {
			rows = []int{}
		}
		info.Warnings = append(info.Warnings, warning{w.Code, w.Message, rows})
	}
	return info
}

// maxData bounds a data file; its text is held in memory.
const maxData = 256 << 20

func readTable(p dataParams, path string, sum io.Writer) (*task.Table, error) {
	o := task.ReadOptions{Format: task.Format(strings.ToLower(p.Format)), NoHeader: p.NoHeader}
	switch strings.ToLower(p.Encoding) {
	case "", "utf-8", "utf8":
	case "latin-1", "latin1", "iso-8859-1":
		o.Latin1 = true
	default:
		return nil, invalid("encoding: %q, want utf-8 or latin-1", p.Encoding)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxData+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxData {
		return nil, invalid("%s: larger than %d MB", path, maxData>>20)
	}
	sum.Write(b) // a hash does not fail
	table, err := task.ReadTable(bytes.NewReader(b), filepath.Clean(path), o)
	if err != nil {
		return nil, rpc.Errorf("data", "%v", err)
	}
	return table, nil
}

func (s *Session) closeData() {
	if s.data != nil {
		s.freePrefixes()
		s.data = nil
	}
}

func (s *Session) freePrefixes() {
	d := s.data
	for _, a := range d.cached {
		s.dev.Free(a)
	}
	d.cached, d.cachedTop = nil, -1
	clear(d.train.prefix)
	for _, it := range d.val {
		*it.prefix = 0
	}
}

// prefixBytes is what the cache of a program with so many adapted layers still
// takes: nothing where prefix is no more than the embedding.
func (s *Session) prefixBytes(top int) int64 {
	c := &s.model.ckpt.Config
	if top == c.Layers {
		return 0
	}
	var n int64
	for _, it := range slices.Concat(s.data.all(s.data.train), s.data.val) {
		if s.data.cachedTop != top || *it.prefix == 0 {
			n += spanBytes(int64(len(it.example.IDs)) * int64(4*c.Dim))
		}
	}
	return n
}

// cacheFor makes the cache one of programs with so many adapted layers.
func (s *Session) cacheFor(top int) {
	if s.data.cachedTop != top {
		s.freePrefixes()
		s.data.cachedTop = top
	}
}

// cache runs the frozen lower layers for the items that have not been through
// them yet and keeps the hidden states: no replica needs them twice, no epoch
// changes them. Where memory does not suffice an item stays uncached, and the
// runner computes its prefix each time.
func (s *Session) cache(t *rpc.Task, r *runner, items []item) error {
	if r.spec.Top == r.spec.Model.Layers {
		return nil // prefix is the embedding alone
	}
	all := int64(len(s.data.train.examples) + len(s.data.val))
	progress := s.paced(t, "prefix", "prefix")
	line := int64(4 * r.spec.Model.Dim)
	missing := slices.Clone(items)
	missing = slices.DeleteFunc(missing, func(it item) bool { return *it.prefix != 0 })
	most := len(items)
	for len(missing) > 0 {
		n := min(r.spec.PrefixRows, len(missing))
		rows := make([]row, n)
		for k := range rows {
			rows[k] = missing[k].row()
		}
		src, width, err := r.prefixes(rows)
		if err != nil {
			return err
		}
		for k := range rows {
			size := int64(len(rows[k].ids)) * line
			if s.dev.Limit()-s.dev.InUse() < size+r.passing(most) {
				return nil // full: the rest stays uncached
			}
			addr, err := s.dev.Alloc(size, 64)
			if err != nil {
				return nil // as good as full
			}
			s.data.cached = append(s.data.cached, addr)
			s.dev.MemCopy(addr, src+kernel.Addr(int64(k)*int64(width)*line), size)
			*missing[k].prefix = addr
		}
		missing = missing[n:]
		if err := progress(int64(len(s.data.cached)), all); err != nil {
			return err
		}
	}
	return nil
}
