package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// The flags of tasks without labels become data.open's and train's parameters.
func TestTaskParams(t *testing.T) {
	dir := files(t)
	r := &recorder{answers: map[string]string{"train": trainValue}}
	code, _, stderr := try(t, r, "", "train", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"), "--format", "chat",
		"--kind", "choice", "--metric", "accuracy", "--prompt-column", "q", "--completion-column", "a", "--messages-column", "m",
		"--option-columns", "o1, o2", "--answer-column", "r", "--answer-tokens", "9", "--long-rows", "skip", "--objective", "likelihood",
		"--answer-rows", "5", "--estimator", "prge", "--out", filepath.Join(dir, "out"))
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	want := `data.open {"path":"` + dir + `/d.csv","format":"chat","kind":"choice","metric":"accuracy","promptColumn":"q","completionColumn":"a",` +
		`"messagesColumn":"m","optionColumns":["o1","o2"],"answerColumn":"r","answerTokens":9,"longRows":"skip","seed":0}`
	if r.requests[1] != want {
		t.Errorf("%s\nwant %s", r.requests[1], want)
	}
	if !strings.Contains(r.requests[2], `"answerRows":5,"objective":"likelihood"`) {
		t.Errorf("%s", r.requests[2])
	}
	r = &recorder{}
	if code, _, stderr = try(t, r, "", "eval", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"), "--task", "squad"); code != 0 {
		t.Fatal(stderr)
	}
	if !strings.HasPrefix(r.requests[1], `data.open {"path":"`+dir+`/d.csv","task":"squad","val":`) {
		t.Errorf("%s", r.requests[1])
	}
	for flag, value := range map[string]string{"--answer-rows": "-1", "--answer-tokens": "-2"} {
		if code, _, _ := try(t, &recorder{}, "", "train", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"), "--out", dir, flag, value); code != exitUsage {
			t.Errorf("%s %s: exit %d", flag, value, code)
		}
	}
}

const completionInfo = `{"kind":"completion","metric":"f1","trainRows":3,"valRows":2,"longest":9,"labels":[],"warnings":[],` +
	`"preview":[{"prompt":"Q:","label":"yes","tokens":2,"rendered":"Q: yes.","scored":[[2,6],[6,7]]}]}`

func TestDataCommand(t *testing.T) {
	dir := files(t)
	args := []string{"data", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv")}
	code, stdout, stderr := try(t, &recorder{answers: map[string]string{"data.open": completionInfo}}, "", args...)
	if code != 0 || !strings.Contains(stdout, "-- 1: 2 tokens, right: yes\nQ:[[ yes]][[.]]\n") || !strings.Contains(stderr, "3 training and 2 validation rows; completions, judged by f1") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = try(t, &recorder{answers: map[string]string{"data.open": completionInfo}}, "", append(args, "--json")...)
	if code != 0 || !strings.Contains(lastLine(stdout), `"scored":[[2,6],[6,7]]`) {
		t.Errorf("exit %d\n%s", code, stdout)
	}
}

// A completion's table has the columns that it was given, and no accuracy.
func TestCompletionScores(t *testing.T) {
	dir := files(t)
	r := &recorder{answers: map[string]string{"data.open": completionInfo, "train": `{"steps":1,"zeroShot":{"loss":2,"perplexity":7.5,"f1":0.25,"exactMatch":0},"loss":1,` +
		`"perplexity":2.5,"f1":0.5,"exactMatch":0.125,"best":{"step":1,"loss":1,"perplexity":2.5,"f1":0.5,"exactMatch":0.125}}`}}
	code, stdout, stderr := try(t, r, "", "train", "--model", filepath.Join(dir, "m.gguf"), "--data", filepath.Join(dir, "d.csv"), "--out", filepath.Join(dir, "o"))
	if code != 0 {
		t.Fatal(stderr)
	}
	want := "exact match F1 loss perplexity before 0.000 0.250 2.0000 7.500 after 0.125 0.500 1.0000 2.500 best, step 1 0.125"
	if !strings.HasPrefix(strings.Join(strings.Fields(stdout), " "), want) || strings.Contains(stdout, "accuracy") {
		t.Errorf("%s", stdout)
	}
}
