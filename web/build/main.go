// Command build puts the page together in web/dist, a folder that any static server can serve:
//
//	go run ./web/build                    # builds tabtune.wasm too
//	go run ./web/build -module FILE       # takes a built tabtune.wasm as it is
//	go run ./web/build -sources           # only what checks of the sources need: the shim and vugugen's output
//
// Steps: npm ci for the WASI shim, vugugen, the page for GOOS=js, vugu's DOM script as a file of its own (so that the content security
// policy needs no unsafe-eval), copies of the worker and the wasm files, icons, the service worker with its list of files, and .br and .gz beside everything that shrinks.
// Each step is skipped when its result is newer than its inputs' content asks for: files are only written when they change.
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/andybalholm/brotli"

	"tabtune/wasm/pack"
)

func main() {
	b := builder{}
	flag.StringVar(&b.out, "out", "web/dist", "folder to fill")
	flag.StringVar(&b.module, "module", "", "built tabtune.wasm to copy; empty: build it")
	flag.IntVar(&b.quality, "brotli", 11, "brotli level, 0 to 11; -1 writes no compressed copies")
	flag.BoolVar(&b.sources, "sources", false, "generate sources, build nothing")
	flag.Parse()
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "web/build:", err)
		os.Exit(1)
	}
}

type builder struct {
	out, module string
	quality     int
	sources     bool
	kept        map[string]bool // what belongs in out, relative
}

func (b *builder) run() error {
	root, err := command(nil, "go", "env", "GOMOD")
	if err != nil {
		return err
	}
	if err := os.Chdir(filepath.Dir(strings.TrimSpace(root))); err != nil {
		return err
	}
	type step struct {
		what string
		do   func() error
	}
	steps := []step{{"the WASI shim", shim}, {"vugugen", generate}}
	if !b.sources {
		b.kept = map[string]bool{}
		if err := os.MkdirAll(b.out, 0o755); err != nil {
			return err
		}
		steps = append(steps, []step{{"page.wasm", b.page}, {"vugu's DOM script", b.domScript}, {"static files", b.static},
			{"tabtune.wasm", b.reactor}, {"icons", b.icons}, {"the service worker", b.serviceWorker}, {"compressed copies", b.compress}, {"old files", b.sweep}}...)
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// command runs a program and returns its standard output; its messages become the error.
func command(env []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	var out, msg bytes.Buffer
	c.Stdout, c.Stderr = &out, &msg
	if err := c.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("%s is not installed (Debian, Ubuntu: apt-get install golang nodejs npm)", name)
		}
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, msg.Bytes(), out.Bytes())
	}
	return out.String(), nil
}

const shimDir = "web/worker/node_modules/@bjorn3/browser_wasi_shim"

// shim installs the pinned WASI shim when the lock file is newer than the installation, and copies what the worker imports.
func shim() error {
	lock, err := os.Stat("web/worker/package-lock.json")
	if err != nil {
		return err
	}
	if have, err := os.Stat("web/worker/node_modules/.package-lock.json"); err != nil || have.ModTime().Before(lock.ModTime()) {
		if _, err := command(nil, "npm", "ci", "--prefix", "web/worker", "--no-audit", "--no-fund", "--ignore-scripts"); err != nil {
			return err
		}
	}
	for _, kind := range []struct{ dir, suffix string }{{"dist", ".js"}, {"typings", ".d.ts"}} {
		for _, name := range []string{"index", "debug", "fd", "fs_mem", "fs_opfs", "strace", "wasi", "wasi_defs"} {
			data, err := os.ReadFile(filepath.Join(shimDir, kind.dir, name+kind.suffix))
			if err != nil {
				return err
			}
			if err := write("web/worker/wasi/"+name+kind.suffix, data); err != nil {
				return err
			}
		}
	}
	license, err := os.ReadFile(filepath.Join(shimDir, "LICENSE-MIT"))
	if err != nil {
		return err
	}
	return write("web/worker/wasi/LICENSE-MIT", license)
}

// between matches the line breaks and indentation between two tags. vugu would make a text node of each, twice as many nodes to draw.
var between = regexp.MustCompile(`>\s*\n\s*<`)

// generate runs vugugen over copies of the components without the white space between tags; its output gets the build constraint that the
// components need, which vugugen does not write.
func generate() error {
	const constraint = "//go:build js && wasm\n\n"
	dir, err := os.MkdirTemp("web", ".vugu-") // inside the module, which vugugen asks for
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sources, err := filepath.Glob("web/page/*")
	if err != nil {
		return err
	}
	for _, path := range sources {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".vugu") {
			markup, code, _ := bytes.Cut(data, []byte("<script"))
			data = slices.Concat(between.ReplaceAll(markup, []byte("><")), []byte("\n\n<script"), code)
		} else if filepath.Base(path) == generated {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o644); err != nil {
			return err
		}
	}
	if _, err := command(nil, "go", "tool", "vugugen", "-s", "-skip-go-mod", "-skip-main", dir); err != nil {
		return err
	}
	src, err := os.ReadFile(filepath.Join(dir, generated))
	if err != nil {
		return err
	}
	return write(filepath.Join("web/page", generated), append([]byte(constraint), src...))
}

// generated is the file that vugugen writes.
const generated = "0_components_gen.go"

