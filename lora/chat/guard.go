package chat

import (
	"fmt"
	"strings"
)

// guard rewrites a template so that the library runs it within bounds that the
// library does not have itself. What it relies on:
//
//   - Every tag first calls __pre(k, g), which admits the work the tag can cause: k
//     operations over values of at most budget.size bytes, and g joins, which copy
//     what is already joined. It also counts tags and looks at the clock. Loop bodies
//     and macros call it on each entry.
//   - Every value that gets a name passes through __val, __iter, __chk or __enter, which
//     measure it (deeply, cyclic values included) and so keep budget.size true.
//   - Operations whose result can be much larger than their operands (replace, join,
//     indent, tojson, slices, split, list, range) are replaced by bounded ones; all others of
//     that kind are refused. Attributes that name methods are read as keys, so that no
//     method can be stored and called under another name.
//   - Methods that change a list or mapping in place are refused, as in transformers' sandbox;
//     what can change, a namespace, is measured again with all that may contain it.
//   - All output, text included, passes through __out, which counts it.
//
// White space control has been applied by lex, and text becomes output of a literal,
// so the library's own, which differs from Jinja's where tags touch, has nothing to do.
type guard struct {
	out  strings.Builder
	line int      // of the rewritten template, kept equal to the source's
	open []string // blocks
}

// Filters that the library may run itself: none makes more of its input than a constant factor.
var safeFilters = words(`abs batch capitalize count d default dictsort first float int items last length lower
	map reject rejectattr reverse round safe select selectattr string sum title unique upper wordcount`)

// Filters and methods with bounded versions here.
var ownFilters = words(`indent join list replace tojson trim`)
var ownMethods = words(`lstrip replace rstrip split strip`)

var safeMethods = words(`capitalize count cycle endswith find get items keys lower startswith title upper values`)

// Tests that select and its kin may apply: those that cost no more than the value tested.
var safeTests = words(`boolean defined eq equalto even false float ge greaterthan gt integer iterable le lessthan lower lt mapping ne
	none number odd sequence string true undefined upper`)

// allMethods are the attribute names that the library resolves to methods.
var allMethods = words(`append capitalize count endswith find format get insert items keys lower lstrip pop replace
	rstrip split startswith strip title update upper values`)

var refused = map[string]bool{"block": true, "extends": true, "include": true, "import": true, "from": true, "call": true,
	"filter": true, "raw": true, "with": true, "autoescape": true, "do": true, "trans": true}

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// rewrite returns the guarded form of a template.
func rewrite(src string) (string, error) {
	if len(src) > maxTemplate {
		return "", fmt.Errorf("the template has %d bytes, at most %d", len(src), maxTemplate)
	}
	segs, err := lex(src)
	if err != nil {
		return "", err
	}
	g := &guard{line: 1}
	for _, s := range segs {
		var err error
		switch s.kind {
		case segText:
			if s.text != "" {
				g.tag("{{", s.line, "__out ( __pre ( 0 , 0 ) , "+quote(s.text)+" )", "}}")
			}
		case segOutput:
			var e string
			var cost cost
			if e, cost, err = expression(s.toks); err == nil {
				g.tag("{{", s.line, "__out ( "+cost.pre()+" , "+e+" )", "}}")
			}
		case segStatement:
			err = g.statement(s)
		}
		if err != nil {
			return "", fmt.Errorf("line %d: %w", s.line, err)
		}
	}
	if len(g.open) > 0 {
		return "", fmt.Errorf("block %q is not closed", g.open[len(g.open)-1])
	}
	return g.out.String(), nil
}

// tag writes a tag such that it begins on its line of the source.
func (g *guard) tag(opener string, line int, body, closer string) {
	g.out.WriteString(opener)
	g.out.WriteByte(' ')
	for g.line < line {
		g.out.WriteByte('\n')
		g.line++
	}
	g.out.WriteString(body)
	g.line += strings.Count(body, "\n")
	g.out.WriteByte(' ')
	g.out.WriteString(closer)
}

// do writes a call for its effect.
func (g *guard) do(line int, call string) { g.tag("{%", line, "set __t = "+call, "%}") }

