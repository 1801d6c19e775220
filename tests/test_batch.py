from collections import OrderedDict, UserDict, defaultdict, namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from surefoot.batch import length, move

Pair = namedtuple("Pair", "inputs labels")
ONES = torch.ones(2, 3)
BATCHES: dict[str, Any] = {
    "tensor": ONES,
    "tuple": (ONES, torch.ones(2)),
    "list": [ONES, [torch.ones(2)]],
    "named tuple": Pair(ONES, torch.ones(2)),
    "dict": {"input_ids": ONES, "labels": {"a": ONES}},
    "ordered dict": OrderedDict(x=ONES),
    "dict with a default": defaultdict(list, x=ONES),
    "as Hugging Face's": UserDict(input_ids=ONES, text=["a", "b"]),
    "with what is no tensor": (ONES, "abc", 3, None),
    "packed": pack_sequence([torch.ones(3), torch.ones(2)]),
}


def tensors(batch: Any) -> list[Any]:
    if isinstance(batch, torch.Tensor):
        return [batch]
    values = batch.values() if hasattr(batch, "values") else batch if isinstance(batch, list | tuple) else ()
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_moves_and_stays_what_it_is(name: str) -> None:
    batch = BATCHES[name]
    moved = move(batch, torch.device("meta"))
    assert type(moved) is type(batch)
    assert {tensor.device.type for tensor in tensors(moved.data if name == "packed" else moved)} == {"meta"}
    assert ONES.device.type == "cpu"
    assert all(tensor.device.type == "cpu" for tensor in tensors(batch) if tensor.numel() > 0)


@pytest.mark.parametrize("name", [name for name in BATCHES if name != "packed"])
def test_a_batch_that_is_there_is_itself(name: str) -> None:
    assert move(BATCHES[name], torch.device("cpu")) is BATCHES[name]


def test_what_can_move_is_asked_to() -> None:
    graph = SimpleNamespace(to=lambda device: ("moved", device))
    assert move([graph], torch.device("cpu")) == [("moved", torch.device("cpu"))]


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (torch.ones(7, 2), 7),
        ((torch.ones(3), torch.ones(9)), 3),
        ({"text": ["a"], "ids": torch.ones(5, 4)}, 5),
        (UserDict(ids=torch.ones(5, 4)), 5),
        ([None, (1.0, [torch.ones(4)])], 4),
        (torch.tensor(1.0), 1),
        ("text", 1),
        ((), 1),
    ],
)
def test_a_batch_is_as_long_as_its_first_tensor(batch: Any, samples: int) -> None:
    assert length(batch) == samples
