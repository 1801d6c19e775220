import random
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from surefoot.attributes import Attributes, put_back_generator


class Thing:
    """Whatever one keeps."""

    def __init__(self) -> None:
        self.count, self.name = 1, "one"
        self.list, self.nested = [1, [2]], {"a": [3], "b": OrderedDict(c={4})}
        self.queue = deque([1, 2], maxlen=2)
        self.pair = ([5], 6)
        self.tensor = torch.ones(2)
        self.other = nn.Linear(1, 1)


def test_what_an_object_keeps_is_put_back_in_place() -> None:
    thing = Thing()
    held = thing.list, thing.list[1], thing.nested, thing.queue, thing.pair, thing.other
    before = Attributes([thing])
    thing.count, thing.new = 2, True  # type: ignore[attr-defined]
    thing.list[1].append(7)  # type: ignore[attr-defined]
    thing.list.clear()
    thing.nested["a"].append(8)  # type: ignore[attr-defined]
    thing.nested["b"]["c"].add(9)  # type: ignore[index, call-overload]
    thing.queue.append(3)
    thing.pair[0].append(1)
    thing.pair = thing.other = None  # type: ignore[assignment]
    del thing.name
    before.restore()
    assert (thing.count, thing.name, hasattr(thing, "new")) == (1, "one", False)
    assert thing.list == [1, [2]]
    assert thing.nested == {"a": [3], "b": {"c": {4}}}
    assert list(thing.queue) == [1, 2]
    assert thing.pair == ([5], 6)
    now = thing.list, thing.list[1], thing.nested, thing.queue, thing.pair, thing.other
    assert all(a is b for a, b in zip(held, now, strict=True))


def test_tensors_are_for_others_and_those_with_a_graph_for_nobody() -> None:
    thing = Thing()
    thing.nested["d"] = (torch.zeros(1), torch.ones(1, requires_grad=True) * 2)
    assert {float(each.sum()) for each in Attributes([thing]).tensors} == {2.0, 0.0}


def test_what_is_left_is_left() -> None:
    thing = Thing()
    before = Attributes([thing, 3, None], leave=["count", "new", "list"])
    thing.count, thing.new = 2, True  # type: ignore[attr-defined]
    thing.list.clear()
    before.restore()
    assert (thing.count, thing.new, thing.list) == (2, True, [])  # type: ignore[attr-defined]


class Strict(dict[str, int]):
    def clear(self) -> None:
        raise TypeError("it is frozen")


def test_a_dict_of_another_kind_is_itself() -> None:
    thing = Thing()
    thing.list = [Strict(a=1)]  # type: ignore[assignment]
    before = Attributes([thing])
    thing.list.clear()
    before.restore()
    assert thing.list == [{"a": 1}]


@pytest.mark.parametrize(
    ("generator", "draw"),
    [
        (torch.Generator(), lambda g: float(torch.rand(1, generator=g))),
        (random.Random(0), lambda g: g.random()),
        (np.random.default_rng(0), lambda g: g.random()),
    ],
    ids=["torch", "python", "numpy"],
)
def test_generators_of_every_kind(generator: Any, draw: Any) -> None:
    thing = Thing()
    thing.nested["generator"] = generator
    before = Attributes([thing])
    first = draw(generator)
    before.restore()
    assert draw(generator) == first


def test_anything_else_is_no_generator() -> None:
    assert put_back_generator(3) is None
