package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tabtune/host"
	"tabtune/internal/tinymodel"
	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// knownScript opens a model again and again, each time in a new worker, and answers with what the module said and what was stored.
const knownScript = `async () => {
	const out = [];
	const root = await navigator.storage.getDirectory();
	const models = await root.getDirectoryHandle("models", { create: true });
	const record = async () => {
		try { return await (await (await models.getFileHandle("tiny.gguf.known")).getFile()).text(); } catch (e) { return e.name; }
	};
	const write = async (name, data) => {
		const w = await (await models.getFileHandle(name, { create: true })).createWritable();
		await w.write(data);
		await w.close();
	};
	const visit = async (what, ...calls) => {
		const worker = new Worker("worker/worker.js", { type: "module" });
		let last = 0;
		const ask = (method, params) => new Promise((resolve, reject) => {
			const id = ++last;
			worker.addEventListener("message", function on({ data }) {
				if (data.id !== id || data.event) return;
				worker.removeEventListener("message", on);
				if (data.error) reject(new Error(data.error.code + ": " + data.error.message)); else resolve(data.result);
			});
			worker.postMessage({ id, method, params });
		});
		await ask("boot", { threads: 1 });
		let info = {};
		for (const [method, params] of calls) info = await ask(method, params);
		worker.terminate();
		out.push({ what, sha256: info.sha256 ?? "", record: await record() });
	};
	const blob = await (await fetch("tiny.gguf")).blob();
	const open = ["model.open.start", { path: "/models/tiny.gguf", dtype: "int8" }];
	await visit("imported", ["store.import", { file: blob, path: "/models/tiny.gguf" }], open);
	const kept = JSON.parse(await record());
	await write("tiny.gguf.known", JSON.stringify({ ...kept, sha256: "ab".repeat(32) }));
	await visit("known", open);
	await write("tiny.gguf.known", "{\"bytes\": \"many\"");
	await visit("a damaged record", open);
	const bytes = new Uint8Array(await blob.arrayBuffer());
	bytes[bytes.length - 1] ^= 1;
	await write("tiny.gguf.known", JSON.stringify({ ...kept, sha256: "ab".repeat(32) }));
	await visit("another file", ["store.import", { file: new Blob([bytes]), path: "/models/tiny.gguf" }], open);
	await visit("deleted", ["store.remove", { path: "/models/tiny.gguf" }]);
	return out;
}`

// TestKnownModel opens a stored model again: its SHA-256 is taken from a record while the file is the same, and only then.
func TestKnownModel(t *testing.T) {
	module, err := host.Module()
	if err != nil {
		if os.Getenv("TABTUNE_REQUIRE_ASSETS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	model, err := tinymodel.Bytes(tinymodel.Options{EmbedStd: 0.15, Tokenizer: true})
	must(t, err)
	dist := filepath.Join(t.TempDir(), "dist")
	must(t, os.CopyFS(dist, os.DirFS(fakeDist)))
	for name, data := range map[string][]byte{"tabtune.wasm": module, "tiny.gguf": model} {
		must(t, os.WriteFile(filepath.Join(dist, name), data, 0o644))
	}
	b, _ := open(t, 2*time.Minute, drive.Options{})
	must(t, b.Run(chromedp.Navigate(serve(t, &site.Site{Dist: dist, Assets: fakeAssets, Isolated: true})+"icon.svg")))
	var got []struct{ What, SHA256, Record string }
	must(t, b.Run(chromedp.Evaluate("("+knownScript+")()", &got, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })))
	if len(got) != 5 {
		t.Fatalf("%+v", got)
	}
	taken := ""
	for range 32 {
		taken += "ab"
	}
	changed := append([]byte(nil), model...)
	changed[len(changed)-1] ^= 1
	for i, want := range []string{sha(model), taken, sha(model), sha(changed), ""} {
		if got[i].SHA256 != want {
			t.Errorf("%s: SHA-256 %q, want %q", got[i].What, got[i].SHA256, want)
		}
	}
	if got[2].Record != got[0].Record {
		t.Errorf("the record after damage is %s, at first %s", got[2].Record, got[0].Record)
	}
	if got[4].Record != "NotFoundError" {
		t.Errorf("the record of a deleted model: %s", got[4].Record)
	}
}
