// Package site serves web/dist and a folder of assets for the browser tests. The program's own server is host's; this one can also leave
// out the headers that threads need, break off downloads, and count what was asked for.
package site

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tabtune/internal/policy"
)

// Site is a handler.
type Site struct {
	Dist, Assets string
	Isolated     bool             // send COOP and COEP
	Cut          map[string]int64 // asset name: break the connection once after so many bytes

	script string // see Script

	mu     sync.Mutex
	ranges []string
}

// Ranges returns the Range headers that asset requests carried so far, "" for none.
func (s *Site) Ranges() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ranges...)
}

// Isolate sends COOP and COEP from now on.
func (s *Site) Isolate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Isolated = true
}

// Script puts script in front of worker/worker.js from now on, so that a test can take something away from the worker or listen in it.
func (s *Site) Script(script string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	s.mu.Lock()
	isolated, script := s.Isolated, s.script
	s.mu.Unlock()
	if isolated {
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	}
	name := strings.TrimPrefix(filepath.ToSlash(filepath.Clean("/"+r.URL.Path)), "/")
	if name == "" {
		name = "index.html"
	}
	h.Set("Content-Security-Policy", policy.For(name))
	path := filepath.Join(s.Dist, name)
	asset, isAsset := strings.CutPrefix(name, "assets/")
	if isAsset {
		path = filepath.Join(s.Assets, asset)
	}
	f, err := os.Open(path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.IsDir() {
		http.NotFound(w, r)
		return
	}
	if name == "worker/worker.js" && script != "" {
		own, err := io.ReadAll(f)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.ServeContent(w, r, "worker.js", st.ModTime(), bytes.NewReader(append([]byte(script+"\n"), own...)))
		return
	}
	if strings.HasSuffix(name, ".wasm") {
		h.Set("Content-Type", "application/wasm")
	}
	if isAsset {
		h.Set("Content-Type", "application/octet-stream")
		sum := sha256.Sum256([]byte(st.ModTime().String() + asset))
		h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
		s.mu.Lock()
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		cut, broken := s.Cut[asset]
		delete(s.Cut, asset)
		s.mu.Unlock()
		if broken {
			w = &breaking{w, cut}
		}
	}
	http.ServeContent(w, r, filepath.Base(name), st.ModTime(), f)
}

// breaking ends the connection after a number of bytes.
type breaking struct {
	http.ResponseWriter
	left int64
}

func (b *breaking) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		_, _ = b.ResponseWriter.Write(p[:b.left])
		if f, ok := b.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	b.left -= int64(len(p))
	return b.ResponseWriter.Write(p)
}
