import io

import pytest
from rich.console import Console

from surefoot.bench import Result
from surefoot.bench.table import LEGEND, results_table

TORCHS = {"default": 1.451, "foreach": 0.6, "fused": 0.0701}


def result(shape, optimizer, surefoot=0.0682, torchs=TORCHS, traffic=0.06, parameters=124_439_808):
    return Result("step", shape, optimizer, 148, parameters, 5, surefoot, torchs, traffic)


def shown(results, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(results_table(results), crop=False)
    return console.file.getvalue().splitlines()


def test_a_row_reads_as_it_should():
    line = shown([result("GPT-2 small", "AdamW")])[-1]
    assert line.split() == [
        "GPT-2",
        "small",
        "AdamW",
        "148",
        "124M",
        "68.2",
        "ms",
        "70.1",
        "ms",
        "fused",
        "1.03x",
        "1.45",
        "s",
        "21.3x",
        "88%",
    ]


def test_a_row_without_a_counterpart_or_a_share():
    line = shown([result("1000 x 256", "Lion", 3.211e-4, {}, None, 256_000)])[-1]
    assert line.split() == ["1000", "x", "256", "Lion", "148", "256k", "321", "µs"]


@pytest.mark.parametrize("width", [60, 100, 200])
def test_nothing_is_cut_or_wrapped(width):
    optimizers = ["SGD", "SGD nesterov", "AdamW"]
    lines = shown([result("24-layer MLP", name, parameters=103_562) for name in optimizers], width)
    assert all(len(line) <= 100 for line in lines)
    assert "…" not in "".join(lines)
    assert [line.split()[0] for line in lines[-3:]] == ["24-layer", "SGD", "AdamW"]


def test_a_shape_is_named_once_and_set_off():
    lines = shown([result("MLP", "AdamW"), result("1000 x 256", "SGD"), result("1000 x 256", "AdamW")])
    assert [line.split()[:1] for line in lines[-4:]] == [["MLP"], [], ["1000"], ["AdamW"]]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (7.049e-6, "7.05 µs"),
        (9.996e-6, "10.0 µs"),
        (9.994e-4, "999 µs"),
        (9.996e-4, "1.00 ms"),
        (61.0, "61.0 s"),
    ],
)
def test_times_have_three_digits(seconds, said):
    assert f" {said} " in shown([result("MLP", "AdamW", seconds)])[-1]


def test_the_legend_fits_a_narrow_terminal():
    assert max(map(len, LEGEND.splitlines())) <= 80
