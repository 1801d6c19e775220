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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

__all__ = ["CheckpointError", "Stored", "load", "opened", "save"]

FORMAT = "surefoot-1"
DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
}
"""What safetensors calls them; complex numbers are stored as pairs."""

CHUNK = 1 << 22  # bytes that are looked at together


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is of something else."""


class Stored:
    """A tensor in an open file, not read yet.

    Attributes:
        dtype: Its dtype.
        shape: Its shape.
    """

    def __init__(self, file: BinaryIO, start: int, like: Tensor) -> None:
        self._file, self._start = file, start
        self.dtype, self.shape, self._stored_as = like.dtype, like.shape, (like.dtype, like.shape)

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.shape.numel() * self.dtype.itemsize

    def read(self) -> Tensor:
        """A tensor of its own, on the CPU."""
        dtype, shape = self._stored_as
        made = torch.empty(shape, dtype=dtype)
        self._fill(_bytes(made))
        return made if dtype == self.dtype else torch.view_as_complex(made)

    def read_into(self, target: Tensor) -> None:
        """Fill a tensor of this shape, wherever it is, with no copy in between where none is needed."""
        plain = type(target.data) is Tensor and target.layout == torch.strided and target.is_contiguous()
        if plain and target.device.type == "cpu" and (target.dtype, target.shape) == self._stored_as:
            self._fill(_bytes(target.detach()))
            torch.autograd.graph.increment_version(target)
        else:
            with torch.no_grad():
                target.copy_(self.read())

    def as_complex(self) -> Stored:
        """The same as complex numbers, whose two parts are its last dimension."""
        made = copy(self)
        made.dtype, made.shape = self.dtype.to_complex(), self.shape[:-1]
        if self.shape[-1:] != (2,) or not self.dtype.is_floating_point:
            raise ValueError(f"a tensor of {self.dtype} {tuple(self.shape)} holds no complex numbers")
        return made

    def checksum(self) -> int:
        """Of its bytes, dtype and shape."""
        kind = f"{self.dtype} {tuple(self.shape)}"
        value, left, buffer = zlib.crc32(kind.encode()), self.nbytes, bytearray(min(CHUNK, self.nbytes))
        self._file.seek(self._start)
        while left:
            view = memoryview(buffer)[: min(left, CHUNK)]
            value, left = zlib.crc32(view[: (got := self._some(view))], value), left - got
        return value

    def _fill(self, view: memoryview) -> None:
        self._file.seek(self._start)
        while len(view):
            view = view[self._some(view) :]  # a read gives 2 GiB at most

    def _some(self, view: memoryview) -> int:
        """How much the next read gave."""
        if not (got := self._file.readinto(view)):  # type: ignore[attr-defined]
            raise ValueError("it ends in the middle of a tensor")
        return int(got)


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
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    document = _encode(tree, "", tensors, {})
    tensors = dict(sorted(tensors.items(), key=lambda named: -named[1].element_size()))  # each is aligned
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # this save's alone
    helper = ThreadPoolExecutor(1)
    try:
        with open(beside, "wb", buffering=0) as file:
            checksums = {name: helper.submit(_checksum, tensor) for name, tensor in tensors.items()}
            # The header comes first and is known last: with the longest checksums, its own may have more digits.
            longest = len(_header(document, tensors, dict.fromkeys(checksums, 2**32 - 1))) + 16
            file.seek(8 + longest)
            for tensor in tensors.values():
                _put(file, _bytes(tensor))
            header = _header(document, tensors, {name: found.result() for name, found in checksums.items()})
            file.seek(0)
            _put(file, memoryview(longest.to_bytes(8, "little") + header.ljust(longest)))
            os.fsync(file.fileno())
        os.replace(beside, path)
        _flush(path.parent)
    except OSError as error:
        if error.errno is None:
            raise OSError(f"cannot write {path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        helper.shutdown(cancel_futures=True)
        with suppress(OSError):  # it is gone, or cannot be removed for the reason that is raised
            beside.unlink()


def _header(document: Any, tensors: dict[str, Tensor], checksums: dict[str, int]) -> bytes:
    """What safetensors has before the tensors, of a length that is a multiple of 8."""
    metadata = {"format": FORMAT, "tree": json.dumps(document), "checksums": json.dumps(checksums)}
    metadata["checksum"] = _header_checksum(metadata)
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        shape = list(tensor.shape)
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _put(file: FileIO, view: memoryview) -> None:
    while len(view):
        view = view[file.write(view) :]  # which takes 2 GiB at most


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save` wrote, every bit and dtype as it was, on the CPU.

    Raises:
        CheckpointError: There is no such file, or it is damaged, or not a checkpoint.
    """
    with opened(path) as tree:
        read: dict[str, Any] = materialised(tree)
        return read


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The tree with a :class:`Stored` for each tensor, to be read one by one inside the block; all are checked before.

    Raises:
        CheckpointError: There is no such file, or it is damaged, or not a checkpoint.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise CheckpointError(f"there is no checkpoint at {path}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb", buffering=0))
            tree = _checked(path, file)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is damaged, or not a checkpoint: {error}. Go back to another one."
            ) from error
        yield tree


