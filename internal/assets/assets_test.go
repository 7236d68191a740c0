package assets

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

type recorder struct{ skipped, failed string }

func (*recorder) Helper()                     {}
func (r *recorder) Skipf(f string, a ...any)  { r.skipped = fmt.Sprintf(f, a...) }
func (r *recorder) Fatalf(f string, a ...any) { r.failed = fmt.Sprintf(f, a...) }

func TestNeed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(EnvDir, dir)
	t.Setenv(EnvRequire, "")
	var r recorder
	Need(&r, Model)
	if r.skipped == "" || r.failed != "" {
		t.Errorf("absent: %+v", r)
	}
	t.Setenv(EnvRequire, "1")
	r = recorder{}
	Need(&r, Model)
	if r.skipped != "" || r.failed == "" {
		t.Errorf("absent but required: %+v", r)
	}
	want := filepath.Join(dir, Model)
	if err := os.WriteFile(want, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r = recorder{}
	if got := Need(&r, Model); got != want || r != (recorder{}) {
		t.Errorf("present: %s, %+v", got, r)
	}
}

func TestDirs(t *testing.T) {
	cache := t.TempDir()
	t.Setenv(EnvDir, "")
	t.Setenv(EnvCache, cache)
	if got, err := Dir(); err != nil || got != filepath.Join(cache, "assets") {
		t.Errorf("Dir: %s, %v", got, err)
	}
	t.Setenv(EnvCache, "")
	t.Setenv("XDG_CACHE_HOME", cache)
	if got, err := CacheDir(); err != nil || filepath.Base(got) != "tabtune" {
		t.Errorf("CacheDir: %s, %v", got, err)
	}
}
