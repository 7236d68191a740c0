package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tabtune/internal/tinymodel"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// kindRows are forty rows of each kind of task, as people have them: the columns in no particular order, some with more than are used.
func kindRows(row func(i int, word, other string) string) string {
	var b strings.Builder
	for i := range 40 {
		words := [2]string{"good", "bad"}
		b.WriteString(row(i, words[i%2], words[1-i%2]) + "\n")
	}
	return b.String()
}

// TestKinds picks a file of every kind of task but labels, checks what the form guesses and what the preview marks, trains on it with the real module, and
// opens the run after a reload, when the form has to be filled from its record.
func TestKinds(t *testing.T) {
	model, err := tinymodel.Bytes(tinymodel.Options{EmbedStd: 0.15, Tokenizer: true, Chat: true})
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "tiny.gguf"), model, 0o644))
	b, ctx := open(t, 4*time.Minute, drive.Options{Downloads: t.TempDir()})
	address := serve(t, &site.Site{Dist: realDist(t), Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(address))
	shows(t, b, ctx, "the page", func(s drive.State) bool { return s.FineTune })
	must(t, b.Pick("#pick-model", filepath.Join(dir, "tiny.gguf")))
	shows(t, b, ctx, "the model", func(s drive.State) bool { return s.Problem == "" && s.Model.Phase == "ready" && s.FineTune })
	value := func(id string) (v string) {
		_ = b.Eval(fmt.Sprintf(`document.getElementById(%q)?.value ?? "none"`, id), &v)
		return v
	}
	kinds := []struct {
		name, file, rows         string
		guess, kind, text, label string            // of the form, before and after what a person sets
		set                      map[string]string // by a person
		scored                   string            // of the first row in the preview
		measures                 string            // of the result
	}{
		{"choice, a list", "choice.jsonl", kindRows(func(i int, word, other string) string {
			return fmt.Sprintf(`{"id": %d, "question": "%s %d?", "options": ["%s", "%s"], "answer": "%s"}`, i, word, i, word, other, word)
		}), "choice", "choice", "question", "answer", nil, "good 2? good > good", "Accuracy Loss"},
		{"choice, columns", "choice.csv", "question,first,second,answer\n" + kindRows(func(i int, word, other string) string {
			return fmt.Sprintf("%s %d?,%s,%s,%s", word, i, word, other, word)
		}), "labels", "choice", "question", "answer", map[string]string{"data-kind": "choice", "data-options": "first, second"}, "good 2? good > good", "Accuracy Loss"},
		{"a chat", "chat.jsonl", kindRows(func(i int, word, other string) string {
			return fmt.Sprintf(`{"id": "c%d", "messages": [{"role": "user", "content": "say %s %d"}, {"role": "assistant", "content": "%s"}]}`, i, word, i, word)
		}), "chat", "chat", "messages", "none", nil, "<user>say good 2<|endoftext|><assistant>good<|endoftext|> > good<|endoftext|>", "Loss Perplexity"},
		{"answers", "answers.jsonl", kindRows(func(i int, word, other string) string {
			return fmt.Sprintf(`{"answer": "%s %s", "question": "what is %s %d?"}`, word, other, word, i)
		}), "labels", "answers", "question", "answer", map[string]string{"data-kind": "answers"}, "what is good 2? good bad<|endoftext|> > good bad<|endoftext|>", "Exact match F1 Loss Perplexity"},
		{"a completion", "completion.jsonl", kindRows(func(i int, word, other string) string {
			return fmt.Sprintf(`{"completion": " %s", "prompt": "%s %d then"}`, other, word, i)
		}), "completion", "completion", "prompt", "completion", nil, "good 2 then bad<|endoftext|> > bad<|endoftext|>", "Loss Perplexity"},
	}
	form := func() string { return value("data-kind") + " " + value("text-column") + " " + value("label-column") }
	losses := map[string]float64{}
	for _, c := range kinds {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, c.file)
			must(t, os.WriteFile(path, []byte(c.rows), 0o644))
			must(t, b.Pick("#pick-data", path))
			shows(t, b, ctx, "the file", func(s drive.State) bool {
				return s.FineTune && s.Problem == "" && strings.HasPrefix(s.Data.Text, c.file+": say which")
			})
			if guess := value("data-kind"); guess != c.guess {
				t.Errorf("the form says %q, want %q", guess, c.guess)
			}
			for _, id := range []string{"data-kind", "data-options"} { // the first shows the second
				if v, ok := c.set[id]; ok {
					must(t, wait(ctx, func() bool { return value(id) != "none" }))
					must(t, b.Set(id, v))
				}
			}
			must(t, b.Set("data-valRows", "8"))
			if want := c.kind + " " + c.text + " " + c.label; form() != want {
				t.Errorf("the form says %q, want %q", form(), want)
			}
			must(t, b.Click("check-data"))
			shows(t, b, ctx, "the data", func(s drive.State) bool {
				return s.Problem != "" || s.FineTune && s.Data.Phase == "ready" && strings.HasPrefix(s.Data.Text, c.file+": 32 rows to train on, 8 to validate on")
			})
			var scored string // of the first row
			must(t, b.Eval(`(() => {
			  const cell = document.querySelector("#preview tbody tr").cells[0];
			  return cell.textContent + " > " + [...cell.querySelectorAll(".scored")].map((e) => e.textContent.trim()).join("|");
			})()`, &scored))
			if scored != c.scored {
				t.Errorf("the preview has %q, want %q", scored, c.scored)
			}
			s, err := b.FineTune(ctx, drive.Run{Knobs: map[string]string{"steps": "4", "queries": "2", "batch": "2", "layers": "2", "lr": "0.1", "evalEvery": "2"}})
			must(t, err)
			if got := strings.Join(slices.Sorted(maps.Keys(s.Table)), " "); got != c.measures {
				t.Errorf("measured: %s, want %s", got, c.measures)
			}
			// The best step is kept, by the task's own measure: F1 of a model that knows no words stays at 0.
			if l := s.Table["Loss"]; !(l[1] > 0 && (l[1] < l[0] || c.kind == "answers" && l[1] == l[0])) {
				t.Errorf("loss %v before, %v after", l[0], l[1])
			}
			losses[c.name] = s.Table["Loss"][1]
			if fact := map[bool]string{true: "Validation perplexity", false: "Validation accuracy"}[s.Table["Perplexity"] != [2]float64{}]; s.Facts[fact] == "" {
				t.Errorf("no %s in %v", fact, s.Facts)
			}
		})
	}
	if t.Failed() {
		return
	}
	must(t, b.Goto(address))
	shows(t, b, ctx, "the page", func(s drive.State) bool { return s.FineTune })
	must(t, b.Unfold(ctx, "columns"))
	for i, c := range kinds {
		must(t, wait(ctx, func() bool {
			var there bool
			_ = b.Eval(fmt.Sprintf(`(() => { const e = [...document.querySelectorAll("#runs .open-run:enabled")].at(-%d); e?.click(); return !!e; })()`, i+1), &there)
			return there
		}))
		var s drive.State
		shows(t, b, ctx, c.name, func(now drive.State) bool {
			s = now
			return s.FineTune && s.Result.Phase == "ready" && strings.HasPrefix(s.Data.Text, c.file+": 32 rows to train on") && s.Table["Loss"][1] == losses[c.name]
		})
		if want := c.kind + " " + c.text + " " + c.label; form() != want || value("data-options") != "none" && value("data-options") != c.set["data-options"] {
			t.Errorf("%s: the form says %q after the return, want %q; options %q", c.name, form(), want, value("data-options"))
		}
	}
}
