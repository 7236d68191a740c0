// Package studydata makes the small data sets of the study that no file carries:
// text from templates with a known answer, the same for the same seed. Writes are
// JSON lines with the columns that zo/task reads without being told.
//
//	agreement  choice: which of two endings agrees with the subject of a sentence
//	           that has a distracting noun between subject and verb
//	passages   completion, judged by F1: a question about one of several facts
//	records    completion, judged by exact match: a sentence to be rewritten as a
//	           record in a fixed form, which the completion has to follow
//	tickets    labels: the intent of a message to a shop
package studydata

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
)

// Set is one data set.
type Set struct {
	Name   string
	Kind   string // labels, choice, completion
	Metric string // accuracy, f1, em
	Labels []string
	Words  []string // verbalizers of Labels
	make   func(*maker) map[string]any
}

// Sets lists the data sets.
var Sets = []Set{
	{Name: "agreement", Kind: "choice", Metric: "accuracy", make: agreement},
	{Name: "passages", Kind: "completion", Metric: "f1", make: passages},
	{Name: "records", Kind: "completion", Metric: "em", make: records},
	{Name: "tickets", Kind: "labels", Metric: "accuracy", Labels: []string{"delivery", "refund", "account", "product"},
		Words: []string{"delivery", "money", "password", "product"}, make: tickets},
}

// Sizes of the sets.
const (
	TrainRows = 600
	ValRows   = 200
)

// Write writes the training and the validation rows of a set. No row is in both.
func (s *Set) Write(train, val io.Writer, seed uint64) error {
	m := &maker{rand.NewPCG(seed, 0x5e75)}
	seen := map[string]bool{}
	for i, tries := 0, 0; i < TrainRows+ValRows; tries++ {
		if tries > 100*(TrainRows+ValRows) {
			return fmt.Errorf("study data %s: only %d different rows", s.Name, i)
		}
		row := s.make(m)
		b, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("study data %s: %w", s.Name, err)
		}
		key := fmt.Sprint(row["prompt"], row["text"])
		if seen[key] {
			continue
		}
		seen[key] = true
		w := train
		if i >= TrainRows {
			w = val
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return fmt.Errorf("study data %s: %w", s.Name, err)
		}
		i++
	}
	return nil
}

// maker draws from lists. PCG's output is fixed by Go's documentation, and what is
// drawn from it by IntN, so the rows never change with a Go version.
type maker struct{ pcg *rand.PCG }

// IntN returns a number from 0 to n-1, for small n.
func (m *maker) IntN(n int) int { return int((m.pcg.Uint64() >> 32) % uint64(n)) }

func (m *maker) of(list ...string) string { return list[m.IntN(len(list))] }

// two different ones.
func (m *maker) two(list []string) (a, b string) {
	i := m.IntN(len(list))
	j := (i + 1 + m.IntN(len(list)-1)) % len(list)
	return list[i], list[j]
}

var (
	people = []string{"Ana", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jo", "Kim", "Lea", "Max", "Nora", "Omar", "Pia"}
	cities = []string{"Rome", "Oslo", "Lima", "Cairo", "Paris", "Delhi", "Tokyo", "Madrid", "Dublin", "Vienna"}
	things = []string{"violin", "lamp", "drum", "kite", "boat", "clock", "red chair", "old map", "blue coat", "glass bowl"}
	jobs   = []string{"baker", "pilot", "nurse", "farmer", "painter", "teacher", "tailor", "judge"}
)

// agreement follows the design of Linzen, Dupoux and Goldberg (arXiv 1611.01368):
// an attractor of the other number stands between subject and verb.
func agreement(m *maker) map[string]any {
	nouns := [][2]string{{"key", "keys"}, {"picture", "pictures"}, {"letter", "letters"}, {"door", "doors"}, {"teacher", "teachers"}, {"dog", "dogs"},
		{"report", "reports"}, {"song", "songs"}, {"car", "cars"}, {"plan", "plans"}}
	link := m.of("near", "behind", "next to", "above", "beside")
	a, b := m.IntN(len(nouns)), m.IntN(len(nouns))
	for b == a {
		b = m.IntN(len(nouns))
	}
	number := m.IntN(2)
	ending := m.of("very old", "in the garden", "from the north", "not for sale", "hard to find", "still here today")
	options := []string{"is " + ending, "are " + ending}
	answer := options[number]
	if m.IntN(2) == 1 {
		options[0], options[1] = options[1], options[0]
	}
	return map[string]any{"prompt": fmt.Sprintf("The %s %s the %s", nouns[a][number], link, nouns[b][1-number]), "options": options, "answer": answer}
}

func passages(m *maker) map[string]any {
	a, b := m.two(people)
	city, other := m.two(cities)
	thing, job := m.of(things...), m.of(jobs...)
	facts := fmt.Sprintf("%s is a %s who moved from %s to %s. Last week %s sold %s the %s.", a, job, other, city, b, a, thing)
	if m.IntN(2) == 1 {
		facts = fmt.Sprintf("%s sold the %s to %s. %s, a %s, left %s and now lives in %s.", b, thing, a, a, job, other, city)
	}
	q := [][2]string{{"Where does " + a + " live now?", city}, {"Where did " + a + " live before?", other}, {"What did " + b + " sell?", thing},
		{"What is the job of " + a + "?", job}, {"Who sold something?", b}}[m.IntN(5)]
	return map[string]any{"prompt": facts + "\nQuestion: " + q[0] + "\nAnswer:", "completion": q[1]}
}

func records(m *maker) map[string]any {
	name, city, thing := m.of(people...), m.of(cities...), m.of(things...)
	n := 2 + m.IntN(8)
	day := m.of("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
	text := []string{
		fmt.Sprintf("On %s %s in %s ordered the %s, %d pieces.", day, name, city, thing, n),
		fmt.Sprintf("%d pieces of the %s go to %s in %s, due %s.", n, thing, name, city, day),
		fmt.Sprintf("%s from %s would like %d of the %s by %s.", name, city, n, thing, day),
	}[m.IntN(3)]
	return map[string]any{"prompt": text + "\nRecord:", "completion": fmt.Sprintf("%s|%s|%s|%d|%s", name, city, thing, n, day)}
}

func tickets(m *maker) map[string]any {
	thing, day := m.of(things...), m.of("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "the weekend")
	lists := map[string][]string{
		"delivery": {"The %s was meant to come on %s and nobody rang.", "Where is my %s? It should be here since %s.", "Can you bring the %s on %s?",
			"The driver left the %s with a neighbour on %s."},
		"refund": {"I sent the %s back on %s and still wait for what I paid.", "You charged me twice for the %s on %s.",
			"The %s was cheaper on %s, please return the difference.", "I cancelled the %s on %s, so why was I billed?"},
		"account": {"I ordered a %s on %s and now I cannot sign in.", "My login stopped working on %[2]s, the %[1]s is still in my basket.",
			"The code to reset my access for the %s never came on %s.", "Please change the address in my profile before the %s ships on %s."},
		"product": {"The %s that I got on %s has a crack.", "Does the %s come in green by %s?", "How do I clean the %s? I need it on %s.",
			"The %s does not work since %s."},
	}
	label := m.of("delivery", "refund", "account", "product")
	opening := m.of("", "Hello, ", "Hi there. ", "Order question: ", "Dear team, ", "Sorry to write again. ")
	return map[string]any{"text": opening + fmt.Sprintf(m.of(lists[label]...), thing, day), "label": label}
}
