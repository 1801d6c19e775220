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


def adagrad(x, grads, *, lr, lr_decay, weight_decay, initial_accumulator_value, eps, maximize, **_):
    """Duchi et al. 2011, the diagonal form."""
    path, total = [], initial_accumulator_value
    for t, g in enumerate(grads, start=1):
        g = (-g if maximize else g) + weight_decay * x
        total += g**2
        x -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(total) + eps)
        path.append(x)
    return path


def adadelta(x, grads, *, lr, rho, eps, weight_decay, maximize, **_):
    """Zeiler 2012, algorithm 1."""
    path, mean_g, mean_dx = [], 0.0, 0.0
    for g in grads:
        g = (-g if maximize else g) + weight_decay * x
        mean_g = rho * mean_g + (1 - rho) * g**2
        dx = -sqrt(mean_dx + eps) / sqrt(mean_g + eps) * g
        mean_dx = rho * mean_dx + (1 - rho) * dx**2
        x += lr * dx
        path.append(x)
    return path


def adamax(x, grads, *, lr, betas, eps, weight_decay, maximize, **_):
    """Kingma & Ba 2015, algorithm 2; eps, beside the gradient, is torch's."""
    largest = 0.0

    def update(t, x, g, m, _v):
        nonlocal largest
        largest = max(betas[1] * largest, abs(g) + eps)
        return x - lr / (1 - betas[0] ** t) * m / largest

    return _drive(_moments(x, grads, lr, betas, weight_decay, maximize, False), update)


def rmsprop(x, grads, *, lr, alpha, eps, weight_decay, momentum, centered, maximize, **_):
    """Hinton 2012, lecture 6; centered: Graves 2013, equations 38 to 41, with eps outside the root."""
    path, mean_square, mean, buffer = [], 0.0, 0.0, 0.0
    for g in grads:
        g = (-g if maximize else g) + weight_decay * x
        mean_square = alpha * mean_square + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g
        variance = mean_square - mean**2 if centered else mean_square
        buffer = momentum * buffer + g / (sqrt(variance) + eps)
        x -= lr * buffer
        path.append(x)
    return path


def rprop(x, grads, *, lr, etas, step_sizes, maximize, **_):
    """Igel & Hüsken 2000, iRprop-."""
    path, before, delta = [], 0.0, lr
    for g in grads:
        g = -g if maximize else g
        if g * before > 0:
            delta *= etas[1]
        elif g * before < 0:
            delta *= etas[0]
            g = 0.0
        delta = min(max(delta, step_sizes[0]), step_sizes[1])
        x -= delta * ((g > 0) - (g < 0))
        before = g
        path.append(x)
    return path


def asgd(x, grads, *, lr, lambd, alpha, weight_decay, maximize, **_):
    """Xu 2011, equation 20 with the gradient of the loss and of the decay apart; the average is state."""
    path = []
    for t, g in enumerate(grads):
        eta = lr / (1 + lambd * lr * t) ** alpha
        g = (-g if maximize else g) + weight_decay * x
        x -= eta * (g + lambd * x)
        path.append(x)
    return path


def lion(x, grads, *, lr, betas, weight_decay, maximize, **_):
    """Chen et al. 2023, algorithm 2."""
    path, m = [], 0.0
    for g in grads:
        g = -g if maximize else g
        c = betas[0] * m + (1 - betas[0]) * g
        x -= lr * ((c > 0) - (c < 0) + weight_decay * x)
        m = betas[1] * m + (1 - betas[1]) * g
        path.append(x)
    return path


PAPERS: dict[str, Callable[..., list[Any]]] = {
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adam,
    "RAdam": radam,
    "NAdam": nadam,
    "NAdamW": nadam,
    "Adagrad": adagrad,
    "Adadelta": adadelta,
    "Adamax": adamax,
    "RMSprop": rmsprop,
    "Rprop": rprop,
    "ASGD": asgd,
    "Lion": lion,
}
