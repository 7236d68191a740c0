package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func put(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func check(t *testing.T, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != want {
		t.Errorf("%s holds %q (%v), want %q", path, b, err, want)
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		t.Errorf("%s is still there", path)
	}
}

func withoutRename(t *testing.T, errno error) {
	rename = func(a, b string) error { return &os.LinkError{Op: "rename", Old: a, New: b, Err: errno} }
	t.Cleanup(func() { rename = os.Rename })
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, s := range []string{"one, which is long", "two"} {
		if err := Write(path, put(s)); err != nil {
			t.Fatal(err)
		}
		check(t, path, s)
	}
	boom := errors.New("boom")
	err := Write(path, func(w io.Writer) error { io.WriteString(w, "half"); return boom })
	if !errors.Is(err, boom) {
		t.Error(err)
	}
	check(t, path, "two")
	gone(t, path+Suffix)
}

func TestWithoutRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	withoutRename(t, syscall.ENOSYS)
	for _, s := range []string{"one, which is long", "two"} {
		if err := Write(path, put(s)); err != nil {
			t.Fatal(err)
		}
		check(t, path, s)
		gone(t, path+Suffix)
	}
	// A refusal is not a missing operation: the old contents stay.
	withoutRename(t, syscall.EACCES)
	if err := Write(path, put("three")); !errors.Is(err, syscall.EACCES) {
		t.Error(err)
	}
	check(t, path, "two")
}

func TestRecover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	ok := func(string) error { return nil }
	if err := Recover(path, ok); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(path, []byte("old"), 0o644)
	os.WriteFile(path+Suffix, []byte("torn"), 0o644)
	if err := Recover(path, func(string) error { return errors.New("torn") }); err != nil {
		t.Fatal(err)
	}
	check(t, path, "old")
	gone(t, path+Suffix)
	os.WriteFile(path+Suffix, []byte("new"), 0o644)
	if err := Recover(path, ok); err != nil {
		t.Fatal(err)
	}
	check(t, path, "new")
	gone(t, path+Suffix)
}
