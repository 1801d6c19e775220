import csv

import pytest
import torch

import surefoot
from surefoot.bench import Result, machine, write_csv

FULL = Result(
    "step",
    "GPT-2 small",
    "AdamW",
    148,
    124_439_808,
    9,
    0.08,
    {"default": 0.6, "fused": 0.1},
    0.07,
    3_500_000_000,
)
ALONE = Result("step", "1000 x 256", "Lion", 1000, 256_000, 9, 3e-4, {})


def test_best_and_ratios():
    assert FULL.torch_best == "fused"
    assert FULL.ratio("fused") == pytest.approx(1.25)
    assert FULL.ratio("default") == pytest.approx(7.5)
    assert FULL.share == pytest.approx(0.875)


def test_the_default_may_be_the_best():
    assert (
        Result("step", "MLP", "SGD", 4, 9610, 9, 1.0, {"default": 2.0, "foreach": 3.0}).torch_best
        == "default"
    )


def test_without_a_counterpart_there_is_nothing_to_compare():
    assert (ALONE.torch_best, ALONE.ratio("default"), ALONE.ratio(None), ALONE.share) == (None,) * 4


def test_columns():
    assert FULL.columns() == {
        "work": "step",
        "shape": "GPT-2 small",
        "optimizer": "AdamW",
        "tensors": 148,
        "parameters": 124_439_808,
        "rounds": 9,
        "surefoot_us": "80000",
        "torch_best": "fused",
        "torch_best_us": "100000",
        "torch_default_us": "600000",
        "ratio_best": "1.25",
        "ratio_default": "7.5",
        "traffic_us": "70000",
        "machine_gb_per_s": "50",
        "bandwidth_share": "0.875",
    }
    assert ALONE.columns()["surefoot_us"] == "300"
    assert {name for name, value in ALONE.columns().items() if value is None} == {
        *("torch_best", "torch_best_us", "torch_default_us", "ratio_best", "ratio_default"),
        *("traffic_us", "machine_gb_per_s", "bandwidth_share"),
    }


def test_a_csv_names_the_machine_in_every_row(tmp_path):
    write_csv(tmp_path / "step.csv", [FULL.columns(), ALONE.columns()])
    with open(tmp_path / "step.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["optimizer"] for row in rows] == ["AdamW", "Lion"]
    assert list(rows[0])[-5:] == ["processor", "threads", "python", "torch", "surefoot"]
    for row in rows:
        assert machine().items() <= row.items()
        assert row["threads"] == str(torch.get_num_threads())
        assert (row["torch"], row["surefoot"]) == (torch.__version__, surefoot.__version__)
