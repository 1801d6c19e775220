import os
import pickle
from collections import OrderedDict
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from cases import CASES, Case
from torch import nn
from trainings import bits, net

import surefoot
from surefoot import archive, checkpoint
from surefoot.archive import CheckpointError
from surefoot.convert import KEYS, from_torch, to_torch
from surefoot.optimizers.base import EXECUTION

# One that torch has, and not by its fused kernel: how a step is executed is not converted.
TORCHS = [case for case in CASES if hasattr(torch.optim, case.name) and "fused" not in case.kwargs]

both_formats = pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "run.pt"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def weights(named: bool) -> list[Any]:
    torch.manual_seed(1)
    params = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]
    return [("matrix", params[0]), ("vector", params[1])] if named else params


def stepped(optimizer: torch.optim.Optimizer, steps: int, seed: int = 2) -> torch.optim.Optimizer:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.randn(param.shape, generator=generator)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("named", [True, False], ids=["named", "by place"])
@pytest.mark.parametrize("case", TORCHS, ids=str)
def test_state_of_torch_goes_there_and_back_and_takes_the_same_next_step(
    case: Case, named: bool, source: Path, target: Path, tmp_path: Path
) -> None:
    old = stepped(case.torchs(weights(named)), 3)
    state = deepcopy(old.state_dict())
    torch.save(state, source)
    from_torch(source, target)
    to_torch(target, tmp_path / "again.pt")
    content = torch.load(tmp_path / "again.pt", weights_only=True)
    assert content.keys() == {"optimizer"}
    again = content["optimizer"]
    assert bits(again["state"]) == bits(state["state"])
    kept = [{key: v for key, v in group.items() if key not in EXECUTION} for group in state["param_groups"]]
    assert bits(again["param_groups"]) == bits(kept)

    for make in (case.torchs, case.ours):
        results = []
        for load in (
            lambda optimizer: optimizer.load_state_dict(deepcopy(state)),  # what was not converted
            lambda optimizer: optimizer.load_state_dict(deepcopy(again)),
            lambda optimizer: checkpoint.load(target, optimizer=optimizer),
        ):
            optimizer = make(weights(named), lr=0.77)
            load(optimizer)
            stepped(optimizer, 1, seed=3)
            results.append(bits([p for group in optimizer.param_groups for p in group["params"]]))
        assert results[0] == results[1] == results[2]


def parts_of(model: nn.Module, home: Any) -> dict[str, Any]:
    """A model with all that it is trained with, after two steps."""
    optimizer = home.AdamW(model.named_parameters(), lr=0.01)
    scheduler = home.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    for _ in range(2):
        stepped(optimizer, 1)
        scheduler.step()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**9)
    return {
        "model": model,
        "ema": torch.optim.swa_utils.AveragedModel(model),
        "optimizer": optimizer,
        "scheduler": scheduler,
        "scaler": scaler,
    }


def states(parts: dict[str, Any]) -> Any:
    found = {name: part.state_dict() for name, part in parts.items()}
    return bits({**found, "model": dict(found["model"]), "ema": dict(found["ema"])})


@both_formats
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_dict_of_parts_under_their_customary_keys(
    which: int, as_zip: bool, source: Path, target: Path
) -> None:
    parts = parts_of(net(), torch.optim)
    keys = {part: keys[min(which, len(keys) - 1)] for part, keys in KEYS.items()}
    content = {keys[part]: each.state_dict() for part, each in parts.items()}
    more = {"epoch": 3, "arch": "net", "rng": torch.get_rng_state(), "best": (0.5, None), 7: [True]}
    torch.save({**content, **more}, source, _use_new_zipfile_serialization=as_zip)
    from_torch(source, target)

    torch.manual_seed(5)
    others = parts_of(net(), torch.optim)
    assert states(others) != states(parts)
    report = checkpoint.load(target, **others)
    assert states(others) == states(parts)
    assert (report.complete, bits(report.extra)) == (True, bits(more))
    checkpoint.load(target, **parts_of(net(), surefoot))  # its classes are not said: ours take it, too


def test_a_checkpoint_of_ours_loads_in_torch_and_comes_back(
    source: Path, target: Path, tmp_path: Path
) -> None:
    parts = parts_of(net(), surefoot)
    checkpoint.save(target, **parts, extra={"epoch": 3})
    to_torch(target, source)
    content = torch.load(source, weights_only=True)
    assert content["extra"] == {"epoch": 3}
    others = parts_of(net(), torch.optim)
    for name, part in others.items():
        if name != "scheduler":  # ours has curves in its place of torch's constants
            part.load_state_dict(content[name])
    assert bits(others["optimizer"].state_dict()["state"]) == bits(parts["optimizer"].state_dict()["state"])
    assert others["optimizer"].param_groups[0]["lr"] == parts["optimizer"].param_groups[0]["lr"]

    from_torch(source, tmp_path / "again.safetensors")
    with checkpoint.opened(target) as saved, checkpoint.opened(tmp_path / "again.safetensors") as again:
        for name, part in saved.parts.items():
            assert again.parts[name]["class"] is None
            pair = ({**each, "class": None, "shapes": None} for each in (part, again.parts[name]))
            assert len({repr(bits(archive.materialised(each))) for each in pair}) == 1
        assert again.extra == saved.extra


