"""Files of torch.save as checkpoints, and checkpoints as files that torch.load reads."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surefoot import checkpoint
from surefoot.archive import CheckpointError, materialised
from surefoot.files import replacing

__all__ = ["from_torch", "is_torch", "to_torch"]

KEYS = {
    "model": ("model", "model_state_dict", "state_dict", "net"),
    "ema": ("ema",),
    "optimizer": ("optimizer", "optimizer_state_dict"),
    "scheduler": ("scheduler", "scheduler_state_dict", "lr_scheduler"),
    "scaler": ("scaler", "scaler_state_dict"),
}
"""What each part of a training is customarily called in a dict of them."""

ZIP, PICKLE = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch.save begin: since torch 1.6, and before."""


def is_torch(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as those of torch.save do; nothing of it is loaded."""
    begin = _begin(path)
    return begin.startswith(PICKLE) or (begin.startswith(ZIP) and b"/data.pkl" in begin)


def from_torch(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Write what torch.save wrote as a checkpoint.

    The file holds an optimizer's ``state_dict``, a model's, or a dict of parts under their customary keys
    (:data:`KEYS`), whose other keys become ``extra``. It does not say of which classes they are: the checkpoint can be
    loaded into any that they fit. Parameters are called as in ``param_names`` of the groups, and are otherwise known
    by their place. Loading runs no code.

    Args:
        source: The file.
        target: The checkpoint.
        force: Replace what is at ``target``.

    Raises:
        CheckpointError: ``source`` is missing, damaged, or holds more than tensors and plain values.
        FileExistsError: There is something at ``target``.
        OSError: ``target`` cannot be written; what was there still is.

    Example:
        >>> import tempfile, surefoot
        >>> folder = Path(tempfile.mkdtemp())
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(model.named_parameters())
        >>> parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
        >>> torch.save(parts, folder / "run.pt")
        >>> from_torch(folder / "run.pt", folder / "run.safetensors")
        >>> ours = surefoot.AdamW(model.named_parameters())
        >>> checkpoint.load(folder / "run.safetensors", model=model, optimizer=ours).extra
        {'epoch': 3}
    """
    if not is_torch(source):
        raise CheckpointError(
            f"{source} is not a torch file: surefoot convert takes what torch.save or checkpoint.save wrote"
        )
    _check_target(target, force)
    content = _read(source)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{source} holds a {type(content).__name__}: save a state_dict with torch.save, or a dict of them"
        )
    try:
        parts, rest = _parts(content)
        extra = rest["extra"] if rest.keys() == {"extra"} else rest or None
        checkpoint.write(target, parts, extra)
    except (RuntimeError, TypeError, ValueError) as error:  # RuntimeError: a list that is in itself
        raise CheckpointError(f"{source} cannot be converted: {error}") from error


def to_torch(source: str | os.PathLike[str], target: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a checkpoint as a file that ``torch.load(target, weights_only=True)`` reads.

    It holds a dict of the parts that there are, ``"model"``, ``"ema"``, ``"optimizer"``, ``"scheduler"``,
    ``"scaler"`` and ``"extra"``, each as its ``state_dict``; torch's optimizers load theirs.

    Args:
        source: The checkpoint.
        target: The file.
        force: Replace what is at ``target``.

    Raises:
        CheckpointError: ``source`` is missing, damaged, or no checkpoint.
        FileExistsError: There is something at ``target``.
        OSError: ``target`` cannot be written; what was there still is.

    Example:
        >>> import tempfile, surefoot
        >>> folder = Path(tempfile.mkdtemp())
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = surefoot.AdamW(model.parameters())
        >>> checkpoint.save(folder / "run.safetensors", model=model, optimizer=optimizer)
        >>> to_torch(folder / "run.safetensors", folder / "run.pt")
        >>> torchs = torch.optim.AdamW(model.parameters())
        >>> torchs.load_state_dict(torch.load(folder / "run.pt", weights_only=True)["optimizer"])
    """
    if _begin(source)[8:9] != b"{":  # where the header of a safetensors file begins
        raise CheckpointError(
            f"{source} is not a checkpoint: surefoot convert takes what torch.save or checkpoint.save wrote"
        )
    _check_target(target, force)
    content: dict[str, Any] = {}
    with checkpoint.opened(source) as saved:
        try:
            for name, part in saved.parts.items():
                state = _numbered(part) if name == "optimizer" else part["state"]
                content[name] = materialised(state)
        except (AttributeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{source} is no checkpoint of a training: {error!r} in its {name}"
            ) from error
        if saved.extra is not None:
            content["extra"] = saved.extra
    try:
        with replacing(Path(target)) as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch's writer has lost count, because a write failed
        raise OSError(f"cannot write {target}: {error.__context__ or error}") from error


def _begin(path: str | os.PathLike[str]) -> bytes:
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no file at {path}")
    with open(path, "rb") as file:
        return file.read(512)


def _check_target(target: str | os.PathLike[str], force: bool) -> None:
    if not force and os.path.lexists(target):
        raise FileExistsError(
            f"there is something at {target}: name another file, or pass --force to replace it"
        )


def _read(path: str | os.PathLike[str]) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # about TorchScript, before it refuses that
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a damaged pickle leads to, from IndexError to EOFError
        if unsafe := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path} holds more than tensors and plain values: {unsafe[1]}, with which loading could run code. "
                "Save the state_dict() of each part instead"
            ) from error
        why = re.split(r"\n|(?<=\w)\. |\.$", str(error))[0] or type(error).__name__
        raise CheckpointError(f"{path} is damaged: {why}. Go back to another one.") from error


def _parts(content: dict[Any, Any]) -> tuple[dict[str, Any], dict[Any, Any]]:
    """The parts of a checkpoint in what torch.save was given, and the rest."""
    found: dict[str, Any] = {}
    rest = dict(content)
    if _is_optimizer(content):
        found["optimizer"] = {key: rest.pop(key) for key in ("state", "param_groups")}
    elif any(isinstance(value, Tensor) for value in content.values()) and _is_module(content):
        found["model"], rest = content, {}
    else:
        for part, keys in KEYS.items():
            fits = {"model": _is_module, "ema": _is_module, "optimizer": _is_optimizer}.get(part, _is_dict)
            there = [key for key in keys if fits(content.get(key))]
            if len(there) > 1:
                raise ValueError(f"it has more than one {part}, {' and '.join(there)}: keep one")
            if there:
                found[part] = rest.pop(there[0])
    parts: dict[str, Any] = {name: {"class": None, "state": state} for name, state in found.items()}
    if "optimizer" in found:
        names = checkpoint.names_in(found["optimizer"]["param_groups"])
        parts["optimizer"] = checkpoint.optimizer_part(None, found["optimizer"], *names)
    return parts, rest


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_module(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and (isinstance(each, Tensor) or key.endswith("_extra_state"))
        for key, each in value.items()
    )


def _is_optimizer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("state"), dict)
        and isinstance(value.get("param_groups"), list)
        and all(isinstance(group, dict) and "params" in group for group in value["param_groups"])
    )


def _numbered(part: dict[str, Any]) -> dict[str, Any]:
    """The ``state_dict`` of an optimizer, whose parameters are numbers in torch."""
    names = [name for group in part["param_groups"] for name in group["params"]]
    number_of = {name: number for number, name in enumerate(names)}
    groups = []
    for group in part["param_groups"]:
        named = {"param_names": group["params"]} if part["named"] else {}
        groups.append({**group, "params": [number_of[name] for name in group["params"]], **named})
    return {
        "state": {number_of.get(key, key): entry for key, entry in part["state"].items()},
        "param_groups": groups,
    }
