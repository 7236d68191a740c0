// The API on the page's build (make build): web/dist/engine/engine.js with the module and kernels beside it, as it ships.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const dist = process.env.TABTUNE_DIST ? new URL(`file://${process.env.TABTUNE_DIST}/`) : new URL("../../dist/", import.meta.url);
const { open, Tensor, ScalarType, Tag, BindingError } = await import(new URL("engine/engine.js", dist).href);
const et = await open({ threads: 2 });
after(() => et.close());

const path = (name) => fileURLToPath(new URL(`../../../engine/testdata/${name}.pte`, import.meta.url));
const bytes = (name) => new Uint8Array(readFileSync(path(name)));
const using = (name, f) => {
  const m = et.Module.load(path(name));
  try {
    return f(m);
  } finally {
    m.delete();
  }
};
const square = (x = 1) => Tensor.full([2, 2], x);
const four = (x) => new Float32Array(4).fill(x);

test("tensors", () => {
  assert.deepEqual(Tensor.zeros([2, 2]).data, four(0));
  assert.deepEqual(Tensor.zeroes([2, 2]).data, four(0));
  assert.deepEqual(Tensor.ones([2, 2]).data, four(1));
  assert.deepEqual(Tensor.full([2, 2], 3).data, four(3));
  assert.deepEqual(Tensor.fromArray([2, 2], [1, 2, 3, 4]).data, new Float32Array([1, 2, 3, 4]));
  assert.deepEqual(Tensor.fromIter([2, 2], (function* () { yield* [1, 2, 3, 4]; })()).data, new Float32Array([1, 2, 3, 4]));
  assert.deepEqual(Tensor.fromIter([3], new Set([1, 2, 3])).data, new Float32Array([1, 2, 3]));
  assert.deepEqual(Tensor.fromArray([2], [1, 2, 3]).data, new Float32Array([1, 2]), "the first elements are taken");
  const t = Tensor.ones([2, 1], ScalarType.Long);
  assert.deepEqual([t.data, t.sizes, t.scalarType], [new BigInt64Array([1n, 1n]), [2, 1], ScalarType.Long]);
  assert.equal(Tensor.fromArray([2], [1n, 2n]).scalarType, ScalarType.Long);
  assert.equal(Tensor.full([2], 2n).scalarType, ScalarType.Long);
  assert.equal(Tensor.fromArray([0], []).scalarType, ScalarType.Float);
  assert.deepEqual(Tensor.fromArray([], [7]).sizes, []);
});

test("tensors: mistakes", () => {
  assert.throws(() => Tensor.fromArray([3, 2], [1, 2, 3, 4]), { name: "Error", message: "Required 6 elements, given 4" });
  assert.throws(() => Tensor.zeros([-1]), { message: /Invalid tensor sizes/ });
  assert.throws(() => Tensor.zeros([1 << 30, 1 << 30]), { message: /Invalid tensor sizes/ });
  assert.throws(() => Tensor.fromArray([2], [1, 2], ScalarType.Long), TypeError);
  assert.throws(() => Tensor.fromArray([2], [1n, 2n], ScalarType.Float), TypeError);
  assert.throws(() => Tensor.zeros([2], { value: 22 }), { name: "TypeError", message: "Unsupported Tensor type: 22" });
  const f = (order, strides) => () => Tensor.fromArray([2, 2], [1, 2, 3, 4], ScalarType.Float, order, strides);
  assert.deepEqual(f([0, 1], [2, 1])().data, new Float32Array([1, 2, 3, 4]));
  assert.deepEqual(f([], [1, 2])().dimOrder, [1, 0]);
  assert.throws(f([1]), { message: "dim_order size must match sizes or be empty." });
  assert.throws(f([], [1]), { message: "strides size must match sizes or be empty." });
  assert.throws(f([1, 2]), { message: "Failed to compute strides." });
  assert.throws(f([1, 1], [2, 1]), { message: "Failed to compute strides." });
  assert.throws(f([0, 1], [1, 2]), { message: /invalid strides for dim 0: 1!= 2/ });
  assert.throws(() => Tensor.fromIter([1], (function* () { for (;;) yield 1; })()), { name: "RangeError", message: "Generator exceeded maximum element count of 8388608" });
  const t = Tensor.ones([1]);
  t.delete();
  assert.throws(() => t.data, BindingError);
  assert.throws(() => t.delete(), { name: "BindingError", message: "Tensor instance already deleted" });
});

