package e2e

import (
	"strings"
	"testing"
	"time"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestRealTiny trains a small model with the real module through web/sdk, writes every format into the browser's storage, and opens each again.
func TestRealTiny(t *testing.T) {
	for _, arch := range []string{"llama", "gemma3"} { // with both kinds of vocabulary
		t.Run(arch, func(t *testing.T) { realTiny(t, arch) })
	}
}

func realTiny(t *testing.T, arch string) {
	path := tinyGGUF(t, arch)
	b, _ := open(t, 2*time.Minute, drive.Options{})
	url := serve(t, &site.Site{Dist: realDist(t), Assets: t.TempDir(), Isolated: true})
	must(t, b.Goto(url+"sdk/example/index.html"))
	must(t, b.Pick("#model", path))
	script := `(async () => {
	  const { createTuner } = await import("../tuner.js");
	  const tuner = await createTuner({ threads: 2 });
	  const info = await tuner.openModel({ file: document.getElementById("model").files[0], dtype: "f32" });
	  const rows = Array.from({ length: 40 }, (_, i) => ({ text: (i % 2 ? "bad " : "good ").repeat(1 + (i % 3)) + i, label: i % 2 ? "negative" : "positive" }));
	  const data = () => tuner.openData({ rows, labels: ["negative", "positive"], verbalizers: ["terrible", "great"], template: "{text} It was {label}", val: 10 });
	  await data();
	  const run = tuner.train({ run: "one", layers: 2, queries: 2, batch: 2, steps: 12, lr: 0.5, rank: 4, alpha: 8, evalEvery: 3 });
	  for await (const e of run);
	  const { best, zeroShot } = await run.result;
	  await tuner.call("adapter.load", { path: "/runs/one" });
	  const trained = (await tuner.evaluate().result).loss;
	  const files = {};
	  for (const f of ["gguf-adapter", "gguf-q8_0", "gguf-f16", "card"]) files[f] = await tuner.exportRun("one", f);
	  const near = {};
	  await tuner.call("adapter.clear");
	  await tuner.call("adapter.load", { path: "/runs/one/export/gguf-adapter.gguf" });
	  near.adapter = (await tuner.evaluate().result).loss - trained;
	  for (const f of ["gguf-q8_0", "gguf-f16"]) {
	    await tuner.openModel({ name: "one-" + f + ".gguf", dtype: "f32" });
	    await data();
	    near[f] = (await tuner.evaluate().result).loss - trained;
	  }
	  let tokens = 0, p = 0;
	  for await (const t of tuner.generate("good", { maxTokens: 4, adapter: false })) { tokens++; p += t.p; }
	  return { learned: best.loss < zeroShot.loss, sizes: Object.values(files).map((f) => f.size), card: (await files.card.text()).slice(0, 400), near, trained, p, tokens, parameters: info.parameters };
	})()`
	var got struct {
		Learned bool
		Sizes   []int
		Card    string
		Near    map[string]float64
		Trained float64
		P       float64
		Tokens  int
	}
	must(t, b.Eval(script, &got))
	t.Logf("%+v", got)
	if !got.Learned || !strings.Contains(got.Card, "# one") {
		t.Errorf("learned %v, card %q", got.Learned, got.Card)
	}
	for name, limit := range map[string]float64{"adapter": 0, "gguf-f16": 1e-3, "gguf-q8_0": 3e-2} { // in nats
		if d := got.Near[name]; d > limit || d < -limit {
			t.Errorf("%s: the loss differs by %v from %v", name, d, got.Trained)
		}
	}
	if got.Tokens > 0 && !(got.P > 0 && got.P <= float64(got.Tokens)) {
		t.Errorf("probabilities of %d tokens add up to %v", got.Tokens, got.P)
	}
	must(t, b.CloseAndCheck(url))
}
