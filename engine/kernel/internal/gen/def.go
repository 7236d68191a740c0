package main

import (
	"fmt"
	"go/token"
	"regexp"
	"strings"
)

// kind says who calls a kernel.
type kind int

const (
	deviceKernel kind = iota // an exported method of kernel.Device
	sysKernel                // an unexported one
	hostKernel               // no method: called by the host that instantiates the module
)

// kernel is one line of kernels.def.
type kernel struct {
	kind   kind
	name   string
	args   []arg
	result string // "" for none
}

type arg struct{ typ, name string }

// Spellings of the four types of kernels.def.
var (
	cTypes  = map[string]string{"addr": "void *", "i32": "int32_t ", "i64": "int64_t ", "f32": "float "}
	goTypes = map[string]string{"addr": "Addr", "i32": "int32", "i64": "int64", "f32": "float32"}
	encode  = map[string]string{"addr": "uint64(%s)", "i32": "uint64(uint32(%s))", "i64": "uint64(%s)", "f32": "uint64(math.Float32bits(%s))"}
	decode  = map[string]string{"i32": "int32(uint32(%s))", "i64": "int64(%s)", "f32": "math.Float32frombits(uint32(%s))"}
)

// maxArgs is the size of Device.stack in device_native.go.
const maxArgs = 32

var (
	lineForm = regexp.MustCompile(`^(?:(sys|host)\s+)?([a-z][a-z0-9_]*)\(([^()]*)\)(?:\s+(\w+))?$`)
	argForm  = regexp.MustCompile(`^(addr|i32|i64|f32)\s+([a-z][a-z0-9_]*)$`)
)

// parse reads the lines of kernels.def; errors name the file and the line.
func parse(file, text string) ([]kernel, error) {
	var kernels []kernel
	seen := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := lineForm.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%s:%d: want `[sys|host] name(type arg, ...) [result]`, have %q", file, i+1, line)
		}
		k := kernel{name: m[2], result: m[4]}
		switch m[1] {
		case "sys":
			k.kind = sysKernel
		case "host":
			k.kind = hostKernel
		}
		if _, ok := decode[k.result]; k.result != "" && !ok {
			return nil, fmt.Errorf("%s:%d: unknown result type %q", file, i+1, k.result)
		}
		if seen[k.name] {
			return nil, fmt.Errorf("%s:%d: %s is listed twice", file, i+1, k.name)
		}
		seen[k.name] = true
		if args := strings.TrimSpace(m[3]); args != "" {
			names := map[string]bool{}
			for _, a := range strings.Split(args, ",") {
				am := argForm.FindStringSubmatch(strings.TrimSpace(a))
				if am == nil {
					return nil, fmt.Errorf("%s:%d: want `type name`, have %q", file, i+1, a)
				}
				if names[am[2]] {
					return nil, fmt.Errorf("%s:%d: argument %s is named twice", file, i+1, am[2])
				}
				names[am[2]] = true
				k.args = append(k.args, arg{am[1], am[2]})
			}
		}
		if len(k.args) > maxArgs {
			return nil, fmt.Errorf("%s:%d: %s has %d arguments, the most is %d", file, i+1, k.name, len(k.args), maxArgs)
		}
		kernels = append(kernels, k)
	}
	return kernels, nil
}

// method is the name of k's Go method: f32_gemm_nt gives F32GemmNT.
func (k kernel) method() string {
	name := camel(k.name)
	if k.kind == sysKernel {
		return strings.ToLower(name[:1]) + name[1:]
	}
	return name
}

// initialisms stay in capitals.
var initialisms = map[string]string{"nt": "NT", "nn": "NN", "bmm": "BMM", "nll": "NLL"}

// camel turns a snake_case name into CamelCase.
func camel(name string) string {
	var b strings.Builder
	for _, part := range strings.Split(name, "_") {
		if part == "" {
			continue
		}
		if s, ok := initialisms[part]; ok {
			b.WriteString(s)
		} else {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// goArg is the Go spelling of an argument's name: camelCase, never a keyword or a name the
// generated body uses.
func goArg(name string) string {
	s := camel(name)
	s = strings.ToLower(s[:1]) + s[1:]
	if strings.ToUpper(s) == s || initialisms[name] != "" {
		s = strings.ToLower(s)
	}
	if token.IsKeyword(s) || s == "d" || s == "s" || s == "math" {
		s += "_"
	}
	return s
}