test("element types", () => {
  const t = (type, values) => Tensor.fromArray([values.length], values, ScalarType[type]);
  assert.deepEqual(t("Half", [1, -2, 65504, 65520, 2 ** -24, 1 + 2 ** -11, 1 + 3 * 2 ** -11, -0]).data, new Uint16Array([0x3c00, 0xc000, 0x7bff, 0x7c00, 1, 0x3c00, 0x3c02, 0x8000]));
  assert.deepEqual(t("BFloat16", [1, -2, 1 + 2 ** -8, 1 + 3 * 2 ** -8]).data, new Uint16Array([0x3f80, 0xc000, 0x3f80, 0x3f82]));
  assert.deepEqual(t("Half", [0.1, NaN, Infinity]).toArray(), [0.0999755859375, NaN, Infinity]);
  assert.deepEqual(t("Bool", [0, 5, true, false]).toArray(), [false, true, true, false]);
  assert.deepEqual(t("UInt64", [2n ** 64n - 1n]).data, new BigUint64Array([2n ** 64n - 1n]));
  // Every half survives the way to a number and back.
  const all = new Uint16Array(65536).map((_, i) => i).filter((b) => (b & 0x7c00) !== 0x7c00);
  const values = Tensor.fromArray([all.length], all, ScalarType.Half).toArray();
  assert.deepEqual(Tensor.fromArray([all.length], values, ScalarType.Half).data, all);
});

test("enumerations", () => {
  assert.deepEqual([ScalarType.Float.value, ScalarType.Float.name, ScalarType.Long.value, ScalarType.BFloat16.value], [6, "Float", 4, 15]);
  assert.deepEqual([Tag.None.value, Tag.Tensor.value, Tag.Int.value, Tag.ListOptionalTensor.value], [0, 1, 4, 11]);
  assert.notDeepEqual(ScalarType.Float, ScalarType.Long);
  assert.notDeepEqual(Tag.Int, Tag.Double);
});

test("load", async () => {
  assert.deepEqual(using("api_add", (m) => m.getMethods()), ["forward"]);
  assert.deepEqual(using("api_values", (m) => m.getMethods()).sort(), ["add_all", "count", "forward", "numbers"]);
  for (const data of [bytes("api_add"), bytes("api_add").buffer]) {
    const m = et.Module.load(data);
    assert.deepEqual(m.getMethods(), ["forward"]);
    m.delete();
  }
  et.FS.writeFile("add.pte", bytes("api_add"));
  const m = et.Module.load("add.pte");
  et.FS.unlink("add.pte");
  assert.throws(() => m.getMethods(), { message: /^Failed to get methods, error: 0x22: / }, "the file is opened at the first use");
  m.delete();
  assert.throws(() => m.getMethods(), BindingError);
  assert.throws(() => et.Module.load(null), { name: "TypeError", message: "Data cannot be null or undefined" });
  assert.throws(() => et.Module.load(undefined), TypeError);
  assert.throws(() => et.Module.load(5), { name: "TypeError", message: "Unsupported data type: number" });
  const broken = et.Module.load(bytes("api_add").fill(0, 4, 8));
  assert.throws(() => broken.getMethods(), { message: /error: 0x23/ });
  broken.delete();
  for (let n = 0; n < 1056; n += 97) await assert.rejects(et.Module.loadAsync(bytes("api_add").subarray(0, n)), { message: /error: 0x23/ });
});

