"""How finders are judged, and what others read from curves made up for it."""

import importlib.util
import math
import sys
from itertools import count, repeat
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "lr_quality"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lr_quality_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


peers, score = load("peers"), load("score")

GRID = {
    "rates": [0.25, 0.5, 1.0, 2.0],
    "initial": [10.0, 12.0],  # 11, so that the best of 1 gains 10
    "constant": [[6.0, 6.0], [1.0, 1.0], [1.0, 2.0], [math.inf, 6.0]],
}
TRUTH = score.Truth.of(GRID, "constant")


@pytest.mark.parametrize(
    ("rate", "regret"),
    [
        (0.25, 0.5),
        (0.5, 0.0),
        (1.0, 0.05),
        (2.0, 1.25),  # of two seeds one diverged, which counts as 2
        (2**-1.5, 0.25),  # half way in octaves
        (2**0.5, 0.65),
        (0.001, 0.5),  # as the lowest rate that was tried
        (1000.0, 1.25),
    ],
)
def test_regret(rate: float, regret: float) -> None:
    assert TRUTH.regret(rate) == pytest.approx(regret)


@pytest.mark.parametrize(
    ("low", "high", "least"),
    [(0.3, 0.9, 0.0), (0.25, 0.25, 0.5), (2**-1.5, 2**-1.25, 0.125), (1.0, 2.0, 0.05)],
)
def test_least_regret_of_an_interval(low: float, high: float, least: float) -> None:
    assert TRUTH.least(low, high) == pytest.approx(least)


def scored(task: str, rate: float, regret: float, abstained: bool = False, **known: float) -> object:
    return score.Scored(
        "m",
        task,
        "judge",
        "constant",
        0,
        rate,
        100,
        abstained,
        regret,
        known.get("least"),
        known.get("confidence"),
    )


def test_summary() -> None:
    runs = [
        scored("a", 1.0, 0.0, least=0.0, confidence=0.9),
        scored("a", 2.0, 0.1, least=0.05, confidence=0.9),
        scored("b", 1.0, 0.6, least=0.3, confidence=0.5),
        scored("b", 6.0, 0.9, abstained=True, least=0.0, confidence=0.0),
    ]
    assert score.summary(runs) == pytest.approx(
        {
            "mean_regret": 0.4,
            "good": 0.25,
            "lost_not_abstained": 1 / 3,
            "abstained": 0.25,
            "spread": 4.0,  # the median of 2 and 6
            "interval_holds_good": 2 / 3,
            "confidence": 2.3 / 3,
            "calibration_error": (2 * 0.4 + 0.5) / 3,  # 0.9 where half were good, 0.5 where none was
            "batches": 100.0,
        }
    )


def test_summary_of_a_finder_that_does_not_say_how_sure_it_is() -> None:
    made = score.summary([scored("a", 1.0, 0.0)])
    assert (made["interval_holds_good"], made["confidence"], made["calibration_error"]) == ("", "", "")
    assert score.summary([scored("a", 1.0, 0.6, abstained=True)])["lost_not_abstained"] == 0.0


@pytest.mark.parametrize("keep", ["fastai_losses", "torch_lr_finder_losses", "lesson_losses"])
def test_a_constant_loss_stays_and_a_rising_one_stops_the_sweep(keep: str) -> None:
    losses = getattr(peers, keep)
    assert losses(repeat(2.0, 50)) == pytest.approx([2.0] * 50)
    assert len(losses(float(n) for n in count(1))) < 500


def test_fastai_stops_once_the_average_is_above_four_times_the_lowest() -> None:
    losses = peers.fastai_losses([1.0, *repeat(10.0, 50)])
    assert losses[1] == pytest.approx((0.98 * 0.02 + 0.02 * 10) / (1 - 0.98**2))
    assert losses[-1] > 4 >= losses[-2]


def test_torch_lr_finder_averages_from_the_first_loss() -> None:
    assert peers.torch_lr_finder_losses([1.0, 2.0]) == pytest.approx([1.0, 1.05])
    assert len(peers.torch_lr_finder_losses([1.0, 1000.0, 1.0])) == 2


def test_lightnings_average_is_corrected_one_update_late() -> None:
    losses = peers.lightning_losses(repeat(1.0, 100))
    assert losses[0] == pytest.approx(0.02 / (1 - 0.98**2))
    assert losses[0] < losses[50] < losses[99] < 1


def test_the_lesson_stops_on_one_loss() -> None:
    assert peers.lesson_losses([1.0, 4.0, 4.1, 1.0]) == [1.0, 4.0, 4.1]


LRS = [10.0**k for k in range(-40, 0)]
FALLS = [4.0] * 20 + [4.0 - n for n in (0.1, 1.5, 2.0, 2.2)] + [1.8] * 8 + [3.0, 9.0, *[99.0] * 6]


def test_what_is_left_out() -> None:
    assert peers.trimmed(LRS, FALLS) == (LRS[10:35], FALLS[10:35])
    assert peers.trimmed(LRS, [*FALLS[:12], math.nan, *FALLS[13:]]) == (LRS[10:12], FALLS[10:12])
    assert peers.trimmed(LRS, FALLS[:12]) == ([], [])


@pytest.mark.parametrize(
    ("read", "rate"),
    [
        ("minimum", LRS[23] / 10),
        ("steep", LRS[20]),  # the largest fall is from 20 to 21
        ("steepest", LRS[21]),  # by differences over two updates
        ("fastest", LRS[21]),
        ("lightning_suggestion", LRS[19]),  # the first fall by the lowest rates, however small
    ],
)
def test_what_is_read_from_a_curve(read: str, rate: float) -> None:
    assert getattr(peers, read)(LRS, FALLS) == pytest.approx(rate)


def test_the_longest_valley_is_read_at_half() -> None:
    losses = [3.0, 9.0, 8.0, 7.0, 10.0, 6.0, 5.0, 4.0, 5.0]  # 6 updates fall, the last of them is number 7
    assert peers.valley(LRS, losses) == LRS[1 + 2 + 1]


def test_slide_stops_where_the_slope_settles() -> None:
    losses = [1.0] * 30 + [1.0 + n**2 for n in range(10)]
    assert peers.slide(LRS, losses) == LRS[30 - 15]  # the last window that ends where it rises
    assert peers.slide(LRS, [1.0] * 40) == LRS[24]


@pytest.mark.parametrize(
    "read", ["minimum", "steep", "valley", "slide", "steepest", "fastest", "lightning_suggestion"]
)
def test_too_few_losses_give_no_rate(read: str) -> None:
    assert getattr(peers, read)([], []) is None


def test_nan_is_the_steepest_fall_of_all_in_torch_lr_finder() -> None:
    losses = [4.0] * 30 + [math.nan] * 10
    assert peers.steepest(LRS, losses) == LRS[29]
    assert peers.fastest(LRS, [4.0, 3.0, math.nan]) == LRS[0]
