"""Every optimizer once more, for one number, in plain Python, read from the papers.

Independent of Surefoot and of torch: the tests compare both with these. Each function takes the start, the
gradients and the hyperparameters, and returns the weight after each step. ``**_`` swallows flags that
choose how a step is executed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any


def sgd(x, grads, *, lr, momentum, dampening, weight_decay, nesterov, maximize, **_):
    """Sutskever et al. 2013, with the buffer started from the first gradient."""
    path, buffer = [], None
    for g in grads:
        g = (-g if maximize else g) + weight_decay * x
        buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
        if not momentum:
            direction = g
        elif nesterov:
            direction = g + momentum * buffer
        else:
            direction = buffer
        x -= lr * direction
        path.append(x)
    return path


def _moments(x, grads, lr, betas, weight_decay, maximize, decoupled):
    """What the Adam family shares: yields t, the decayed weight, g, m and v; is sent the new weight."""
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        g = -g if maximize else g
        if decoupled:
            x = x - lr * weight_decay * x
        else:
            g = g + weight_decay * x
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        x = yield t, x, g, m, v


def _drive(moments, update):
    """Run ``update(t, x, g, m, v) -> x`` over the moments."""
    path, seen = [], next(moments)
    while True:
        path.append(update(*seen))
        try:
            seen = moments.send(path[-1])
        except StopIteration:
            return path


def adam(x, grads, *, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay, **_):
    """Kingma & Ba 2015, algorithm 1; AMSGrad takes the largest v before the bias correction."""
    largest = 0.0

    def update(t, x, _g, m, v):
        nonlocal largest
        largest = max(largest, v)
        m_hat = m / (1 - betas[0] ** t)
        v_hat = (largest if amsgrad else v) / (1 - betas[1] ** t)
        return x - lr * m_hat / (sqrt(v_hat) + eps)

    return _drive(_moments(x, grads, lr, betas, weight_decay, maximize, decoupled_weight_decay), update)


def radam(x, grads, *, lr, betas, eps, weight_decay, maximize, decoupled_weight_decay, **_):
    """Liu et al. 2020, algorithm 2; rectified from rho > 5 as in the authors' code, eps beside sqrt(v)."""
    rho_inf = 2 / (1 - betas[1]) - 1

    def update(t, x, _g, m, v):
        m_hat = m / (1 - betas[0] ** t)
        rho = rho_inf - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        if rho <= 5:
            return x - lr * m_hat
        rectify = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        return x - lr * m_hat * rectify * sqrt(1 - betas[1] ** t) / (sqrt(v) + eps)

    return _drive(_moments(x, grads, lr, betas, weight_decay, maximize, decoupled_weight_decay), update)


def nadam(x, grads, *, lr, betas, eps, weight_decay, momentum_decay, maximize, decoupled_weight_decay, **_):
    """Dozat 2016, algorithm 2, with the warming momentum mu_t = beta1 (1 - 0.96^(t psi) / 2)."""
    product = 1.0

    def mu(t):
        return betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def update(t, x, g, m, v):
        nonlocal product
        product *= mu(t)
        m_hat = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        return x - lr * m_hat / (sqrt(v / (1 - betas[1] ** t)) + eps)

    return _drive(_moments(x, grads, lr, betas, weight_decay, maximize, decoupled_weight_decay), update)


PAPERS: dict[str, Callable[..., list[Any]]] = {
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adam,
    "RAdam": radam,
    "NAdam": nadam,
}
