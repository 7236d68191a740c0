"""Checks the seeded normal of zo.c against an independent computation.

    go run ./engine/kernel/internal/zodump | python3 engine/kernel/c/zocheck.py      (needs numpy and torch)

The hash, u1 and u2 must agree exactly; z is compared with torch's log, sqrt and cos in float32 and with float64.
"""

import sys

import numpy as np
import torch

M = np.uint64(0xFFFFFFFF)


def mix(x):
    x = x ^ (x >> np.uint64(16))
    x = (x * np.uint64(0x21F0AAAD)) & M
    x = x ^ (x >> np.uint64(15))
    x = (x * np.uint64(0x735A2D97)) & M
    return x ^ (x >> np.uint64(15))


def hashes(seed, i):
    lo, hi = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
    k1 = mix(lo ^ np.uint64(0x9E3779B9))
    k2 = mix((k1 + np.uint64(0x85EBCA6B) + hi) & M)
    return mix(mix((i + k1) & M) ^ k2)


rows = [line.split() for line in sys.stdin]
count, worst_torch, worst_exact = 0, 0.0, 0.0
for seed in sorted({int(r[0]) for r in rows}):
    mine = [r for r in rows if int(r[0]) == seed]
    e = np.array([int(r[1]) for r in mine], dtype=np.uint64)
    u1, u2, z = (np.array([int(r[k], 16) for r in mine], dtype=np.uint32).view(np.float32) for k in (2, 3, 4))
    h1, h2 = hashes(seed, e * np.uint64(2)), hashes(seed, e * np.uint64(2) + np.uint64(1))
    scale = np.float32(2.0**-32)
    w1 = (h1.astype(np.float32) + np.float32(1)) * scale
    w2 = h2.astype(np.float32) * scale
    assert (w1.view(np.uint32) == u1.view(np.uint32)).all(), f"u1 of seed {seed}"
    assert (w2.view(np.uint32) == u2.view(np.uint32)).all(), f"u2 of seed {seed}"
    a, b = torch.from_numpy(w1), torch.from_numpy(w2)
    t = (torch.sqrt(-2 * torch.log(a)) * torch.cos(torch.tensor(2 * np.pi, dtype=torch.float32) * b)).numpy()
    angle = (np.float32(2 * np.pi) * w2).astype(np.float64)
    exact = np.sqrt(-2 * np.log(w1.astype(np.float64))) * np.cos(angle)
    ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    worst_torch = max(worst_torch, float(np.max(np.abs(z - t) / ulp)))
    worst_exact = max(worst_exact, float(np.max(np.abs(z - exact) / ulp)))
    count += len(mine)
seed = 1234567890123
print("golden:", ", ".join(f"{{{i}, {int(hashes(seed, np.uint64(i))):#x}}}" for i in (0, 1, 2, 1000, 4294967295)))
print(f"{count} elements: u1, u2 equal; z within {worst_torch:.2f} ulp of torch, {worst_exact:.2f} ulp of float64")