func (b *builder) page() error {
	tmp, err := os.MkdirTemp("", "tabtune-page")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "page.wasm")
	if _, err := command([]string{"GOOS=js", "GOARCH=wasm"}, "go", "build", "-trimpath", "-ldflags=-s -w", "-gcflags=all=-l", "-o", out, "./web/page"); err != nil {
		return err
	}
	linked, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	packed, err := pack.Module(linked)
	if err != nil {
		return fmt.Errorf("page.wasm: %w", err)
	}
	if err := b.put("page.wasm", packed); err != nil {
		return err
	}
	goroot, err := command(nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	return b.copy("wasm_exec.js", filepath.Join(strings.TrimSpace(goroot), "lib/wasm/wasm_exec.js"))
}

// domScript writes the script that vugu would hand to window.eval to a file, taken from the very module version that the page links.
func (b *builder) domScript() error {
	dir, err := command(nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/vugu/vugu")
	if err != nil {
		return err
	}
	path := filepath.Join(strings.TrimSpace(dir), "domrender/renderer-js-script.go")
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return err
	}
	script := ""
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == "jsHelperScript" && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				script, err = strconv.Unquote(lit.Value)
			}
		}
		return true
	})
	if err != nil || script == "" {
		return fmt.Errorf("%s: no constant jsHelperScript (%v)", path, err)
	}
	return b.put("vugu-dom.js", []byte(script))
}

func (b *builder) static() error {
	for dst, src := range map[string]string{
		"index.html": "index.html", "app.css": "web/static/app.css", "boot.js": "web/static/boot.js", "offline.js": "web/static/offline.js",
		"tabtune.webmanifest": "web/static/tabtune.webmanifest", "icon.svg": "web/static/icon.svg",
		"kernels.wasm": "engine/kernel/kernels.wasm", "kernels_single.wasm": "engine/kernel/kernels_single.wasm",
	} {
		if err := b.copy(dst, src); err != nil {
			return err
		}
	}
	scripts, err := filepath.Glob("web/worker/*.js")
	if err != nil {
		return err
	}
	samples, err := filepath.Glob("web/samples/*[vl]") // .csv and .jsonl
	if err != nil {
		return err
	}
	sdk, err := filepath.Glob("web/sdk/tuner.*")
	if err != nil {
		return err
	}
	scripts = append(append(scripts, samples...), append(sdk, "web/sdk/package.json", "web/sdk/example/index.html", "web/sdk/example/example.js")...)
	shim, err := filepath.Glob("web/worker/wasi/*.js")
	if err != nil {
		return err
	}
	api, err := filepath.Glob("web/engine/*.[jd]*s")
	if err != nil {
		return err
	}
	for _, src := range slices.Concat(scripts, shim, api, []string{"web/worker/wasi/LICENSE-MIT"}) {
		rel, err := filepath.Rel("web", src)
		if err != nil {
			return err
		}
		if err := b.copy(filepath.ToSlash(rel), src); err != nil {
			return err
		}
	}
	// Makes the folder a package for Node and bundlers: import { open } from "tabtune".
	return b.put("package.json", []byte(`{"name":"tabtune","type":"module","exports":{".":{"types":"./engine/engine.d.ts","default":"./engine/engine.js"}},"license":"Apache-2.0"}`+"\n"))
}

func (b *builder) reactor() error {
	if b.module != "" {
		return b.copy("tabtune.wasm", b.module)
	}
	if _, err := command(nil, "make", "-s", "module"); err != nil {
		return err
	}
	return b.copy("tabtune.wasm", "host/dist/tabtune.wasm")
}

func (b *builder) copy(name, src string) error {
	data, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return b.put(name, data)
}

func (b *builder) put(name string, data []byte) error {
	b.kept[name] = true
	return write(filepath.Join(b.out, name), data)
}

// write leaves a file with equal content alone, so that its time says when it changed.
func write(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// compress writes name.br and name.gz beside every file whose copies are missing or older.
func (b *builder) compress() error {
	if b.quality < 0 {
		return nil
	}
	for name := range b.kept {
		path := filepath.Join(b.out, name)
		src, err := os.Stat(path)
		if err != nil {
			return err
		}
		var data []byte
		for _, ext := range []string{".br", ".gz"} {
			if have, err := os.Stat(path + ext); err == nil && !have.ModTime().Before(src.ModTime()) {
				continue
			}
			if data == nil {
				if data, err = os.ReadFile(path); err != nil {
					return err
				}
			}
			packed, err := squeeze(ext, data, b.quality)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+ext, packed, 0o644); err != nil {
				return err
			}
		}
	}
	var copies []string
	for name := range b.kept {
		copies = append(copies, name+".br", name+".gz")
	}
	for _, name := range copies {
		b.kept[name] = true
	}
	return nil
}

func squeeze(ext string, data []byte, quality int) ([]byte, error) {
	var out bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	if ext == ".br" {
		w = brotli.NewWriterOptions(&out, brotli.WriterOptions{Quality: quality, LGWin: 24})
	} else {
		var err error
		if w, err = gzip.NewWriterLevel(&out, gzip.BestCompression); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

// sweep removes files of earlier builds.
func (b *builder) sweep() error {
	return filepath.WalkDir(b.out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(b.out, path)
		if err != nil || b.kept[filepath.ToSlash(rel)] {
			return err
		}
		return os.Remove(path)
	})
}
