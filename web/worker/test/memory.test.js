import { test } from "node:test";
import assert from "node:assert/strict";
import { MemoryFolder } from "../memory.js";

test("files in memory keep what is written, at any place", async () => {
  const root = new MemoryFolder();
  const file = await root.getFileHandle("a", { create: true });
  const h = await file.createSyncAccessHandle();
  const data = Uint8Array.from({ length: 3_000_001 }, (_, i) => i * 7);
  assert.equal(h.write(data, { at: 0 }), data.length);
  assert.equal(h.write(data.subarray(0, 10), { at: 1_048_570 }), 10); // over the border of two pieces
  data.copyWithin(1_048_570, 0, 10);
  const read = new Uint8Array(data.length + 5);
  assert.equal(h.read(read, { at: 0 }), data.length);
  assert.deepEqual(read.subarray(0, data.length), data);
  assert.equal(h.read(read, { at: data.length }), 0);
  const view = await file.getFile();
  assert.deepEqual(new Uint8Array(await view.slice(1_000_000, 1_100_000).arrayBuffer()), data.subarray(1_000_000, 1_100_000));
  assert.deepEqual(new Uint8Array(await view.file().arrayBuffer()), data);
  h.truncate(5);
  h.truncate(2_000_000); // what was cut off does not come back
  assert.equal(h.getSize(), 2_000_000);
  h.read(read, { at: 0 });
  assert.deepEqual(read.subarray(0, 5), data.subarray(0, 5));
  assert.ok(read.subarray(5, 2_000_000).every((b) => b === 0));
});

test("folders in memory refuse as a browser's do", async () => {
  const root = new MemoryFolder();
  const missing = (/** @type {any} */ e) => e.name === "NotFoundError";
  await assert.rejects(root.getFileHandle("a"), missing);
  await assert.rejects(root.getDirectoryHandle("a"), missing);
  await assert.rejects(root.removeEntry("a"), missing);
  const dir = await root.getDirectoryHandle("d", { create: true });
  await assert.rejects(root.getFileHandle("d", { create: true }), (/** @type {any} */ e) => e.name === "TypeMismatchError");
  const part = await dir.getFileHandle("x.part", { create: true });
  (await part.createSyncAccessHandle()).write(new TextEncoder().encode("new"), { at: 0 });
  await dir.getFileHandle("x", { create: true });
  await part.move("x");
  assert.equal(await (await (await dir.getFileHandle("x")).getFile()).text(), "new");
  for await (const [name, h] of dir.entries()) assert.deepEqual([name, h.kind], ["x", "file"]);
  assert.equal(dir.inside.size, 1);
});