// quote writes a string literal in the escapes that the library knows.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func (g *guard) statement(s segment) error {
	if len(s.toks) == 0 || s.toks[0].kind != tokName {
		return fmt.Errorf("a statement begins with a name")
	}
	key, toks := s.toks[0].text, s.toks[1:]
	if block, ok := strings.CutPrefix(key, "end"); ok {
		return g.end(s, block, toks)
	}
	switch key {
	case "if", "elif":
		e, c, err := expression(toks)
		if err != nil {
			return err
		}
		g.tag("{%", s.line, key+" "+c.pre()+" or ( "+e+" )", "%}")
		if key == "if" {
			return g.push(key)
		}
		return g.inside(key, "if")
	case "else":
		if len(toks) > 0 {
			return fmt.Errorf("unexpected %q behind else", toks[0].text)
		}
		g.tag("{%", s.line, key, "%}")
		return g.inside(key, "if", "for")
	case "for":
		return g.forLoop(s, toks)
	case "set":
		return g.set(s, toks)
	case "macro":
		return g.macro(s, toks)
	case "break", "continue":
		for i := len(g.open) - 1; i >= 0 && g.open[i] != "macro"; i-- {
			if g.open[i] == "for" && len(toks) == 0 {
				g.tag("{%", s.line, key, "%}")
				return nil
			}
		}
		return fmt.Errorf("%s outside a loop", key)
	case "generation": // marks what the assistant says, for training; prints nothing
		return g.push(key)
	}
	if refused[key] {
		return fmt.Errorf("statement %q is not supported", key)
	}
	return fmt.Errorf("unknown statement %.40q", key)
}

func (g *guard) push(block string) error {
	if g.open = append(g.open, block); len(g.open) > maxNesting {
		return fmt.Errorf("more than %d blocks in one another", maxNesting)
	}
	return nil
}

func (g *guard) inside(key string, blocks ...string) error {
	for _, b := range blocks {
		if len(g.open) > 0 && g.open[len(g.open)-1] == b {
			return nil
		}
	}
	return fmt.Errorf("unexpected %q", key)
}

// end closes a block. A set block is remembered as "set NAME".
func (g *guard) end(s segment, block string, toks []token) error {
	n := len(g.open)
	if n == 0 || strings.Fields(g.open[n-1])[0] != block || len(toks) > 0 && block != "macro" {
		return fmt.Errorf("unexpected %.40q", s.toks[0].text)
	}
	top := g.open[n-1]
	g.open = g.open[:n-1]
	switch block {
	case "generation":
		return nil
	case "macro":
		g.do(s.line, "__leave ( )")
	}
	g.tag("{%", s.line, "end"+block, "%}")
	if name, ok := strings.CutPrefix(top, "set "); ok {
		g.do(s.line, "__chk ( "+name+" )")
	}
	return nil
}

func (g *guard) forLoop(s segment, toks []token) error {
	in := index(toks, "in")
	if in < 0 {
		return fmt.Errorf("for without in")
	}
	names, err := nameList(toks[:in])
	if err != nil || len(names) > 2 {
		return fmt.Errorf("for is supported with one or two names")
	}
	iter, cond := toks[in+1:], []token(nil)
	if index(iter, "recursive") >= 0 {
		return fmt.Errorf("recursive loops are not supported")
	}
	if at := index(iter, "if"); at >= 0 {
		iter, cond = iter[:at], iter[at+1:]
		if len(names) > 1 {
			return fmt.Errorf("for with two names and if is not supported")
		}
	}
	e, c, err := expression(iter)
	if err != nil {
		return err
	}
	head := "for " + strings.Join(names, " , ") + " in __iter ( " + c.pre() + " , " + e + " )"
	if cond != nil {
		if e, c, err = expression(cond); err != nil {
			return err
		}
		head += " if not " + c.pre() + " and ( " + e + " )"
	}
	g.tag("{%", s.line, head, "%}")
	g.do(s.line, "__pre ( 1 , 0 )")
	return g.push("for")
}

func (g *guard) set(s segment, toks []token) error {
	if len(toks) == 1 && toks[0].kind == tokName {
		if err := bindable(toks[0].text); err != nil {
			return err
		}
		g.tag("{%", s.line, "set "+toks[0].text, "%}")
		return g.push("set " + toks[0].text)
	}
	target := 1
	if len(toks) > 3 && toks[1].is(".") && toks[2].kind == tokName {
		target = 3
	}
	if len(toks) <= target+1 || toks[0].kind != tokName || !toks[target].is("=") {
		return fmt.Errorf("set is supported as NAME = value and NAME.ATTRIBUTE = value")
	}
	if err := bindable(toks[0].text); err != nil {
		return err
	}
	e, c, err := expression(toks[target+1:])
	if err != nil {
		return err
	}
	name := toks[0].text
	if target == 3 {
		name += "." + toks[2].text
	}
	g.tag("{%", s.line, "set "+name+" = __val ( "+c.pre()+" , "+e+" )", "%}")
	if target == 3 { // the namespace grew, and may now contain itself
		g.do(s.line, "__chk ( "+toks[0].text+" )")
	}
	return nil
}

