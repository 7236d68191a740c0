// Training with a runtime that has the documented shape of the stock ExecuTorch bindings: an object of Module, Tensor and ScalarType. No registry carries
// a stock wasm build, so here our kernels run underneath (engine.js); that the same programs mean the same to the native stock runtime is what make
// conformance shows.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const dist = process.env.TABTUNE_DIST ? new URL(`file://${process.env.TABTUNE_DIST}/`) : new URL("../../dist/", import.meta.url);
const { open } = await import(new URL("engine/engine.js", dist).href);
const { Runtime } = await import(new URL("engine/runtime.js", dist).href);
const { StockRuntime, carryOut } = await import(new URL("engine/stock.js", dist).href);

const folder = mkdtempSync(join(tmpdir(), "tabtune-stock-"));
after(() => rmSync(folder, { recursive: true }));
const model = join(folder, "tiny.gguf");
execFileSync("go", ["run", "./internal/tinymodel/write", model], { cwd: fileURLToPath(new URL("../../..", import.meta.url)) });
const csv = "text,label\n" + Array.from({ length: 40 }, (_, i) => (i % 2 ? `bad bad ${i},negative\n` : `good ${i},positive\n`)).join("");

const session = await Runtime.open({ threads: 1 });
after(() => session.close());

/** Runs a task to its end; what it asks of the runtime goes to stock. */
async function run(method, params, stock) {
  const { task } = session.call(`${method}.start`, params);
  const events = [];
  for (;;) {
    const r = session.call("task.next", { task });
    if (r.done) return { value: r.value, events };
    events.push(r.event);
    if (r.event.type !== "runtime" || !stock) continue;
    session.call("runtime.answer", await carryOut(r.event, stock, { device: (at, n) => session.device(at, n), program: (path) => session.files.take(path.slice("/out/".length)) }));
  }
}

await run("model.open", { path: session.files.mount(model), dtype: "f32" });
await run("data.open", {
  path: session.files.mount(new TextEncoder().encode(csv)), format: "csv", textColumn: "text", labelColumn: "label", template: "{text} It was {label}", labels: ["negative", "positive"],
  verbalizers: ["terrible", "great"], val: { rows: 8 },
});
const settings = { layers: 2, queries: 2, batch: 2, steps: 6, lr: 0.5, rank: 4, alpha: 8, evalEvery: 3, seed: 7 };

/** The bindings as documented, and nothing else: what is not there cannot be leaned on. */
function documented(et, calls) {
  const module = (m) => ({
    getMethods: () => m.getMethods(), loadMethod: (name) => m.loadMethod(name), execute: (name, inputs) => (calls.push(name), m.execute(name, inputs.map((t) => t.inner)).map(tensor)), delete: () => m.delete(),
  });
  const tensor = (t) => ({ inner: t, get data() { return t.data; }, get sizes() { return t.sizes; }, get scalarType() { return t.scalarType; }, delete: () => t.delete() });
  return {
    Module: { load: (data) => module(et.Module.load(data)) },
    Tensor: { fromArray: (sizes, array, type) => (assert.ok(type === et.ScalarType.Float || type === et.ScalarType.Long), tensor(et.Tensor.fromArray(sizes, array, type))) },
    ScalarType: { Float: et.ScalarType.Float, Long: et.ScalarType.Long },
  };
}

test("the same losses and the same log as with our engine", async () => {
  const own = await run("train", { ...settings, out: "/out" });
  const files = () => ["replay.log", "run.json", "metrics.jsonl"].map((name) => session.files.take(name));
  const [ownLog] = files();
  session.files.out.dir.contents.delete("adapter");
  const et = await open({ threads: 1 });
  const calls = [];
  const stock = new StockRuntime(documented(et, calls));
  const other = await run("train", { ...settings, out: "/out", runtime: "/out/program.pte" }, stock);
  const losses = (r) => r.events.filter((e) => e.type === "step" || e.type === "eval").map((e) => e.loss);
  assert.deepEqual(losses(other), losses(own));
  assert.deepEqual(files()[0], ownLog);
  assert.equal(other.value.best.loss, own.value.best.loss);
  assert.equal(new Set(calls).size, 3, `methods called: ${[...new Set(calls)]}`);
  session.files.out.dir.contents.delete("adapter");
  stock.close();
  et.close();
});

test("a runtime that is none, or fails, is named", async () => {
  assert.throws(() => new StockRuntime({}), { name: "TypeError", message: /no ExecuTorch build/ });
  const broken = { load() {}, execute() { throw new Error("Failed to execute method prefix, error: 0x14"); } };
  await assert.rejects(run("train", { ...settings, runtime: "/out/program.pte" }, broken), { code: "runtime", message: /chosen for this run: execute .*error: 0x14/ });
  await assert.rejects(run("train", { ...settings, runtime: "/out/program.pte" }), { code: "runtime", message: /has not answered/ });
  const short = { load() {}, execute: () => new Uint8Array(4) };
  await assert.rejects(run("train", { ...settings, runtime: "/out/program.pte" }, short), { message: /an output of 4 bytes, expected/ });
  const { value } = await run("train", { ...settings, steps: 1 });
  assert.equal(value.steps, 1, "our engine goes on as before");
});
