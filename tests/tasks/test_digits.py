import math
import sys

import pytest
import torch

from surefoot.tasks import TASKS, digits


def test_it_is_known_by_name():
    assert TASKS["digits"] is digits


def test_the_split_is_fixed_and_disjoint():
    one, other = digits(seed=0), digits(seed=1)
    assert torch.equal(one.val_loader.dataset.tensors[0], other.val_loader.dataset.tensors[0])
    train, held_out = (loader.dataset.tensors[0] for loader in (one.train_loader, one.val_loader))
    assert (len(train), len(held_out)) == (1437, 360)
    known = {image.numpy().tobytes() for image in train}
    assert not any(image.numpy().tobytes() in known for image in held_out)


def test_the_seed_decides_weights_and_order():
    def first(seed):
        task = digits(batch_size=8, seed=seed)
        return next(task.model.parameters()), next(iter(task.train_loader))[0]

    for one, again, other in zip(first(3), first(3), first(4), strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


def test_evaluate_is_exact_and_draws_no_random_numbers():
    task = digits()
    images, labels = task.val_loader.dataset.tensors
    state = torch.get_rng_state()
    measured = task.evaluate()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        outputs = task.model(images)
    loss = torch.nn.functional.cross_entropy(outputs, labels).item()
    accuracy = (outputs.argmax(1) == labels).double().mean().item()
    assert measured == pytest.approx({"loss": loss, "accuracy": accuracy}, rel=1e-5)


def test_an_untrained_model_guesses():
    measured = digits().evaluate()
    assert measured["loss"] == pytest.approx(math.log(10), rel=0.2)
    assert measured["accuracy"] < 0.4


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"surefoot\[demo\]"):
        digits()
