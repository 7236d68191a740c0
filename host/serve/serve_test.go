package serve

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"tabtune/internal/policy"
)

func get(t *testing.T, h http.Handler, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func handler(t *testing.T) (http.Handler, string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"m.gguf": "0123456789", ".lock": "", "../secret": "s"} {
		_ = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
	}
	if err := os.Symlink(filepath.Join(dir, "..", "secret"), filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}
	return Handler(fstest.MapFS{
		"index.html": {Data: []byte("<!doctype html>")}, "app.wasm": {Data: []byte("raw")}, "app.wasm.br": {Data: []byte("br")},
		"app.wasm.gz": {Data: []byte("gzip")}, "worker.js": {Data: []byte("//")}, "worker/download.js": {Data: []byte("//d")}, "d/x.css": {Data: []byte("a{}")},
	}, Dir(dir)), dir
}

func TestFiles(t *testing.T) {
	h, _ := handler(t)
	for _, c := range []struct {
		target, encoding string
		status           int
		kind, body, enc  string
	}{
		{"/", "", 200, "text/html; charset=utf-8", "<!doctype html>", ""},
		{"/app.wasm", "gzip, deflate, br", 200, "application/wasm", "br", "br"},
		{"/app.wasm", "gzip", 200, "application/wasm", "gzip", "gzip"},
		{"/app.wasm", "br;q=0, gzip;q=0.5", 200, "application/wasm", "gzip", "gzip"},
		{"/app.wasm", "", 200, "application/wasm", "raw", ""},
		{"/worker.js", "br", 200, "text/javascript; charset=utf-8", "//", ""},
		{"/worker/download.js", "", 200, "text/javascript; charset=utf-8", "//d", ""},
		{"/d/x.css", "", 200, "text/css; charset=utf-8", "a{}", ""},
		{"/assets/m.gguf", "br", 200, "application/octet-stream", "0123456789", ""},
		{"/assets/.lock", "", 404, "", "", ""}, {"/assets/link.txt", "", 404, "", "", ""}, {"/assets/../secret", "", 404, "", "", ""},
		{"/assets/none", "", 404, "", "", ""}, {"/d", "", 404, "", "", ""}, {"/d/", "", 404, "", "", ""},
		{"/no", "br", 404, "", "", ""}, {"/..%2fsecret", "", 404, "", "", ""}, {"/%00", "", 404, "", "", ""},
	} {
		r := get(t, h, c.target, "Accept-Encoding", c.encoding)
		if r.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.target, r.StatusCode, c.status)
			continue
		}
		for name, want := range map[string]string{
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
			"Content-Security-Policy": policy.For(strings.TrimPrefix(c.target, "/")), "X-Content-Type-Options": "nosniff",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q", c.target, name, got)
			}
		}
		if c.status != 200 {
			continue
		}
		if got := body(t, r); got != c.body || r.Header.Get("Content-Type") != c.kind || r.Header.Get("Content-Encoding") != c.enc {
			t.Errorf("%s (%s): %q, %v", c.target, c.encoding, got, r.Header)
		}
		if r.ContentLength != int64(len(c.body)) {
			t.Errorf("%s: length %d", c.target, r.ContentLength)
		}
	}
}

func TestRangeAndETag(t *testing.T) {
	h, _ := handler(t)
	first := get(t, h, "/assets/m.gguf")
	tag := first.Header.Get("ETag")
	if tag == "" || first.Header.Get("Accept-Ranges") != "bytes" {
		t.Fatalf("headers %v", first.Header)
	}
	part := get(t, h, "/assets/m.gguf", "Range", "bytes=4-", "If-Range", tag)
	if part.StatusCode != http.StatusPartialContent || body(t, part) != "456789" {
		t.Errorf("range: %d", part.StatusCode)
	}
	if r := get(t, h, "/assets/m.gguf", "Range", "bytes=4-", "If-Range", `"other"`); r.StatusCode != 200 || body(t, r) != "0123456789" {
		t.Errorf("a changed file must come whole: %d", r.StatusCode)
	}
	if r := get(t, h, "/assets/m.gguf", "Range", "bytes=99-"); r.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("range past the end: %d", r.StatusCode)
	}
	page := get(t, h, "/app.wasm", "Accept-Encoding", "br")
	if r := get(t, h, "/app.wasm", "Accept-Encoding", "br", "If-None-Match", page.Header.Get("ETag")); r.StatusCode != http.StatusNotModified {
		t.Errorf("unchanged: %d", r.StatusCode)
	}
	if raw := get(t, h, "/app.wasm"); raw.Header.Get("ETag") == page.Header.Get("ETag") {
		t.Error("raw and encoded content share an ETag")
	}
}

func TestMethodsAndHosts(t *testing.T) {
	h, _ := handler(t)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", w.Code)
	}
	for host, ok := range map[string]bool{
		"127.0.0.1:8080": true, "localhost": true, "[::1]:80": true, "LOCALHOST:1": true, "evil.example": false, "192.168.0.1:8080": false, "": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		LoopbackOnly(h).ServeHTTP(w, r)
		if (w.Code == 200) != ok {
			t.Errorf("host %q: %d", host, w.Code)
		}
	}
}

func TestMissingAssets(t *testing.T) {
	h := Handler(fstest.MapFS{"index.html": {}}, Dir("/no/such/folder"))
	if r := get(t, h, "/assets/m.gguf"); r.StatusCode != 404 {
		t.Errorf("status %d", r.StatusCode)
	}
}
