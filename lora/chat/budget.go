package chat

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// Limits of one rendering.
const (
	maxSteps  = 1 << 19 // tags evaluated
	maxTime   = 10 * time.Second
	maxWork   = 4 << 30   // bytes that the operations of one tag may look at or copy: a few seconds
	maxValue  = 8 << 20   // bytes of one value, a string or a list with all it holds
	maxMemory = 256 << 20 // bytes that one tag may need at a time
	maxOutput = 16 << 20  // bytes of output, of macros and set blocks included
	maxItems  = 100_000   // of range (as in Jinja's sandbox), split and list
	maxDepth  = 64        // of lists in lists
	maxCalls  = 24        // of macros in macros
)

// budget counts what a rendering does. size bounds, in bytes, every value that has a name.
type budget struct {
	size, steps, output, calls int
	end                        time.Time
	roots                      map[any]value // lists and mappings with a name, by address
}

func newBudget(template int) *budget {
	return &budget{size: 1024 + template, end: time.Now().Add(maxTime), roots: map[any]value{}}
}

type value = jinja.Value

type function = func(args []value, kwargs map[string]value) (value, error)

// raisedError is the message of raise_exception.
type raisedError string

func (e raisedError) Error() string { return string(e) }

var errSize = fmt.Errorf("a value is larger than %d bytes, nested deeper than %d, or contains itself", maxValue, maxDepth)

// pre admits a tag: its own work and memory are bounded by the sizes of values, and
// between tags the clock is looked at. The time of a rendering is thus at most maxTime and one tag's.
func (b *budget) pre(ops, joins int) error {
	if (joins+1)*b.size > maxMemory || (ops+joins*joins)*b.size > maxWork {
		return errors.New("a tag does too much with too large values")
	}
	if b.steps++; b.steps > maxSteps {
		return fmt.Errorf("more than %d tags evaluated (an endless loop?)", maxSteps)
	}
	if b.steps%64 == 0 || ops*b.size > 1<<20 {
		return b.clock()
	}
	return nil
}

func (b *budget) clock() error {
	if time.Now().After(b.end) {
		return fmt.Errorf("rendering takes longer than %v", maxTime)
	}
	return nil
}

// named measures a value that is about to get a name.
func (b *budget) named(v value) error {
	n, ok := measure(v, maxDepth, maxValue)
	if !ok {
		return errSize
	}
	switch {
	case v.IsList():
		b.roots[v.AsList()] = v
	case v.IsDict():
		b.roots[v.AsDict()] = v
	}
	if len(b.roots) > maxItems {
		return fmt.Errorf("more than %d lists and mappings", maxItems)
	}
	b.size = max(b.size, n)
	return nil
}

// changed measures v and all named values again, after v changed in place: any may contain it, many times.
func (b *budget) changed(v value) error {
	if err := b.named(v); err != nil || !v.IsList() && !v.IsDict() {
		return err
	}
	for _, root := range b.roots {
		n, ok := measure(root, maxDepth, maxValue)
		if !ok {
			return errSize
		}
		b.size = max(b.size, n)
		if err := b.clock(); err != nil {
			return err
		}
	}
	return nil
}

// measure adds up the bytes of a value, counting what is shared each time; it gives
// up (not ok) beyond the limit and thus ends for values that contain themselves.
func measure(v value, depth, limit int) (n int, ok bool) {
	if depth == 0 {
		return 0, false
	}
	n = 32
	switch {
	case v.IsString():
		n += len(v.AsString())
	case v.IsList():
		for _, item := range v.AsList().Items {
			m, ok := measure(item, depth-1, limit-n)
			if n += m; !ok || n > limit {
				return n, false
			}
		}
	case v.IsDict():
		d := v.AsDict()
		for _, k := range d.Keys {
			m, ok := measure(d.Data[k], depth-1, limit-n)
			if n += m + len(k) + 64; !ok || n > limit {
				return n, false
			}
		}
	}
	return n, n <= limit
}

