import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import surefoot
from surefoot.progress import progress, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[True, False], ids=["rich", "no rich"])
def _rich(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        for name in ("rich", "rich.console", "rich.progress"):
            monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError


@pytest.mark.usefixtures("_rich")
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("items", [[], [7], [3, 1, 2]])
def test_it_passes_everything_through(
    items: list[int], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    assert list(track(iter(items), len(items), "Counting")) == items


@pytest.mark.usefixtures("_rich")
def test_it_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), 3, "Counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_it_draws_where_someone_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert list(track(range(3), 3, "Counting")) == [0, 1, 2]
    assert "Counting" in stream.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("_rich")
@pytest.mark.parametrize("terminal", [True, False])
def test_items_are_taken_one_by_one(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop may end before the items do, and must not have taken more than it used."""
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    bar = track(items(), 100, "Counting")
    assert taken == []
    for i in bar:
        if i == 2:
            break
    bar.close()
    assert taken == [0, 1, 2]


@pytest.mark.usefixtures("_rich")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_come_through(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())

    def items() -> Iterator[int]:
        yield 1
        raise error("of the caller")

    with pytest.raises(error, match="of the caller"):
        list(track(items(), 2, "Counting"))


def records(epochs: int = 2) -> Iterator[Any]:
    model = torch.nn.Linear(1, 1)
    data = [torch.ones(2, 1)] * 3
    run = surefoot.Run(
        model, surefoot.SGD(model.parameters(), lr=0.1), data, lambda m, x: m(x).square().mean()
    )
    return surefoot.train(run, epochs=epochs, evaluate=lambda model: {"loss": 0.5}, evaluate_every=3)


@pytest.mark.usefixtures("_rich")
def test_a_training_is_a_line_for_each_pass_where_nobody_looks() -> None:
    stream = io.StringIO()
    steps = [record.step for record in progress(records(), 6, file=stream)]
    assert steps == [1, 2, 3, 4, 5, 6]
    lines = stream.getvalue().splitlines()
    assert [line.split("  loss")[0] for line in lines] == ["epoch 1  step 3", "epoch 2  step 6"]
    assert all("held-out loss 0.5" in line and line.endswith("lr 1.00e-01") for line in lines)


def test_a_training_is_a_bar_where_someone_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for steps, shown in ((6, "6/6 steps"), (None, "6 steps")):
        stream = Terminal()
        assert len(list(progress(records(), steps, file=stream))) == 6
        assert shown in stream.getvalue()
        assert "loss" in stream.getvalue()


@pytest.mark.usefixtures("_rich")
def test_a_training_that_is_broken_off_ends_the_bar() -> None:
    for record in progress(records(), file=Terminal()):
        if record.step == 2:
            break
    assert len(list(progress(records(), file=io.StringIO()))) == 6
