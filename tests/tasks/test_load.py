import pickle
import sys

import pytest
import tiny
import torch
from torch import nn

from surefoot.tasks import TASKS, Task, TaskError
from surefoot.tasks.load import default_batch_size, find, make

HEAD = "import torch\nfrom torch import nn\n\ndef loss(model, x):\n    return model(x).mean()\n\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Write a task file; returns its path."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(HEAD + text)
        return str(path)

    yield write
    for name in ("mine", "beside_it"):
        sys.modules.pop(name, None)


def test_names_and_files_are_found(file):
    assert find("digits") is TASKS["digits"]
    path = file("def task():\n    return nn.Linear(1, 1), loss, [torch.ones(1, 1)]\n")
    task = make(find(path), 0, 0)
    assert isinstance(task, Task)
    assert task.val_loader is None


def test_a_file_imports_what_is_beside_it_and_its_classes_can_be_pickled(file, tmp_path):
    (tmp_path / "beside_it.py").write_text("width = 3\n")
    path = file(
        "from dataclasses import dataclass\nfrom beside_it import width\n\n@dataclass\nclass Batch:\n    x: 'int'\n\n"
        "def task():\n    return nn.Linear(width, 1), loss, [Batch(2)]\n"
    )
    task = make(find(path), 0, 0)
    assert task.model.in_features == 3
    assert pickle.loads(pickle.dumps(task.train_loader[0])) == task.train_loader[0]
    assert not (tmp_path / "__pycache__" / "mine.cpython-311.pyc").exists()


@pytest.mark.parametrize(
    "returned",
    [
        "model, loss, loader",
        "model, loss, loader, loader",
        "{'model': model, 'loss': loss, 'train_loader': loader}",
        "Task(model, loss, loader)",
        "model, nn.MSELoss(), [(torch.ones(2, 1), torch.ones(2, 1))]",
    ],
)
def test_what_a_task_may_return(file, returned):
    path = file(
        "from surefoot.tasks import Task\n\ndef task():\n    model, loader = nn.Linear(1, 1), [torch.ones(2, 1)]\n"
        f"    return {returned}\n"
    )
    task = make(find(path), 0, 0)
    (batch,) = task.train_loader
    assert task.loss(task.model, batch).ndim == 0


PARTS = "dict(model=nn.Linear(1, 1), loss=loss, train_loader=[], {})"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", r"task\(\) of .*mine.py returned None: return surefoot.tasks.Task"),
        ("(1, 2)", "returned a tuple"),
        ("{'model': 1}", "returns is no task: loss and train_loader is missing"),
        ("{'modle': 1}", "part 'modle' is not known. Did you mean 'model'"),
        ("(1, loss, [])", "model of .*mine.py is a int: it must be a torch.nn.Module"),
        (
            "(nn.Linear(1, 1), 1, [])",
            r"loss of .*mine.py is a int: it must be a function of \(model, batch\)",
        ),
        (PARTS.format("settings=[1]"), "settings of .*mine.py is a list: it must be a dict, by name"),
        (PARTS.format("metrics=[loss]"), "metrics of .*mine.py is a list: it must be a dict, by name"),
        (PARTS.format("metrics={'loss': loss}"), "metrics of .*mine.py has 'loss', .* give it another name"),
    ],
)
def test_what_it_may_not(file, returned, message):
    with pytest.raises(TaskError, match=message):
        make(find(file(f"def task():\n    return {returned}\n")), 0, 0)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "def data():\n    raise OSError('no file')\n\ndef task():\n    return data()\n",
            [
                "OSError: no file",
                "mine.py, line 11, in task: return data()",
                "mine.py, line 8, in data: raise OSError",
            ],
        ),
        ("1 / 0\n", ["ZeroDivisionError: division by zero", "mine.py, line 7, in <module>: 1 / 0"]),
        ("def task(:\n", ["SyntaxError: invalid syntax", "mine.py, line 7: def task(:"]),
        ("raise SystemExit(3)\n", ["SystemExit: 3", "mine.py, line 7"]),
        ("def task(path):\n    pass\n", ["TypeError: task() missing 1 required positional argument: 'path'"]),
        ("def task():\n    return task()\n", ["RecursionError", "line 8, in task"]),
    ],
)
def test_what_a_file_raises_is_told_with_its_lines(file, text, lines):
    path = file(text)
    with pytest.raises(TaskError) as raised:
        make(find(path), 0, 0)
    said = str(raised.value)
    assert said.startswith(f"{path} failed: {lines[0]}")
    assert [line for line in lines if line not in said] == []
    assert len(said.splitlines()) <= 4
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("digit", ValueError, r"task 'digit' is not known\. Did you mean 'digits'\?"),
        ("nowhere.py", ValueError, r"task 'nowhere.py' is not there: surefoot new nowhere.py writes a start"),
        ("", ValueError, "task '' is not known"),
    ],
)
def test_what_is_not_there(name, error, message):
    with pytest.raises(error, match=message):
        find(name)


@pytest.mark.parametrize("text", ["task = 3\n", "class task:\n    pass\n"])
def test_a_file_without_task(file, text):
    with pytest.raises(TaskError, match=r"mine.py defines no task\(\): add a function"):
        find(file(text))


@pytest.mark.parametrize(("default", "size"), [("", 32), ("=8", 8), ("=None", 32)])
def test_the_batch_size_where_nobody_says(file, default, size):
    assert default_batch_size(find(file(f"def task(batch_size{default}):\n    pass\n"))) == size


def test_batch_size_and_seed_reach_a_task_that_takes_them(file):
    assert default_batch_size(find(tiny.PATH)) == 4
    assert default_batch_size(lambda batch_size: None) == 32
    assert default_batch_size(lambda: None) == 0
    task = make(find(tiny.PATH), 16, 3)
    assert (len(task.train_loader), task.train_loader.generator.initial_seed()) == (2, 3)
    maker = find(file("def task():\n    return nn.Linear(1, 1), loss, []\n"))
    one, again, other = (next(make(maker, 0, seed).model.parameters()) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    with pytest.raises(TaskError, match=r"batch_size is 8, but task\(\) of .*mine.py takes none"):
        make(maker, 8, 0)


def test_the_start_of_a_task_is_one():
    from surefoot.tasks import start

    task = start.task()
    inputs, labels = next(iter(task.train_loader))
    assert (inputs.shape, labels.shape) == ((32, 2), (32,))
    assert isinstance(task.model, nn.Module)
