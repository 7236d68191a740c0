package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"tabtune/internal/atomicfile"
	"tabtune/web/drive"
)

// row is one comparison. Ratio is Ours/Peer, the median over rounds; Low and High are the smallest and the largest of the rounds.
type row struct {
	Name     string  `json:"name"`
	Ours     float64 `json:"ours"`
	Peer     float64 `json:"peer"`
	Unit     string  `json:"unit"`
	Ratio    float64 `json:"ratio"`
	Command  string  `json:"command"`
	OursName string  `json:"oursName"`
	PeerName string  `json:"peerName"`
	Low      float64 `json:"low,omitempty"`
	High     float64 `json:"high,omitempty"`
	Rounds   int     `json:"rounds"`
	Machine  string  `json:"machine"`
}

// aim is what a ratio should reach: at least, or for what should be small at most.
type aim struct {
	ratio float64
	most  bool
}

// aims are of rows by name.
var aims = map[string]aim{
	"forward_vs_ort_int8_t1": {1.2, false}, "forward_vs_ort_int8_t2": {1.2, false}, "forward_vs_wllama_q8_t1": {8, false}, "forward_vs_wllama_q8_t2": {8, false},
	"forward_vs_xnnpack_t1": {0.75, false}, "forward_vs_xnnpack_t2": {0.75, false}, "forward_vs_gemm_t1": {0.75, false}, "threads_2_vs_1": {1.85, false},
	"prge_vs_mezo_q1": {4.3, false}, "prge_vs_mezo_q4": {4.3, false}, "prge_vs_mezo_q16": {4.3, false}, "prefix_vs_all": {6, false},
	"memory_vs_weights_int8": {1.3, true}, "memory_vs_weights_q4": {1.5, true}, "open_to_first_step": {1, true}, "import_gguf": {1, true},
	"decode_vs_wllama": {2, false}, "download": {1, true}, "page_interactive": {1, true},
}

// aimOf returns the aim of a row by its name. Programs of one flow have one.
func aimOf(name string) (aim, bool) {
	if strings.HasPrefix(name, "program_") {
		for flow, a := range programAims {
			if strings.Contains(name, flow) {
				return a, true
			}
		}
	}
	a, ok := aims[name]
	return a, ok
}

type report struct{ rows []row }

func readReport(dir string) (*report, error) {
	r := &report{}
	path := filepath.Join(dir, "benchmarks.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &r.rows); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// add replaces the row of the same name.
func (r *report) add(x row) {
	x.Machine = machine()
	fmt.Fprintf(os.Stderr, "  %-34s %.4g against %.4g %s: %.3g\n", x.Name, x.Ours, x.Peer, x.Unit, x.Ratio)
	for i := range r.rows {
		if r.rows[i].Name == x.Name {
			r.rows[i] = x
			return
		}
	}
	r.rows = append(r.rows, x)
}

// machine names the processor and how many of it there are.
func machine() string {
	name := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(b); m != nil {
			name = string(m[1])
		}
	}
	return fmt.Sprintf("%d x %s, %s", runtime.NumCPU(), name, runtime.GOOS)
}

func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r.rows, "", "  ")
	if err != nil {
		return err
	}
	put := func(name string, data []byte) error {
		return atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error { _, err := w.Write(data); return err })
	}
	if err := put("benchmarks.json", append(b, '\n')); err != nil {
		return err
	}
	if err := put("benchmarks.svg", plot(r.rows)); err != nil {
		return err
	}
	return put("BENCHMARKS.md", r.markdown())
}

