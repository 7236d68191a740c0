import { test } from "node:test";
import assert from "node:assert/strict";
import { parts } from "../store.js";
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
