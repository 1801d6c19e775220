import math
import string
import sysconfig
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surefoot.tasks import TASKS, pycode
from surefoot.tasks.pycode import CONTEXT, EVERY, GPT, HELD_OUT, MODULES, RARE, decode, encode, sample, source


@pytest.fixture(scope="module")
def task():
    return pycode()


def test_it_is_known_by_name():
    assert TASKS["pycode"] is pycode


def test_it_is_of_about_800_000_parameters(task):
    assert sum(p.numel() for p in task.model.parameters()) == pytest.approx(800_000, rel=0.05)


def test_modules_are_in_order_and_each_is_of_one_side():
    assert sorted(set(MODULES)) == MODULES
    train, held_out = source()
    stdlib = Path(sysconfig.get_path("stdlib"))
    for i, name in enumerate(MODULES):
        text = (stdlib / f"{name}.py").read_text(encoding="utf-8")
        assert (text in train, text in held_out) == (i % EVERY != HELD_OUT, i % EVERY == HELD_OUT)
    assert len(train) > 2_000_000
    assert 100_000 < len(held_out) < 300_000


def test_a_python_that_lacks_some_modules_will_do_and_one_without_source_will_not(tmp_path):
    for name in MODULES[: len(MODULES) // 2 + 1]:
        (tmp_path / f"{name}.py").write_text(f"{name} = 1\n")
    train, held_out = source(tmp_path)
    assert f"{MODULES[HELD_OUT]} = 1\n" in held_out
    assert f"{MODULES[0]} = 1\n" in train
    (tmp_path / f"{MODULES[0]}.py").unlink()
    (tmp_path / f"{MODULES[1]}.py").unlink()
    with pytest.raises(FileNotFoundError, match="has no source of Python's standard library"):
        source(tmp_path)


@given(st.text(string.printable + "é\N{SNOWMAN}"))
def test_a_text_comes_back_but_for_what_is_rare(text):
    tokens = encode(text)
    assert tokens.shape == (len(text),)
    known = {"\n", *map(chr, range(32, 127))}
    assert decode(tokens) == "".join(letter if letter in known else "?" for letter in text)


def test_a_batch_asks_for_the_next_character(task):
    tokens, following = next(iter(task.val_loader))
    assert tokens.shape == following.shape == (64, CONTEXT)
    assert torch.equal(tokens[0, 1:], following[0, :-1])
    assert torch.equal(tokens[1, :1], following[0, -1:])


def test_an_untrained_model_guesses(task):
    batch = next(iter(task.train_loader))
    assert task.loss(task.model, batch).item() == pytest.approx(math.log(RARE + 1), rel=0.05)


def test_nothing_is_known_of_what_follows():
    model = GPT().eval()
    tokens = torch.randint(RARE, (2, 20))
    other = tokens.clone()
    other[:, 12:] = 0
    with torch.no_grad():
        assert torch.allclose(model(tokens)[:, :12], model(other)[:, :12], atol=1e-6)
        assert not torch.allclose(model(tokens)[:, 12:], model(other)[:, 12:], atol=1e-3)


def test_it_learns(task):
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = tuple(part[:4, :32] for part in next(iter(task.val_loader)))
    for _ in range(12):
        loss = task.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 3.3


def test_a_sample_is_text_longer_than_the_context_and_draws_from_its_own_generator():
    model = GPT().eval()
    state = torch.get_rng_state()
    text = sample(model, length=CONTEXT + 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert text == sample(model, length=CONTEXT + 2)
    assert text.startswith("def ")
    assert len(text) == CONTEXT + 6
