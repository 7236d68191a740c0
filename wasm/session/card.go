package session

import (
	"fmt"
	"strings"
	"unicode"

	"tabtune/lora/peft"
)

// card is a run's model card in Markdown: what was trained, on what, how, and how well it does.
func (st *runState) card(name string) string {
	var b strings.Builder
	c := &st.Config
	row := func(key string, value any) { fmt.Fprintf(&b, "| %s | %s |\n", key, cell(fmt.Sprint(value))) }
	fmt.Fprintf(&b, "---\nlibrary_name: peft\nbase_model: %q\ntags: [lora, zeroth-order, tabtune]\n---\n\n# %s\n\n", plainText(st.Model.Name), plainText(name))
	fmt.Fprintf(&b, "A LoRA adapter for %s, trained on one device with forward passes alone (%s) by Tabtune %s.\n", cell(st.Model.Name), cell(c.Estimator), cell(st.Version))
	if !st.Done {
		fmt.Fprintf(&b, "The run is not done: step %d of %d.\n", st.Step, c.Steps)
	}
	b.WriteString("\n## Results on the validation rows\n\n| | Accuracy | Loss | Step |\n|---|---|---|---|\n")
	for _, r := range []struct {
		name string
		s    score
	}{{"Before training", st.ZeroShot}, {"Best, which is the adapter", st.Best}, {"Last step", st.Last}} {
		fmt.Fprintf(&b, "| %s | %.4f | %.4f | %d |\n", r.name, r.s.Accuracy, r.s.Loss, r.s.Step)
	}
	b.WriteString("\n## Base model\n\n| | |\n|---|---|\n")
	row("Name", st.Model.Name)
	row("Architecture", st.Model.Architecture)
	row("Parameters", st.Model.Parameters)
	if st.Model.License != "" {
		row("License, as its file says", st.Model.License)
	}
	row("SHA-256 of the file", c.ModelSHA256)
	row("Weights held as", c.DType)
	b.WriteString("\n## Data\n\n| | |\n|---|---|\n")
	row("SHA-256", c.DataSHA256)
	row("Rows to train on", st.Data.TrainRows)
	row("Rows to validate on", st.Data.ValRows)
	for _, l := range st.Data.Labels {
		row("Label "+plainText(l.Name), fmt.Sprintf("%d rows, answer %q", l.Count, l.Verbalizer))
	}
	if v, ok := settings(*c)["template"]; ok {
		row("Prompt", v)
	}
	b.WriteString("\n## Settings\n\n| | |\n|---|---|\n")
	layers := "none"
	if n := len(c.Layers); n > 0 {
		layers = fmt.Sprintf("%d to %d", c.Layers[0], c.Layers[n-1])
	}
	for _, kv := range []struct {
		key   string
		value any
	}{
		{"Estimator", c.Estimator}, {"Queries", c.Queries}, {"Batch", c.Batch}, {"Epsilon", c.Eps}, {"Learning rate", c.LR}, {"Schedule", c.Schedule},
		{"Steps", fmt.Sprintf("%d of %d", st.Step, c.Steps)}, {"Rank", c.Rank}, {"Alpha", c.Alpha}, {"Layers", layers}, {"Adapted matrices", len(c.Modules)},
		{"Window", c.Window}, {"Seed of the run", c.Seed}, {"Seed of A", c.ASeed}, {"Rows seen", st.Rows}, {"Seconds", fmt.Sprintf("%.0f", st.Seconds)},
	} {
		row(kv.key, kv.value)
	}
	fmt.Fprintf(&b, "\n## Use\n\nPEFT loads the folder with `%s` and `%s`: `PeftModel.from_pretrained(model, folder)`. llama.cpp loads the GGUF adapter beside the base model: "+
		"`llama-cli -m base.gguf --lora adapter.gguf`. `replay.log` holds every step's seeds and coefficients: with the base model it gives the adapter again, bit for bit.\n",
		peft.ConfigFile, peft.WeightsFile)
	return b.String()
}

// plainText makes a name from outside fit for a line of Markdown.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || strings.ContainsRune("`|<>[]\\*_#\"", r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200])
	}
	return strings.Join(strings.Fields(s), " ")
}

// cell makes a value from outside a piece of code in a table's cell.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '`':
			return '\''
		case r == '|':
			return '/'
		case unicode.IsControl(r):
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 500 {
		s = string(r[:500])
	}
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return "`" + s + "`"
}
