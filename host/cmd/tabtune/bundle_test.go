package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tabtune/engine/pte"
	"tabtune/host"
)

// The request, the lines printed, and the exit code of a case that fails.
func TestBundled(t *testing.T) {
	dir := files(t)
	p := filepath.Join(dir, "p.pte")
	r := &recorder{answers: map[string]string{"run.bundle": `{"checks":[{"method":"forward","case":0},{"method":"forward","case":1,"error":"output 0: [2] is 1, want 2"}],"failed":1}`}}
	code, stdout, stderr := try(t, r, "", "run", p, "--bundled", "--data", filepath.Join(dir, "p.ptd"), "--rtol", "0.5", "--atol", "0")
	if code != 1 || stdout != "forward 0: ok\nforward 1: failed: output 0: [2] is 1, want 2\n" || stderr != "tabtune run: 1 of 2 test cases failed\n" || r.closed != 1 {
		t.Errorf("exit %d, closed %d\n%s%s", code, r.closed, stdout, stderr)
	}
	want := fmt.Sprintf(`run.bundle {"program":%q,"data":%q,"rtol":0.5,"atol":0}`, p, filepath.Join(dir, "p.ptd"))
	if len(r.requests) != 1 || r.requests[0] != want {
		t.Errorf("requests\n got %s\nwant %s", r.requests, want)
	}
	for _, args := range [][]string{{"--inputs", p}, {"--outputs", dir}, {"--profile"}, {"--trace", p}} {
		r := &recorder{}
		if code, _, stderr := try(t, r, "", append([]string{"run", p, "--bundled"}, args...)...); code != 2 || !strings.Contains(stderr, "--bundled goes without") || len(r.requests) > 0 {
			t.Errorf("%s: exit %d, %s", args, code, stderr)
		}
	}
}

// The same in the module: the stock exporter's bundle passes, and fails where an expected number was changed.
func TestBundledProgram(t *testing.T) {
	const good = "../../../engine/testdata/linear.bpte"
	bundle := func(path string, args ...string) (code int, stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, err: &errs, now: time.Now,
			open: func(ctx context.Context, o host.Options) (engine, error) {
				h, err := host.Open(ctx, o)
				if errors.Is(err, host.ErrNotBuilt) {
					t.Skip(err)
				}
				return h, err
			}}
		code = a.main(t.Context(), append([]string{"run", path, "--bundled"}, args...))
		return code, out.String(), errs.String()
	}
	if code, stdout, stderr := bundle(good); code != 0 || stdout != "forward 0: ok\nforward 1: ok\nforward 2: ok\n" {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	b, err := pte.DecodeBundle(bytes.NewReader(raw), good)
	if err != nil {
		t.Fatal(err)
	}
	number := b.Suites[0].Cases[1].Expected[0].Tensor.Data[:4]
	if bytes.Count(raw, number) != 1 {
		t.Fatalf("%x is %d times in the file", number, bytes.Count(raw, number))
	}
	bad := filepath.Join(t.TempDir(), "bad.bpte")
	if err := os.WriteFile(bad, bytes.Replace(raw, number, []byte{0, 0, 0, 0x7f}, 1), 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := bundle(bad)
	if code != 1 || !strings.HasPrefix(stdout, "forward 0: ok\nforward 1: failed: output 0: ") || !strings.HasSuffix(stdout, "\nforward 2: ok\n") ||
		stderr != "tabtune run: 1 of 3 test cases failed\n" {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if err := os.WriteFile(bad, raw[:len(raw)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := bundle(bad); code == 0 || stdout != "" || !strings.Contains(stderr, "bad.bpte") {
		t.Errorf("half a file: exit %d\n%s%s", code, stdout, stderr)
	}
}
