"""Fits the polynomials of math.h by Remez exchange and prints them rounded to float32.

    python3 coefficients.py        (needs mpmath)

Each fit minimises the largest |weight(x) * (f(x) - p(x))| on the interval; the printed bound is that value before the
coefficients are rounded. The tests of engine/kernel measure what remains after rounding and float32 arithmetic.
"""

import struct

import mpmath as mp

mp.mp.dps = 40


def f32(x):
    return struct.unpack("<f", struct.pack("<f", float(x)))[0]


def remez(f, weight, lo, hi, degree, rounds=12):
    """Coefficients, constant first, of the polynomial of that degree closest to f under weight."""
    n = degree + 2
    xs = [(lo + hi) / 2 - (hi - lo) / 2 * mp.cos(mp.pi * i / (n - 1)) for i in range(n)]
    for _ in range(rounds):
        a = mp.matrix(n, n)
        b = mp.matrix(n, 1)
        for i, x in enumerate(xs):
            for j in range(degree + 1):
                a[i, j] = x**j
            a[i, degree + 1] = (-1) ** i / weight(x)
            b[i] = f(x)
        c = mp.lu_solve(a, b)
        coef = [c[i] for i in range(degree + 1)]

        def err(x):
            return weight(x) * (f(x) - mp.polyval(coef[::-1], x))

        grid = [lo + (hi - lo) * mp.mpf(i) / 600 for i in range(601)]
        vals = [err(x) for x in grid]
        runs = [[0]]
        for i in range(1, len(grid)):
            if (vals[i] > 0) == (vals[runs[-1][-1]] > 0):
                runs[-1].append(i)
            else:
                runs.append([i])
        peaks = [max(r, key=lambda i: abs(vals[i])) for r in runs]
        if len(peaks) < n:
            break
        while len(peaks) > n:
            peaks.pop(0 if abs(vals[peaks[0]]) < abs(vals[peaks[-1]]) else -1)
        xs = [grid[i] for i in peaks]
    return coef, max(abs(v) for v in vals)


def show(name, f, weight, lo, hi, degree):
    coef, bound = remez(f, weight, mp.mpf(lo), mp.mpf(hi), degree)
    print(f"{name}: bound {mp.nstr(bound, 3)}")
    for c in coef:
        print(f"    {f32(c):.9g}f,")


def series(f, x, terms):
    """f near zero by its Taylor terms, where the closed form would cancel."""
    return sum(t * x**k for k, t in enumerate(terms)) if abs(x) < mp.mpf("1e-4") else f(x)


half_ln2 = mp.log(2) / 2
show("exp: (e^r - 1 - r)/r^2", lambda r: series(lambda r: (mp.exp(r) - 1 - r) / r**2, r, [mp.mpf(1) / mp.factorial(k + 2) for k in range(8)]),
     lambda r: r * r / mp.exp(r) + mp.mpf("1e-12"), -half_ln2 * 1.001, half_ln2 * 1.001, 4)
show("log: (log(1+f) - f + f^2/2)/f^3",
     lambda r: series(lambda r: (mp.log(1 + r) - r + r * r / 2) / r**3, r, [(-1) ** k / mp.mpf(k + 3) for k in range(8)]),
     lambda r: r * r + mp.mpf("1e-12"), mp.sqrt(0.5) - 1, mp.sqrt(2) - 1, 8)
q = (mp.pi / 4 * 1.001) ** 2
show("sin: (sin r - r)/r^3 in r^2",
     lambda s: series(lambda s: (mp.sin(mp.sqrt(s)) - mp.sqrt(s)) / mp.sqrt(s) ** 3, s, [(-1) ** (k + 1) / mp.factorial(2 * k + 3) for k in range(8)]),
     lambda s: s + mp.mpf("1e-12"), 0, q, 2)
show("cos: (cos r - 1 + r^2/2)/r^4 in r^2",
     lambda s: series(lambda s: (mp.cos(mp.sqrt(s)) - 1 + s / 2) / s**2, s, [(-1) ** k / mp.factorial(2 * k + 4) for k in range(8)]),
     lambda s: s * s + mp.mpf("1e-12"), 0, q, 2)
show("tanh: (tanh x - x)/x^3 in x^2",
     lambda s: series(lambda s: (mp.tanh(mp.sqrt(s)) - mp.sqrt(s)) / mp.sqrt(s) ** 3, s, [-mp.mpf(1) / 3, mp.mpf(2) / 15, -mp.mpf(17) / 315]),
     lambda s: s + mp.mpf("1e-12"), 0, mp.mpf("0.625") ** 2, 4)
show("erf: erf(x)/x - 1 in x^2",
     lambda s: series(lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1, s, [2 / mp.sqrt(mp.pi) - 1, -2 / mp.sqrt(mp.pi) / 3, 2 / mp.sqrt(mp.pi) / 10]),
     lambda s: mp.mpf(1), 0, 1, 6)
show("erf tail: log(erfc(x)) in x - 1", lambda x: mp.log(mp.erfc(x + 1)), lambda x: mp.erfc(x + 1), 0, mp.mpf(3), 7)
