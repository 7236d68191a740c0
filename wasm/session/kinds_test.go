package session

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tabtune/internal/tinymodel"
	"tabtune/lora"
	"tabtune/zo/task"
)

// kindFiles writes a model with a chat template and a file of every kind of task.
func kindFiles(t *testing.T) (model string, data map[string]params) {
	t.Helper()
	b, err := tinymodel.Bytes(tinymodel.Options{EmbedStd: 0.15, Tokenizer: true, Chat: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	model = filepath.Join(dir, "tiny.gguf")
	write(t, model, string(b))
	rng := rand.New(rand.NewPCG(3, 4))
	var plain, choice, chat strings.Builder
	for range 40 {
		n := rng.IntN(100)
		fmt.Fprintf(&plain, `{"prompt":"%d","completion":["%s","x"]}`+"\n", n, strings.Repeat("ab", 1+n%3))
		options := []string{"great " + strings.Repeat("a", 1+n%4), "bad"}
		if n%2 == 1 {
			slices.Reverse(options)
		}
		list, _ := json.Marshal(options)
		fmt.Fprintf(&choice, `{"prompt":"%d is","options":%s,"answer":"%c"}`+"\n", n, list, "AB"[n%2])
		fmt.Fprintf(&chat, `{"messages":[{"role":"user","content":"%d"},{"role":"assistant","content":"ok"},{"role":"user","content":"%d"},{"role":"assistant","content":"so"}]}`+"\n", n, n+1)
	}
	data = map[string]params{}
	for name, text := range map[string]string{"completion": plain.String(), "choice": choice.String(), "messages": chat.String()} {
		path := filepath.Join(dir, name+".jsonl")
		write(t, path, text)
		data[name] = params{"path": path, "val": params{"rows": 6}}
	}
	data["answers"] = merge(data["completion"], params{"metric": "f1", "format": "chat"})
	data["likelihood"] = data["choice"]
	return model, data
}

// TestKinds trains, continues, replays and evaluates every kind of task.
func TestKinds(t *testing.T) {
	model, data := kindFiles(t)
	for name, kind := range map[string]string{"completion": "completion", "choice": "choice", "messages": "completion", "answers": "completion", "likelihood": "choice"} {
		t.Run(name, func(t *testing.T) {
			c := limited(t, 0)
			c.must("model.open", params{"path": model, "dtype": "int8"})
			var info dataInfo
			c.getTask("data.open", data[name], &info)
			if info.Kind != kind || info.TrainRows != 34 || info.ValRows != 6 {
				t.Fatalf("%+v", info)
			}
			run := params{"steps": 6, "evalEvery": 2, "batch": 3, "answerRows": 3}
			if name == "likelihood" {
				run["objective"] = "likelihood"
			}
			var est estimateResult
			c.get("estimate", small(run), &est)
			if !est.Fits || est.Bytes <= 0 {
				t.Errorf("estimate %+v", est)
			}
			whole := t.TempDir()
			c.must("train", small(merge(run, params{"out": t.TempDir()}))) // fills the cache
			raw, events, e := c.task("train", small(merge(run, params{"out": whole})))
			if e != nil {
				t.Fatal(e)
			}
			var res trainResult
			if err := json.Unmarshal(raw, &res); err != nil {
				t.Fatal(err)
			}
			if c.se.dev.Peak() > est.Bytes {
				t.Errorf("the run took %d bytes, the estimate was %d", c.se.dev.Peak(), est.Bytes)
			}
			if name != "answers" && !(res.Best.Loss < res.ZeroShot.Loss) {
				t.Errorf("loss %v at best, %v before", res.Best.Loss, res.ZeroShot.Loss)
			}
			if p := res.Best.Perplexity; (p != nil) != (kind == "completion") || p != nil && !(*p > 1) {
				t.Errorf("perplexity %v", p)
			}
			if (res.Best.F1 != nil) != (name == "answers") {
				t.Errorf("f1 %v", res.Best.F1)
			}
			var ev evalResult
			c.getTask("eval", params{"answerRows": 3}, &ev)
			if ev.Loss != res.Best.Loss || ev.Accuracy != res.Best.Accuracy || ev.Rows != 6 {
				t.Errorf("eval gives %v %v, best was %+v", ev.Loss, ev.Accuracy, res.Best)
			}
			want := artefacts(t, whole)
			for _, at := range []int{2, len(events) / 2, len(events) - 2} {
				out := t.TempDir()
				p := small(merge(run, params{"out": out, "resume": true}))
				id := c.start("train", p)
				for range at + 1 {
					c.next(id)
				}
				killed := t.TempDir()
				if err := os.CopyFS(killed, os.DirFS(out)); err != nil {
					t.Fatal(err)
				}
				c.get("task.stop", params{"task": id}, &struct{}{})
				p["out"] = killed
				c.must("train", p)
				sameArtefacts(t, fmt.Sprintf("continued at %d", at), want, artefacts(t, killed))
			}
			c.getTask("adapter.replay", params{"path": filepath.Join(whole, "replay.log"), "steps": res.Best.Step}, &struct{}{})
			dir := t.TempDir()
			c.get("adapter.export", params{"path": dir}, &struct{}{})
			if read(t, filepath.Join(dir, "adapter_model.safetensors")) != read(t, filepath.Join(whole, "adapter", "adapter_model.safetensors")) {
				t.Error("replaying the log gives another adapter")
			}
			var again evalResult
			c.getTask("eval", params{"answerRows": 3}, &again)
			if again.Loss != ev.Loss || !sameNumber(again.F1, ev.F1) {
				t.Errorf("the replayed adapter's loss is %v, the trained one's %v", again.Loss, ev.Loss)
			}
			if name == "answers" {
				for i, p := range ev.Predictions {
					if (p.Output != nil) != (i < 3) || p.Answer == "" || p.Label != -1 {
						t.Errorf("prediction %d: %+v", i, p)
					}
				}
			}
		})
	}
}

func sameNumber(a, b *float64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// TestPositionLosses compares the losses of a completion's tokens with the scores of
// the vocabulary, one position at a time.
func TestPositionLosses(t *testing.T) {
	model, data := kindFiles(t)
	c := limited(t, 0)
	c.must("model.open", params{"path": model, "dtype": "f32"})
	c.must("data.open", data["messages"])
	s := c.se
	spec := s.inferenceSpec(s.model, s.data.window)
	spec.Modules, spec.Rank, spec.Alpha, spec.Queries, spec.Rows, spec.Scored = []string{"q", "v"}, 4, 8, 3, 6, 600
	spec.Sides = lora.TwoSided
	r, err := s.loadRunner(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	rows := []row{s.data.val[0].row(), s.data.val[1].row(), s.data.val[2].row()}
	losses, err := r.losses(rows)
	if err != nil {
		t.Fatal(err)
	}
	for i, rw := range rows {
		if len(rw.at) < 6 || len(losses[i]) != len(rw.at) {
			t.Fatalf("%d positions, %d losses", len(rw.at), len(losses[i]))
		}
		for j, p := range rw.at {
			logits, err := r.logits([]row{{ids: rw.ids[:p+1]}})
			if err != nil {
				t.Fatal(err)
			}
			top, sum := float64(slices.Max(logits)), 0.0
			for _, l := range logits {
				sum += math.Exp(float64(l) - top)
			}
			want := top + math.Log(sum) - float64(logits[rw.targets[j]])
			if math.Abs(want-float64(losses[i][j])) > 1e-4 {
				t.Errorf("row %d, position %d: loss %v, want %v", i, p, losses[i][j], want)
			}
		}
	}
}

// TestCallsDoNotMatter: the losses of examples are the same bits however many
// examples and positions a call takes, and whether replicas share their examples.
func TestCallsDoNotMatter(t *testing.T) {
	model, data := kindFiles(t)
	for _, name := range []string{"completion", "choice", "messages"} {
		c := limited(t, 0)
		c.must("model.open", params{"path": model, "dtype": "int8"})
		c.must("data.open", data[name])
		s := c.se
		spec := s.inferenceSpec(s.model, s.data.window)
		spec.Modules, spec.Rank, spec.Alpha, spec.Queries, spec.Sides = []string{"q", "v"}, 4, 8, 2, lora.TwoSided
		spec.PrefixRows = 8
		items := s.data.all(s.data.train)[:5]
		losses := func(rows, positions int, groups [][]item) []float32 {
			spec.Rows, spec.Scored = 4*rows, 4*positions
			r, err := s.newRunner(spec)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			out, err := r.exampleLosses(objNLL, groups, []int64{5, 6}, 0.05)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		whole := losses(10, 200, [][]item{items})
		if whole[0] == whole[10] {
			t.Errorf("%s: replicas have the same loss %v", name, whole[0])
		}
		most := 0
		for _, it := range items {
			most = max(most, it.example.Scored())
		}
		for _, bound := range [][2]int{{2, most}, {4, 200}, {10, most + 1}} {
			if got := losses(bound[0], bound[1], [][]item{items}); !slices.Equal(got, whole) {
				t.Errorf("%s: calls of %v rows and positions give %v, want %v", name, bound, got, whole)
			}
		}
		// Each replica with examples of its own, in another order.
		groups := make([][]item, 4)
		for k := range groups {
			groups[k] = append(slices.Clone(items[k:]), items[:k]...)
		}
		own := losses(10, 200, groups)
		for k := range groups {
			for i := range items {
				if want := whole[k*5+(i+k)%5]; own[k*5+i] != want {
					t.Errorf("%s: replica %d, example %d: %v, want %v", name, k, i, own[k*5+i], want)
				}
			}
		}
	}
}

// TestObjectives checks what is made of the losses of an example.
func TestObjectives(t *testing.T) {
	c := tiny(t, "f32")
	for _, o := range []string{"error", "f1"} {
		var res trainResult
		c.getTask("train", small(params{"objective": o, "steps": 3, "batch": 8, "eps": 0.5}), &res)
		if res.Steps != 3 {
			t.Errorf("%s: %+v", o, res)
		}
	}
	c.fails("train", small(params{"objective": "likelihood"}), "invalid_params", "objective", "labels")
	d := c.se.data
	it := d.train.item(0)
	rows := objError.rows(it, 2)
	if len(rows) != 1 || !slices.Equal(rows[0].targets, []int32{0, 1}) || rows[0].at[0] != rows[0].at[1] {
		t.Fatalf("%+v", rows)
	}
	right := it.example.Label
	nll := []float32{2, 2}
	nll[right] = 1
	if l, p := objError.loss(it, rows, nll); l != 0 || p != right {
		t.Errorf("right label: loss %v, predicted %d", l, p)
	}
	nll[right] = 3
	if l, p := objError.loss(it, rows, nll); l != 1 || p == right {
		t.Errorf("wrong label: loss %v, predicted %d", l, p)
	}
	model, data := kindFiles(t)
	c.must("model.open", params{"path": model, "dtype": "f32"})
	c.must("data.open", data["choice"])
	it = c.se.data.train.item(0)
	rows = objNLL.rows(it, 0)
	var losses []float32
	means := []float64{0.5, 1.5}
	for k, r := range rows {
		for j := range r.at {
			losses = append(losses, float32(means[k])+float32(j%2)*0.25-float32((j+1)%2)*0.25)
		}
		if len(r.at)%2 == 1 {
			losses[len(losses)-1] += 0.25
		}
	}
	want := math.Log(1 + math.Exp(means[it.example.Label]-means[1-it.example.Label]))
	if l, p := objNLL.loss(it, rows, losses); math.Abs(l-want) > 1e-6 || p != 0 {
		t.Errorf("choice: loss %v, want %v; predicted %d", l, want, p)
	}
	if rows := objLikelihood.rows(it, 0); len(rows) != 1 || !slices.Equal(rows[0].ids, it.example.Sequences[it.example.Label].IDs) {
		t.Errorf("likelihood runs %d rows", len(rows))
	}
}

// TestBetter: generated answers come before the loss, but only where they are what counts.
func TestBetter(t *testing.T) {
	at := func(loss, f1, em float64) score { return score{Loss: loss, metrics: metrics{F1: &f1, ExactMatch: &em}} }
	words := &dataset{kind: task.KindCompletion, metric: task.F1}
	for _, c := range []struct {
		a, b score
		d    *dataset
		want bool
	}{
		{at(2, 0.5, 0), at(1, 0.4, 1), words, true},
		{at(1, 0.4, 1), at(2, 0.5, 0), words, false},
		{at(1, 0.5, 0), at(2, 0.5, 0), words, true},
		{at(2, 0.5, 0), at(2, 0.5, 0), words, false},
		{at(2, 0.4, 1), at(1, 0.5, 0), &dataset{kind: task.KindCompletion, metric: task.ExactMatch}, true},
		{at(2, 0.9, 0), at(1, 0.1, 0), &dataset{kind: task.KindLabels, metric: task.F1}, false},
		{score{Loss: 1}, score{Loss: 2}, words, true},
	} {
		if got := c.a.better(c.b, c.d); got != c.want {
			t.Errorf("%+v better than %+v: %v", c.a, c.b, got)
		}
	}
}

// TestPreview shows what is scored.
func TestPreview(t *testing.T) {
	model, data := kindFiles(t)
	c := limited(t, 0)
	c.must("model.open", params{"path": model})
	for name, want := range map[string]string{"completion": " ab<|endoftext|>", "messages": "ok<|endoftext|>so<|endoftext|>", "answers": "ab<|endoftext|>"} {
		var info dataInfo
		c.getTask("data.open", data[name], &info)
		p := info.Preview[0]
		var marked strings.Builder
		for _, at := range p.Scored {
			marked.WriteString(p.Rendered[at[0]:at[1]])
		}
		got := strings.ReplaceAll(strings.ReplaceAll(marked.String(), "abab", "ab"), "abab", "ab")
		if got != want || p.Tokens == 0 || !strings.HasPrefix(p.Rendered, p.Prompt[:1]) {
			t.Errorf("%s: %q is scored of %q, want %q", name, got, p.Rendered, want)
		}
	}
}

// TestAnswersAreGenerated: an evaluation's answers are what generate says.
func TestAnswersAreGenerated(t *testing.T) {
	model, data := kindFiles(t)
	c := limited(t, 0)
	c.must("model.open", params{"path": model, "dtype": "int8"})
	var info dataInfo
	c.getTask("data.open", merge(data["completion"], params{"metric": "em", "answerTokens": 7}), &info)
	var ev evalResult
	c.getTask("eval", params{}, &ev)
	if ev.Answered != 6 || *ev.ExactMatch != ev.Accuracy {
		t.Errorf("%+v", ev.metrics)
	}
	for i, p := range ev.Predictions {
		var g generateResult
		c.getTask("generate", params{"prompt": c.se.data.val[i].example.Prompt, "maxTokens": 7}, &g)
		if strings.TrimSpace(g.Text) != *p.Output {
			t.Errorf("row %d: answered %q, generated %q", p.Row, *p.Output, g.Text)
		}
	}
}