@pytest.mark.parametrize("extra", [None, {}, 3, {"extra": 3}, {"model": {"w": torch.ones(2)}}, {"a": [1.5]}])
def test_extra_comes_back_as_it_was(extra: Any, source: Path, target: Path) -> None:
    checkpoint.save(target, model=nn.Linear(2, 1), extra=extra)
    to_torch(target, source)
    from_torch(source, target, force=True)
    with checkpoint.opened(target) as saved:
        assert (bits(saved.extra), [*saved.parts]) == (bits(extra), ["model"])


def test_the_state_of_a_model_alone(source: Path, target: Path) -> None:
    class WithMore(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"calls": 3}

        def set_extra_state(self, state: Any) -> None:
            self.more = state

    model = WithMore(2, 1)
    torch.save(model.state_dict(), source)
    from_torch(source, target)
    other = WithMore(2, 1)
    assert checkpoint.load(target, model=other).complete
    assert (bits(other.weight), other.more) == (bits(model.weight), {"calls": 3})


def test_every_dtype_shape_and_layout(source: Path, target: Path, tmp_path: Path) -> None:
    dtypes = [
        *torch.storage._dtype_to_storage_type_map(),
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.uint16,
    ]
    tensors = {
        str(dtype): torch.arange(6).to(dtype) for dtype in dtypes if not str(dtype).startswith("torch.q")
    }
    tensors |= {"none": torch.ones(0, 3), "number": torch.tensor(2.0), "turned": torch.randn(2, 3).T}
    tensors |= {"one": tensors["turned"], "part": tensors["turned"][1:]}
    torch.save(tensors, source)
    from_torch(source, target)
    to_torch(target, tmp_path / "again.pt")
    assert bits(torch.load(tmp_path / "again.pt", weights_only=True)["model"]) == bits(tensors)


def test_numbers_of_parameters_may_be_any_as_in_old_files(source: Path, target: Path) -> None:
    """Once they were addresses, and steps were Python's."""
    momentum = torch.ones(4)
    groups = [{"params": [900, 700], "lr": 0.5, "momentum": 0.9}]
    state = {700: {"momentum_buffer": momentum, "step": 2}, "shared": 1}
    torch.save({"state": state, "param_groups": groups, "format": "old"}, source)
    from_torch(source, target)
    with checkpoint.opened(target) as saved:
        part = archive.materialised(saved.parts["optimizer"])
        assert bits(part["state"]) == bits({"1": state[700], "shared": 1})
        assert part["param_groups"] == [{"params": ["0", "1"], "lr": 0.5, "momentum": 0.9}]
        assert (part["class"], part["named"], saved.extra) == (None, False, {"format": "old"})


def test_what_only_looks_like_a_part_is_kept_as_extra(source: Path, target: Path) -> None:
    content = {"model": "resnet50", "optimizer": [{"lr": 1}], "net": {"w": torch.ones(2)}, "scheduler": None}
    torch.save(content, source)
    from_torch(source, target)
    with checkpoint.opened(target) as saved:
        assert [*saved.parts] == ["model"]
        assert saved.extra == {"model": "resnet50", "optimizer": [{"lr": 1}], "scheduler": None}


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("boom",)


@pytest.mark.parametrize("write", [torch.save, "legacy", pickle.dump, "old pickle"])
def test_code_in_a_file_is_refused_and_does_not_run(
    write: Any, source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"model": {"w": torch.ones(2)}, "epoch": Bomb()}
    with open(source, "wb") as file:
        if write == "legacy":
            torch.save(content, file, _use_new_zipfile_serialization=False)
        elif write == "old pickle":
            pickle.dump(content, file, protocol=2)
        else:
            write(content, file)
    with pytest.raises(CheckpointError) as refused:
        from_torch(source, target)
    assert str(source) in str(refused.value)
    assert "\n" not in str(refused.value)
    if write in (torch.save, "legacy"):
        assert "more than tensors and plain values: posix.mkdir" in str(refused.value)
        assert "Save the state_dict() of each part instead" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def cycle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list: save a state_dict with torch.save, or a dict of them"),
        ({"epoch": np.float64(3)}, "more than tensors and plain values: numpy._core.multiarray.scalar, with"),
        (nn.Linear(2, 1), "torch.nn.modules.linear.Linear, with which loading could run code. Save the"),
        ({"precision": torch.float16}, "cannot be converted: extra/precision is a dtype: a checkpoint takes"),
        ({"seen": [{1, 2}]}, "cannot be converted: extra/seen/0 is a set"),
        ({"table": {(1, 2): 3}}, "extra/table has keys [(1, 2)]: a checkpoint takes strings and integers"),
        ({"w": torch.ones(2).to_sparse()}, "model/state/w is a torch.sparse_coo cpu tensor"),
        ({"model": {}, "net": {}}, "it has more than one model, model and net: keep one"),
        ({"endless": cycle()}, "cannot be converted: maximum recursion depth"),
        ({"huge": torch.ones(1).expand(2**50)}, "cannot be converted: "),
        ({"state": {}, "param_groups": [{"params": 3}]}, "cannot be converted: "),
        ({"state": {}, "param_groups": [{"params": [[3]]}]}, "cannot be converted: "),
    ],
)
def test_what_cannot_be_kept_is_named(content: Any, message: str, source: Path, target: Path) -> None:
    torch.save(content, source)
    with pytest.raises(CheckpointError) as refused:
        from_torch(source, target)
    assert str(refused.value).startswith(f"{source} ")
    assert message in str(refused.value)
    assert not target.exists()


