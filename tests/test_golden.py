"""Checkpoints of every version load, and training goes on from them as it did then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import CLASSES
from golden.make import FOLDER, parts, steps

import surefoot
from surefoot import checkpoint

FILES = sorted(FOLDER.glob("*/*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_5_a_checkpoint_of_any_version_goes_on_as_it_did(path: Path) -> None:
    with checkpoint.opened(path) as saved:
        made = parts(path.stem, **saved.extra["settings"])
        assert saved.versions["surefoot"] == path.parent.name
    report = checkpoint.load(path, **made)
    assert report.complete
    assert report.notes == []
    after = steps(made, report.extra["grads"])
    torch.testing.assert_close(after, report.extra["after"], rtol=1e-5, atol=1e-6)


def test_each_optimizer_of_this_version_has_one() -> None:
    names = {path.stem for path in FILES if path.parent.name == surefoot.__version__}
    assert names == {case.name for case in CLASSES}
