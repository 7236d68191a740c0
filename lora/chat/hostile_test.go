package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var hi = []Message{{Role: "user", Content: "hi"}}

// Templates that would take all time or memory must end soon, with an error.
func TestHostileTemplatesEnd(t *testing.T) {
	double := "{% set x = 'abcdefgh' %}" + strings.Repeat("{% set x = x ~ x %}", 60)
	lists := "{% set x = [1] %}" + strings.Repeat("{% set x = [x, x] %}", 60)
	nested := ""
	for i := range 12 {
		nested += fmt.Sprintf("{%% for a%d in range(100000) %%}", i)
	}
	for name, src := range map[string]string{
		"strings double":         double,
		"strings double by +":    strings.ReplaceAll(double, "~", "+"),
		"strings double, output": double + "{{ x }}",
		"lists double":           lists + "{{ x }}",
		"lists double, compared": lists + "{% if x == [x] %}{% endif %}",
		"loops in loops":         nested + "x" + strings.Repeat("{% endfor %}", 12),
		"loops in loops, mute":   nested + strings.Repeat("{% endfor %}", 12),
		"macro calls itself":     "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"macro tree":             "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(20) }}",
		"macro argument doubles": "{% macro f(s) %}{{ f(s ~ s) }}{% endmacro %}{{ f('abcdefghijklmnop') }}",
		"set block doubles":      "{% set x = 'abcdefgh' %}" + strings.Repeat("{% set x %}{{ x }}{{ x }}{% endset %}", 60),
		"namespace in itself":    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
		"namespaces share":       "{% set ns = namespace() %}{% set x = [ns] %}" + strings.Repeat("{% set x = [x, x] %}", 15) + "{% set ns.a = 'y' * 9 %}{% set ns.a = range(9000)|join('-') %}{{ x }}",
		"range":                  "{% for i in range(1000000000) %}{% endfor %}",
		"range, far":             "{{ range(99999999999999, 0, -1) }}",
		"replace squares":        "{% set x = range(9999)|join %}{{ x|replace('', x) }}",
		"replace method":         "{% set x = range(9999)|join %}{{ x.replace('', x) }}",
		"join multiplies":        "{% set x = range(9999)|join %}{{ x|list|join(x) }}",
		"indent":                 "{{ 'x'|indent(1000000000, true) }}",
		"repeat":                 "{{ 'x' * 1000000000 }}",
		"repeat, chained":        "{{ 'x' * 9 * 9 * 9 * 9 * 9 * 9 * 9 * 9 * 9 * 9 * 9 * 9 }}",
		"repeat, hidden":         "{% set n = 1000000000 %}{{ 'x' * n }}",
		"repeat, behind":         "{% set n = 1000000000 %}{{ 'x' * 2 * n }}",
		"tojson escapes":         "{% set x = '\"\\\\' %}" + strings.Repeat("{% set x = x|tojson|tojson|tojson|tojson %}", 20),
		"stored method":          "{% set f = 'x'.replace %}{{ f('x', 'y') }}",
		"inner filter":           "{{ __filter_replace('a', '', 'b') }}",
		"inner budget":           "{% set __pre = 1 %}",
		"cycler":                 "{% set c = cycler('a') %}",
		"joiner doubles":         "{% set j = joiner('abcdefgh') %}" + strings.Repeat("{% set _ = j() %}{% set j = joiner(j() ~ j()) %}", 60),
		"append":                 "{% set x = [] %}{% set _ = x.append(x) %}{{ x }}",
		"files":                  "{% include '/etc/passwd' %}",
		"imports":                "{% from 'x' import y %}",
		"python":                 "{{ ''.__class__.__mro__ }}",
		"brackets":               "{{ " + strings.Repeat("(", 100_000) + strings.Repeat(")", 100_000) + " }}",
		"not not":                "{{ " + strings.Repeat("not ", 60_000) + "1 }}",
		"blocks":                 strings.Repeat("{% if 1 %}", 10_000),
		"long":                   strings.Repeat("x", maxTemplate+1),
		"quadratic test":         "{{ range(99999)|list|select('in', range(99999))|list|length }}",
		"slice":                  "{{ messages[0:99999999999999999:2] }}{{ messages[::0] }}",
		"not closed":             "{{ 'x",
		"not closed, comment":    "{# x",
		"not closed, block":      "{% for m in messages %}",
		"end alone":              "{% endif %}",
		"filter misused":         "{{ messages|batch }}{{ messages|selectattr }}",
		"divide":                 "{{ 1 * }}",
		"star first":             "{{ * 2 }}",
		"empty tag":              "{% %}",
		"break alone":            "{% break %}",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			out, err := Render(src, hi, Options{})
			var e *Error
			if !errors.As(err, &e) || out != "" {
				t.Errorf("%d bytes of output, error %v", len(out), err)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			} else if d > time.Second {
				t.Logf("took %v", d)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"a\n{{ 'x'|md5 }}", `chat template: line 2: filter "md5" is not supported`},
		{"{{ x.format(1) }}", `chat template: line 1: method "format" is not supported`},
		{"\n\n{% include 'x' %}", `chat template: line 3: statement "include" is not supported`},
		{"{% foo %}", `chat template: line 1: unknown statement "foo"`},
		{"{{ 'a' % 3 }}", "chat template: line 1: formatting with % is not supported"},
		{"a\n\n{{ x", "chat template: line 3: a tag is not closed"},
		{"a\n\n{{ 1 if }}", "chat template: jinja parse: line 3: "},
		{"{{ raise_exception('no') }}", "chat template: the template refuses the messages: no"},
		{"{{ strftime_now('%Q') }}", "chat template: strftime_now: %Q is not supported"},
		{"{{ messages|map('upper') }}", "chat template: line 1: filter map is supported with attribute= only"},
	} {
		if _, err := Render(c.src, hi, Options{}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.src, err, c.want)
		}
	}
	if _, err := Render("x", []Message{{Fields: map[string]json.RawMessage{"a": json.RawMessage("[1,")}}}, Options{}); err == nil ||
		!strings.HasPrefix(err.Error(), "chat template: messages[0].a: offset 3: ") {
		t.Errorf("bad JSON in a message: %v", err)
	}
	if _, err := Render("x", hi, Options{Tools: []json.RawMessage{json.RawMessage("{} {}")}}); err == nil ||
		!strings.HasPrefix(err.Error(), "chat template: tools[0]: offset ") {
		t.Errorf("two JSON values as a tool: %v", err)
	}
}

