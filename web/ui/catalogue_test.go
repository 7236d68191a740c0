package ui

import (
	"strings"
	"testing"
)

func TestCatalogue(t *testing.T) {
	for _, m := range Catalogue {
		if name, err := ModelURL(m.URL); err != nil || name == "" {
			t.Errorf("%s: %v", m.Name, err)
		}
		if s := m.Text(4<<30, 1<<40); !strings.Contains(s, "fits") {
			t.Errorf("%s: %q", m.Name, s)
		}
		if s := m.Text(256<<20, 1<<40); !strings.Contains(s, "too large") {
			t.Errorf("%s: %q", m.Name, s)
		}
		if s := m.Text(4<<30, 1<<20); !strings.Contains(s, "no room") {
			t.Errorf("%s: %q", m.Name, s)
		}
	}
	for _, bad := range []string{"", "x.gguf", "javascript:alert(1)//x.gguf", "https:///x.gguf", "https://a.example/model.bin", "file:///m.gguf"} {
		if _, err := ModelURL(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if name, err := ModelURL(" https://a.example/b/My model.gguf?download=true "); err != nil || name != "My-model.gguf" {
		t.Errorf("%q, %v", name, err)
	}
}