// functions are what the rewritten template and the template itself call.
func (b *budget) functions(now time.Time) map[string]function {
	named := func(v value) (value, error) { return v, b.named(v) }
	second := func(args []value) (value, error) {
		if len(args) != 2 {
			return jinja.None(), errors.New("a list without brackets is not supported")
		}
		return args[1], nil
	}
	return map[string]function{
		"__pre": func(args []value, _ map[string]value) (value, error) {
			return jinja.NewBool(false), b.pre(int(args[0].AsInt()), int(args[1].AsInt()))
		},
		"__val": func(args []value, _ map[string]value) (value, error) {
			v, err := second(args)
			if err != nil {
				return v, err
			}
			return named(v)
		},
		"__iter": func(args []value, _ map[string]value) (value, error) {
			v, err := second(args)
			switch {
			case err != nil:
			case v.IsString():
				err = items(utf8.RuneCountInString(v.AsString()))
			case v.IsUndefined() || v.IsList() || v.IsDict():
			default:
				err = fmt.Errorf("a loop over %.40s is not possible", text(v))
			}
			if err != nil {
				return v, err
			}
			return named(v)
		},
		"__chk": func(args []value, _ map[string]value) (value, error) {
			return jinja.None(), b.changed(args[0])
		},
		"__enter": func(args []value, _ map[string]value) (value, error) {
			if b.calls++; b.calls > maxCalls {
				return jinja.None(), fmt.Errorf("more than %d macros call one another", maxCalls)
			}
			for _, v := range args {
				if err := b.named(v); err != nil {
					return v, err
				}
			}
			return jinja.None(), b.pre(1, 0)
		},
		"__leave": func([]value, map[string]value) (value, error) {
			b.calls--
			return jinja.None(), nil
		},
		"__out": func(args []value, _ map[string]value) (value, error) {
			v, err := second(args)
			if err != nil {
				return v, err
			}
			if err := b.named(v); err != nil { // before text, which follows it all the way down
				return v, err
			}
			s := text(v)
			if b.output += len(s); b.output > maxOutput {
				return v, fmt.Errorf("the output is longer than %d bytes", maxOutput)
			}
			// What a macro or a set block puts together is no longer than all the output.
			b.size = max(b.size, min(b.output, maxValue))
			return jinja.NewString(s), nil
		},
		"raise_exception": func(args []value, _ map[string]value) (value, error) {
			if len(args) != 1 {
				return jinja.None(), errors.New("raise_exception takes one argument")
			}
			return jinja.None(), raisedError(fmt.Sprintf("%.1000s", text(args[0])))
		},
		"strftime_now": func(args []value, _ map[string]value) (value, error) {
			if len(args) != 1 || !args[0].IsString() {
				return jinja.None(), errors.New("strftime_now takes one string")
			}
			s, err := strftime(now, args[0].AsString())
			return jinja.NewString(s), err
		},
		"cycler": func([]value, map[string]value) (value, error) {
			return jinja.None(), errors.New("cycler is not supported")
		},
		"joiner": func(args []value, _ map[string]value) (value, error) {
			sep, used := jinja.NewString(", "), false
			if len(args) > 0 {
				sep = args[0]
			}
			return jinja.NewCallable("joiner", func([]value, map[string]value) (value, error) {
				if used {
					return sep, nil
				}
				used = true
				return jinja.NewString(""), nil
			}), b.named(sep)
		},
		"range":     boundedRange,
		"__replace": replace,
		"__join":    join,
		"__indent":  indent,
		"__split":   split,
		"__list":    list,
		"__slice":   slice,
		"__tojson":  tojson,
		"__trim":    strip(true, true),
		"__strip":   strip(true, true),
		"__lstrip":  strip(true, false),
		"__rstrip":  strip(false, true),
	}
}

func items(n int) error {
	if n < 0 || n > maxItems {
		return fmt.Errorf("a list of more than %d items", maxItems)
	}
	return nil
}

func fits(n int) error {
	if n < 0 || n > maxValue {
		return errSize
	}
	return nil
}

// text is Python's str of a value.
func text(v value) string {
	switch {
	case v.IsString():
		return v.AsString()
	case v.IsUndefined():
		return ""
	case v.IsFloat():
		return float(v.AsFloat())
	}
	return v.String()
}

// argument returns a filter's argument by place or by name.
func argument(args []value, kwargs map[string]value, at int, name string) (value, bool) {
	if at < len(args) {
		return args[at], true
	}
	v, ok := kwargs[name]
	return v, ok
}