// A long honest conversation stays well within the bounds.
func TestLongConversation(t *testing.T) {
	g := readGolden(t)
	var messages []Message
	for i := range 200 {
		messages = append(messages, Message{Role: []string{"user", "assistant"}[i%2], Content: strings.Repeat("word ", 1000)})
	}
	for _, name := range []string{"chatml", "qwen2", "llama3", "gemma", "blocks"} {
		out, err := Render(g.Templates[name], messages, Options{AddGenerationPrompt: true})
		if err != nil || len(out) < 200*4900 {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
}

func TestTemplateIsReusable(t *testing.T) {
	g := readGolden(t)
	tmpl, err := Parse(g.Templates["macros"])
	if err != nil {
		t.Fatal(err)
	}
	a, err := tmpl.Render(g.messages(t, "system"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := tmpl.Render(g.messages(t, "system"), Options{}); err != nil || a != b {
		t.Errorf("the second rendering differs: %v", err)
	}
}

func FuzzRender(f *testing.F) {
	g := readGolden(f)
	for _, src := range g.Templates {
		f.Add(src)
	}
	f.Add("{% set x = 'ab' %}{% for i in range(9) %}{% set x = x ~ x[1:] %}{{ x|tojson }}{% endfor %}")
	messages := g.messages(f, "tools")
	f.Fuzz(func(t *testing.T, src string) {
		start := time.Now()
		out, err := Render(src, messages, Options{AddGenerationPrompt: true, Tools: g.Tools})
		var e *Error
		if err != nil && (!errors.As(err, &e) || out != "") {
			t.Fatalf("error %v of type %T with output %q", err, err, out)
		}
		if len(out) > maxOutput {
			t.Fatalf("%d bytes of output", len(out))
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Fatalf("took %v", d)
		}
	})
}

func BenchmarkRender(b *testing.B) {
	g := readGolden(b)
	messages := g.messages(b, "system")
	for _, name := range []string{"chatml", "llama3"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Render(g.Templates[name], messages, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