// sections of the document, by the beginnings of names.
var sections = []struct {
	title, text string
	prefixes    []string
}{
	{"Forward", "All layers of SmolLM2-135M without head over 8 x 64 tokens. wllama reads one prompt of about 512 tokens, its head at the last token only.", []string{"forward_", "threads_", "chromium_"}},
	{"Training steps", "Equal rows: 2 q b rows a step. MeZO perturbs all weights, which needs f32; P-RGE adapts q and v of all layers, with int8 weights (as it is " +
		"used) and with f32 weights (like with like). \"LoRA sequential\" is the same adapter and directions with one replica a call.", []string{"prge_", "prefix_"}},
	{"Decoding", "64 tokens after a short prompt for us, after about 512 for wllama; ours with an adapter on all layers.", []string{"decode_"}},
	{"Memory", "Both wasm memories as the browser holds them after one step (all layers, q 4, b 4, T 64), and after inference alone, against the weights.", []string{"memory_", "inference_memory_"}},
	{"Programs", "Programs of the stock exporter in engine.js in Chromium, and in the stock runtime, natively. Networks of torchvision take one image of 224 x 224; " +
		"SmolLM2-135M from the stock Llama exporter, with its cache of keys and values, takes a prompt of 64 tokens or one token after 64. What products of f32 reach " +
		"of XNNPACK is what vectors of 128 bits reach of its 512: see RATIONALE.md.", []string{"program_"}},
	{"Loading", "The peer of these rows is the limit that we set ourselves; a ratio below 1 keeps it.", []string{"import_", "open_", "page_", "download"}},
}

func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Benchmarks\n\nWritten by `make bench`, which installs the peers, lets all sides of a comparison take turns (warm, the first turn thrown away)\n"+
		"and takes medians. The ratio is the median of the ratios within each turn; its range is over the turns. Numbers without their\n"+
		"ratio mean little: they depend on the machine.\n\n| | |\n|---|---|\n")
	for _, v := range versions() {
		fmt.Fprintf(&b, "| %s | %s |\n", v[0], v[1])
	}
	fmt.Fprintf(&b, "\n![Ratios, ours against the peer](benchmarks.svg)\n")
	for _, s := range sections {
		var rows []row
		for _, x := range r.rows {
			if slices.ContainsFunc(s.prefixes, func(p string) bool { return strings.HasPrefix(x.Name, p) }) {
				rows = append(rows, x)
			}
		}
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| name | ours | peer | unit | ratio | range | aim |\n|---|---|---|---|---|---|---|\n", s.title, s.text)
		for _, x := range rows {
			span, want := "", ""
			if x.High > 0 {
				span = fmt.Sprintf("%.3g to %.3g", x.Low, x.High)
			}
			if a, ok := aimOf(x.Name); ok {
				word, kept := "at least", x.Ratio >= a.ratio
				if a.most {
					word, kept = "at most", x.Ratio <= a.ratio
				}
				want = fmt.Sprintf("%s %g", word, a.ratio)
				if !kept {
					want += ", missed"
				}
			}
			fmt.Fprintf(&b, "| `%s` | %s %s | %s %s | %s | %.3g | %s | %s |\n", x.Name, number(x.Ours), x.OursName, number(x.Peer), x.PeerName, x.Unit, x.Ratio, span, want)
		}
		fmt.Fprintf(&b, "\n`%s`\n", rows[0].Command)
	}
	return b.Bytes()
}

func number(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// versions are what was compared, and where.
func versions() [][2]string {
	v := [][2]string{{"machine", machine()}, {"Go", runtime.Version()}}
	if path, err := drive.Chromium(); err == nil {
		if out, err := exec.Command(path, "--version").Output(); err == nil {
			v = append(v, [2]string{"browser", strings.TrimSpace(string(out))})
		}
	}
	var lock struct{ Dependencies map[string]string }
	if b, err := files.ReadFile("peers/package.json"); err == nil && json.Unmarshal(b, &lock) == nil {
		for _, name := range []string{"onnxruntime-web", "@wllama/wllama"} {
			v = append(v, [2]string{name, lock.Dependencies[name]})
		}
	}
	if b, err := os.ReadFile("conformance/requirements.txt"); err == nil {
		for _, m := range regexp.MustCompile(`(?m)^(executorch|torch)==(\S+)$`).FindAllSubmatch(b, -1) {
			v = append(v, [2]string{string(m[1]), string(m[2])})
		}
	}
	return append(v, [2]string{"model", "SmolLM2-135M-Instruct"})
}
