// Package e2e tests the page in a real Chromium. Most tests run on a stand-in for tabtune.wasm (web/internal/fake), so that they take seconds;
// TestReal* load the real module, model and data and are skipped when those are not on this machine.
package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tabtune/internal/tinymodel"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

var (
	fakeDist   string // the page with the stand-in
	fakeAssets string // a small "model" and data under the sample's names
	root       string // of the repository
)

func TestMain(m *testing.M) {
	if _, err := drive.Chromium(); err != nil {
		if os.Getenv("CI") != "" {
			fmt.Fprintln(os.Stderr, "web/e2e:", err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stderr, "web/e2e: skipped:", err)
		return
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "web/e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "tabtune-e2e")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if root, err = filepath.Abs("../.."); err != nil {
		return 1, err
	}
	module := filepath.Join(dir, "fake.wasm")
	fakeDist, fakeAssets = filepath.Join(dir, "dist"), filepath.Join(dir, "assets")
	for _, c := range []struct {
		env  []string
		args []string
	}{
		{[]string{"GOOS=wasip1", "GOARCH=wasm"}, []string{"build", "-buildmode=c-shared", "-o", module, "./web/internal/fake"}},
		{nil, []string{"run", "./web/build", "-out", fakeDist, "-module", module, "-brotli", "-1"}},
	} {
		cmd := exec.Command("go", c.args...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), c.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("go %s: %w\n%s", strings.Join(c.args, " "), err, out)
		}
	}
	if err := os.MkdirAll(fakeAssets, 0o755); err != nil {
		return 1, err
	}
	for _, name := range []string{"movie-reviews-train.csv", "movie-reviews-val.csv"} {
		if err := os.WriteFile(filepath.Join(fakeAssets, name), []byte("text,label\n"+strings.Repeat("a fine film,positive\n", 20)), 0o644); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// serve starts a site and returns its address.
func serve(t *testing.T, s *site.Site) string {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL + "/"
}

// open starts a browser for one test.
func open(t *testing.T, timeout time.Duration, o drive.Options) (*drive.Browser, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	b, err := drive.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, ctx
}

// tinyModel writes a file that the stand-in takes for a model.
func tinyModel(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny model.gguf")
	if err := os.WriteFile(path, append([]byte("GGUF"), make([]byte, 5000)...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tinyGGUF is a file with a small model of an architecture that the real module trains.
func tinyGGUF(t *testing.T, arch string) string {
	t.Helper()
	model, err := tinymodel.Bytes(tinymodel.Options{EmbedStd: 0.15, Tokenizer: true, Arch: arch})
	must(t, err)
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	must(t, os.WriteFile(path, model, 0o644))
	return path
}

// sha is a content's SHA-256 in hex.
func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pageError(t *testing.T, err error) *drive.PageError {
	t.Helper()
	var p *drive.PageError
	if !errors.As(err, &p) {
		t.Fatalf("want an error shown by the page, got %v", err)
	}
	return p
}
