"""The colours of page.css, as those see them who see fewer."""

import itertools
import re
from importlib.resources import files

import pytest

# Machado, Oliveira and Fernandes, 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1, on linear sRGB.
SIGHT = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
# Ottosson, 2020, "A perceptual color space for image processing" (Oklab).
CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def seen(color, sight):
    """Oklab of ``#rrggbb``."""
    shares = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    there = [min(max(s, 0), 1) for s in times(SIGHT[sight], linear)]
    return times(OKLAB, [s ** (1 / 3) for s in times(CONES, there)])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_lines_are_told_apart_by_everyone(theme, sight):
    css = files("surefoot.report").joinpath("page.css").read_text(encoding="utf-8")
    colors = re.findall(r"--c\d: (#\w{6})", css.split("prefers-color-scheme: dark")[theme])
    assert len(colors) == 6
    labs = [seen(color, sight) for color in colors]
    for one, other in itertools.combinations(labs, 2):
        # 0.02 is just noticed side by side.
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.1
