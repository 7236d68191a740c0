package code

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestCodesMatchHeader reads both lists and compares names and values.
func TestCodesMatchHeader(t *testing.T) {
	header, err := os.ReadFile("../c/ops.h")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("code.go")
	if err != nil {
		t.Fatal(err)
	}
	c := map[string]int{}
	for _, enum := range regexp.MustCompile(`(?s)enum \w+ \{(.*?)\};`).FindAllStringSubmatch(string(header), -1) {
		for i, m := range regexp.MustCompile(`(?m)^\s*(\w+),`).FindAllStringSubmatch(enum[1], -1) {
			var name strings.Builder
			for part := range strings.SplitSeq(m[1], "_") {
				name.WriteString(part[:1] + strings.ToLower(part[1:]))
			}
			c[name.String()] = i
		}
	}
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+)\s+int32 = (\d+)`).FindAllStringSubmatch(string(source), -1) {
		found++
		v, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if want, ok := c[m[1]]; !ok || want != v {
			t.Errorf("%s is %d in code.go, %d (listed: %t) in ops.h", m[1], v, want, ok)
		}
	}
	if found != len(c) || found < 60 {
		t.Errorf("%d codes in code.go, %d in ops.h", found, len(c))
	}
}
