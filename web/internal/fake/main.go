//go:build wasip1

// Command fake stands in for tabtune.wasm in tests of the page and the worker: the same exports and protocol, the same files written, but
// no model. Its losses are a formula, so a browser test takes seconds and can ask for what the real module must never do: trap.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"tabtune/internal/atomicfile"
	"tabtune/wasm/rpc"
)

var (
	server   = rpc.NewServer(os.Stderr)
	buffers  = map[uint32][]byte{}
	response []byte
)

func main() {}

//go:wasmexport tt_alloc
func alloc(n uint32) uint32 {
	b := make([]byte, n)
	p := address(b)
	buffers[p] = b
	return p
}

//go:wasmexport tt_free
func free(p uint32) { delete(buffers, p) }

//go:wasmexport tt_call
func call(ptr, n uint32) uint64 {
	response = server.Serve(buffers[ptr][:n])
	return uint64(address(response))<<32 | uint64(len(response))
}

//go:wasmimport dev limit
func memoryLimit() uint64

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

type object = map[string]any

type logLine struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
}

// The protocol's parameters are passed through unread but for these.
type trainParams struct {
	Out       string `json:"out"`
	Steps     int    `json:"steps"`
	EvalEvery int    `json:"evalEvery"`
	Resume    bool   `json:"resume"`
	Queries   int    `json:"queries"`
	Batch     int    `json:"batch"`
}

func loose[T any](raw json.RawMessage) (t T, err error) { return t, json.Unmarshal(raw, &t) }

func init() {
	rpc.Handle(server, "hello", func(struct{}) (any, error) { return object{"version": "fake", "threads": 1}, nil })
	rpc.HandleTask(server, "model.open", openModel)
	rpc.Handle(server, "model.about", aboutModel)
	rpc.HandleTask(server, "data.open", openData)
	rpc.HandleTask(server, "train", train)
	rpc.HandleTask(server, "eval", eval)
	rpc.HandleTask(server, "generate", generate)
	rpc.Handle(server, "estimate", func(json.RawMessage) (any, error) {
		return object{"bytes": 200_000_000, "fits": true, "limit": memoryLimit(), "seconds": 1500}, nil
	})
	rpc.Handle(server, "adapter.load", loadAdapter)
	rpc.HandleTask(server, "adapter.replay", func(_ *rpc.Task, raw json.RawMessage) (any, error) { return loadAdapter(raw) })
	rpc.HandleTask(server, "export", export)
	rpc.Handle(server, "adapter.clear", func(struct{}) (any, error) { return object{}, nil })
	rpc.Handle(server, "trap", func(struct{}) (any, error) { os.Exit(7); return nil, nil })
	rpc.HandleTask(server, "bench", func(t *rpc.Task, _ json.RawMessage) (any, error) {
		return []object{{"name": "fake", "value": 1}}, t.Emit(object{"type": "progress", "done": 1, "total": 1})
	})
}

func openModel(t *rpc.Task, raw json.RawMessage) (any, error) {
	p, err := loose[struct {
		Path string `json:"path"`
	}](raw)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte("GGUF")) {
		return nil, rpc.Errorf("bad_file", "%s: offset 0: no GGUF magic", p.Path)
	}
	for i := range 5 {
		if err := t.Emit(object{"type": "progress", "phase": "weights", "done": i + 1, "total": 5}); err != nil {
			return nil, err
		}
	}
	return object{"name": "Fake", "architecture": "llama", "parameters": 1000, "layers": 30, "dtype": "int8", "fileBytes": st.Size(), "weightBytes": 1000, "license": "mit", "quantization": "Q8_0"}, nil
}

func aboutModel(raw json.RawMessage) (any, error) {
	if _, err := loadAdapter(raw); err != nil { // begins like a model
		return nil, err
	}
	return object{"name": "Fake", "architecture": "llama", "license": "mit", "quantization": "Q8_0", "parameters": 1000}, nil
}

func openData(t *rpc.Task, raw json.RawMessage) (any, error) {
	p, err := loose[struct {
		Path     string `json:"path"`
		Template string `json:"template"`
	}](raw)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(p.Path)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var preview []object
	for _, l := range lines[:min(3, len(lines))] {
		preview = append(preview, object{"text": l, "prompt": strings.ReplaceAll(p.Template, "{text}", l), "label": "positive", "tokens": len(l) / 4})
	}
	return object{"trainRows": len(lines), "valRows": 10, "preview": preview,
		"labels":   []object{{"name": "negative", "verbalizer": " terrible", "count": 5}, {"name": "positive", "verbalizer": " great", "count": 5}},
		"warnings": []object{{"code": "duplicates", "message": "2 rows are the same", "rows": []int{1, 2}}}}, nil
}

