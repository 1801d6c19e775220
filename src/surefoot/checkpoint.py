"""Trees of tensors and plain values on disk: one safetensors file, written whole or not at all.

The tensors are the file's tensors, named by their place in the tree (``optimizer/state/conv.weight/exp_avg``);
everything else is JSON in its header, with a checksum for each tensor and for the JSON. Loading reads data
and never runs code.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["CheckpointError", "load", "save"]

FORMAT = "surefoot-1"


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is of something else."""


def save(path: str | os.PathLike[str], tree: dict[str, Any]) -> None:
    """Write a tree to one file.

    It is written beside ``path``, flushed to the disk and renamed: a kill at any moment leaves the old
    file or the new one.

    Args:
        path: The file; its folder exists.
        tree: Nested dicts with string or integer keys, lists and tuples, of dense tensors, strings,
            numbers, booleans and None.

    Raises:
        TypeError: Something else is in the tree; the message says where.
        OSError: The file cannot be written; what was at ``path`` is still there.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.safetensors"
        >>> save(path, {"weight": torch.ones(2), "betas": (0.9, 0.999)})
        >>> load(path)
        {'weight': tensor([1., 1.]), 'betas': (0.9, 0.999)}
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    tensors: dict[str, Tensor] = {}
    document = _encode(tree, "", tensors)
    checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "tree": json.dumps(document), "checksums": json.dumps(checksums)}
    metadata["checksum"] = _header_checksum(metadata)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # this save's alone
    try:
        with open(beside, "wb") as file:  # fails with an OSError that names the path, and has the usual mode
            mode = os.fstat(file.fileno()).st_mode
        save_file(tensors, beside, metadata)
        os.chmod(beside, mode)
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save` wrote, every bit and dtype as it was, on the CPU.

    Raises:
        CheckpointError: There is no such file, or it is damaged, or not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}, this version reads {FORMAT!r}")
        if metadata["checksum"] != _header_checksum(metadata):
            raise ValueError("its header is not what was saved")
        checksums = json.loads(metadata["checksums"])
        changed = [name for name in checksums.keys() | tensors.keys() if _differs(name, tensors, checksums)]
        if changed:
            raise ValueError(f"{min(changed)} is not what was saved")
        tree: dict[str, Any] = _decode(json.loads(metadata["tree"]), tensors)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged, or not a checkpoint: {error}. Go back to another one."
        ) from error
    return tree


def _encode(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON; its tensors go to ``tensors`` under the name of their place."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
        tensor = value.detach().resolve_conj()
        # A copy of its own: safetensors stores no views, and what is saved must not change while it is.
        if place in tensors:
            raise TypeError(f"two tensors are at {place}: rename the key that has a slash in it")
        if place == "__metadata__":
            raise TypeError("a tensor is at __metadata__, which safetensors keeps for itself: rename the key")
        tensors[place] = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).clone().contiguous()
        return {"complex" if tensor.is_complex() else "tensor": place}
    if isinstance(value, dict):
        if not all(isinstance(key, str | int) and not isinstance(key, bool) for key in value):
            raise TypeError(
                f"{place or 'the tree'} has keys {list(value)!r}: a checkpoint takes strings and integers"
            )
        content = {key: _encode(v, f"{place}/{key}".strip("/"), tensors) for key, v in value.items()}
        # JSON has string keys only; MultiStepLR counts its milestones by number.
        return {"dict": content} if all(isinstance(k, str) for k in value) else {"items": [*content.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(v, f"{place}/{i}".strip("/"), tensors) for i, v in enumerate(value)]}
    kind = f"{value.layout} {value.device} tensor" if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(f"{place} is a {kind}: a checkpoint takes dense tensors and plain values")


def _decode(document: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(document, dict):
        return document
    ((kind, content),) = document.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "complex":
        return torch.view_as_complex(tensors[content])
    if kind in ("dict", "items"):
        items = content.items() if kind == "dict" else content
        return {key: _decode(value, tensors) for key, value in items}
    sequence = {"list": list, "tuple": tuple}[kind]
    return sequence(_decode(value, tensors) for value in content)


def _differs(name: str, tensors: dict[str, Tensor], checksums: dict[str, int]) -> bool:
    return name not in tensors or checksums.get(name) != _checksum(tensors[name])


def _checksum(tensor: Tensor) -> int:
    data = tensor.cpu().reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0, dtype=torch.uint8)
    kind = f"{tensor.dtype} {tuple(tensor.shape)}"
    return zlib.crc32(data.numpy().data, zlib.crc32(kind.encode()))


def _header_checksum(metadata: dict[str, str]) -> str:
    return str(zlib.crc32((metadata["tree"] + metadata["checksums"]).encode()))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
