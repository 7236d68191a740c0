// Command samples writes the page's three example data sets. All text was written for this project and is under its licence.
//
//	go run ./web/samples    # rewrites web/samples/*.csv and *.jsonl
package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

const rows = 200

func main() {
	dir := "web/samples"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	for name, data := range files() {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "web/samples:", err)
			os.Exit(1)
		}
	}
}

// files makes the data sets, the same ones each time.
func files() map[string][]byte {
	return map[string][]byte{"support-tickets.csv": tickets(), "plain-language.jsonl": plain(), "yes-no.csv": yesNo()}
}

// draw returns n different texts of make, shuffled.
func draw(seed uint64, n int, make func(r *rand.Rand, i int) string) []string {
	r := rand.New(rand.NewPCG(seed, 1))
	seen := map[string]bool{}
	var out []string
	for i := 0; len(out) < n; i++ {
		if s := make(r, i); !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

func table(columns []string, lines [][]string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(columns) // into memory
	_ = w.WriteAll(lines)
	return b.Bytes()
}

var (
	openers = []string{"", "", "", "Hello, ", "Hi there. ", "Good morning. ", "Please help: ", "Second time I write. ", "Quick question: "}
	closers = []string{"", "", "", " Thank you.", " What can I do?", " Please answer soon.", " I have the order number if you need it.", " This is the third time.", " Kind regards, a customer."}
	intents = []struct {
		label string
		texts []string
	}{
		{"billing", []string{"I was charged twice for the same order.", "the invoice shows a price that I never agreed to.", "my card was debited although the order was cancelled.", "I need a receipt with our company's address on it.",
			"the discount code was not taken off the total.", "why is there a fee of four euros on my bill?", "I would like to pay by bank transfer from now on.", "the tax on my invoice looks wrong.", "your reminder says I did not pay, but I did last week.", "can I get last year's invoices as one file?"}},
		{"delivery", []string{"my parcel has not arrived and it is ten days late.", "the tracking page has not changed since Monday.", "the courier left the box at the wrong house.", "can you send the order to my office instead?", "half of the items were missing from the box.",
			"the parcel came soaked through by rain.", "when will the lamp that I ordered be sent?", "the driver did not ring the bell and drove away.", "is it possible to pick the order up in your shop?", "the status says delivered, but there is nothing here."}},
		{"returns", []string{"the shoes are too small and I want to send them back.", "how do I print the label for a return?", "I sent the jacket back two weeks ago and heard nothing.", "may I swap the blue one for a green one?", "the vase was a present and she has the same one already.",
			"can I give it back without the original box?", "how many days do I have to change my mind?", "I would rather have my money than a voucher for what I sent back.", "the chair wobbles, please take it back.", "which address do I send the unwanted items to?"}},
		{"account", []string{"I cannot log in since I changed my phone.", "the mail to reset my password never comes.", "please change the name on my profile, I got married.", "how do I delete my profile and all my data?", "someone else seems to have used my login.",
			"I want to use another mail address to sign in.", "my profile shows the orders of a stranger.", "the code for signing in arrives when it is no longer valid.", "can my wife and I share one profile?", "stop sending me the newsletter, I signed off twice."}},
		{"technical", []string{"the app closes as soon as I open the basket.", "your page stays white in my browser.", "the search finds nothing, whatever I type.", "the speaker does not pair with my telephone.", "after the update the display shows only lines.",
			"the pictures in the shop do not load on my tablet.", "the battery is empty after one hour.", "the button for the next step does nothing.", "the machine beeps three times and stops.", "I get error 502 when I upload a photograph."}},
	}
)

// tickets are messages to a shop, by what they are about.
func tickets() []byte {
	var lines [][]string
	for k, in := range intents {
		for _, s := range draw(uint64(k)+10, rows/len(intents), func(r *rand.Rand, i int) string {
			s := pick(r, openers) + in.texts[i%len(in.texts)] + pick(r, closers)
			return strings.ToUpper(s[:1]) + s[1:]
		}) {
			lines = append(lines, []string{s, in.label})
		}
	}
	rand.New(rand.NewPCG(20, 1)).Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return table([]string{"text", "label"}, lines)
}

// rewrites are sentences of offices and what they mean; %s takes the same thing in both.
var (
	rewrites = [][2]string{
		{"Applicants are required to furnish %s prior to the commencement of the procedure.", "Send us %s before we start."},
		{"In the event that %s is not received by the date stipulated, the application shall be deemed withdrawn.", "If we do not get %s in time, we close your case."},
		{"It is incumbent upon the tenant to provide notification of any alteration pertaining to %s.", "Tell us when something about %s changes."},
		{"The department is not in a position to process requests in the absence of %s.", "We need %s to work on your request."},
		{"Persons in possession of %s are exempt from the obligation to remit the fee.", "If you have %s, you pay nothing."},
		{"Kindly be advised that %s must be rendered in legible form.", "Make sure that we can read %s."},
		{"Failure to effect submission of %s may result in a delay in processing.", "It takes longer if you do not send %s."},
		{"An attestation in respect of %s may be obtained upon written request.", "Write to us if you want a proof of %s."},
		{"The validity of %s shall terminate upon expiry of a period of twelve months.", "You can use %s for one year."},
		{"Subsequent to verification of %s, a determination will be communicated in writing.", "We check %s and then write to you."},
		{"Notwithstanding the foregoing, %s may be presented at a later juncture.", "You may also bring %s later."},
		{"Reimbursement is contingent upon the production of %s in the original.", "We pay you back if you show us the original of %s."},
	}
	papers = []string{"your birth certificate", "the signed contract", "your proof of address", "the medical report", "your bank details", "a copy of your passport", "the rental agreement", "your last tax notice", "the school report", "your residence permit",
		"the insurance card", "a recent photograph", "the list of your costs", "your driving licence", "the building plan", "your pension statement", "the power of attorney"}
)

// plain are pairs of an official sentence and a plain one.
func plain() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, s := range draw(30, rows, func(r *rand.Rand, i int) string {
		p, what := rewrites[i%len(rewrites)], pick(r, papers)
		return fmt.Sprintf(p[0]+"\n"+p[1], what, what)
	}) {
		official, simple, _ := strings.Cut(s, "\n")
		_ = e.Encode(struct { // into memory
			Prompt     string `json:"prompt"`
			Completion string `json:"completion"`
		}{"Official: " + official + "\nPlain:", " " + simple})
	}
	return b.Bytes()
}

var (
	places = []string{"museum", "library", "swimming pool", "town hall", "bakery", "zoo", "cinema", "post office", "garden", "sports hall"}
	days   = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	rules  = []string{"dogs", "bicycles", "photographs", "loud music", "food"}
)

// yesNo are short texts with a question each that the text answers.
func yesNo() []byte {
	var lines [][]string
	for k, want := range []string{"yes", "no"} {
		yes := want == "yes"
		for _, s := range draw(uint64(k)+40, rows/2, func(r *rand.Rand, i int) string {
			place, open := pick(r, places), 7+r.IntN(4)
			closes := open + 6 + r.IntN(5)
			closed, allowed := r.IntN(len(days)), pick(r, rules)
			banned := allowed
			for banned == allowed {
				banned = pick(r, rules)
			}
			text := fmt.Sprintf("The %s opens at %d and closes at %d. On %s it is closed. You may bring %s, but %s are not allowed.", place, open, closes, days[closed], allowed, banned)
			if allowed == "photographs" {
				text = strings.Replace(text, "bring photographs", "take photographs", 1)
			}
			if banned == "loud music" || banned == "food" {
				text = strings.Replace(text, "are not allowed", "is not allowed", 1)
			}
			hour, day, thing := open+1+r.IntN(closes-open-1), days[(closed+1+r.IntN(6))%7], allowed
			if !yes {
				hour, day, thing = closes+1+r.IntN(2), days[closed], banned
			}
			question := []string{fmt.Sprintf("Is the %s open at %d?", place, hour), fmt.Sprintf("Is the %s open on %s?", place, day), fmt.Sprintf("Is %s allowed in the %s?", thing, place)}[i%3]
			if thing != "loud music" && thing != "food" {
				question = strings.Replace(question, "Is "+thing, "Are "+thing, 1)
			}
			return text + "\n" + question
		}) {
			text, question, _ := strings.Cut(s, "\n")
			lines = append(lines, []string{text, question, want})
		}
	}
	rand.New(rand.NewPCG(50, 1)).Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return table([]string{"text", "question", "label"}, lines)
}