func train(t *rpc.Task, raw json.RawMessage) (any, error) {
	p, err := loose[trainParams](raw)
	if err != nil {
		return nil, err
	}
	logPath := filepath.Join(p.Out, "replay.log")
	first := 1
	if old, err := os.ReadFile(logPath); err == nil && p.Resume {
		first += bytes.Count(old, []byte("\n"))
	} else if err := os.MkdirAll(filepath.Join(p.Out, "adapter"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(p.Out, "adapter", "adapter_config.json"), []byte("{}"), 0o644); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	accuracy := func(step int) float64 { return 0.52 + 0.2*float64(step)/float64(p.Steps) }
	loss := func(step int) float64 { return 0.5 + 0.6*math.Exp(-float64(step)/20) + 0.02*math.Sin(float64(step)) }
	emitEval := func(step int) error {
		return t.Emit(object{"type": "eval", "step": step, "accuracy": accuracy(step), "loss": loss(step), "best": step < 40})
	}
	if first == 1 {
		if err := emitEval(0); err != nil {
			return nil, err
		}
	}
	for s := first; s <= p.Steps; s++ {
		time.Sleep(5 * time.Millisecond)
		line, _ := json.Marshal(logLine{s, loss(s)})
		if _, err := log.Write(append(line, '\n')); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(p.Out, "adapter", "adapter_model.safetensors"), line, 0o644); err != nil {
			return nil, err
		}
		if err := t.Emit(object{"type": "step", "step": s, "steps": p.Steps, "loss": loss(s), "lr": 0.1, "rows": s * p.Queries * p.Batch * 2,
			"rowsPerSecond": 1000, "secondsLeft": float64(p.Steps-s) * 0.01, "peakBytes": 1 << 28}); err != nil {
			return nil, err
		}
		if s%p.EvalEvery == 0 || s == p.Steps {
			if err := emitEval(s); err != nil {
				return nil, err
			}
		}
	}
	for name, text := range map[string]string{"run.json": "{}", "metrics.jsonl": "{}\n"} {
		if err := os.WriteFile(filepath.Join(p.Out, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
	}
	end := object{"accuracy": accuracy(p.Steps), "loss": loss(p.Steps), "step": p.Steps}
	return object{"steps": p.Steps, "rows": 1000, "rowsPerSecond": 1000, "peakBytes": 1 << 28, "zeroShot": object{"accuracy": 0.52, "loss": 1.1},
		"accuracy": end["accuracy"], "loss": end["loss"], "best": end, "lr": 0.1, "seconds": 1}, nil
}

// loadAdapter takes whatever is there.
func loadAdapter(raw json.RawMessage) (any, error) {
	p, err := loose[struct {
		Path string `json:"path"`
	}](raw)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(p.Path, ".gguf") {
		if b, err := os.ReadFile(p.Path); err != nil || !bytes.HasPrefix(b, []byte("GGUF")) {
			return nil, rpc.Errorf("bad_file", "%s: offset 0: no GGUF magic", p.Path)
		}
	} else if _, err := os.Stat(p.Path); err != nil {
		return nil, err
	}
	return object{}, nil
}

// export writes a file that begins as the format does, as the real module writes it: beside, flushed, renamed.
func export(t *rpc.Task, raw json.RawMessage) (any, error) {
	p, err := loose[struct {
		Format string `json:"format"`
		Path   string `json:"path"`
		Run    string `json:"run"`
	}](raw)
	if err != nil {
		return nil, err
	}
	content := strings.Repeat("GGUF", 50_000)
	if p.Format == "card" {
		content = "# " + p.Run
	}
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o755); err != nil {
		return nil, err
	}
	if p.Format == "peft" {
		for _, name := range []string{"adapter_model.safetensors", "adapter_config.json"} {
			if err := os.MkdirAll(p.Path, 0o755); err != nil {
				return nil, err
			}
			if err := os.WriteFile(filepath.Join(p.Path, name), []byte("{}"), 0o644); err != nil {
				return nil, err
			}
		}
		return object{"path": p.Path, "bytes": 4}, nil
	}
	err = atomicfile.Write(p.Path, func(w io.Writer) error {
		for i := range 4 {
			time.Sleep(20 * time.Millisecond)
			if err := t.Emit(object{"type": "progress", "phase": "merge", "done": i, "total": 4}); err != nil {
				return err
			}
			if _, err := io.WriteString(w, content[i*len(content)/4:(i+1)*len(content)/4]); err != nil {
				return err
			}
		}
		return nil
	})
	return object{"path": p.Path, "bytes": len(content)}, err
}

var evals int

func eval(t *rpc.Task, _ json.RawMessage) (any, error) {
	evals++
	var predictions []object
	for i := range 10 {
		predicted := 0
		if evals > 1 && i%2 == 0 {
			predicted = 1
		}
		predictions = append(predictions, object{"row": i + 1, "text": fmt.Sprintf("sentence %d", i), "label": 1 - i%2, "predicted": predicted, "loss": 0.7})
		if err := t.Emit(object{"type": "progress", "done": i + 1, "total": 10}); err != nil {
			return nil, err
		}
	}
	return object{"accuracy": 0.5, "loss": 0.7, "rows": 10, "predictions": predictions}, nil
}

func generate(t *rpc.Task, raw json.RawMessage) (any, error) {
	p, err := loose[struct {
		Prompt  string `json:"prompt"`
		Adapter bool   `json:"adapter"`
	}](raw)
	if err != nil {
		return nil, err
	}
	word := " before"
	if p.Adapter {
		word = " after"
	}
	for range 3 {
		if err := t.Emit(object{"type": "token", "text": word, "id": 1, "p": 0.25}); err != nil {
			return nil, err
		}
	}
	return object{"text": strings.Repeat(word, 3), "tokens": 3, "seconds": 0.1}, nil
}
