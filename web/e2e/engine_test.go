package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tabtune/host"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// engineScript runs the stock exporter's programs through engine.js and answers with what came out. It runs in the page and in a worker.
const engineScript = `async (base, wanted) => {
	const { open, Tensor, ScalarType } = await import(base + "engine/engine.js");
	const progress = [];
	const et = await open({ base: base + "assets/", threads: wanted, onProgress: (p) => progress.push(p) });
	try {
		const url = (name) => base + "assets/" + name + ".pte";
		const types = { f32: Float32Array, f64: Float64Array, i64: BigInt64Array, i32: Int32Array, i16: Int16Array, i8: Int8Array, u8: Uint8Array, bool: Uint8Array, f16: Uint16Array, bf16: Uint16Array };
		const names = { f32: "Float", f64: "Double", i64: "Long", i32: "Int", i16: "Short", i8: "Char", u8: "Byte", bool: "Bool", f16: "Half", bf16: "BFloat16" };
		const decode = (t) => Tensor.fromArray(t.sizes, new types[t.dtype](Uint8Array.from(atob(t.data), (c) => c.charCodeAt(0)).buffer), ScalarType[names[t.dtype]]);
		let calls = 0, worst = 0;
		for (const name of ["linear", "ops", "llama", "shared"]) {
			const m = await et.Module.loadAsync(url(name));
			for (const call of await (await fetch(base + "assets/" + name + ".json")).json()) {
				if ([...call.inputs, ...call.outputs].some((t) => t.dtype === undefined)) continue;
				m.execute(call.method, call.inputs.map(decode)).forEach((got, i) => {
					const want = decode(call.outputs[i]).toArray();
					got.toArray().forEach((x, k) => {
						const y = want[k];
						if (x !== y && !(Number.isNaN(x) && Number.isNaN(y))) worst = Math.max(worst, Math.abs(Number(x) - Number(y)) / (1 + Math.abs(Number(y))));
						if (Number.isNaN(x) !== Number.isNaN(y)) worst = Infinity;
					});
				});
				calls++;
			}
			m.delete();
		}
		et.FS.writeFile("add.pte", new Uint8Array(await (await fetch(url("api_add"))).arrayBuffer()));
		const m = et.Module.load("add.pte");
		m.startProfile();
		const sum = m.forward([Tensor.ones([1]), Tensor.ones([1])])[0].data[0];
		let error = "";
		try {
			m.forward([Tensor.ones([2]), Tensor.ones([2])]);
		} catch (e) {
			error = e.message;
		}
		return { calls, worst, sum, error, threads: et.threads, profiled: m.profile().rows.length, loaded: progress.at(-1).done };
	} finally {
		et.close();
	}
}`

// TestEngineAPI runs programs with the JavaScript API: in the page's main thread, which has one thread, and in a worker, with and without shared memory.
func TestEngineAPI(t *testing.T) {
	module, err := host.Module()
	if err != nil {
		if os.Getenv("TABTUNE_REQUIRE_ASSETS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	assets := t.TempDir()
	put := func(name string, data []byte) { must(t, os.WriteFile(filepath.Join(assets, name), data, 0o644)) }
	put("tabtune.wasm", module)
	for dir, names := range map[string][]string{
		"engine/kernel":   {"kernels.wasm", "kernels_single.wasm"},
		"engine/testdata": {"linear.pte", "linear.json", "ops.pte", "ops.json", "llama.pte", "llama.json", "shared.pte", "shared.json", "api_add.pte"},
	} {
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(root, dir, name))
			must(t, err)
			put(name, data)
		}
	}
	for _, c := range []struct {
		name             string
		isolated, worker bool
		threads          int
	}{{"page", true, false, 1}, {"worker", true, true, 2}, {"worker that may not share memory", false, true, 1}} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := open(t, 2*time.Minute, drive.Options{})
			url := serve(t, &site.Site{Dist: fakeDist, Assets: assets, Isolated: c.isolated})
			must(t, b.Run(chromedp.Navigate(url+"icon.svg"))) // a document of the same origin without the page in it
			base, err := json.Marshal(url)
			must(t, err)
			call := "(" + engineScript + ")(" + string(base) + ", 2)"
			if c.worker {
				// The site's policy allows no script but its own files.
				script := "onmessage = () => " + call + ".then((r) => postMessage({ r }), (e) => postMessage({ e: String(e.stack ?? e) }));"
				must(t, os.WriteFile(filepath.Join(fakeDist, "engine-test.js"), []byte(script), 0o644))
				call = `new Promise((resolve, reject) => {
					const w = new Worker("/engine-test.js", { type: "module" });
					w.onmessage = ({ data }) => (data.r ? resolve(data.r) : reject(new Error(data.e)));
					w.onerror = (e) => reject(new Error(e.message));
					w.postMessage(0);
				})`
			}
			var got struct {
				Calls, Threads, Profiled, Loaded int
				Worst, Sum                       float64
				Error                            string
			}
			must(t, b.Run(chromedp.Evaluate(call, &got, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })))
			if got.Calls < 20 || got.Worst > 2e-3 || got.Sum != 2 || got.Threads != c.threads || got.Profiled != 1 || got.Loaded < len(module) {
				t.Errorf("%+v", got)
			}
			if want := "Failed to execute method forward, error: 0x12: "; len(got.Error) < len(want) || got.Error[:len(want)] != want {
				t.Errorf("error %q, want %q...", got.Error, want)
			}
		})
	}
}
