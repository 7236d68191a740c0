package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	kernels, err := parse("k.def", "# comment\n\nf32_gemm_nt(addr c, i32 m, f32 alpha)\nsys heap_base() i32\nhost worker_main(i32 tid)\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(kernels) != 3 || kernels[0].method() != "F32GemmNT" || kernels[1].method() != "heapBase" || kernels[2].kind != hostKernel {
		t.Errorf("parsed %+v", kernels)
	}
	if got := signature(kernels[0]); got != "(c Addr, m int32, alpha float32)" {
		t.Errorf("signature: %s", got)
	}
}

func TestParseErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"f32_add(addr a":                 "k.def:1:",
		"ok()\nF32(addr a)":              "k.def:2:",
		"f(addr a, int b)":               "`type name`",
		"f(addr a) u8":                   "unknown result type",
		"f()\nf()":                       "listed twice",
		"f(i32 a, i32 a)":                "named twice",
		"f(" + manyArgs(maxArgs+1) + ")": "the most is 32",
		"sys host f()":                   "k.def:1:",
		"f(addr a,)":                     "`type name`",
	} {
		if _, err := parse("k.def", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func manyArgs(n int) string {
	args := make([]string, n)
	for i := range args {
		args[i] = "i32 a" + strings.Repeat("b", i)
	}
	return strings.Join(args, ", ")
}

func TestGoArgAvoidsKeywords(t *testing.T) {
	for in, want := range map[string]string{"type": "type_", "d": "d_", "s": "s_", "dst_row": "dstRow", "m": "m", "range": "range_"} {
		if got := goArg(in); got != want {
			t.Errorf("goArg(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestGeneratedFilesAreCurrent regenerates in a copy and compares with what is checked in.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	def, err := os.ReadFile("../../kernels.def")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kernels.def"), def, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c/kernels.gen.h", "bind_native.go", "bind_wasip1.go"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what kernels.def gives: run go generate ./engine/kernel", name)
		}
	}
}
