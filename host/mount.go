package host

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
)

// Mount gives the module a folder, at the folder's own absolute path.
type Mount struct {
	Path     string // a folder; made absolute against the working directory
	Writable bool
}

// File mounts the folder that holds a file, read-only.
func File(path string) Mount { return Mount{Path: filepath.Dir(path)} }

// Dir mounts a folder for reading and writing.
func Dir(path string) Mount { return Mount{Path: path, Writable: true} }

// resolve makes the paths absolute, merges mounts of the same folder (writable if one of them is) and orders them.
func resolve(mounts []Mount) ([]Mount, error) {
	byPath := map[string]bool{}
	for _, m := range mounts {
		abs, err := filepath.Abs(m.Path)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Path, err)
		}
		info, err := os.Stat(abs)
		if err != nil {
			return nil, fmt.Errorf("mount: %w", err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("mount %s: not a folder", abs)
		}
		byPath[abs] = byPath[abs] || m.Writable
	}
	out := make([]Mount, 0, len(byPath))
	for p, w := range byPath {
		out = append(out, Mount{p, w})
	}
	slices.SortFunc(out, func(a, b Mount) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}

func fsConfig(mounts []Mount) wazero.FSConfig {
	c := wazero.NewFSConfig()
	for _, m := range mounts {
		if m.Writable {
			c = c.WithDirMount(m.Path, guestPath(m, mounts))
		} else {
			c = c.WithReadOnlyDirMount(m.Path, guestPath(m, mounts))
		}
	}
	return c
}

// guestPath is a mount's name in the module. Go on wasip1 opens a path in the mount whose name is its longest prefix, as a
// string: /a/run would take /a/run.csv from /a. A slash at the end prevents that, and /a then answers for /a/run itself.
// A mount that lies in no other one has nothing to take, and nobody to answer for it.
func guestPath(m Mount, mounts []Mount) string {
	name := filepath.ToSlash(m.Path)
	for _, outer := range mounts {
		if strings.HasPrefix(name, strings.TrimSuffix(filepath.ToSlash(outer.Path), "/")+"/") && outer.Path != m.Path {
			return name + "/"
		}
	}
	return name
}
