"""Writes logistic.json: regularised multinomial logistic regressions solved by Newton's method in float64 NumPy."""

import json

import numpy as np


def fit(x, y, k, lam, intercept):
    n, d = x.shape
    mean, std = x.mean(0), x.std(0)
    z = ((x - mean) if intercept else x) / std
    if intercept:
        z = np.hstack([z, np.ones((n, 1))])
    m = z.shape[1]
    penalty = np.full(m, lam)
    if intercept:
        penalty[-1] = 1e-12  # the constant that all intercepts share is free
    w = np.zeros((k, m))
    hot = np.eye(k)[y]
    for _ in range(100):
        s = z @ w.T
        p = np.exp(s - s.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        g = ((p - hot).T @ z + w * penalty).ravel()
        h = np.zeros((k * m, k * m))
        for a in range(k):
            for b in range(k):
                c = p[:, a] * ((a == b) - p[:, b])
                h[a * m:(a + 1) * m, b * m:(b + 1) * m] = (z * c[:, None]).T @ z
        h += np.diag(np.tile(penalty, k))
        step = np.linalg.lstsq(h, g, rcond=1e-14)[0]
        w -= step.reshape(k, m)
        if np.abs(step).max() < 1e-13:
            break
    bias = np.zeros(k)
    if intercept:
        bias, w = w[:, -1] - w[:, -1].mean(), w[:, :-1]
    w = w / std
    if intercept:
        bias = bias - w @ mean
    s = x @ w.T + bias
    p = s - s.max(1, keepdims=True)
    loss = (np.log(np.exp(p).sum(1)) - p[np.arange(n), y]).mean()
    return dict(Lambda=lam, Intercept=intercept, Weight=w.ravel().tolist(), Bias=bias.tolist(), Loss=loss)


g = np.random.default_rng(3)
out = []
for n, d, k in ((40, 6, 2), (50, 4, 3), (30, 40, 2)):
    y = g.integers(0, k, n)
    x = (g.normal(size=(n, d)) * (1 + np.arange(d)) + 5 * np.sin(np.arange(d)) + np.outer(y, np.ones(d))).astype(np.float32)
    out.append(dict(Dim=d, Classes=k, X=[float(v) for v in x.ravel()], Y=y.tolist(),
                    Fits=[fit(x.astype(np.float64), y, k, lam, i) for lam in (0.3, 10.0) for i in (True, False)]))
with open("logistic.json", "w") as f:
    json.dump(out, f)
