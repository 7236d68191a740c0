import { test } from "node:test";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Sha256 } from "../sha256.js";

test("sha256 equals node's at every block boundary and for any split", () => {
  const data = new Uint8Array(1000).map((_, i) => (i * 131 + (i >> 3)) & 255);
  for (let n = 0; n <= data.length; n += n < 200 ? 1 : 37) {
    const want = createHash("sha256").update(data.subarray(0, n)).digest("hex");
    for (const step of [1, 3, 63, 64, 65, 997]) {
      const h = new Sha256();
      for (let at = 0; at < n; at += step) h.update(data.subarray(at, Math.min(n, at + step)));
      assert.equal(h.hex(), want, `${n} bytes in steps of ${step}`);
    }
  }
});