test("loadAsync", async () => {
  const seen = [];
  const m = await et.Module.loadAsync(new URL(`file://${path("api_add")}`), { methods: ["forward"], onProgress: (p) => seen.push(p) });
  assert.deepEqual(seen.at(-1), { phase: "program", done: 1056, total: 1056 });
  assert.deepEqual(m.forward([Tensor.ones([1]), Tensor.ones([1])])[0].data, new Float32Array([2]));
  m.delete();
  const blob = await et.Module.loadAsync(new Blob([bytes("api_add")]));
  assert.deepEqual(blob.getMethods(), ["forward"]);
  blob.delete();
  await assert.rejects(et.Module.loadAsync(new URL(`file://${path("api_none")}`)), { code: "ENOENT" });
  await assert.rejects(et.Module.loadAsync(bytes("api_add"), { methods: ["none"] }), { message: /Failed to load method none, error: 0x12/ });
  await assert.rejects(et.Module.loadAsync(new Blob([bytes("api_add")]), { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("methods and their metadata", () => {
  using("api_add_mul", (m) => {
    m.loadMethod("forward");
    assert.throws(() => m.loadMethod("none"), { name: "Error", message: /^Failed to load method none, error: 0x12/, code: 0x12 });
    assert.throws(() => m.getMethodMeta("none"), { message: /^Failed to get method meta for none, error: 0x12/ });
    const meta = m.getMethodMetadata("forward");
    assert.deepEqual(meta, m.getMethodMeta("forward"));
    assert.equal(meta.name, "forward");
    assert.deepEqual(meta.inputTags, [Tag.Tensor, Tag.Tensor, Tag.Tensor]);
    assert.deepEqual(meta.outputTags, [Tag.Tensor]);
    assert.equal(meta.numInstructions, 2);
    assert.equal(meta.memoryPlannedBufferSizes.length, 1);
    assert.deepEqual(meta.backends, []);
    for (const t of [...meta.inputTensorMeta, ...meta.outputTensorMeta]) {
      assert.deepEqual(t, { sizes: [2, 2], dimOrder: [0, 1], scalarType: ScalarType.Float, isMemoryPlanned: true, nbytes: 16, nBytes: 16, name: "", isDynamic: false });
    }
  });
  using("api_values", (m) => {
    const meta = m.getMethodMeta("add_all");
    assert.deepEqual(meta.inputTags, [Tag.Tensor, Tag.Int]);
    assert.deepEqual(meta.outputTags, [Tag.Tensor, Tag.Int, Tag.Tensor]);
    assert.equal(meta.inputTensorMeta[1], undefined);
    assert.deepEqual(meta.outputTensorMeta.map((t) => t !== undefined), [true, false, true]);
    assert.deepEqual(m.getMethodMeta("count").attributeTensorMeta.map((t) => t.name), ["calls"]);
  });
});

test("execute", () => {
  using("api_add_mul", (m) => {
    const out = m.execute("forward", [square(), square(), square()]);
    assert.equal(out.length, 1);
    assert.deepEqual([out[0].data, out[0].sizes], [four(3), [2, 2]]);
    assert.deepEqual(m.forward([out[0], out[0], out[0]])[0].data, four(21), "an output is an input");
    const x = Tensor.fromArray([2, 2], [1, 2, 3, 4]);
    assert.deepEqual(m.forward([x, Tensor.fromArray([2, 2], [0, 1, 2, 0]), Tensor.full([2, 2], 10)])[0].data, new Float32Array([14, 11, 18, 13]), "each input is its own");
    assert.deepEqual(out[0].data, four(3), "and stays as it is");
    const bad = (inputs, message) => assert.throws(() => m.forward(inputs), { name: "Error", message, code: 0x12 });
    bad([square(), square()], /Failed to execute method forward, error: 0x12: 2 inputs, method "forward" takes 3/);
    bad([square(), square(), square(), square()], /4 inputs/);
    bad([square(), square(), Tensor.ones([2, 2, 1])], /input 2 has 2 dimensions/);
    bad([square(), square(), Tensor.ones([1, 2])], /input 2/);
    bad([square(), square(), Tensor.ones([2, 2], ScalarType.Long)], /input 2 is f32, given i64/);
    bad([square(), square(), 1], /input 2 is a Tensor, given Double/);
    bad([square(), square(), null], /given None/);
    bad([square(), square(), Tensor.fromArray([2, 2], [1, 2, 3, 4], ScalarType.Float, [1, 0])], /dimension order/);
    assert.throws(() => m.execute("none", [square()]), { message: /Failed to execute method none, error: 0x12/ });
    assert.throws(() => m.forward([square(), square(), undefined]), { name: "TypeError", message: "Value cannot be undefined" });
    assert.throws(() => m.forward([square(), square(), { a: 1 }]), { message: 'Received non-tensor object: {"a":1}' });
    assert.throws(() => m.forward([square(), square(), "x"]), { name: "TypeError", message: "Unsupported JavaScript type: string" });
    const gone = square();
    gone.delete();
    assert.throws(() => m.forward([square(), square(), gone]), BindingError);
    assert.deepEqual(m.forward([square(), square(), square()])[0].data, four(3), "mistakes leave nothing behind");
  });
});

test("numbers, None and buffers", () => {
  using("api_values", (m) => {
    const out = m.execute("add_all", [square(), 2n]);
    assert.deepEqual([out[0].data, out[1], out[2].data], [four(1), 2n, four(3)]);
    assert.throws(() => m.execute("add_all", [square(), 3n]), { message: /input 1 is always 2, given 3/ });
    assert.throws(() => m.execute("add_all", [square(), 2]), { message: /input 1 is a Int, given Double/ });
    const [y, a, b, c, none] = m.execute("numbers", [square(), 0.5, 3n, true]);
    assert.deepEqual([y.data, a, b, c, none], [four(0.5), 0.5, 3n, true, null]);
    assert.throws(() => m.execute("numbers", [square(), 0.6, 3n, true]), { message: /input 1 is always 0.5/ });
    for (const n of [1, 2, 3]) assert.deepEqual(m.execute("count", Tensor.zeros([1]))[0].data, new Float32Array([n]));
  });
});

test("every element type goes in and out", () => {
  using("api_types", (m) => {
    const names = { uint8: "Byte", int8: "Char", int16: "Short", int32: "Int", int64: "Long", float16: "Half", float32: "Float", float64: "Double", bool: "Bool", bfloat16: "BFloat16" };
    for (const [method, name] of Object.entries(names)) {
      const values = name === "Long" ? [0n, 1n, 2n, 3n, -4n, 2n ** 62n] : [0, 1, 2, 3, 4, 5];
      const x = Tensor.fromArray([2, 3], values, ScalarType[name]);
      const [y] = m.execute(method, [x]);
      assert.deepEqual([y.data, y.sizes, y.scalarType], [x.data, [2, 3], ScalarType[name]], method);
    }
    for (const n of [0, 1, 8]) {
      const x = Tensor.fromArray([n, 3], Array.from({ length: 3 * n }, (_, i) => i));
      const [y] = m.execute("dynamic", [x]);
      assert.deepEqual([y.data, y.sizes], [x.data, [n, 3]]);
    }
    assert.throws(() => m.execute("dynamic", [Tensor.zeros([9, 3])]), { message: /the bound is/ });
    assert.equal(m.getMethodMeta("dynamic").inputTensorMeta[0].isDynamic, true);
    assert.deepEqual(m.execute("scalar", [Tensor.full([], 7)])[0].data, new Float32Array([7]));
    const image = Tensor.fromArray([1, 2, 2, 3], Array.from({ length: 12 }, (_, i) => i), ScalarType.Float, [0, 2, 3, 1]);
    const [y] = m.execute("channels_last", [image]);
    assert.deepEqual([y.data, y.dimOrder], [image.data, [0, 2, 3, 1]]);
  });
});

test("the stock runtime's results", () => {
  const types = { f32: "Float", f64: "Double", f16: "Half", bf16: "BFloat16", i64: "Long", i32: "Int", i16: "Short", i8: "Char", u8: "Byte", bool: "Bool" };
  const decode = (t) => {
    const raw = Uint8Array.from(Buffer.from(t.data, "base64"));
    const type = ScalarType[types[t.dtype]];
    const array = Tensor.zeros([1], type).data.constructor;
    return Tensor.fromArray(t.sizes, new array(raw.buffer), type);
  };
  let calls = 0;
  for (const name of ["linear", "ops", "llama"]) {
    using(name, (m) => {
      for (const call of JSON.parse(readFileSync(path(name).replace(".pte", ".json"), "utf8"))) {
        if ([...call.inputs, ...call.outputs].some((t) => t.dtype === undefined)) continue;
        const out = m.execute(call.method, call.inputs.map(decode));
        out.forEach((t, i) => {
          const want = decode(call.outputs[i]).toArray();
          t.toArray().forEach((x, k) => {
            const same = x === want[k] || (Number.isNaN(x) && Number.isNaN(want[k])) || Math.abs(Number(x) - Number(want[k])) <= 2e-3 * (1 + Math.abs(Number(want[k])));
            assert.ok(same, `${name} ${call.method}: output ${i} [${k}] is ${x}, want ${want[k]}`);
          });
        });
        calls++;
      }
    });
  }
  assert.ok(calls > 20, `${calls} calls`);
});

test("profile", () => {
  using("api_add_mul", (m) => {
    assert.throws(() => m.etdump(), { message: /startProfile/ });
    m.startProfile();
    m.forward([square(), square(), square()]);
    m.forward([square(), square(), square()]);
    const p = m.profile();
    assert.equal(p.rows.reduce((n, r) => n + r.calls, 0), 4);
    assert.deepEqual(new Set(p.rows.map((r) => r.operator)), new Set(["aten::mm.out", "aten::add.out"]));
    assert.deepEqual(p.rows.map((r) => [r.read, r.written]), [[64, 32], [64, 32]]);
    assert.equal(JSON.parse(p.trace).traceEvents.filter((e) => e.ph === "X").length, 4);
    assert.match(p.table(), /aten::mm\.out/);
    const dump = m.etdump();
    assert.ok(dump.buffer instanceof Uint8Array && dump.buffer.length > 100);
    assert.equal(new TextDecoder().decode(dump.buffer.subarray(8, 12)), "ED00");
    dump.delete();
    m.stopProfile();
    assert.throws(() => m.profile(), /startProfile/);
  });
});

test("one thread a processor unless told", async () => {
  const other = await open();
  assert.equal(other.threads, Math.min(32, availableParallelism()));
  other.close();
});

test("a second engine, one thread, and its end", async () => {
  const other = await open({ threads: 1, memoryLimit: 64 * 2 ** 20 });
  assert.equal(et.threads, 2);
  assert.equal(other.threads, 1);
  assert.ok(other.memory().limit <= 64 * 2 ** 20);
  const m = other.Module.load(bytes("llama"));
  const same = et.Module.load(bytes("llama"));
  const call = JSON.parse(readFileSync(path("llama").replace(".pte", ".json"), "utf8"))[0];
  const inputs = call.inputs.map((t) => Tensor.fromArray(t.sizes, new BigInt64Array(Uint8Array.from(Buffer.from(t.data, "base64")).buffer)));
  assert.deepEqual(m.execute(call.method, inputs).map((t) => t.data), same.execute(call.method, inputs).map((t) => t.data), "the same bits with any number of threads");
  m.delete();
  same.delete();
  other.close();
  assert.throws(() => other.Module.load(bytes("api_add")).getMethods(), { message: /closed/ });
  await assert.rejects(open({ base: "file:///nowhere/" }), { code: "ENOENT" });
});
