package engine

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed schemas.txt
var schemaText string

// argKind is the type of one operator argument, as the schema declares it.
type argKind uint8

const (
	argTensor argKind = iota
	argTensorList
	argInt    // int, SymInt, ScalarType, MemoryFormat, Layout, Device
	argFloat  // float
	argScalar // Scalar: int, float or bool
	argBool
	argString
	argIntList
	argFloatList
	argBoolList
)

// SchemaArg is one argument of an operator.
type SchemaArg struct {
	Name     string
	kind     argKind
	Optional bool // None is accepted
	Writes   bool // the operator writes this tensor: an out argument or an in-place one
	Out      bool // only written: an out argument, or a returned number
}

// Schema is an operator's signature. A program's call lists the arguments in this order and, after them, the returned values
// (which repeat the out arguments); Args has the former, and one entry for the result of an operator that returns a number.
type Schema struct {
	Name string
	Args []SchemaArg
}

// Index returns the position of the named argument, or -1.
func (s *Schema) Index(name string) int {
	for i := range s.Args {
		if s.Args[i].Name == name {
			return i
		}
	}
	return -1
}

// ParseSchema reads a signature in PyTorch's notation, e.g.
// "aten::add.out(Tensor self, Tensor other, *, Scalar alpha=1, Tensor(a!) out) -> Tensor(a!)".
// A written argument after "*" is an out argument.
func ParseSchema(line string) (*Schema, error) {
	open := strings.IndexByte(line, '(')
	arrow := strings.LastIndex(line, ") -> ")
	if open <= 0 || arrow < open {
		return nil, fmt.Errorf("operator schema %q: want name(args) -> result", line)
	}
	s := &Schema{Name: line[:open]}
	keyword := false
	for _, part := range splitArgs(line[open+1 : arrow]) {
		if part == "*" {
			keyword = true
			continue
		}
		if eq := strings.IndexByte(part, '='); eq >= 0 {
			part = part[:eq]
		}
		sp := strings.LastIndexByte(part, ' ')
		if sp < 0 {
			return nil, fmt.Errorf("operator schema %q: argument %q has no type", line, part)
		}
		a := SchemaArg{Name: part[sp+1:]}
		if err := a.setType(part[:sp]); err != nil {
			return nil, fmt.Errorf("operator schema %q: %w", line, err)
		}
		a.Out = a.Writes && keyword
		s.Args = append(s.Args, a)
	}
	switch ret := line[arrow+5:]; ret {
	case "Scalar", "SymInt", "int", "bool", "float":
		s.Args = append(s.Args, SchemaArg{Name: "return", kind: argScalar, Writes: true, Out: true})
	}
	return s, nil
}

// splitArgs splits at the commas outside brackets.
func splitArgs(s string) []string {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, strings.TrimSpace(s[start:i]))
				start = i + 1
			}
		}
	}
	if p := strings.TrimSpace(s[start:]); p != "" {
		parts = append(parts, p)
	}
	return parts
}

func (a *SchemaArg) setType(t string) error {
	if i := strings.IndexByte(t, '('); i >= 0 {
		j := strings.IndexByte(t, ')')
		if j < i {
			return fmt.Errorf("type %q", t)
		}
		a.Writes = strings.Contains(t[i:j], "!")
		t = t[:i] + t[j+1:]
	}
	if strings.HasSuffix(t, "?") {
		a.Optional = true
		t = t[:len(t)-1]
	}
	list := false
	if i := strings.IndexByte(t, '['); i >= 0 {
		list = true
		t = t[:i]
		t = strings.TrimSuffix(t, "?") // Tensor?[]: entries may be None
	}
	switch t {
	case "Tensor":
		a.kind = argTensor
		if list {
			a.kind = argTensorList
		}
	case "int", "SymInt", "ScalarType", "MemoryFormat", "Layout", "Device":
		a.kind = argInt
		if list {
			a.kind = argIntList
		}
	case "float":
		a.kind = argFloat
		if list {
			a.kind = argFloatList
		}
	case "bool":
		a.kind = argBool
		if list {
			a.kind = argBoolList
		}
	case "Scalar":
		a.kind = argScalar
	case "str":
		a.kind = argString
	default:
		return fmt.Errorf("type %q is not known", t)
	}
	return nil
}

// stockSchemas maps operator names to the signatures of schemas.txt.
var stockSchemas = sync.OnceValue(func() map[string]*Schema {
	m := make(map[string]*Schema)
	for _, line := range strings.Split(schemaText, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := ParseSchema(line)
		if err != nil {
			panic(err) // a broken build: the file is embedded and tested
		}
		m[s.Name] = s
	}
	return m
})

// StockOperators returns the names of all operators that the stock runtime registers, in the order of schemas.txt.
func StockOperators() []string {
	var names []string
	for _, line := range strings.Split(schemaText, "\n") {
		if i := strings.IndexByte(line, '('); i > 0 && line[0] != '#' {
			names = append(names, line[:i])
		}
	}
	return names
}
