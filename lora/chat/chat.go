// Package chat renders the chat templates that models carry (tokenizer.chat_template
// in GGUF, chat_template in tokenizer_config.json): Jinja, with the settings and the
// helpers that Hugging Face transformers gives it.
//
// Templates come with model files, so they are hostile until proven otherwise. The
// library that evaluates them, github.com/ardanlabs/jinja, has no access to files or to the
// network, but no bounds on time and memory either: guard.go rewrites a template
// before the library sees it, so that rendering stops with an error at the limits of
// budget.go. What is not supported is refused with the line and the construct, never
// rendered differently.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string // "system", "user", "assistant", "tool" or what else the template knows
	Content string
	// Fields are further keys of the message, such as "tool_calls": JSON values,
	// whose key order is kept.
	Fields map[string]json.RawMessage
}

// Options are the variables that a template sees besides the messages.
type Options struct {
	AddGenerationPrompt bool              // end with the opening of the assistant's turn
	BOS, EOS            string            // bos_token and eos_token, as text
	Tools               []json.RawMessage // JSON schemas of tools; none is Python's None
	Now                 time.Time         // what strftime_now reads; zero means the current time
}

// Error is a template that cannot be rendered.
type Error struct {
	// Raised is the message of raise_exception: the template refused the
	// conversation (say, two user turns in a row). Empty for all other reasons.
	Raised string
	Err    error
}

func (e *Error) Error() string {
	if e.Raised != "" {
		return "chat template: the template refuses the messages: " + e.Raised
	}
	return "chat template: " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Template is a template that was read and checked. It may be used by several goroutines.
type Template struct {
	t    *jinja.Template
	size int
}

// Parse reads a template. The error, an *Error, names the line and what is not supported.
func Parse(source string) (t *Template, err error) {
	defer catch(&err)
	guarded, err := rewrite(source)
	if err != nil {
		return nil, &Error{Err: err}
	}
	j, err := jinja.Compile(guarded)
	if err != nil {
		return nil, &Error{Err: err}
	}
	return &Template{j, len(source)}, nil
}

// Render renders a template for messages: Parse and Template.Render in one.
func Render(template string, messages []Message, o Options) (string, error) {
	t, err := Parse(template)
	if err != nil {
		return "", err
	}
	return t.Render(messages, o)
}

// Render returns the prompt for messages. Special tokens in it are text, to be
// encoded with Tokenizer.Encode(prompt, true). Errors are of type *Error.
func (t *Template) Render(messages []Message, o Options) (out string, err error) {
	defer catch(&err)
	b := newBudget(t.size)
	data, err := variables(b, messages, o)
	if err != nil {
		return "", &Error{Err: err}
	}
	out, err = t.t.RenderValues(data)
	var raised raisedError
	switch {
	case errors.As(err, &raised):
		return "", &Error{Raised: string(raised), Err: err}
	case err != nil:
		return "", &Error{Err: err}
	}
	return out, nil
}

// catch turns a panic of the library into an error: it indexes and converts without
// checks in places (a filter called with too few arguments, for example).
func catch(err *error) {
	if r := recover(); r != nil {
		*err = &Error{Err: fmt.Errorf("the template misuses a filter, method or operator: %v", r)}
	}
}

// variables makes what the template sees.
func variables(b *budget, messages []Message, o Options) (map[string]jinja.Value, error) {
	list := make([]jinja.Value, len(messages))
	for i, m := range messages {
		v := jinja.NewDict()
		d := v.AsDict()
		d.Set("role", jinja.NewString(m.Role))
		d.Set("content", jinja.NewString(m.Content))
		for _, k := range sortedKeys(m.Fields) {
			f, err := fromJSON(m.Fields[k])
			if err != nil {
				return nil, fmt.Errorf("messages[%d].%s: %w", i, k, err)
			}
			d.Set(k, f)
		}
		list[i] = v
	}
	tools := jinja.None()
	if len(o.Tools) > 0 {
		items := make([]jinja.Value, len(o.Tools))
		for i, raw := range o.Tools {
			var err error
			if items[i], err = fromJSON(raw); err != nil {
				return nil, fmt.Errorf("tools[%d]: %w", i, err)
			}
		}
		tools = jinja.NewList(items)
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	data := map[string]jinja.Value{
		"messages": jinja.NewList(list), "tools": tools, "documents": jinja.None(),
		"add_generation_prompt": jinja.NewBool(o.AddGenerationPrompt),
		"bos_token":             jinja.NewString(o.BOS), "eos_token": jinja.NewString(o.EOS),
	}
	for _, v := range data {
		if err := b.named(v); err != nil {
			return nil, err
		}
	}
	for name, fn := range b.functions(o.Now) {
		data[name] = jinja.NewCallable(name, fn)
	}
	return data, nil
}