func number(v value) (int64, error) {
	switch {
	case v.IsInt():
		return v.AsInt(), nil
	case v.IsBool() && v.AsBool():
		return 1, nil
	case v.IsBool():
		return 0, nil
	}
	return 0, fmt.Errorf("%.40q is not a whole number", v.String())
}

func boundedRange(args []value, _ map[string]value) (value, error) {
	n := make([]int64, len(args))
	for i, a := range args {
		var err error
		if n[i], err = number(a); err != nil || n[i] > 1<<40 || n[i] < -1<<40 {
			return a, errors.New("range: the arguments must be whole numbers of a sensible size")
		}
	}
	start, stop, step := int64(0), int64(0), int64(1)
	switch len(n) {
	case 1:
		stop = n[0]
	case 2:
		start, stop = n[0], n[1]
	case 3:
		start, stop, step = n[0], n[1], n[2]
	}
	if len(n) == 0 || len(n) > 3 || step == 0 {
		return jinja.None(), errors.New("range takes one to three numbers, the third not 0")
	}
	count := (stop - start + step - 1) / step
	if step < 0 {
		count = (stop - start + step + 1) / step
	}
	count = max(count, 0)
	if err := items(int(min(count, maxItems+1))); err != nil {
		return jinja.None(), fmt.Errorf("range: %w", err)
	}
	out := make([]value, count)
	for i := range out {
		out[i] = jinja.NewInt(start + int64(i)*step)
	}
	return jinja.NewList(out), nil
}

// replace is both the filter and the method.
func replace(args []value, kwargs map[string]value) (value, error) {
	if len(args) < 3 {
		return jinja.None(), errors.New("replace takes a text and two more")
	}
	s, old, with := text(args[0]), text(args[1]), text(args[2])
	count := int64(-1)
	if c, ok := argument(args, kwargs, 3, "count"); ok && !c.IsNone() {
		var err error
		if count, err = number(c); err != nil {
			return c, fmt.Errorf("replace: %w", err)
		}
	}
	n := int64(strings.Count(s, old))
	if count >= 0 {
		n = min(n, count)
	}
	if grow := int64(len(with) - len(old)); grow > 0 && n*grow > maxValue {
		return jinja.None(), fmt.Errorf("replace: %w", errSize)
	}
	return jinja.NewString(strings.Replace(s, old, with, int(n))), nil
}

func join(args []value, kwargs map[string]value) (value, error) {
	sep := ""
	if v, ok := argument(args, kwargs, 1, "d"); ok {
		sep = text(v)
	}
	seq, err := list(args[:1], nil)
	if err != nil {
		return seq, fmt.Errorf("join: %w", err)
	}
	attribute, byAttribute := argument(args, kwargs, 2, "attribute")
	parts, n := make([]string, 0, seq.AsList().Len()), 0
	for _, item := range seq.AsList().Items {
		if byAttribute && item.IsDict() {
			item, _ = item.AsDict().Get(text(attribute))
		}
		if _, ok := measure(item, maxDepth, maxValue); !ok {
			return seq, fmt.Errorf("join: %w", errSize)
		}
		s := text(item)
		if n += len(s) + len(sep); n > maxValue {
			return seq, fmt.Errorf("join: %w", errSize)
		}
		parts = append(parts, s)
	}
	return jinja.NewString(strings.Join(parts, sep)), nil
}

func indent(args []value, kwargs map[string]value) (value, error) {
	width, first, blank := int64(4), false, false
	if v, ok := argument(args, kwargs, 1, "width"); ok {
		var err error
		if width, err = number(v); err != nil || width < 0 || width > 256 {
			return v, errors.New("indent: the width must be a number from 0 to 256")
		}
	}
	if v, ok := argument(args, kwargs, 2, "first"); ok {
		first = v.IsTruthy()
	}
	if v, ok := argument(args, kwargs, 3, "blank"); ok {
		blank = v.IsTruthy()
	}
	s := text(args[0])
	if err := fits(len(s) + int(width)*(strings.Count(s, "\n")+1)); err != nil {
		return jinja.None(), fmt.Errorf("indent: %w", err)
	}
	pad := strings.Repeat(" ", int(width))
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if i == 0 && first || i > 0 && (blank || line != "") {
			lines[i] = pad + line
		}
	}
	return jinja.NewString(strings.Join(lines, "\n")), nil
}

