import { mock, test } from "node:test";
import assert from "node:assert/strict";
import { MemoryFolder } from "../memory.js";
import { fileHandle, known, list, openSync, parts, readWhole, remember, remove, temporary, writeWhole } from "../store.js";
import { describe, CodedError } from "../errors.js";

test("storage paths: a known folder and plain names, nothing else", () => {
  assert.deepEqual(parts("/models/a.gguf"), ["models", "a.gguf"]);
  assert.deepEqual(parts("/runs/r-1/adapter/adapter_config.json"), ["runs", "r-1", "adapter", "adapter_config.json"]);
  for (const bad of ["", "models/a", "/", "/models", "/models/", "/models/../x", "/models/.x", "/etc/passwd", "/models/a\\b", "/models/a\0", "/models//a",
    "/runs/a/b/c/d/e", "/models/" + "a".repeat(129)]) {
    assert.throws(() => parts(bad), (e) => e instanceof CodedError && e.code === "invalid_params", bad);
  }
});

test("errors become a code and a sentence", () => {
  assert.equal(describe(new DOMException("x", "QuotaExceededError")).code, "quota");
  assert.equal(describe(new DOMException("x", "NoModificationAllowedError")).code, "locked");
  assert.deepEqual(describe(new CodedError("network", "no", "why")), { code: "network", message: "no", detail: "why" });
  assert.deepEqual(describe("odd"), { code: "failed", message: "odd" });
});

test("without OPFS files are kept in memory; a record of a model that there is no room for is done without", async () => {
  assert.notEqual(await temporary(), ""); // node has none
  await writeWhole("/models/a.gguf", new TextEncoder().encode("GGUF"));
  const record = { bytes: 4, fingerprint: "0123456789abcdef", sha256: "0".repeat(64) };
  await remember("/models/a.gguf", record);
  assert.deepEqual(await known("/models/a.gguf"), record);
  const full = MemoryFolder.prototype.getFileHandle;
  const warn = console.warn;
  /** @type {string[]} */
  const warnings = [];
  try {
    console.warn = (text) => warnings.push(String(text));
    MemoryFolder.prototype.getFileHandle = async function (...args) {
      if (args[1]?.create) throw new DOMException("no room", "QuotaExceededError");
      return full.apply(this, args);
    };
    await remember("/models/a.gguf", { ...record, bytes: 5 });
  } finally {
    MemoryFolder.prototype.getFileHandle = full;
    console.warn = warn;
  }
  assert.match(warnings.join(), /no record of \/models\/a.gguf: QuotaExceededError/);
  assert.deepEqual(await known("/models/a.gguf"), record); // the one from before
  await remove("/models/a.gguf");
  assert.deepEqual((await list()).files, []);
});

test("a write cut short by a full storage is an error and leaves the file as it was", async () => {
  await writeWhole("/data/a.csv", new TextEncoder().encode("old"));
  const part = await fileHandle("/data/a.csv.part", true);
  const proto = Object.getPrototypeOf(part);
  const open = proto.createSyncAccessHandle;
  try {
    proto.createSyncAccessHandle = async function () {
      const h = await open.call(this);
      return { ...h, write: (/** @type {Uint8Array} */ data) => h.write(data.subarray(0, 1)) };
    };
    await assert.rejects(writeWhole("/data/a.csv", new TextEncoder().encode("newer")), (e) => describe(e).code === "quota");
  } finally {
    proto.createSyncAccessHandle = open;
  }
  assert.equal(new TextDecoder().decode(await readWhole("/data/a.csv")), "old");
});

test("a file that the browser does not open is asked for again, and what comes late is closed", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    let closed = 0;
    /** @type {any[]} */
    const answers = [];
    const file = /** @type {any} */ ({ createSyncAccessHandle: () => new Promise((resolve, reject) => answers.push({ resolve, reject })) });
    const opened = openSync(file);
    const until = async (/** @type {number} */ n) => {
      for (let i = 0; i < 50 && answers.length < n; i++) {
        await null;
        if (i % 10 === 9) mock.timers.tick(5000);
      }
      assert.equal(answers.length, n);
    };
    await until(2);
    answers[1].resolve({ close: () => assert.fail("in use") });
    await opened;
    answers[0].resolve({ close: () => closed++ });
    await new Promise((r) => setImmediate(r));
    assert.equal(closed, 1);

    answers.length = 0;
    const locked = openSync(file);
    await until(1);
    answers[0].reject(new DOMException("in use", "NoModificationAllowedError"));
    await assert.rejects(locked, (e) => describe(e).code === "locked");

    answers.length = 0;
    const never = openSync(file);
    const refused = assert.rejects(never, (e) => e instanceof CodedError && /Reload the page/.test(e.message));
    await until(5);
    mock.timers.tick(5000);
    await refused;
  } finally {
    mock.timers.reset();
  }
});
