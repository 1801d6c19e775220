import pytest
import tiny
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from trainings import bits, generators

from surefoot.tasks import Task, TaskError
from surefoot.tasks.trial import evaluate, loss_of, trial

ONES = [torch.ones(4, 2)]


def task_of(**parts):
    model = nn.Linear(2, 1)
    return Task(**{"model": model, "loss": lambda model, x: model(x).mean(), "train_loader": ONES, **parts})


def empty(**settings):
    return DataLoader(TensorDataset(torch.ones(3, 2)), 4, drop_last=True, **settings)


class Failing(IterableDataset):
    def __iter__(self):
        raise OSError("no disk")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train_loader": []}, "train_loader is empty"),
        ({"train_loader": empty()}, "train_loader is empty: its dataset has no sample, or fewer than a batch with drop_last"),
        ({"train_loader": 3}, "train_loader is a int: it must give batches"),
        ({"train_loader": iter(ONES)}, "train_loader is a list_iterator, which can be read only once"),
        ({"train_loader": DataLoader(Failing())}, "train_loader failed: OSError: no disk"),
        ({"train_loader": [torch.ones(4, 3)]}, r"loss cannot take a batch of train_loader \(4 x 3 float32\): RuntimeError"),
        ({"val_loader": []}, "val_loader is empty"),
        ({"val_loader": [torch.ones(5, 3)]}, r"loss cannot take a batch of val_loader \(5 x 3 float32\)"),
        ({"loss": lambda model, x: model(x)}, r"loss returned a tensor of \(4, 1\): it must be one number, such as its mean"),
        ({"loss": lambda model, x: 3.0}, "loss returned a float: it must be a scalar tensor"),
        ({"loss": lambda model, x: None}, "loss returned a NoneType"),
        ({"loss": lambda model, x: {"loss": model(x).mean(), "logits": model(x)}}, r"loss returned a tensor of \(4, 1\) as 'logits': each"),
        ({"loss": lambda model, x: {"loss": model(x).mean(), "note": "x"}}, "loss returned a str as 'note': each of several by name must be one number"),
        ({"loss": lambda model, x: {"a": 1.0}}, "loss returned a float: it must be a scalar tensor, or several by name"),
        ({"loss": lambda model, x: x.mean()}, "loss does not depend on the model's parameters"),
        ({"loss": lambda model: 1}, "loss cannot take a batch of train_loader .*takes 1 positional argument but 2 were given"),
        ({"val_loader": ONES, "metrics": {"f1": lambda model, x: "high"}}, "f1 returned a str: it must be a number"),
        ({"val_loader": ONES, "metrics": {"f1": lambda model, x: 1 / 0}}, r"f1 cannot take a batch of val_loader .*ZeroDiv(.|\n)*test_trial.py, line"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_trained_is_said_to_be(parts, message):
    with pytest.raises(TaskError, match=message):
        trial(task_of(**parts))


def test_a_trial_leaves_the_model_and_all_generators_as_they_were():
    task = tiny.task()
    before = bits(task.model.state_dict()), generators(task.train_loader, task.val_loader)
    trial(task)
    assert (bits(task.model.state_dict()), generators(task.train_loader, task.val_loader)) == before
    assert task.model.training
    assert all(p.grad is None for p in task.model.parameters())


def test_a_trial_that_fails_does_so_too():
    task = task_of(train_loader=DataLoader(TensorDataset(torch.ones(8, 3)), 2, shuffle=True))
    before = generators(task.train_loader)
    with pytest.raises(TaskError):
        trial(task)
    assert generators(task.train_loader) == before


def test_losses_by_name_and_metrics_that_are_numbers_are_fine():
    loss = lambda model, x: {"a": model(x).mean(), "b": model(x).std()}  # noqa: E731
    trial(
        task_of(
            loss=loss,
            val_loader=ONES,
            metrics={"count": lambda model, x: 3, "mean": lambda model, x: x.mean()},
        )
    )
    task = task_of(loss=loss)
    assert loss_of(task)(task.model, ONES[0]) == loss(task.model, ONES[0])


def test_layers_that_are_lazy_get_their_shapes():
    task = task_of(model=nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()))
    trial(task)
    assert task.model[0].weight.shape == (3, 2)


def test_batches_are_moved_to_the_model():
    far = nn.Linear(2, 1, device="meta")
    trial(task_of(model=far, val_loader=ONES, metrics={"mean": lambda model, x: model(x).mean()}))


@pytest.mark.parametrize("name", ["loss", "square"])
def test_a_held_out_batch_that_cannot_be_taken_later_is_named(name):
    def fails(model, x):
        if len(x) > 4:
            raise ValueError("too many")
        return model(x).mean()

    fine = lambda model, x: model(x).mean()  # noqa: E731
    functions = {"loss": fine, "square": fine, name: fails}
    task = task_of(loss=functions.pop("loss"), metrics=functions, val_loader=[*ONES, torch.ones(5, 2)])
    with pytest.raises(
        TaskError, match=rf"{name} cannot take a batch of val_loader \(5 x 2 float32\): .*too many"
    ):
        evaluate(task)


def test_an_evaluation_is_the_tasks():
    task = task_of(metrics={"sum": lambda model, x: model(x).sum()}, val_loader=ONES)
    assert evaluate(task) == task.evaluate()