func split(args []value, kwargs map[string]value) (value, error) {
	if !args[0].IsString() {
		return jinja.None(), errors.New("split is a method of text")
	}
	s, limit := args[0].AsString(), int64(-1)
	if v, ok := argument(args, kwargs, 2, "maxsplit"); ok {
		var err error
		if limit, err = number(v); err != nil {
			return v, fmt.Errorf("split: %w", err)
		}
	}
	sep, ok := argument(args, kwargs, 1, "sep")
	var parts []string
	switch {
	case !ok || sep.IsNone():
		if limit >= 0 {
			return jinja.None(), errors.New("split: maxsplit needs a separator")
		}
		parts = strings.FieldsFunc(s, isSpace)
	case !sep.IsString() || sep.AsString() == "":
		return sep, errors.New("split: the separator is empty")
	default:
		n := int64(strings.Count(s, sep.AsString()))
		if limit >= 0 {
			n = min(n, limit)
		}
		if err := items(int(n)); err != nil {
			return jinja.None(), fmt.Errorf("split: %w", err)
		}
		parts = strings.SplitN(s, sep.AsString(), int(n)+1)
	}
	if err := items(len(parts)); err != nil {
		return jinja.None(), fmt.Errorf("split: %w", err)
	}
	out := make([]value, len(parts))
	for i, p := range parts {
		out[i] = jinja.NewString(p)
	}
	return jinja.NewList(out), nil
}

// strip is Python's strip, lstrip or rstrip.
func strip(left, right bool) function {
	return func(args []value, kwargs map[string]value) (value, error) {
		s, cut := text(args[0]), isSpace
		if v, ok := argument(args, kwargs, 1, "chars"); ok && !v.IsNone() {
			chars := text(v)
			if len(chars) > 64 {
				return v, errors.New("strip: more than 64 bytes of characters to strip")
			}
			cut = func(r rune) bool { return strings.ContainsRune(chars, r) }
		}
		if left {
			s = strings.TrimLeftFunc(s, cut)
		}
		if right {
			s = strings.TrimRightFunc(s, cut)
		}
		return jinja.NewString(s), nil
	}
}

// list is Python's list of a list, a text or a mapping (its keys).
func list(args []value, _ map[string]value) (value, error) {
	var out []value
	switch v := args[0]; {
	case v.IsList():
		out = append(out, v.AsList().Items...)
	case v.IsString():
		if err := items(utf8.RuneCountInString(v.AsString())); err != nil {
			return v, err
		}
		for _, r := range v.AsString() {
			out = append(out, jinja.NewString(string(r)))
		}
	case v.IsDict():
		for _, k := range v.AsDict().Keys {
			out = append(out, jinja.NewString(k))
		}
	case v.IsUndefined():
	default:
		return v, fmt.Errorf("%.40s is not a list", text(v))
	}
	return jinja.NewList(out), nil
}

// slice is x[start:stop:step] of Python.
func slice(args []value, _ map[string]value) (value, error) {
	x := args[0]
	var runes []rune
	n := 0
	switch {
	case x.IsList():
		n = x.AsList().Len()
	case x.IsString():
		runes = []rune(x.AsString())
		n = len(runes)
	default:
		return x, fmt.Errorf("%.40s has no slices", text(x))
	}
	step := int64(1)
	if len(args) > 3 && !args[3].IsNone() {
		var err error
		if step, err = number(args[3]); err != nil || step == 0 || step < -1<<31 || step > 1<<31 {
			return x, errors.New("the step of a slice must be a number, not 0")
		}
	}
	low, high := int64(0), int64(n)
	start, stop := low, high
	if step < 0 {
		low, high = -1, int64(n)-1
		start, stop = high, low
	}
	for i, p := range []*int64{&start, &stop} {
		if i+1 >= len(args) || args[i+1].IsNone() {
			continue
		}
		v, err := number(args[i+1])
		if err != nil {
			return x, fmt.Errorf("slice: %w", err)
		}
		if v < 0 {
			v += int64(n)
		}
		*p = min(max(v, low), high)
	}
	var some []value
	var chars []rune
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if x.IsList() {
			some = append(some, x.AsList().Items[i])
		} else {
			chars = append(chars, runes[i])
		}
	}
	if x.IsList() {
		return jinja.NewList(some), nil
	}
	return jinja.NewString(string(chars)), nil
}
