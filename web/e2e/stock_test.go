package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tabtune/internal/tinymodel"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// Stand-ins for a user's ExecuTorch build, one of each kind that Emscripten makes: objects with the documented bindings, our kernels underneath.
const (
	moduleBuild = `import { open } from "../engine/engine.js";
export default async function () { const { Module, Tensor, ScalarType } = await open({ threads: 1 }); return { Module, Tensor, ScalarType }; }
`
	plainBuild = `import("../engine/engine.js").then(({ open }) => open({ threads: 1 })).then(({ Module: M, Tensor, ScalarType }) => {
	Module.Module = M; Module.Tensor = Tensor; Module.ScalarType = ScalarType; Module.onRuntimeInitialized();
}, Module.onAbort);
`
)

// stockScript trains in the page's worker with a runtime ("" is the engine's) and answers with the losses.
const stockScript = `async (runtimes) => {
	const worker = new Worker("worker/worker.js", { type: "module" });
	let last = 0;
	const ask = (method, params) => new Promise((resolve, reject) => {
		const id = ++last, events = [];
		worker.addEventListener("message", function on({ data }) {
			if (data.id !== id) return;
			if (data.event) { events.push(data.event); return; }
			worker.removeEventListener("message", on);
			if (data.error) reject(new Error(data.error.code + ": " + data.error.message)); else resolve({ result: data.result, events });
		});
		worker.postMessage({ id, method, params });
	});
	await ask("boot", { threads: 1 });
	await ask("store.import", { file: await (await fetch("tiny.gguf")).blob(), path: "/models/tiny.gguf" });
	const csv = "text,label\n" + Array.from({ length: 40 }, (_, i) => (i % 2 ? "bad bad " + i + ",negative\n" : "good " + i + ",positive\n")).join("");
	await ask("store.import", { file: new Blob([csv]), path: "/data/d.csv" });
	await ask("model.open.start", { path: "/models/tiny.gguf", dtype: "f32" });
	await ask("data.open.start", { path: "/data/d.csv", textColumn: "text", labelColumn: "label", template: "{text} It was {label}", labels: ["negative", "positive"], verbalizers: ["terrible", "great"], val: { rows: 8 } });
	const out = {};
	for (const runtime of runtimes) {
		try {
			const settings = { layers: 2, queries: 2, batch: 2, steps: 4, lr: 0.5, rank: 4, alpha: 8, evalEvery: 2, seed: 7 };
			const { result, events } = await ask("train.start", { ...settings, ...(runtime && { runtime }) });
			out[runtime] = { losses: [...events.filter((e) => e.type === "step" || e.type === "eval").map((e) => e.loss), result.best.loss], leaked: events.filter((e) => e.type === "runtime").length };
		} catch (e) {
			out[runtime] = { error: e.message };
		}
	}
	const idle = ask("train.start", { layers: 2, steps: 4, runtime: "user/idle.js" });
	await ask("task.stop", { id: last });
	out.idle = { error: (await idle).result.stopped ? "stopped" : "not stopped" };
	worker.terminate();
	return out;
}`

// TestStockRuntime trains with a build that the user brings, in its own worker beside the page's.
func TestStockRuntime(t *testing.T) {
	model, err := tinymodel.Bytes(tinymodel.Options{EmbedStd: 0.15, Tokenizer: true})
	must(t, err)
	dist := realDist(t)
	must(t, os.Mkdir(filepath.Join(dist, "user"), 0o755))
	for name, data := range map[string][]byte{"tiny.gguf": model, "user/executorch.mjs": []byte(moduleBuild), "user/executorch.js": []byte(plainBuild), "user/none.js": []byte("Module.onRuntimeInitialized();"), "user/idle.js": []byte("// no build")} {
		must(t, os.WriteFile(filepath.Join(dist, name), data, 0o644))
	}
	b, _ := open(t, 2*time.Minute, drive.Options{})
	url := serve(t, &site.Site{Dist: dist, Assets: fakeAssets, Isolated: true})
	must(t, b.Run(chromedp.Navigate(url+"icon.svg")))
	var got map[string]struct {
		Losses []float64
		Leaked int
		Error  string
	}
	runtimes := []string{"", "user/executorch.mjs", "user/executorch.js", "user/none.js", "user/missing.js", "https://example.invalid/executorch.js"}
	call := fmt.Sprintf(`(%s)(["%s"])`, stockScript, strings.Join(runtimes, `","`))
	must(t, b.Run(chromedp.Evaluate(call, &got, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })))
	want := got[""]
	if len(want.Losses) != 8 || want.Error != "" {
		t.Fatalf("the engine's run: %+v", want)
	}
	for _, name := range runtimes[1:3] {
		if r := got[name]; !reflect.DeepEqual(r.Losses, want.Losses) || r.Leaked != 0 {
			t.Errorf("%s: %+v, the engine's %v", name, r, want.Losses)
		}
	}
	for name, words := range map[string]string{"idle": "stopped", "user/none.js": "it has no Module", "user/missing.js": "could not be started", "https://example.invalid/executorch.js": "this page's own server"} {
		if r := got[name]; !strings.Contains(r.Error, words) {
			t.Errorf("%s: %+v, want an error with %q", name, r, words)
		}
	}
}
