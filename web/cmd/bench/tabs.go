package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"tabtune/host/serve"
	"tabtune/web/drive"
)

// serve starts the project's static server on the built page; what the peers need lies under /peers/, without the page's content security
// policy, since they start workers from blobs.
func (b *bench) serve() error {
	page, assets, peers := os.DirFS(b.dist), os.DirFS(b.assets), layered{os.DirFS(b.peers), "pages", pagesFS()}
	own, theirs := serve.Handler(page, assets), serve.Handler(peers, nil)
	mux := http.NewServeMux()
	mux.Handle("/", own)
	mux.Handle("/peers/", http.StripPrefix("/peers", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		theirs.ServeHTTP(noPolicy{w}, r)
	})))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := serve.New(mux)
	go func() { _ = s.Serve(l) }() // ends with Close below
	b.ends = append(b.ends, func() { _ = s.Close() })
	b.url = "http://" + l.Addr().String()
	return nil
}

// layered is a file tree with one folder of another in it.
type layered struct {
	fs.FS
	name string
	sub  fs.FS
}

func (l layered) Open(name string) (fs.File, error) {
	if rest, ok := strings.CutPrefix(name, l.name+"/"); ok {
		return l.sub.Open(rest)
	}
	return l.FS.Open(name)
}

type noPolicy struct{ http.ResponseWriter }

func (w noPolicy) WriteHeader(code int) {
	w.Header().Del("Content-Security-Policy")
	w.ResponseWriter.WriteHeader(code)
}

// tab is one side in a Chromium of its own, so that nothing is shared but the processors.
type tab struct{ b *drive.Browser }

// openTab opens pages/bench.html for a side and awaits its open.
func (b *bench) openTab(ctx context.Context, side string, params, out any) (*tab, func(), error) {
	br, err := drive.Open(ctx, drive.Options{})
	if err != nil {
		return nil, nil, err
	}
	t := &tab{br}
	if err = br.Goto(b.url + "/peers/pages/bench.html?side=" + side); err == nil {
		err = br.Eval(`new Promise((ok, no) => { let n = 0; const wait = () => window.bench ? ok(true) : n++ > 300 ? no(new Error("bench.js did not load")) : setTimeout(wait, 50); wait(); })`, nil)
	}
	if err == nil {
		err = t.call("open", params, out)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w; console: %s", side, err, strings.Join(br.Console(), " | "))
		br.Close()
		return nil, nil, err
	}
	return t, br.Close, nil
}

func (t *tab) call(f string, params, out any) error {
	p, err := json.Marshal(params)
	if err != nil {
		return err
	}
	return t.b.Eval(fmt.Sprintf("window.bench.%s(%s)", f, p), out)
}

// method calls a method of our worker in its tab.
func (t *tab) method(name string, params, out any) error {
	var r struct{ Result json.RawMessage }
	if err := t.call("turn", map[string]any{"method": name, "params": params}, &r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(r.Result, out)
}

// native is a peer in Python.
type native struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func (b *bench) openNative(ctx context.Context, side string, threads int) (*native, func(), error) {
	n, end, err := startNative(exec.CommandContext(ctx, b.python, filepath.Join(b.peers, "src", "run.py"), side, strconv.Itoa(threads), b.peers, b.model("Q4_1")))
	if err != nil {
		return nil, nil, fmt.Errorf("%s, %d threads: %w", side, threads, err)
	}
	return n, end, nil
}

// startNative starts a peer and waits until it is ready.
func startNative(c *exec.Cmd) (*native, func(), error) {
	c.Stderr = io.Discard
	in, err := c.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	n := &native{in, bufio.NewScanner(out)}
	end := func() {
		_ = in.Close()
		_ = c.Wait()
	}
	for n.out.Scan() {
		if n.out.Text() == "ready" {
			return n, end, nil
		}
	}
	end()
	return nil, nil, fmt.Errorf("%s ended (run it by hand to see why)", strings.Join(c.Args, " "))
}

// turn runs for so many seconds and returns the milliseconds of each run.
func (n *native) turn(seconds float64) ([]float64, error) {
	if _, err := fmt.Fprintln(n.in, seconds); err != nil {
		return nil, err
	}
	if !n.out.Scan() {
		return nil, errors.Join(n.out.Err(), errors.New("the peer ended"))
	}
	var ms []float64
	err := json.Unmarshal(n.out.Bytes(), &ms)
	return ms, err
}
