package task

import (
	"fmt"
	"strings"
	"unicode"
)

// Metric is a number that a task is judged by.
type Metric string

// The metrics.
const (
	Accuracy   Metric = "accuracy"   // share of rows whose label or option is right
	F1         Metric = "f1"         // of the answers' words; in label tasks of the classes (LabelF1)
	ExactMatch Metric = "em"         // share of generated answers that equal a right one
	Perplexity Metric = "perplexity" // exp of the mean loss a scored token
)

// ParseMetric reads a metric's name; it must be one of the kind of task.
func ParseMetric(s string, k Kind) (Metric, error) {
	m := Metric(s)
	known := map[Kind][]Metric{KindLabels: {Accuracy, F1}, KindChoice: {Accuracy}, KindCompletion: {Perplexity, F1, ExactMatch}}[k]
	for _, x := range known {
		if m == x {
			return m, nil
		}
	}
	return "", fmt.Errorf("metric %q: a task of kind %s has %v", s, k, known)
}

// Generated tells whether a metric needs generated answers.
func (m Metric) Generated() bool { return m == F1 || m == ExactMatch }

// NormalizeAnswer is the normalisation of SQuAD's evaluation (Rajpurkar et al.,
// arXiv 1606.05250): lower case, without ASCII punctuation, without the words a,
// an and the, white space as single spaces.
func NormalizeAnswer(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsPunct(r) || unicode.IsSymbol(r)) {
			return -1
		}
		return r
	}, strings.ToLower(s))
	// The articles stand between word boundaries, as \b of a regular expression has
	// them, so "a" goes from "plan-a" only where the hyphen was not ASCII.
	var b strings.Builder
	word := func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsNumber(r) }
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return !word(r) })
		if n < 0 {
			n = len(s)
		}
		if w := s[:n]; w == "a" || w == "an" || w == "the" {
			b.WriteByte(' ')
		} else {
			b.WriteString(w)
		}
		rest := s[n:]
		n = strings.IndexFunc(rest, word)
		if n < 0 {
			n = len(rest)
		}
		b.WriteString(rest[:n])
		s = rest[n:]
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// AnswerScores compares a generated answer with those that are right, as SQuAD's
// evaluation does: 1 if it equals one of them, and the best F1 of the words, both
// normalised.
func AnswerScores(got string, right []string) (exact, f1 float64) {
	g := NormalizeAnswer(got)
	words := strings.Fields(g)
	for _, r := range right {
		want := NormalizeAnswer(r)
		if want == g {
			exact = 1
		}
		f1 = max(f1, wordF1(words, strings.Fields(want)))
	}
	return exact, f1
}

// wordF1 is the harmonic mean of precision and recall over the words both have.
// Where one has none, it is 1 if neither has.
func wordF1(got, want []string) float64 {
	if len(got) == 0 || len(want) == 0 {
		if len(got) == len(want) {
			return 1
		}
		return 0
	}
	count := map[string]int{}
	for _, w := range want {
		count[w]++
	}
	same := 0
	for _, w := range got {
		if count[w] > 0 {
			count[w]--
			same++
		}
	}
	if same == 0 {
		return 0
	}
	return 2 * float64(same) / float64(len(got)+len(want))
}

// LabelF1 is F1 over predicted classes: with two classes of the second one (as
// GLUE has it for MRPC and QQP), with more the mean over the classes that occur (as
// SuperGLUE has it for CB).
func LabelF1(right, predicted []int, classes int) float64 {
	tp, fp, fn := make([]float64, classes), make([]float64, classes), make([]float64, classes)
	for i, r := range right {
		if p := predicted[i]; p == r {
			tp[r]++
		} else {
			fp[p]++
			fn[r]++
		}
	}
	f1 := func(c int) float64 {
		if tp[c] == 0 {
			return 0
		}
		return 2 * tp[c] / (2*tp[c] + fp[c] + fn[c])
	}
	if classes == 2 {
		return f1(1)
	}
	sum, n := 0.0, 0.0
	for c := range classes {
		if tp[c]+fp[c]+fn[c] > 0 {
			sum += f1(c)
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / n
}
