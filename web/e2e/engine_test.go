package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tabtune/host"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// engineScript runs programs of the stock exporter through engine.js and compares with what the stock runtime computed. It runs in the page and in
// a worker.
const engineScript = `async (base, wanted, programs) => {
	const { open, Tensor, ScalarType } = await import(base + "engine/engine.js");
	const progress = [];
	const et = await open({ base: base + "assets/", threads: wanted, onProgress: (p) => progress.push(p) });
	try {
		const url = (name) => base + "assets/" + name + ".pte";
		const types = { f32: Float32Array, f64: Float64Array, i64: BigInt64Array, i32: Int32Array, i16: Int16Array, i8: Int8Array, u8: Uint8Array, bool: Uint8Array, f16: Uint16Array, bf16: Uint16Array };
		const names = { f32: "Float", f64: "Double", i64: "Long", i32: "Int", i16: "Short", i8: "Char", u8: "Byte", bool: "Bool", f16: "Half", bf16: "BFloat16" };
		const tolerances = { f16: 1e-2, bf16: 6e-2 }; // the stock runtime rounds every step of a sum to the element type
		// place(sizes, order)[k] is where element k of a contiguous tensor lies in memory with this order of dimensions.
		const place = (sizes, order) => {
			const strides = [];
			order.reduceRight((n, d) => { strides[d] = n; return n * sizes[d]; }, 1);
			return Array.from({ length: sizes.reduce((n, s) => n * s, 1) }, (_, k) => sizes.reduceRight((at, s, d) => { at += k % s * strides[d]; k = Math.floor(k / s); return at; }, 0));
		};
		const decode = (t, order = t.sizes.map((_, d) => d)) => {
			const values = new types[t.dtype](Uint8Array.from(atob(t.data), (c) => c.charCodeAt(0)).buffer), memory = values.slice();
			place(t.sizes, order).forEach((at, k) => { memory[at] = values[k]; });
			return Tensor.fromArray(t.sizes, memory, ScalarType[names[t.dtype]], order);
		};
		const same = (x, y, tolerance) => x === y || Number.isNaN(x) && Number.isNaN(y) ||
			typeof x === "number" && Math.abs(x - y) <= tolerance * (1 + Math.abs(y));
		let calls = 0;
		const bad = [];
		for (const name of programs) {
			const m = await et.Module.loadAsync(url(name));
			for (const [k, call] of (await (await fetch(base + "assets/" + name + ".json")).json()).entries()) {
				if ([...call.inputs, ...call.outputs].some((t) => !(t.dtype in types))) continue; // complex numbers
				const meta = m.getMethodMeta(call.method);
				const outputs = m.execute(call.method, call.inputs.map((t, i) => decode(t, meta.inputTensorMeta[i].dimOrder)));
				call.outputs.forEach((o, i) => {
					const got = outputs[i], want = decode(o), where = [name, call.method, k, "output", i].join(" ");
					if (got.scalarType !== want.scalarType || String(got.sizes) !== String(want.sizes)) bad.push(where + ": " + got.scalarType.name + got.sizes);
					else if (!call.shapes && !call.skip?.includes(i)) {
						const x = got.toArray(), y = want.toArray();
						const n = place(o.sizes, got.dimOrder).filter((at, k) => !same(x[at], y[k], tolerances[o.dtype] ?? 2e-5)).length;
						if (n) bad.push(where + ": " + n + " of " + y.length + " differ");
					}
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
		return { calls, bad, sum, error, threads: et.threads, profiled: m.profile().rows.length, loaded: progress.at(-1).done };
	} finally {
		et.close();
	}
}`

// TestEngineAPI runs the programs of engine/testdata with the JavaScript API: in the page's main thread, which has one thread, and in a worker, with and without shared memory.
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
	copyIn := func(pattern string) []string {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		must(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			must(t, err)
			put(filepath.Base(file), data)
		}
		return files
	}
	copyIn("engine/kernel/kernels*.wasm")
	copyIn("engine/testdata/*.pte")
	programs, calls := []string{}, 0
	for _, file := range copyIn("engine/testdata/*.json") {
		data, err := os.ReadFile(file)
		must(t, err)
		var records []struct{ Inputs, Outputs []struct{ DType string } }
		must(t, json.Unmarshal(data, &records))
		for _, r := range records {
			// The API has no complex tensors.
			if !slices.ContainsFunc(append(r.Inputs, r.Outputs...), func(x struct{ DType string }) bool { return strings.HasPrefix(x.DType, "c") }) {
				calls++
			}
		}
		programs = append(programs, strings.TrimSuffix(filepath.Base(file), ".json"))
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
			args, err := json.Marshal([]any{url, 2, programs})
			must(t, err)
			call := "(" + engineScript + ")(..." + string(args) + ")"
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
				Bad                              []string
				Sum                              float64
				Error                            string
			}
			must(t, b.Run(chromedp.Evaluate(call, &got, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })))
			if got.Calls != calls || len(got.Bad) > 0 || got.Sum != 2 || got.Threads != c.threads || got.Profiled != 1 || got.Loaded < len(module) {
				t.Errorf("%+v", got)
			}
			if want := "Failed to execute method forward, error: 0x12: "; len(got.Error) < len(want) || got.Error[:len(want)] != want {
				t.Errorf("error %q, want %q...", got.Error, want)
			}
		})
	}
}
