package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"tabtune/host"
)

// recorder is an engine that notes the requests and gives prepared answers.
type recorder struct {
	requests []string // "method params"
	options  host.Options
	events   map[string][]string // of a task
	answers  map[string]string   // values of tasks and calls; "{}" when absent
	fail     map[string]error
	cancel   map[string]context.CancelFunc // called in the middle of a task
	closed   int
}

func (r *recorder) Call(_ context.Context, method string, params, result any) error {
	b, err := json.Marshal(params)
	if err != nil {
		return err
	}
	r.requests = append(r.requests, method+" "+string(b))
	if err := r.fail[method]; err != nil {
		return err
	}
	if result == nil {
		return nil
	}
	answer := r.answers[method]
	if answer == "" {
		answer = "{}"
	}
	return json.Unmarshal([]byte(answer), result)
}

func (r *recorder) Task(ctx context.Context, name string, params any, event func(json.RawMessage) error) (json.RawMessage, error) {
	var answer json.RawMessage
	if err := r.Call(ctx, name, params, &answer); err != nil {
		return nil, err
	}
	for i, e := range r.events[name] {
		if c := r.cancel[name]; c != nil && i == 1 {
			c()
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := event(json.RawMessage(e)); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func (r *recorder) Close() error { r.closed++; return nil }

// try runs a command line against a recorder.
func try(t *testing.T, r *recorder, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return tryContext(t, t.Context(), r, stdin, args...)
}

func tryContext(t *testing.T, ctx context.Context, r *recorder, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	now := time.Unix(0, 0)
	a := &app{in: strings.NewReader(stdin), out: &out, err: &errs, now: func() time.Time { now = now.Add(time.Second); return now },
		open: func(_ context.Context, o host.Options) (engine, error) { r.options = o; return r, nil }}
	code = a.main(ctx, args)
	return code, out.String(), errs.String()
}

// files makes a folder with the files that the commands look for.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"m.gguf", "d.csv", "v.csv", "p.pte", "p.ptd", "a.safetensors", "b.safetensors", "run/adapter/adapter_config.json"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const trainValue = `{"steps":150,"rows":19200,"rowsPerSecond":156.5,"peakBytes":412000000,"zeroShot":{"accuracy":0.524,"loss":1.128},` +
	`"accuracy":0.698,"loss":0.583,"best":{"step":120,"accuracy":0.704,"loss":0.573},"lr":0.2,"seconds":123}`

func lastLine(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[len(lines)-1]
}

func TestTrainParams(t *testing.T) {
	dir := files(t)
	out := filepath.Join(dir, "out")
	r := &recorder{answers: map[string]string{"train": trainValue}}
	code, stdout, stderr := try(t, r, "", "train", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"),
		"--text-column", "sentence", "--label-column", "y", "--template", "{text} is {label}", "--verbalizers", "bad, good",
		"--labels", "0,1", "--val", filepath.Join(dir, "v.csv"), "--estimator", "mezo", "--queries", "8", "--batch", "2", "--eps", "1e-3",
		"--lr", "0.5", "--schedule", "constant", "--rank", "4", "--alpha", "8", "--modules", "q,v,o", "--layers", "all", "--dtype", "q4",
		"--steps", "7", "--seed", "3", "--threads", "2", "--memory", "1GB", "--window", "64", "--json", "--out", out)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	want := []string{
		`model.open {"path":"` + dir + `/m.gguf","dtype":"q4","window":64}`,
		`data.open {"path":"` + dir + `/d.csv","textColumn":"sentence","labelColumn":"y","template":"{text} is {label}",` +
			`"verbalizers":["bad","good"],"labels":["0","1"],"val":{"path":"` + dir + `/v.csv"},"window":64,"seed":3}`,
		`train {"estimator":"mezo","queries":8,"batch":2,"eps":0.001,"lr":0.5,"schedule":"constant","rank":4,"alpha":8,` +
			`"modules":["q","v","o"],"layers":"all","steps":7,"seed":3,"out":"` + out + `","resume":true}`,
	}
	if !reflect.DeepEqual(r.requests, want) {
		t.Errorf("requests\n got %s\nwant %s", strings.Join(r.requests, "\n     "), strings.Join(want, "\n     "))
	}
	if r.options.Threads != 2 || r.options.MemoryLimit != 1e9 || r.closed != 1 {
		t.Errorf("options %+v, closed %d times", r.options, r.closed)
	}
	for _, m := range r.options.Mounts {
		if m.Writable != (m.Path == out) {
			t.Errorf("mount %+v: only the output may be written", m)
		}
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lastLine(stdout)), &got); err != nil {
		t.Fatalf("last line: %v\n%s", err, stdout)
	}
	for key, want := range map[string]any{
		"accuracy": 0.698, "loss": 0.583, "rows": 19200.0, "steps": 150.0, "rows_per_second": 156.5, "peak_bytes": 412000000.0,
		"zero_shot": map[string]any{"accuracy": 0.524, "loss": 1.128}, "best": map[string]any{"step": 120.0, "accuracy": 0.704, "loss": 0.573},
	} {
		if !reflect.DeepEqual(got[key], want) {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
}

func TestTrainDefaults(t *testing.T) {
	dir := files(t)
	r := &recorder{answers: map[string]string{
		"train":     trainValue,
		"data.open": `{"trainRows":10,"valRows":5,"labels":[{"name":"negative","verbalizer":" terrible","count":4}],"warnings":[{"code":"long","message":"cut to the window: rows 3 and 17","rows":[3,17]}]}`,
	}, events: map[string][]string{"train": {
		`{"type":"prefix","done":1,"total":10}`, `{"type":"lr","lr":0.2}`, `{"type":"eval","step":0,"accuracy":0.524,"loss":1.128}`,
		`{"type":"step","step":75,"steps":150,"loss":0.6,"rowsPerSecond":150,"secondsLeft":61}`, `{"type":"checkpoint","step":75}`,
		`{"type":"something new"}`,
	}}}
	code, stdout, stderr := try(t, r, "", "train", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"),
		"--val-rows", "5", "--out", filepath.Join(dir, "o"))
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	want := `train {"estimator":"auto","lr":"auto","schedule":"linear","seed":0,"out":"` + dir + `/o","resume":true}`
	if r.requests[2] != want {
		t.Errorf("\n got %s\nwant %s", r.requests[2], want)
	}
	for _, s := range []string{"before", "0.524", "1.1280", "after", "0.698", "best, step 120", "0.704", "150 steps, 19200 rows in 2:03 min (156 rows/s)", "412.0 MB"} {
		if !strings.Contains(stdout, s) {
			t.Errorf("standard output lacks %q:\n%s", s, stdout)
		}
	}
	for _, s := range []string{`negative as " terrible"`, "warning: cut to the window: rows 3 and 17", "learning rate 0.2", "step    0  validation accuracy 0.524", "1:01 min left"} {
		if !strings.Contains(stderr, s) {
			t.Errorf("standard error lacks %q:\n%s", s, stderr)
		}
	}
}

// TestRestart begins anew in a folder with a run.
func TestRestart(t *testing.T) {
	dir := files(t)
	out := filepath.Join(dir, "run")
	for _, name := range []string{"replay.log", "metrics.jsonl", "notes.txt"} { // no run.json: stopped before it was written
		if err := os.WriteFile(filepath.Join(out, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"train", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"), "--out", out, "--restart"}
	left := func() string {
		names, err := filepath.Glob(filepath.Join(out, "*.*"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, " ")
	}
	r := &recorder{answers: map[string]string{"train": trainValue}, fail: map[string]error{"data.open": errors.New("no such column")}}
	if code, _, _ := try(t, r, "", args...); code == 0 || !strings.Contains(left(), "replay.log") {
		t.Errorf("exit %d; a mistake in the data leaves %s", code, left())
	}
	r.fail, r.requests = nil, nil
	if code, _, stderr := try(t, r, "", args...); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if left() != filepath.Join(out, "notes.txt") {
		t.Errorf("left in the folder: %s", left())
	}
	if strings.Contains(r.requests[2], `"resume":true`) {
		t.Error(r.requests[2])
	}
}

func TestInterrupted(t *testing.T) {
	dir := files(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &recorder{events: map[string][]string{"train": {`{"type":"step","step":1,"steps":3}`, `{"type":"step","step":2,"steps":3}`}},
		cancel: map[string]context.CancelFunc{"train": cancel}}
	out := filepath.Join(dir, "o")
	code, stdout, stderr := tryContext(t, ctx, r, "", "train", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"), "--out", out, "--json")
	if code != 130 || r.closed != 1 {
		t.Errorf("exit %d, closed %d times", code, r.closed)
	}
	if want := "tabtune train: interrupted; the run is kept in " + out + ": give the same command again to continue it"; lastLine(stderr) != want {
		t.Errorf("standard error\n got %q\nwant %q", lastLine(stderr), want)
	}
	if !strings.Contains(lastLine(stdout), `"code":"interrupted"`) {
		t.Errorf("standard output: %s", stdout)
	}
}

func TestEval(t *testing.T) {
	dir := files(t)
	predictions := filepath.Join(dir, "p.jsonl")
	r := &recorder{answers: map[string]string{"eval": `{"accuracy":0.5,"loss":0.7,"rows":2,"predictions":[{"row":1,"text":"t","label":0,"predicted":1,"loss":0.9}]}`}}
	code, stdout, stderr := try(t, r, "", "eval", "--json", "--model", filepath.Join(dir, "m.gguf"), "--adapter", filepath.Join(dir, "run"),
		"--data", filepath.Join(dir, "d.csv"), "--predictions", predictions)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if got, want := stdout, `{"accuracy":0.5,"loss":0.7,"rows":2}`+"\n"; got != want {
		t.Errorf("standard output %q, want %q", got, want)
	}
	if b, err := os.ReadFile(predictions); err != nil || string(b) != `{"row":1,"text":"t","label":0,"predicted":1,"loss":0.9}`+"\n" {
		t.Errorf("predictions: %q, %v", b, err)
	}
	if got, want := r.requests[2:], []string{`adapter.load {"path":"` + dir + `/run/adapter"}`, `eval {"split":"val"}`}; !reflect.DeepEqual(got, want) {
		t.Errorf("requests %s", got)
	}
	if !strings.Contains(r.requests[1], `"val":{"path":"`+dir+`/d.csv"},"trainRows":1`) {
		t.Errorf("without a split every row is validated: %s", r.requests[1])
	}
}

func TestGenerate(t *testing.T) {
	dir := files(t)
	r := &recorder{events: map[string][]string{"generate": {`{"type":"token","text":" a","id":1}`, `{"type":"token","text":"<b>","id":2}`}},
		answers: map[string]string{"generate": `{"text":" a<b>","tokens":2,"seconds":0.5}`}}
	args := []string{"generate", "--model", filepath.Join(dir, "m.gguf"), "--prompt", "p", "--chat"}
	if code, stdout, _ := try(t, r, "", args...); code != 0 || stdout != " a<b>\n" {
		t.Errorf("exit %d, %q", code, stdout)
	}
	if want := `generate {"prompt":"p","maxTokens":64,"temperature":0,"seed":0,"chat":true,"adapter":false}`; r.requests[1] != want {
		t.Errorf("request %s", r.requests[1])
	}
	if code, stdout, _ := try(t, r, "", append(args, "--json")...); code != 0 || stdout != `{"seconds":0.5,"text":" a<b>","tokens":2}`+"\n" {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

func TestExport(t *testing.T) {
	dir := files(t)
	adapter := filepath.Join(dir, "a.gguf")
	if err := os.WriteFile(adapter, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := &recorder{answers: map[string]string{"export": `{"path":"p","bytes":5}`}}
	out := filepath.Join(dir, "new", "m.gguf")
	code, stdout, stderr := try(t, r, "", "export", "--model", filepath.Join(dir, "m.gguf"), "--adapter", adapter, "--format", "gguf-q8_0", "--out", out)
	if code != 0 || stdout != "p (5 bytes)\n" {
		t.Fatalf("exit %d: %q %s", code, stdout, stderr)
	}
	if got, want := r.requests[1:], []string{`adapter.load {"path":"` + adapter + `"}`, `export {"format":"gguf-q8_0","path":"` + out + `"}`}; !reflect.DeepEqual(got, want) {
		t.Errorf("requests %q", got)
	}
	r = &recorder{answers: map[string]string{"export": `{"path":"p","bytes":5}`}}
	code, _, stderr = try(t, r, "", "export", "--adapter", dir, "--format", "card", "--out", filepath.Join(dir, "c.md"))
	if want := []string{`export {"format":"card","path":"` + filepath.Join(dir, "c.md") + `","run":"` + dir + `"}`}; code != 0 || !reflect.DeepEqual(r.requests, want) {
		t.Errorf("card: exit %d, %q, %s", code, r.requests, stderr)
	}
}

func TestTokenize(t *testing.T) {
	dir := files(t)
	r := &recorder{answers: map[string]string{"tokenize": `{"ids":[1,22]}`}}
	code, stdout, stderr := try(t, r, "one\n\ntwo\r\nlast", "tokenize", "--model", filepath.Join(dir, "m.gguf"))
	if code != 0 || stdout != strings.Repeat("[1, 22]\n", 4) {
		t.Fatalf("exit %d: %q %s", code, stdout, stderr)
	}
	if got, want := r.requests[1:], []string{`tokenize {"text":"one"}`, `tokenize {"text":""}`, `tokenize {"text":"two\r"}`, `tokenize {"text":"last"}`}; !reflect.DeepEqual(got, want) {
		t.Errorf("requests %q", got)
	}
	if _, stdout, _ := try(t, r, "x\n", "tokenize", "--json", "--model", filepath.Join(dir, "m.gguf")); lastLine(stdout) != `{"lines":1,"tokens":2}` {
		t.Errorf("--json: %s", stdout)
	}
	if code, stdout, _ := try(t, r, "", "tokenize", "--model", filepath.Join(dir, "m.gguf")); code != 0 || stdout != "" {
		t.Errorf("no lines: exit %d, %q", code, stdout)
	}
	if code, _, stderr := try(t, r, "a\n"+strings.Repeat("x", maxLine+1), "tokenize", "--model", filepath.Join(dir, "m.gguf")); code != 1 || !strings.Contains(stderr, "line 2: longer than") {
		t.Errorf("a long line: exit %d, %s", code, stderr)
	}
}

func TestPrograms(t *testing.T) {
	dir := files(t)
	at := func(s string) string { return filepath.Join(dir, s) }
	r := &recorder{answers: map[string]string{"inspect": `{"text":"program\n"}`, "bench": `[{"what":"gemm","rowsPerSecond":12.5}]`}}
	code, stdout, stderr := try(t, r, "", "run", at("p.pte"), "--data", at("p.ptd"), "--method", "logits", "--inputs", at("a.safetensors"),
		"--inputs", at("b.safetensors"), "--outputs", at("o"), "--json")
	if code != 0 || stdout != `{"calls":2}`+"\n" {
		t.Fatalf("run: exit %d: %s %s", code, stdout, stderr)
	}
	want := fmt.Sprintf(`run {"program":%q,"data":%q,"method":"logits","inputs":[%q,%q],"outputs":%q}`, at("p.pte"), at("p.ptd"), at("a.safetensors"), at("b.safetensors"), at("o"))
	if r.requests[0] != want {
		t.Errorf("\n got %s\nwant %s", r.requests[0], want)
	}
	r.requests = nil
	r.answers["run"] = `{"profile":[{"method":"forward","operator":"aten::mm.out","by":"kernel","calls":3,"seconds":0.002,"share":0.8,"read":3000000,"written":1000000}]}`
	code, stdout, stderr = try(t, r, "", "run", at("p.pte"), "--inputs", at("a.safetensors"), "--outputs", at("o"), "--profile", "--trace", at("t/trace.json"))
	if code != 0 || stdout != at("o/0.safetensors")+"\n" {
		t.Fatalf("run --profile: exit %d: %s %s", code, stdout, stderr)
	}
	if !strings.HasSuffix(r.requests[0], `"profile":true,"trace":"`+at("t/trace.json")+`"}`) {
		t.Errorf("run --profile: %s", r.requests[0])
	}
	if want := "     ms  share  calls  read MB  written MB  GB/s      by  operator\n  2.000  80.0%      3    3.000       1.000  2.00  kernel  forward: aten::mm.out\n"; !strings.HasSuffix(stderr, want) {
		t.Errorf("the table is\n%swant\n%s", stderr, want)
	}
	delete(r.answers, "run")
	if code, stdout, _ := try(t, r, "", "inspect", at("p.pte")); code != 0 || stdout != "program\n" {
		t.Errorf("inspect: exit %d, %q", code, stdout)
	}
	r.requests = nil
	if code, stdout, stderr := try(t, r, "", "build", "--model", at("m.gguf"), "--out", at("q.pte"), "--queries", "2"); code != 0 || stdout != at("q.pte")+"\n" {
		t.Errorf("build: exit %d, %q %s", code, stdout, stderr)
	}
	if len(r.requests) != 2 || !strings.Contains(r.requests[1], `"out":"`+at("q.pte")+`"`) {
		t.Errorf("build: requests %s", r.requests)
	}
	if code, stdout, _ := try(t, r, "", "bench", "--model", at("m.gguf"), "--json"); code != 0 || stdout != `{"rows":[{"rows_per_second":12.5,"what":"gemm"}]}`+"\n" {
		t.Errorf("bench --json: exit %d, %q", code, stdout)
	}
	if code, stdout, _ := try(t, r, "", "bench", "--model", at("m.gguf")); code != 0 || stdout != "what  rowsPerSecond\ngemm  12.5\n" {
		t.Errorf("bench: exit %d, %q", code, stdout)
	}
}

// Every mistake is one line that names it, and a stable exit code.
func TestMistakes(t *testing.T) {
	dir := files(t)
	m, d := filepath.Join(dir, "m.gguf"), filepath.Join(dir, "d.csv")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"frobnicate"}, 2, `tabtune: unknown command "frobnicate"`},
		{[]string{"train", "--frob"}, 2, "unknown flag --frob"},
		{[]string{"train", "--steps"}, 2, "flag --steps needs a value"},
		{[]string{"train", "--steps", "many"}, 2, `invalid value "many" for --steps`},
		{[]string{"train", "x"}, 2, `unexpected argument "x"`},
		{[]string{"train"}, 2, "--model is required"},
		{[]string{"train", "--model", m}, 2, "--data is required"},
		{[]string{"train", "--model", m, "--data", d}, 2, "--out is required"},
		{[]string{"train", "--model", "/no/m.gguf"}, 1, "--model: open /no/m.gguf: no such file or directory"},
		{[]string{"train", "--model", m, "--data", "/no/d.csv"}, 1, "--data: open /no/d.csv: no such file or directory"},
		{[]string{"train", "--model", m, "--data", dir}, 1, "is a folder, want a file"},
		{[]string{"train", "--model", m, "--data", d, "--val", "/no/v.csv"}, 1, "--val: open /no/v.csv"},
		{[]string{"train", "--model", m, "--data", d, "--val", d, "--val-rows", "5"}, 2, "exclude each other"},
		{[]string{"train", "--model", m, "--data", d, "--out", m}, 1, "--out: mkdir " + m},
		{[]string{"train", "--lr", "fast"}, 2, `--lr "fast"`},
		{[]string{"train", "--lr", "NaN"}, 2, `--lr "NaN"`},
		{[]string{"train", "--layers", "0"}, 2, `--layers "0"`},
		{[]string{"train", "--eps", "0"}, 2, "--eps 0: want more than 0"},
		{[]string{"train", "--eps", "NaN"}, 2, "--eps NaN"},
		{[]string{"train", "--steps", "5", "--rows", "6"}, 2, "exclude each other"},
		{[]string{"train", "--steps", "-5"}, 2, "must not be negative"},
		{[]string{"train", "--seed", "-5"}, 2, "--seed -5"},
		{[]string{"train", "--model", m, "--data", d, "--out", filepath.Join(dir, "o"), "--threads", "99"}, 2, "--threads 99"},
		{[]string{"train", "--model", m, "--data", d, "--out", filepath.Join(dir, "o"), "--memory", "lots"}, 2, "--memory lots"},
		{[]string{"eval", "--model", m, "--data", d, "--adapter", dir}, 1, "holds no adapter_config.json"},
		{[]string{"generate", "--model", m}, 2, "--prompt is required"},
		{[]string{"generate", "--model", m, "--prompt", "x", "--temperature", "-1"}, 2, "--temperature -1"},
		{[]string{"run", "--inputs", m}, 2, "an argument is missing"},
		{[]string{"run", "/no/p.pte"}, 1, "program: open /no/p.pte"},
		{[]string{"run", filepath.Join(dir, "p.pte"), "--outputs", dir}, 2, "--inputs is required"},
		{[]string{"inspect", "a", "b"}, 2, `unexpected argument "b"`},
		{[]string{"build", "--model", m, "--out", "x.bin"}, 2, "want a name that ends in .pte"},
		{[]string{"export", "--model", m, "--adapter", dir, "--format", "zip", "--out", "x"}, 2, "--format"},
		{[]string{"export", "--model", m, "--format", "peft", "--out", "x"}, 2, "--adapter is required"},
		{[]string{"export", "--model", m, "--adapter", dir, "--format", "card", "--out", "x.gguf"}, 2, "ends in .md"},
		{[]string{"serve", "--addr", "0.0.0.0:0"}, 2, "add --public"},
		{[]string{"serve", "--addr", "8080"}, 2, "--addr 8080"},
		{[]string{"serve", "--dir", "/no"}, 1, "--dir: open /no/index.html"},
		{[]string{"help", "frob"}, 2, `unknown command "frob"`},
	} {
		r := &recorder{}
		code, stdout, stderr := try(t, r, "", c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("%q: exit %d, want %d with %q\n%s%s", c.args, code, c.code, c.want, stdout, stderr)
		}
		if len(r.requests) != 0 {
			t.Errorf("%q: reached the module: %s", c.args, r.requests)
		}
	}
}

// Errors of the module come through, and as JSON when asked for.
func TestModuleErrors(t *testing.T) {
	dir := files(t)
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{&host.Error{Code: "out_of_memory", Message: "too much"}, 1, `{"error":{"code":"out_of_memory","message":"too much"}}`},
		{&host.Error{Code: "invalid_params", Message: "bad"}, 2, `{"error":{"code":"invalid_params","message":"bad"}}`},
		{errors.New("disk on fire"), 1, `{"error":{"code":"failed","message":"disk on fire"}}`},
	} {
		r := &recorder{fail: map[string]error{"model.open": c.err}}
		code, stdout, stderr := try(t, r, "", "generate", "--json", "--prompt", "x", "--model", filepath.Join(dir, "m.gguf"))
		if code != c.code || lastLine(stdout) != c.want || stderr != "tabtune generate: "+c.err.Error()+"\n" || r.closed != 1 {
			t.Errorf("%v: exit %d, closed %d\n%s%s", c.err, code, r.closed, stdout, stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"help"}, {"--help"}, {"help", "help"}} {
		if code, stdout, _ := try(t, &recorder{}, "", args...); code != 0 || !strings.Contains(stdout, "tabtune tokenize") {
			t.Errorf("%q: exit %d\n%s", args, code, stdout)
		}
	}
	for _, c := range commands() {
		if c.name == "help" {
			continue
		}
		code, stdout, stderr := try(t, &recorder{}, "", c.name, "--help")
		if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "tabtune "+c.name) || !strings.Contains(stdout, "--json") {
			t.Errorf("%s --help: exit %d\n%s%s", c.name, code, stdout, stderr)
		}
		if _, again, _ := try(t, &recorder{}, "", "help", c.name); again != stdout {
			t.Errorf("help %s differs from %s --help", c.name, c.name)
		}
	}
	if _, stdout, _ := try(t, &recorder{}, "", "train", "--help"); !strings.Contains(stdout, "--lr number\n") || !strings.Contains(stdout, "(default auto)") {
		t.Errorf("train --help:\n%s", stdout)
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{"rowsPerSecond": "rows_per_second", "loss": "loss", "zeroShot": "zero_shot", "sha256": "sha256",
		"kvHeads": "kv_heads", "lastKV": "last_kv", "KVCache": "kv_cache", "": ""} {
		if got := snake(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestProgressBar(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	p := progress{app: &app{err: &b, width: 60, now: func() time.Time { return now }}}
	p.update("train", 0, 100, "go", -1)
	now = now.Add(10 * time.Millisecond)
	p.update("train", 1, 100, "too soon", -1)
	now = now.Add(10 * time.Second)
	p.update("train", 50, 100, "half way and a text that is far too long for the line", -1)
	p.printf("note")
	p.clear()
	want := "\r\x1b[K" + "train    [------------------------]   0%  go" +
		"\r\x1b[K" + "train    [############------------]  50%  half way and a te" +
		"\r\x1b[K" + "note\n"
	if b.String() != want {
		t.Errorf("\n got %q\nwant %q", b.String(), want)
	}
	for in, want := range map[float64]string{3.4: "3s", 61: "1:01 min", 3725: "1:02 h", 1e12: "long"} {
		if got := duration(in); got != want {
			t.Errorf("duration %v: %q, want %q", in, got, want)
		}
	}
}
