// Package serve is the static server of the page: the embedded build (or a folder), the assets, and the headers that threads in a
// page need. There is no server side to Tabtune: nothing that a page sends is read beyond its request line and headers.
//
//	/            the page's files; NAME.br or NAME.gz beside NAME is sent in its place to browsers that take it
//	/assets/     the model and data of package internal/assets, with byte ranges so that a broken download goes on
package serve

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"tabtune/internal/policy"
)

//go:embed all:dist
var dist embed.FS

// Page returns the embedded build of the page, or an error that tells how to make it.
func Page() (fs.FS, error) {
	page, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(page, "index.html"); err != nil {
		return nil, fmt.Errorf("the page is not in this build: run \"make build\"")
	}
	return page, nil
}

// types of the files that a page has; Go's own table depends on the machine.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".wasm": "application/wasm", ".json": "application/json", ".svg": "image/svg+xml",
	".png": "image/png", ".ico": "image/x-icon", ".txt": "text/plain; charset=utf-8", ".md": "text/plain; charset=utf-8",
	".csv": "text/csv; charset=utf-8", ".jsonl": "application/jsonl", ".webmanifest": "application/manifest+json", ".woff2": "font/woff2",
	".gguf": "application/octet-stream", ".map": "application/json",
}

func contentType(name string) string {
	ext := path.Ext(name)
	if t := types[ext]; t != "" {
		return t
	}
	if t := mime.TypeByExtension(ext); t != "" {
		return t
	}
	return "application/octet-stream"
}

// server serves two file trees.
type server struct {
	page, assets fs.FS
	tags         sync.Map // file name -> ETag, of files that have no time
}

// Handler serves page at / and assets, which may be nil, at /assets/.
func Handler(page, assets fs.FS) http.Handler { return &server{page: page, assets: assets} }

// ServeHTTP answers GET and HEAD.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", policy.For(strings.TrimPrefix(r.URL.Path, "/")))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // revalidated by ETag: a new build shows at once
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" || strings.HasSuffix(name, "/") {
		name += "index.html"
	}
	tree, own := s.page, true
	if rest, ok := strings.CutPrefix(name, "assets/"); ok && s.assets != nil {
		if _, err := fs.Stat(s.page, name); err != nil { // the page may have an assets folder of its own
			tree, name, own = s.assets, rest, false
		}
	}
	if !fs.ValidPath(name) || strings.HasPrefix(path.Base(name), ".") {
		http.NotFound(w, r)
		return
	}
	h.Set("Content-Type", contentType(name))
	if own {
		h.Set("Vary", "Accept-Encoding")
		for _, enc := range []struct{ name, suffix string }{{"br", ".br"}, {"gzip", ".gz"}} {
			if accepts(r.Header.Get("Accept-Encoding"), enc.name) && r.Header.Get("Range") == "" {
				if info, err := fs.Stat(tree, name+enc.suffix); err == nil && info.Mode().IsRegular() {
					name += enc.suffix
					h.Set("Content-Encoding", enc.name)
					break
				}
			}
		}
	}
	s.file(w, r, tree, name)
}

func (s *server) file(w http.ResponseWriter, r *http.Request, tree fs.FS, name string) {
	f, err := tree.Open(name)
	if err != nil {
		w.Header().Del("Content-Encoding")
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	content, ok := f.(io.ReadSeeker)
	if err != nil || !ok || !info.Mode().IsRegular() {
		w.Header().Del("Content-Encoding")
		http.NotFound(w, r)
		return
	}
	tag, err := s.tag(content, name, info)
	if err != nil {
		http.Error(w, "cannot read "+name, http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", tag)
	if w.Header().Get("Content-Encoding") != "" { // ServeContent leaves the length out for encoded content
		w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	}
	http.ServeContent(w, r, name, info.ModTime(), content)
}

// tag identifies a file's content: by time and size on disk, by hash in the embedded build, whose files have no time.
func (s *server) tag(f io.ReadSeeker, name string, info fs.FileInfo) (string, error) {
	if !info.ModTime().IsZero() {
		return fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()), nil
	}
	if t, ok := s.tags.Load(name); ok {
		return t.(string), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	t := `"` + hex.EncodeToString(h.Sum(nil)[:16]) + `"`
	s.tags.Store(name, t)
	return t, nil
}

// accepts reads an Accept-Encoding header: coding listed, and not with q=0.
func accepts(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !ok || err != nil || v > 0
	}
	return false
}

// LoopbackOnly answers only requests that name this machine, so that a page elsewhere cannot reach the server by a host name of its
// own that resolves to 127.0.0.1.
func LoopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !IsLoopback(host) {
			http.Error(w, "this server answers for this machine only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// IsLoopback tells whether a host name or address means this machine.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// New returns an HTTP server for a handler, with bounds on how long a silent client is waited for.
func New(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
}

// Dir is a folder as a file tree that no link leads out of. A missing folder is an empty tree.
func Dir(name string) fs.FS {
	root, err := os.OpenRoot(name)
	if err != nil {
		return empty{}
	}
	return root.FS()
}

type empty struct{}

// Open implements fs.FS.
func (empty) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
