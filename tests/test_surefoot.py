"""``import surefoot as optim`` finds every name of torch.optim, and costs no heavy import."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch

import surefoot
from surefoot import curves, lr_scheduler, optimizers, param_groups, swa_utils

# Surefoot's namespaces beside the one of torch whose names they take over.
NAMESPACES = [
    (surefoot, torch.optim),
    (lr_scheduler, torch.optim.lr_scheduler),
    (swa_utils, torch.optim.swa_utils),
]
TAKEN_OVER = [(ours, theirs, name) for ours, theirs in NAMESPACES for name in theirs.__all__]
PUBLIC = [
    (module, name)
    for module in (surefoot, lr_scheduler, swa_utils, curves, param_groups)
    for name in module.__all__
    if name not in getattr(module, "TORCHS_OWN", ())
]


@pytest.mark.parametrize(("ours", "theirs", "name"), TAKEN_OVER)
def test_every_name_of_torch_is_there(ours, theirs, name):
    assert (getattr(ours, name) is getattr(theirs, name)) == (name in getattr(ours, "TORCHS_OWN", ()))


@pytest.mark.parametrize(("ours", "theirs"), NAMESPACES)
def test_what_is_called_torchs_is(ours, theirs):
    for name in getattr(ours, "TORCHS_OWN", ()):
        assert getattr(ours, name) is getattr(theirs, name)


@pytest.mark.parametrize("name", [name for name in optimizers.__all__ if name != "Optimizer"])
def test_optimizers_are_torchs_kind(name):
    assert issubclass(getattr(surefoot, name), torch.optim.Optimizer)


@pytest.mark.parametrize("module", [surefoot, lr_scheduler, swa_utils, curves, param_groups])
def test_all_is_sorted(module):
    def order(name):  # as ruff sorts: constants, classes, the rest
        return not name.isupper(), not name.lstrip("_")[0].isupper(), name

    assert list(module.__all__) == sorted(set(module.__all__), key=order)


@pytest.mark.parametrize("module", [surefoot, lr_scheduler])
def test_all_is_complete(module):
    others = {name for name in vars(module) if not name.startswith("_")} - set(module.__all__)
    modules = {name for name in others if isinstance(getattr(module, name), ModuleType)}
    assert others - modules == {"TORCHS_OWN"}  # a note on the names, not one of them
    assert all(getattr(module, name).__name__.startswith("surefoot.") for name in modules)


def test_all_of_curves_is_every_name_there():
    named = {name for name, thing in vars(curves).items() if not isinstance(thing, ModuleType)}
    assert {name for name in named if not name.startswith("_")} == set(curves.__all__)


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_of_ours_is_documented(module, name):
    thing = getattr(module, name)
    home = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    assert home.startswith("surefoot")
    assert thing.__doc__
    assert inspect.cleandoc(thing.__doc__).splitlines()[0].endswith((".", ":"))


def test_the_version_is_the_packages():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert surefoot.__version__ == project["version"]


def test_importing_is_light():
    heavy = ["matplotlib", "numba", "triton", "rich", "typer", "sklearn", "safetensors"]
    program = f"import sys, surefoot; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_first_step_and_a_range_test_do_not_import_torchs_compiler():
    """As torch's own optimizers do, which takes a second."""
    program = (
        "import sys, torch, surefoot\n"
        "weight = torch.ones(2, requires_grad=True)\n"
        "optimizer = surefoot.SGD([weight])\n"
        "weight.sum().backward()\n"
        "optimizer.step(), optimizer.zero_grad(), optimizer.state_dict()\n"
        "model, data = torch.nn.Linear(2, 1), [(torch.ones(4, 2), torch.ones(4, 1))] * 4\n"
        "optimizer = surefoot.SGD(model.parameters())\n"
        "planned = lambda optimizer: surefoot.lr_scheduler.OneCycleLR(optimizer, 0.1, 40)\n"
        "how = {'schedule': planned, 'total_steps': 40, 'effort': 'sweep'}\n"
        "surefoot.find_lr(model, optimizer, torch.nn.MSELoss(), data, **how)\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_importing_leaves_torch_as_it_was():
    program = (
        "import torch, torch.optim.lr_scheduler as s\n"
        "def names(): return {(m.__name__, k): v for m in (torch.optim, s) for k, v in vars(m).items()}\n"
        "before, rng, dtype = names(), torch.get_rng_state(), torch.get_default_dtype()\n"
        "import surefoot\n"
        "after = names()\n"
        "print(all(after[k] is v for k, v in before.items()), after.keys() == before.keys(),\n"
        "      torch.equal(torch.get_rng_state(), rng), torch.get_default_dtype() == dtype)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True"] * 4


def test_what_is_still_torchs_is_listed_in_the_docs():
    page = (Path(__file__).parents[1] / "docs" / "coming-from-torch.md").read_text(encoding="utf-8")
    section = page.split("## Still torch's own")[1].split("##")[0]
    listed = set(re.findall(r"`(\w+)`", section))
    assert {*surefoot.TORCHS_OWN, *surefoot.lr_scheduler.TORCHS_OWN} <= listed
    ours = {*surefoot.__all__, *surefoot.lr_scheduler.__all__} - listed
    assert not any(
        hasattr(torch.optim, name) and getattr(surefoot, name, None) is getattr(torch.optim, name)
        for name in ours
    )