def materialised(tree: Any) -> Any:
    """A tree with the tensors themselves."""
    if isinstance(tree, Stored):
        return tree.read()
    if isinstance(tree, dict):
        return {key: materialised(value) for key, value in tree.items()}
    return type(tree)(map(materialised, tree)) if isinstance(tree, list | tuple) else tree


def _checked(path: Path, file: BinaryIO) -> dict[str, Any]:
    """The tree of a file that is whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as whole:  # which checks the layout, and reads nothing more
            metadata = whole.metadata() or {}
            shells = {name: whole.get_tensor(name) for name in whole.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r}, this version reads {FORMAT!r}")
    if metadata["checksum"] != _header_checksum(metadata):
        raise ValueError("its header is not what was saved")
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    starts = {name: 8 + size + header[name]["data_offsets"][0] for name in shells}
    tensors = {name: Stored(file, starts[name], shell) for name, shell in shells.items()}
    del shells
    checksums = json.loads(metadata["checksums"])
    for name in sorted(checksums.keys() | tensors.keys()):
        if name not in tensors or checksums.get(name) != tensors[name].checksum():
            raise ValueError(f"{name} is not what was saved")
    tree: dict[str, Any] = _decode(json.loads(metadata["tree"]), tensors)
    return tree


def _encode(value: Any, place: str, tensors: dict[str, Tensor], memory: dict[Any, str]) -> Any:
    """The value as JSON; its tensors go to ``tensors`` under the name of their place, what is there twice once."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    known = isinstance(value, Tensor) and (value.is_complex() or value.dtype in DTYPES)
    if known and value.layout == torch.strided and not value.is_meta:
        tensor, kind = (
            value.detach().resolve_conj().resolve_neg(),
            "complex" if value.is_complex() else "tensor",
        )
        if place in tensors:
            raise TypeError(f"two tensors are at {place}: rename the key that has a slash in it")
        if place == "__metadata__":
            raise TypeError("a tensor is at __metadata__, which safetensors keeps for itself: rename the key")
        where = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        if tensor.numel() and where in memory:
            return {kind: memory[where]}
        memory[where] = place
        plain = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).cpu()
        start = plain.untyped_storage().data_ptr()
        shared = start in memory  # safetensors stores no two tensors of one memory
        memory[start] = place
        tensors[place] = plain.clone(memory_format=torch.contiguous_format) if shared else plain.contiguous()
        return {kind: place}
    if isinstance(value, dict):
        if not all(isinstance(key, str | int) and not isinstance(key, bool) for key in value):
            raise TypeError(
                f"{place or 'the tree'} has keys {list(value)!r}: a checkpoint takes strings and integers"
            )
        content = {key: _encode(v, f"{place}/{key}".strip("/"), tensors, memory) for key, v in value.items()}
        # JSON has string keys only; MultiStepLR counts its milestones by number.
        return {"dict": content} if all(isinstance(k, str) for k in value) else {"items": [*content.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(v, f"{place}/{i}".strip("/"), tensors, memory) for i, v in enumerate(value)]}
    kind = type(value).__name__
    if isinstance(value, Tensor):
        kind = f"{value.layout} {value.device} tensor of {value.dtype}"
    raise TypeError(f"{place} is a {kind}: a checkpoint takes dense tensors and plain values")


def _decode(document: Any, tensors: dict[str, Stored]) -> Any:
    if not isinstance(document, dict):
        return document
    ((kind, content),) = document.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "complex":
        return tensors[content].as_complex()
    if kind in ("dict", "items"):
        items = content.items() if kind == "dict" else content
        return {key: _decode(value, tensors) for key, value in items}
    sequence = {"list": list, "tuple": tuple}[kind]
    if not isinstance(content, list):
        raise TypeError(f"a {kind} is {type(content).__name__}")
    return sequence(_decode(value, tensors) for value in content)


def _checksum(tensor: Tensor) -> int:
    kind = f"{tensor.dtype} {tuple(tensor.shape)}"
    return zlib.crc32(_bytes(tensor.cpu()), zlib.crc32(kind.encode()))


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    flat = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0, dtype=torch.uint8)
    return memoryview(flat.numpy())  # type: ignore[arg-type]


def _header_checksum(metadata: dict[str, str]) -> str:
    return str(zlib.crc32((metadata["tree"] + metadata["checksums"]).encode()))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
