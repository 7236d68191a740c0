"""Writes golden.json: for every quantised type a few random blocks and what the
`gguf` Python package (gguf.quants.dequantize) makes of them, as float32 bits,
and for the types we write, what gguf.quants.quantize makes of random values.

    python make_golden.py            # needs numpy and gguf; writes beside itself
    python make_golden.py MODEL.gguf # prints a digest of every tensor of a real file
"""

import base64
import hashlib
import json
import os
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T
from gguf import quants

TYPES = [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q4_K, T.Q5_K, T.Q6_K]
# Byte positions, in a block, of the f16 scales: random bits there would be NaN or infinity at times.
SCALES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def b64(a):
    return base64.b64encode(a.tobytes()).decode()


def main():
    rng = np.random.default_rng(20240501)
    out = {"dequantize": [], "quantize": []}
    for t in TYPES:
        elems, size = gguf.GGML_QUANT_SIZES[t]
        blocks = 8 if elems > 32 else 24
        if t in SCALES:
            raw = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
            for at in SCALES[t]:
                d = (rng.standard_normal(blocks) * 0.02).astype(np.float16)
                d[0] = np.float16(6e-8)  # a subnormal scale
                raw[:, at:at + 2] = d.view(np.uint8).reshape(blocks, 2)
        else:
            x = (rng.standard_normal(64) * 3).astype(np.float32)
            raw = quants.quantize(x, t).view(np.uint8)
        vals = quants.dequantize(raw.reshape(-1), t).astype(np.float32)
        out["dequantize"].append({"type": t.name, "raw": b64(raw), "values": b64(vals.reshape(-1))})
    for t in [T.F16, T.BF16, T.Q8_0, T.Q4_1]:
        x = (rng.standard_normal(32 * 24) * 0.7).astype(np.float32)
        x[32:64] = 0
        x[64:96] = 0.25
        q = quants.quantize(x, t)
        out["quantize"].append({"type": t.name, "values": b64(x), "raw": b64(q.view(np.uint8))})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.json")
    with open(path, "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


def digest(model):
    """One line a tensor: name, type, shape, first 16 hex digits of sha256 of the float32 bytes."""
    for t in gguf.GGUFReader(model).tensors:
        vals = quants.dequantize(t.data, t.tensor_type).astype("<f4")
        print(t.name, t.tensor_type.name, ",".join(str(d) for d in reversed(t.shape.tolist())),
              hashlib.sha256(vals.tobytes()).hexdigest()[:16])


if __name__ == "__main__":
    digest(sys.argv[1]) if len(sys.argv) > 1 else main()
