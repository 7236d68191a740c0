"""Writes reference.json: coefficients and optimizer steps computed in float64 NumPy from the papers' equations."""

import json

import numpy as np

g = np.random.default_rng(11)
q, lr, eps = 6, 0.3, 1e-2
B2 = 0.99


def coefficients():
    two, one = 0.7 + 0.01 * g.normal(size=2 * q), 0.7 + 0.01 * g.normal(size=q + 1)
    plus, minus = two[:q], two[q:]
    central = lr / q * (plus - minus) / (2 * eps)
    mezo = np.stack([plus, minus], 1).ravel()
    d = plus - minus
    best = two.argmin()
    greedy = np.zeros(q)
    greedy[best % q] = -lr * eps if best < q else lr * eps
    cases = {
        "prge": (two, central), "rows": (two, central), "mezo": (mezo, central),
        "fzoo": (one, lr / q * (one[1:] - one[0]) / one[1:].std(ddof=1)),
        "grzo": (two, lr / (2 * eps * q) * d / d.std(ddof=1)),
        "greedy": (two, greedy),
    }
    return [dict(Name=n, Losses=l.tolist(), Coefs=c.tolist()) for n, (l, c) in cases.items()]


class Rule:
    def __init__(self, name, beta):
        self.name, self.beta, self.m, self.v, self.t = name, beta, 0, 0, 0

    def step(self, x):
        self.t += 1
        self.m = self.beta * self.m + (1 - self.beta) * x
        if self.name == "hizoo":  # told of no bends; hizoo_test.go has the rest
            return x
        if self.name == "momentum":
            return self.m
        if self.name in ("adam", "radazo", "scalar"):
            s = {"adam": x**2, "radazo": self.m**2, "scalar": (x**2).mean()}[self.name]
            self.v = B2 * self.v + (1 - B2) * s
            return self.m / (1 - self.beta**self.t) / (np.sqrt(self.v / (1 - B2**self.t)) + 1e-8)
        if self.name == "muon":
            u, s, vt = np.linalg.svd(self.m, full_matrices=False)
            s = s / np.linalg.norm(self.m)
            for _ in range(5):  # what the iteration does to the singular values
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            return u * s @ vt
        raise ValueError(self.name)


def gram_schmidt(x):
    x = x.copy()
    for c in range(x.shape[1]):
        for _ in range(2):
            for k in range(c):
                x[:, c] -= (x[:, c] @ x[:, k]) * x[:, k]
        x[:, c] /= np.linalg.norm(x[:, c])
    return x


class MOPI:
    def __init__(self, beta):
        self.beta, self.m, self.v = beta, 0, None

    def step(self, x):
        self.m = self.beta * self.m + (1 - self.beta) * x
        if self.v is None:
            self.v = np.eye(x.shape[1], min(4, *x.shape))
        u = gram_schmidt(self.m @ self.v)
        self.v = gram_schmidt(self.m.T @ u)
        return u @ self.v.T


def optimizers():
    out = []
    for rows, cols in ((9, 5), (3, 8)):
        xs = [g.normal(size=(rows, cols)).astype(np.float32).astype(np.float64) for _ in range(5)]
        for name in ("momentum", "adam", "radazo", "scalar", "muon", "mopi", "hizoo"):
            rule = MOPI(0.8) if name == "mopi" else Rule(name, 0.8)
            out.append(dict(Name=name, Beta=0.8, Rows=rows, Cols=cols, G=[x.ravel().tolist() for x in xs], D=[rule.step(x).ravel().tolist() for x in xs]))
    return out


with open("reference.json", "w") as f:
    json.dump(dict(Q=q, LR=lr, Eps=eps, Coefficients=coefficients(), Optimizers=optimizers()), f)