func (g *guard) macro(s segment, toks []token) error {
	if index(toks, "(") != 1 || toks[0].kind != tokName || !toks[len(toks)-1].is(")") {
		return fmt.Errorf("a macro needs a name and parameters in brackets")
	}
	for _, open := range g.open {
		if open == "macro" {
			return fmt.Errorf("a macro in a macro is not supported")
		}
	}
	if err := bindable(toks[0].text); err != nil {
		return err
	}
	var params, names []string
	for rest := toks[2 : len(toks)-1]; len(rest) > 0; {
		n := index(rest, ",")
		one := rest
		if rest = nil; n >= 0 {
			rest = one[n+1:]
			one = one[:n]
		}
		ok := len(one) == 1 || len(one) == 3 && one[1].is("=") && one[2].kind != tokOp && !strings.ContainsAny(one[2].text, ",)=")
		if !ok || one[0].kind != tokName {
			return fmt.Errorf("macro parameters are supported with one literal as default")
		}
		if err := bindable(one[0].text); err != nil {
			return err
		}
		p := one[0].text
		names = append(names, p)
		if len(one) == 3 {
			p += " = " + one[2].write()
		}
		params = append(params, p)
	}
	g.tag("{%", s.line, "macro "+toks[0].text+" ( "+strings.Join(params, " , ")+" )", "%}")
	g.do(s.line, "__enter ( "+strings.Join(names, " , ")+" )")
	return g.push("macro")
}

// bindable refuses names that are words of the language.
func bindable(name string) error {
	switch strings.ToLower(name) {
	case "if", "else", "in", "is", "not", "and", "or", "for", "true", "false", "none", "null", "recursive", "loop":
		return fmt.Errorf("%q cannot be a name", name)
	}
	return nil
}

// nameList reads names with commas between them.
func nameList(toks []token) (names []string, err error) {
	for i, t := range toks {
		if i%2 == 1 {
			if !t.is(",") {
				return nil, fmt.Errorf("unexpected %.40q", t.text)
			}
			continue
		}
		if t.kind != tokName {
			return nil, fmt.Errorf("unexpected %.40q", t.text)
		}
		if err := bindable(t.text); err != nil {
			return nil, err
		}
		names = append(names, t.text)
	}
	if len(toks)%2 == 0 {
		return nil, fmt.Errorf("a name is missing")
	}
	return names, nil
}

// index returns where a name or operator stands outside brackets, or -1. An opening bracket is outside of itself.
func index(toks []token, text string) int {
	depth := 0
	for i, t := range toks {
		if depth == 0 && t.text == text && t.kind != tokString {
			return i
		}
		if t.kind == tokOp {
			switch t.text {
			case "(", "[", "{":
				depth++
			case ")", "]", "}":
				depth--
			}
		}
	}
	return -1
}

func (t token) write() string {
	if t.kind == tokString {
		return quote(t.text)
	}
	return t.text
}

// cost is what one evaluation of a tag can do: ops operations that look at whole values, joins of them.
type cost struct {
	ops, joins int
	repeats    bool
}

func (c cost) pre() string { return fmt.Sprintf("__pre ( %d , %d )", c.ops, c.joins) }

// expression guards the tokens of an expression.
func expression(toks []token) (string, cost, error) {
	if len(toks) == 0 {
		return "", cost{}, fmt.Errorf("an expression is missing")
	}
	c := cost{ops: 1}
	var out []string
	var slices []int // by open bracket: the colons to come if it is a slice, else -1
	for i, t := range toks {
		prev, next := token{kind: tokOp}, token{kind: tokOp}
		if i > 0 {
			prev = toks[i-1]
		}
		if i+1 < len(toks) {
			next = toks[i+1]
		}
		w := t.write()
		switch {
		case t.kind == tokName && prev.is("."):
			call := next.is("(")
			switch {
			case call && ownMethods[w]:
				out[len(out)-1] = "|"
				w = "__" + w
				c.joins++
			case call && !safeMethods[w]:
				return "", c, fmt.Errorf("method %.40q is not supported", w)
			case !call && allMethods[w]:
				out = out[:len(out)-1]
				w = "[ '" + w + "' ]"
			}
		case t.kind == tokName && prev.is("|"):
			switch {
			case ownFilters[w]:
				w = "__" + w
				c.joins++
			case !safeFilters[w]:
				return "", c, fmt.Errorf("filter %.40q is not supported", w)
			}
			if err := selector(w, toks[i+1:]); err != nil {
				return "", c, err
			}
			c.ops++
		case t.kind == tokName && w == "in":
			c.ops++
		case t.kind == tokString && i > 2 && prev.is("(") && next.is(")") && toks[i-3].is("|") &&
			(toks[i-2].text == "selectattr" || toks[i-2].text == "rejectattr"):
			w += " , 'truthy'" // the library panics when the test is left out
		case t.kind == tokOp:
			c.ops++
			var err error
			if w, slices, err = operator(toks, i, slices, &c); err != nil {
				return "", c, err
			}
		}
		out = append(out, w)
	}
	return strings.Join(out, " "), c, nil
}

