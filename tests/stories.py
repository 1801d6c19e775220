"""Made-up runs that look like real ones."""

import math
import random

from surefoot.report import Finding, Story


def finding(**kwargs):
    """A range test that falls, and diverges from about 0.2 on."""
    rng = random.Random(0)
    lrs = [10 ** (-5 + 6 * i / 99) for i in range(100)]
    powers = [math.log10(lr) for lr in lrs]
    fitted = [2.3 - 1.6 / (1 + math.exp(-3 * (p + 2.8))) + math.exp(3 * (p + 0.9)) for p in powers]
    raw = [value * (1 + 0.05 * rng.gauss(0, 1)) for value in fitted]
    said = {
        "suggestion": 2e-3,
        "interval": (1e-3, 4e-3),
        "reason": "The loss falls fastest here.",
        "trials": 3,
    }
    return Finding(lrs, raw, fitted, **(said | kwargs))


def story(
    title="digits-3: handwritten digits",
    steps=240,
    epochs=12,
    layers=5,
    groups=("weights", "biases"),
    lr=2e-3,
    **kwargs,
):
    """A run that was stopped after four fifths of its schedule; ``kwargs`` replace what it has."""
    rng, each, total = random.Random(steps), steps // epochs, steps * 5 // 4
    planned = {g: [lr / (i + 1) * (1 - s / total) for s in range(total)] for i, g in enumerate(groups)}
    norms = [(2 * math.exp(-3 * s / steps) + 0.3) * math.exp(0.3 * rng.gauss(0, 1)) for s in range(steps)]
    ends = range(each, steps + 1, each)
    ratio = {f"blocks.{i}.mlp": [(s, 10 ** (rng.gauss(-3, 0.2))) for s in ends] for i in range(layers)}
    parts = {
        "result": "97.83 % of the held-out images are right.",
        "diagnoses": (
            ("The gradients were clipped at 61 % of the steps.", "Raise clip_norm."),
            ("Half of the time passes waiting for data.", "Set num_workers."),
        ),
        "settings": {"task": "digits", "lr": lr, "epochs": epochs, "commit": "22ec26e1f0b5a0d86c2a7c94d7f3"},
        "resume": "surefoot train --resume runs/digits-3",
        "finding": finding(),
        "planned": planned,
        "step": range(1, steps + 1),
        "epoch": [1 + s // each for s in range(steps)],
        "loss": [2.3 * math.exp(-4 * s / steps) + 0.1 * rng.random() for s in range(steps)],
        "lr": {group: rates[:steps] for group, rates in planned.items()},
        "grad_norm": norms,
        "clip_coef": [min(1.0, 1 / norm) for norm in norms],
        "throughput": [3400 * (1 + 0.08 * rng.gauss(0, 1)) for _ in range(steps)],
        "metrics": {
            "val_loss": [(s, 2.2 * math.exp(-4 * s / steps) + 0.1) for s in ends],
            "val_accuracy": [(s, 0.98 - 0.6 * math.exp(-7 * s / steps)) for s in ends],
        },
        "ratios": ratio,
    }
    return Story(title, **(parts | kwargs))
