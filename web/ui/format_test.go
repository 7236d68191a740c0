package ui

import (
	"strings"
	"testing"
)

func TestEstimatesInWords(t *testing.T) {
	for s, want := range map[float64]string{3: "a few seconds", 44: "about 40 s", 89: "about 1 min 30 s", 100: "about 2 min", 3599: "about 60 min", 4300: "about 1 h 10 min"} {
		if got := Roughly(s); got != want {
			t.Errorf("%v s: %q, want %q", s, got, want)
		}
	}
	if got := Energy(1800, 2); got != "8 Wh (high: more than half of a phone's battery)" { // half an hour of two cores of 8 W
		t.Errorf("energy %q", got)
	}
	if got := Energy(60, 0); got != "less than 1 Wh (low)" {
		t.Errorf("energy %q", got)
	}
	if got := Count(1_100_048_384); got != "1.10 billion" {
		t.Errorf("count %q", got)
	}
}

func TestModelCard(t *testing.T) {
	for want, a := range map[string]About{
		"134.5 M parameters, llama, Q4_1, Q8_0, licence apache-2.0": {Architecture: "llama", License: "apache-2.0", Quantization: "Q4_1, Q8_0", Parameters: 134_515_008},
		"licence not stated":                      {},
		"ab, licence " + strings.Repeat("x", 100): {Architecture: "a\u202eb", License: strings.Repeat("x", 1000)},
	} {
		if got := a.Text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRunTitle(t *testing.T) {
	r := SavedRun{ID: "2026-11-26-072304-2"}
	if got := r.Title(); !strings.HasPrefix(got, "Run of 2") || !strings.Contains(got, " Nov 2026, ") || !strings.HasSuffix(got, ":04, no. 2") { // in local time
		t.Errorf("%q", got)
	}
	for _, id := range []string{"x", "2026-13-40-999999"} {
		if r := (SavedRun{ID: id}); r.Title() != "Run of "+id {
			t.Errorf("%q", r.Title())
		}
	}
}
