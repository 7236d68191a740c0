package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tabtune/internal/atomicfile"
	"tabtune/lora"
	"tabtune/lora/export"
	"tabtune/lora/gguf"
	"tabtune/lora/peft"
	"tabtune/wasm/rpc"
)

func (s *Session) exportAdapter(p pathParam) (none, error) {
	if s.adapter == nil {
		return none{}, noAdapter()
	}
	return none{}, writeAdapter(p.Path, s.adapter, s.adapter.labels)
}

func noAdapter() error {
	return rpc.Errorf("no_adapter", "there is no adapter: train one or load one first")
}

// Formats of export.
const (
	formatPEFT    = "peft"
	formatAdapter = "gguf-adapter"
	formatQ8      = "gguf-q8_0"
	formatF16     = "gguf-f16"
	formatCard    = "card"
)

type exportParams struct {
	Format string `json:"format"`
	Path   string `json:"path"` // a file, for peft a folder
	Run    string `json:"run"`  // a run's folder: its adapter is loaded first, and the card is about it
}

type exportResult struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// export writes the current adapter, or a run's, for other programs.
func (s *Session) export(t *rpc.Task, p exportParams) (exportResult, error) {
	r := exportResult{Path: p.Path}
	if p.Path == "" {
		return r, invalid("path is missing")
	}
	var write func(io.Writer) error
	switch p.Format {
	case formatCard:
		if p.Run == "" {
			return r, invalid("run: a model card is about a run")
		}
		b, err := lora.ReadBounded(filepath.Join(p.Run, "run.json"), maxTemplate)
		if err != nil {
			return r, err
		}
		var st runState
		if err := json.Unmarshal(b, &st); err != nil {
			return r, fmt.Errorf("%s: %w", filepath.Join(p.Run, "run.json"), err)
		}
		write = func(w io.Writer) error {
			_, err := io.WriteString(w, st.card(filepath.Base(p.Run)))
			return err
		}
	case formatPEFT, formatAdapter, formatQ8, formatF16:
		if p.Run != "" {
			if _, err := s.loadAdapter(pathParam{p.Run}); err != nil {
				return r, err
			}
		}
		m, err := s.needModel()
		if err != nil {
			return r, err
		}
		if s.adapter == nil {
			return r, noAdapter()
		}
		a := &s.adapter.peft
		if a.BaseModel == "" {
			a.BaseModel = m.info.Name
		}
		if s.adapter.spec.Classifier != nil {
			return r, invalid("format %s: a classifier on the model's features is no LoRA; its own file is in the run's adapter folder", p.Format)
		}
		if p.Format == formatPEFT {
			if err := peft.Write(p.Path, a); err != nil {
				return r, err
			}
			for _, name := range []string{peft.WeightsFile, peft.ConfigFile} {
				st, err := os.Stat(filepath.Join(p.Path, name))
				if err != nil {
					return r, err
				}
				r.Bytes += st.Size()
			}
			return r, nil
		}
		write = func(w io.Writer) error { return export.Adapter(w, m.ckpt, a) }
		if p.Format != formatAdapter {
			if m.gguf == nil {
				return r, invalid("format %s: the model was not opened from a GGUF file, whose metadata a merged one needs", p.Format)
			}
			typ := gguf.Q8_0
			if p.Format == formatF16 {
				typ = gguf.F16
			}
			write = func(w io.Writer) error {
				return export.Merged(context.Background(), w, m.gguf, m.ckpt, a, typ, s.paced(t, "progress", "merge"))
			}
		}
	default:
		return r, invalid("format %q: want %s, %s, %s, %s or %s", p.Format, formatPEFT, formatAdapter, formatQ8, formatF16, formatCard)
	}
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o777); err != nil {
		return r, err
	}
	if err := atomicfile.Write(p.Path, write); err != nil {
		return r, err
	}
	st, err := os.Stat(p.Path)
	if err != nil {
		return r, err
	}
	r.Bytes = st.Size()
	return r, nil
}
