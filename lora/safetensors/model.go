package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
)

// File names of a Hugging Face checkpoint folder.
const (
	SingleFile = "model.safetensors"
	IndexFile  = "model.safetensors.index.json"
)

const (
	maxIndex  = 32 << 20
	maxShards = 1024
)

// Model is a checkpoint in one file or in several shards.
type Model struct {
	Dir    string
	Files  []*File
	byName map[string]*Tensor
	open   []*os.File
}

// OpenModel opens the checkpoint in a folder: the shards that
// model.safetensors.index.json lists when it is there, else model.safetensors.
// Every name in the index must be in the shard that the index says, and a shard
// is a plain file name inside the folder.
func OpenModel(dir string) (*Model, error) {
	m := &Model{Dir: dir, byName: map[string]*Tensor{}}
	weightMap, err := readIndex(filepath.Join(dir, IndexFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = m.add(SingleFile, nil)
	case err == nil:
		shards := map[string][]string{}
		for tensor, file := range weightMap {
			shards[file] = append(shards[file], tensor)
		}
		names := make([]string, 0, len(shards))
		for file := range shards {
			names = append(names, file)
		}
		sort.Strings(names)
		if len(names) > maxShards {
			err = fmt.Errorf("safetensors %s: %d shards, the limit is %d", filepath.Join(dir, IndexFile), len(names), maxShards)
			break
		}
		for _, file := range names {
			sort.Strings(shards[file])
			if err = m.add(file, shards[file]); err != nil {
				break
			}
		}
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// add opens a shard and takes the listed tensors, or all when names is nil.
func (m *Model) add(file string, names []string) error {
	path := filepath.Join(m.Dir, file)
	f, h, err := Open(path)
	if err != nil {
		return err
	}
	m.Files = append(m.Files, f)
	m.open = append(m.open, h.(*os.File))
	if names == nil {
		for _, t := range f.Tensors {
			m.byName[t.Name] = t
		}
		return nil
	}
	for _, n := range names {
		t, err := f.Tensor(n)
		if err != nil {
			return fmt.Errorf("safetensors %s: the index is wrong: %w", filepath.Join(m.Dir, IndexFile), err)
		}
		m.byName[n] = t
	}
	return nil
}

func readIndex(path string) (map[string]string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	if st.Size() > maxIndex {
		return nil, fmt.Errorf("safetensors %s: %d bytes, the limit is %d", path, st.Size(), maxIndex)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("safetensors %s: invalid JSON: %w", path, err)
	}
	if len(index.WeightMap) == 0 {
		return nil, fmt.Errorf("safetensors %s: weight_map: missing or empty", path)
	}
	for tensor, file := range index.WeightMap {
		if file != filepath.Base(file) || !filepath.IsLocal(file) || file == "." {
			return nil, fmt.Errorf("safetensors %s: weight_map %q: %q is not a plain file name", path, tensor, file)
		}
	}
	return index.WeightMap, nil
}

// Tensor finds a tensor by name in any shard.
func (m *Model) Tensor(name string) (*Tensor, error) {
	if t := m.byName[name]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("safetensors %s: no tensor %q", m.Dir, name)
}

// Has says whether any shard holds a tensor of that name.
func (m *Model) Has(name string) bool { return m.byName[name] != nil }

// Names lists the tensors, sorted.
func (m *Model) Names() []string {
	out := make([]string, 0, len(m.byName))
	for n := range m.byName {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// Close closes the files.
func (m *Model) Close() error {
	var err error
	for _, h := range m.open {
		err = errors.Join(err, h.Close())
	}
	m.open = nil
	return err
}