@both_formats
def test_a_file_that_ends_early_is_damaged(as_zip: bool, source: Path, target: Path) -> None:
    torch.save(
        parts_of(net(), torch.optim)["optimizer"].state_dict(), source, _use_new_zipfile_serialization=as_zip
    )
    whole = source.read_bytes()
    for length in [*range(0, 600, 7), *range(600, len(whole), 61), len(whole) - 1]:
        source.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as refused:
            from_torch(source, target)
        said = str(refused.value)
        assert said.startswith(f"{source} ")
        assert "\n" not in said
        assert not target.exists()


@both_formats
def test_a_bit_that_is_flipped_leads_to_no_other_error(as_zip: bool, source: Path, target: Path) -> None:
    """Torch looks at no checksums: some flips it does not see, so they cannot all be refused."""
    torch.save(
        stepped(torch.optim.SGD(weights(True), momentum=0.9), 1).state_dict(),
        source,
        _use_new_zipfile_serialization=as_zip,
    )
    whole = source.read_bytes()
    for place in range(0, len(whole), 13):
        source.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with suppress(CheckpointError):
            from_torch(source, target, force=True)


@pytest.mark.parametrize("convert", [from_torch, to_torch])
def test_what_is_neither_is_said(convert: Any, source: Path, target: Path) -> None:
    for content in (b"", b"hello", b"PK\x03\x04", pickle.dumps({"epoch": 3}), b"\0" * 100):
        source.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"takes what torch\.save or checkpoint\.save wrote"):
            convert(source, target)
    np.savez(source.with_suffix(".npz"), weight=np.ones(3))
    with pytest.raises(CheckpointError, match=r"takes what torch\.save or checkpoint\.save wrote"):
        convert(source.with_suffix(".npz"), target)
    for missing in (source.with_name("nothing.pt"), source.parent):
        with pytest.raises(CheckpointError, match=f"there is no file at {missing}$"):
            convert(missing, target)
    safetensors.torch.save_file({"weight": torch.ones(3)}, source)
    with pytest.raises(CheckpointError, match=r"not a torch file|its format is None"):
        convert(source, target)
    assert not target.exists()


def test_a_checkpoint_that_is_not_one_of_a_training(source: Path, target: Path) -> None:
    tree = {"versions": {}, "extra": None, "optimizer": {"class": "SGD", "state": {}, "named": True}}
    for wrong, message in (
        ({"weight": torch.ones(2)}, "no checkpoint of a training: pass a file"),
        (tree, r"no checkpoint of a training: KeyError\('param_groups'\) in its optimizer"),
    ):
        archive.save(target, wrong)
        with pytest.raises(CheckpointError, match=message):
            to_torch(target, source)
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged, or not a checkpoint"):
        to_torch(target, source)
    assert not source.exists()


def test_nothing_is_replaced_unless_it_is_said(source: Path, target: Path, tmp_path: Path) -> None:
    torch.save(OrderedDict(w=torch.ones(2)), source)
    from_torch(source, target)
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("mine")
    link.symlink_to("nowhere")
    for there in (other, link):
        for convert, file in ((from_torch, source), (to_torch, target)):
            with pytest.raises(FileExistsError, match=f"at {there}: name another file, or pass --force"):
                convert(file, there)
            assert other.read_text() == "mine"
    to_torch(target, other, force=True)
    from_torch(other, other, force=True)  # itself, too
    with checkpoint.opened(other) as saved:
        assert [*saved.parts] == ["model"]


def test_a_full_disk_leaves_what_was_there(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(target, model=nn.Linear(2, 1))
    source.write_text("mine")

    def full(content: Any, file: Any) -> None:
        file.write(b"PK")
        try:
            raise OSError("no space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598") from None  # as torch's writer does

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=f"cannot write {source}: no space left on device"):
        to_torch(target, source, force=True)
    assert source.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.pt", "run.safetensors"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        to_torch(target, tmp_path / "nowhere" / "run.pt")
