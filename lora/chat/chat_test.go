package chat

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"tabtune/internal/assets"
	"tabtune/lora/gguf"
)

// golden is testdata/golden.json, written by testdata/make.py.
type golden struct {
	Templates map[string]string
	Chats     map[string][]map[string]json.RawMessage
	Tools     []json.RawMessage
	Cases     []struct {
		Template, Chat string
		Prompt, Tools  bool
		Want, Error    string
	}
}

func readGolden(t testing.TB) golden {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g golden) messages(t testing.TB, chat string) (out []Message) {
	t.Helper()
	for _, m := range g.Chats[chat] {
		msg := Message{Fields: map[string]json.RawMessage{}}
		for k, raw := range m {
			dst := map[string]*string{"role": &msg.Role, "content": &msg.Content}[k]
			if dst == nil {
				msg.Fields[k] = raw
			} else if err := json.Unmarshal(raw, dst); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, msg)
	}
	return out
}

// smolTemplate is the template inside SmolLM2's GGUF file.
func smolTemplate(t testing.TB) string {
	t.Helper()
	f, closer, err := gguf.Open(assets.Need(t, assets.Model))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	s, err := f.Metadata.String("tokenizer.chat_template")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSmolLM2EqualsJinja(t *testing.T) {
	g := readGolden(t)
	g.Templates = map[string]string{"smollm2": smolTemplate(t)}
	equalsJinja(t, g)
}

func TestEqualsJinja(t *testing.T) {
	equalsJinja(t, readGolden(t))
}

// equalsJinja renders the golden cases of the templates that g has.
func equalsJinja(t *testing.T, g golden) {
	t.Helper()
	now := time.Date(2026, 3, 9, 7, 5, 2, 0, time.UTC)
	for _, c := range g.Cases {
		if g.Templates[c.Template] == "" {
			continue
		}
		o := Options{AddGenerationPrompt: c.Prompt, BOS: "<s>", EOS: "</s>", Now: now}
		if c.Tools {
			o.Tools = g.Tools
		}
		got, err := Render(g.Templates[c.Template], g.messages(t, c.Chat), o)
		var e *Error
		switch {
		case c.Error != "":
			if !errors.As(err, &e) || e.Raised != c.Error {
				t.Errorf("%s, %s: error %v, Python raises %q", c.Template, c.Chat, err, c.Error)
			}
		case err != nil:
			t.Errorf("%s, %s: %v", c.Template, c.Chat, err)
		case got != c.Want:
			t.Errorf("%s, %s, prompt %t, tools %t:\n got %q\nwant %q", c.Template, c.Chat, c.Prompt, c.Tools, got, c.Want)
		}
	}
}
