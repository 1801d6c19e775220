"""Who is meant, and who is frozen."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from surefoot.names import frozen_in, labelled, matching, meant, one_answer, taken

MODEL = nn.ModuleDict({"body": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "head": nn.Linear(2, 1)})
MODEL["tied"] = MODEL["head"]
NAMED = list(MODEL.named_parameters(remove_duplicate=False))


@pytest.mark.parametrize(
    ("which", "names"),
    [
        ("head.*", "head.weight head.bias"),
        ("tied.b*", "head.bias"),
        (re.compile(r"body\.\d\.bias"), "body.0.bias body.1.bias"),
        (nn.LayerNorm, "body.1.weight body.1.bias"),
        (MODEL["body"], "body.0.weight body.0.bias body.1.weight body.1.bias"),
        (MODEL["head"].weight, "head.weight"),
        (lambda name, param: param.numel() == 1, "head.bias"),
        (
            ["head.*", nn.LayerNorm, MODEL["body"][0].bias],
            "body.0.bias body.1.weight body.1.bias head.weight head.bias",
        ),
        (MODEL["head"].named_parameters(), "head.weight head.bias"),
        ((param for param in MODEL["head"].parameters()), "head.weight head.bias"),
    ],
)
def test_who_is_meant(which, names):
    found = meant(which, NAMED, MODEL)
    assert [name for name, param in MODEL.named_parameters() if id(param) in found] == names.split()


@pytest.mark.parametrize(
    "which", ["tail.*", re.compile("head"), nn.Conv1d, nn.Linear(1, 1), [], torch.ones(1)]
)
def test_none_is_an_error_or_an_empty_set(which):
    assert matching(which, NAMED, MODEL) == set()
    with pytest.raises(ValueError, match=r"means no parameter: their names begin with body\.0\.weight"):
        meant(which, NAMED, MODEL)


def test_answers_go_with_the_parameters_that_are_taken():
    params = [torch.ones(1) for _ in range(4)]
    group = {"params": params, "param_names": ["a", "b", "c"], "frozen": (False, True, False, False)}
    assert frozen_in(group) == [False, True, False, False]
    assert [name for name, _, _ in labelled([group])] == ["a", "b", "c", "3 of group 0"]
    assert taken(group, [1, 3]) == {
        "params": [params[1], params[3]],
        "param_names": ["b"],
        "frozen": (True, False),
    }
    assert taken(group, [1])["frozen"] is True
    assert taken(group, [3, 0])["frozen"] is False
    assert one_answer([]) is True