// selector checks the arguments of the filters that take an attribute or a test by name.
func selector(filter string, args []token) error {
	at := func(i int) token {
		if i < len(args) {
			return args[i]
		}
		return token{kind: tokOp}
	}
	test := 1
	switch filter {
	default:
		return nil
	case "map":
		if !at(0).is("(") || at(1).text != "attribute" || !at(2).is("=") {
			return fmt.Errorf("filter map is supported with attribute= only")
		}
		return nil
	case "selectattr", "rejectattr":
		if at(0).is("(") && at(1).kind == tokString && at(2).is(")") {
			return nil // true or false
		}
		if at(1).kind != tokString || !at(2).is(",") {
			return fmt.Errorf("filter %s is supported with an attribute and a test in quotes", filter)
		}
		test = 3
	case "select", "reject":
	}
	if t := at(test); !at(0).is("(") || t.kind != tokString || !safeTests[t.text] || !at(test+1).is(")") && !at(test+1).is(",") {
		return fmt.Errorf("filter %s with test %.40q is not supported", filter, t.text)
	}
	return nil
}

// operator guards one operator; slices is the stack of open brackets.
func operator(toks []token, i int, slices []int, c *cost) (string, []int, error) {
	w := toks[i].text
	ends := i > 0 && (toks[i-1].kind != tokOp || strings.Contains(")]}", toks[i-1].text)) // an operand ends before
	switch w {
	case "~", "+":
		c.joins++
	case "*":
		// Repeating a string is the one operator that multiplies sizes.
		front := i > 0 && toks[i-1].kind == tokNumber && !(i > 1 && toks[i-2].is("."))
		behind := i+1 < len(toks) && toks[i+1].kind == tokNumber && len(toks[i+1].text) == 1
		if c.repeats || !front && !behind {
			return "", nil, fmt.Errorf("* is supported once in a tag, with a number in front, or of one digit behind")
		}
		c.repeats = true
		c.joins += 9
	case "%":
		if i > 0 && toks[i-1].kind == tokString {
			return "", nil, fmt.Errorf("formatting with %% is not supported")
		}
	case "[":
		colons := 0
		if ends {
			colons = countColons(toks[i+1:])
		}
		if colons > 2 {
			return "", nil, fmt.Errorf("a slice has at most two colons")
		}
		if colons > 0 {
			c.joins++
			return openSlice(toks, i), append(slices, colons), nil
		}
		return w, append(slices, -1), nil
	case "(", "{":
		return w, append(slices, -1), nil
	case ")", "]", "}":
		n := len(slices) - 1
		if n < 0 {
			return "", nil, fmt.Errorf("unexpected %q", w)
		}
		if slices[n] >= 0 {
			if toks[i-1].is(":") {
				w = "none )"
			} else {
				w = ")"
			}
		}
		return w, slices[:n], nil
	case ":":
		if n := len(slices) - 1; n >= 0 && slices[n] > 0 {
			w = ","
			if toks[i-1].is(":") {
				w = "none ,"
			}
		}
	}
	return w, slices, nil
}

// openSlice begins x[a:b:c], written as x | __slice(a, b, c) with none for what is left out.
func openSlice(toks []token, i int) string {
	if toks[i+1].is(":") {
		return "| __slice ( none"
	}
	return "| __slice ("
}

// countColons counts the colons up to the bracket that closes what was open before toks.
func countColons(toks []token) (n int) {
	depth := 0
	for _, t := range toks {
		if t.kind != tokOp {
			continue
		}
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			if depth--; depth < 0 {
				return n
			}
		case ":":
			if depth == 0 {
				n++
			}
		}
	}
	return n
}
