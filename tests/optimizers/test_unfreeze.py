"""Gradual unfreezing: who takes part after how many updates."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re

import pytest
import torch

import surefoot
from surefoot import gradual_unfreeze
from surefoot.names import frozen_in


def build(schedule, **extras):
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))
    optimizer = surefoot.AdamW(model.parameters(), lr=0.1, **extras)
    return model, optimizer, gradual_unfreeze(model, optimizer, schedule)


def go(model, optimizer, unfreeze, steps, bad=()):
    """Which layers moved at each step."""
    moved = []
    for n in range(steps):
        before = [layer.weight.detach().clone() for layer in model]
        optimizer.zero_grad()
        (model(torch.ones(1, 2)).sum() * (math.inf if n in bad else 1.0)).backward()
        optimizer.step()
        unfreeze.step()
        moved.append([i for i, layer in enumerate(model) if not torch.equal(layer.weight, before[i])])
    return moved


def model_part(i):
    return re.compile(rf"{i}\..*")


SCHEDULE = {0: "2.*", 2: "1.*", 3: "0.weight"}
MOVED = [[2], [2], [1, 2], [0, 1, 2], [0, 1, 2]]


def test_layers_join_when_they_are_due():
    model, optimizer, unfreeze = build(SCHEDULE)
    bias = model[0].bias.detach().clone()
    assert go(model, optimizer, unfreeze, 5) == MOVED
    assert torch.equal(model[0].bias, bias)  # which no pattern means
    assert optimizer.state[model[0].weight]["step"] == 2


def test_updates_are_counted_and_not_calls_or_skipped_steps():
    model, optimizer, unfreeze = build(SCHEDULE, nonfinite="skip")
    moved = go(model, optimizer, unfreeze, 7, bad=(1, 3))
    for _ in range(3):
        unfreeze.step()
    assert moved == [MOVED[0], [], MOVED[1], [], *MOVED[2:]]
    assert unfreeze.updates == 5


def test_what_can_be_read_once_is_read_once():
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))
    optimizer = surefoot.AdamW(model.parameters(), lr=0.1)
    unfreeze = gradual_unfreeze(model, optimizer, {0: model[2].parameters(), 2: model[1].named_parameters()})
    assert go(model, optimizer, unfreeze, 3) == MOVED[:3]


@pytest.mark.parametrize("stop", range(5))
def test_it_resumes_anywhere(stop):
    first = build(SCHEDULE)
    go(*first, stop)
    state = json.loads(json.dumps(first[2].state_dict()))
    again = build(SCHEDULE)
    again[2].load_state_dict(state)
    assert go(*again, 5 - stop) == MOVED[stop:]
    again[2].set(0)
    assert go(*again, 5) == MOVED


def test_who_joins_is_looked_for_when_it_is_due():
    model, optimizer, unfreeze = build({0: model_part(2), 2: "1.*", 3: "0.*"})
    go(model, optimizer, unfreeze, 1)
    old, model[1].weight = model[1].weight, torch.nn.Parameter(torch.ones(2, 2))
    optimizer.replace(old, model[1].weight, state="reset")
    optimizer.remove(model[0])
    optimizer.unfreeze(model[1].bias)  # by hand, and so it stays until it is set
    other = torch.ones(1, requires_grad=True)
    optimizer.add([other])
    assert go(model, optimizer, unfreeze, 4) == [[2], [1, 2], [1, 2], [1, 2]]
    assert [frozen for group in optimizer.param_groups for frozen in frozen_in(group)] == [False] * 5
    unfreeze.set(0)
    frozen = {
        id(p): f for g in optimizer.param_groups for p, f in zip(g["params"], frozen_in(g), strict=True)
    }
    assert [frozen[id(param)] for param in (*model[1].parameters(), *model[2].parameters(), other)] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("stop", range(5))
def test_a_checkpoint_at_any_stage_is_taken_up_by_a_new_optimizer(stop):
    first = build(SCHEDULE)
    go(*first, stop)
    states = copy.deepcopy([one.state_dict() for one in first])
    for order in itertools.permutations(range(3)):
        again = build(SCHEDULE)
        for i in order:
            again[i].load_state_dict(states[i])
        others = copy.deepcopy(first)
        assert go(*again, 5 - stop) == MOVED[stop:]
        go(*others, 5 - stop)
        for mine, other in zip(again[0].parameters(), others[0].parameters(), strict=True):
            assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        ({}, ValueError, "schedule={} trains nothing at first: say what joins at 0"),
        ({5: "2.*"}, ValueError, "trains nothing at first"),
        (
            {0: "head.*"},
            ValueError,
            "schedule[0]: 'head.*' means no parameter: their names begin with 0.weight, 0.bias",
        ),
        ({0: ["2.*", "typo.*"]}, ValueError, "schedule[0]: 'typo.*' means no parameter"),
        ({0: "*", 5: "2.*"}, ValueError, "schedule[5]='2.*' means no parameter that has not joined before"),
        ({0: "2.*", -1: "1.*"}, ValueError, "schedule=-1 must be at least 0"),
        ({0: "2.*", 1.5: "1.*"}, TypeError, "schedule=1.5 is a float: pass a whole number"),
    ],
)
def test_mistakes_are_named(schedule, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build(schedule)


def test_other_optimizers_and_states_are_refused():
    model, _, unfreeze = build(SCHEDULE)
    with pytest.raises(TypeError, match="optimizer is a SGD: pass one of Surefoot's"):
        gradual_unfreeze(model, torch.optim.SGD(model.parameters()), {0: "*"})
    with pytest.raises(TypeError, match="model is a str: pass the torch module"):
        gradual_unfreeze("model", surefoot.SGD(model.parameters()), {0: "*"})
    with pytest.raises(ValueError, match="the state has no 'updates'"):
        unfreeze.load_state_dict({})
