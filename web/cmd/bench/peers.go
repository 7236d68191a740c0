package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"tabtune/internal/assets"
	"tabtune/internal/atomicfile"
	"tabtune/lora/gguf"
)

//go:embed pages peers
var files embed.FS

func pagesFS() fs.FS {
	sub, err := fs.Sub(files, "pages")
	if err != nil {
		panic(err) // a constant path of an embedded tree
	}
	return sub
}

// model is a GGUF file of the example model by its weight type.
func (b *bench) model(weights string) string {
	if weights == "Q4_1" {
		return filepath.Join(b.assets, assets.Model)
	}
	return filepath.Join(b.peers, "model-"+weights+".gguf")
}

// prepare makes the folder of the peers and starts the server. The peers themselves are installed when a comparison needs them.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.assets, err = assets.Dir(); err != nil {
		return err
	}
	cache, err := assets.CacheDir()
	if err != nil {
		return err
	}
	key := sha256.New()
	err = fs.WalkDir(files, "peers", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		fmt.Fprintf(key, "%s %d\n", path, len(data))
		key.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	b.peers = filepath.Join(cache, "bench", hex.EncodeToString(key.Sum(nil)[:8]))
	src := filepath.Join(b.peers, "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json", "requirements.txt", "trunk.py", "run.py"} {
		data, err := files.ReadFile("peers/" + name)
		if err != nil {
			return err
		}
		to := src
		if strings.HasPrefix(name, "package") {
			to = b.peers
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			return err
		}
	}
	b.python = filepath.Join(b.peers, "env", "bin", "python")
	return b.serve()
}

// ensure does steps of the preparation that were not done before.
func (b *bench) ensure(ctx context.Context, steps ...string) error {
	does := map[string]func(context.Context) error{"npm": b.npm, "python": b.pythonEnv, "Q8_0": b.q8, "trunk": b.trunk}
	for _, name := range steps {
		done := filepath.Join(b.peers, "done-"+name)
		if _, err := os.Stat(done); err == nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "preparing %s in %s\n", name, b.peers)
		if err := does[name](ctx); err != nil {
			return fmt.Errorf("preparing %s: %w", name, err)
		}
		if err := os.WriteFile(done, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	out, err := c.Output()
	if err != nil {
		var e *exec.ExitError
		if errors.As(err, &e) {
			err = fmt.Errorf("%w: %s", err, e.Stderr[max(0, len(e.Stderr)-2000):])
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(out), nil
}

func (b *bench) npm(ctx context.Context) error {
	_, err := command(ctx, b.peers, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	return err
}

// pythonEnv adds onnx and onnxruntime to the packages of the conformance checks (torch, ExecuTorch, transformers).
func (b *bench) pythonEnv(ctx context.Context) error {
	out, err := command(ctx, ".", "conformance/env.sh")
	if err != nil {
		return err
	}
	base := strings.TrimSpace(out)
	env := filepath.Join(b.peers, "env")
	if err := os.RemoveAll(env); err != nil {
		return err
	}
	if _, err := command(ctx, b.peers, filepath.Join(base, "bin", "python"), "-m", "venv", env); err != nil {
		return err
	}
	if _, err := command(ctx, b.peers, b.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", filepath.Join("src", "requirements.txt")); err != nil {
		return err
	}
	sites, err := filepath.Glob(filepath.Join(env, "lib", "python3*", "site-packages"))
	if err != nil || len(sites) != 1 {
		return fmt.Errorf("%s: no site-packages (%v)", env, err)
	}
	theirs, err := filepath.Glob(filepath.Join(base, "lib", "python3*", "site-packages"))
	if err != nil || len(theirs) != 1 {
		return fmt.Errorf("%s: no site-packages (%v)", base, err)
	}
	return os.WriteFile(filepath.Join(sites[0], "conformance.pth"), []byte(theirs[0]+"\n"), 0o644)
}

func (b *bench) trunk(ctx context.Context) error {
	_, err := command(ctx, b.peers, b.python, filepath.Join("src", "trunk.py"), b.model("Q4_1"), b.peers)
	return err
}

// q8 writes the example model with Q8_0 matrices, which llama.cpp and we then read alike.
func (b *bench) q8(ctx context.Context) error {
	f, closer, err := gguf.Open(b.model("Q4_1"))
	if err != nil {
		return err
	}
	defer closer.Close() // read only
	w := gguf.NewWriter()
	for _, key := range f.Metadata.Keys() {
		v, ok := f.Metadata.Get(key)
		if !ok || key == "general.alignment" { // the writer's own
			continue
		}
		value := v.Any()
		if key == "general.file_type" {
			value = uint32(7) // mostly Q8_0
		}
		if err := w.Set(key, value); err != nil {
			return err
		}
	}
	for _, t := range f.Tensors {
		typ := gguf.Q8_0
		if t.Type == gguf.F32 {
			typ = gguf.F32
		}
		err := w.Add(t.Name, typ, t.Shape, func(out io.Writer) error {
			size, err := gguf.RowBytes(typ, t.Cols())
			if err != nil {
				return err
			}
			buf := make([]byte, size)
			return t.StreamF32(ctx, 0, func(_, n int64, values []float32) error {
				for r := range n {
					if err := gguf.EncodeRow(buf, values[r*t.Cols():(r+1)*t.Cols()], typ); err != nil {
						return err
					}
					if _, err := out.Write(buf); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return atomicfile.Write(b.model("Q8_0"), func(out io.Writer) error { _, err := w.WriteTo(out); return err })
}
