"""Trees of tensors and plain values on disk: one safetensors file, written whole or not at all.

The tensors are the file's tensors, named by their place in the tree (``optimizer/state/conv.weight/exp_avg``);
everything else is JSON in its header, with a checksum for each tensor and for the JSON. Loading reads data
and never runs code.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.nn import Parameter

from surefoot.files import replacing

__all__ = ["CheckpointError", "Stored", "load", "opened", "save"]

FORMAT = "surefoot-1"
NAMES = {
    torch.bool: "BOOL",
    **{
        getattr(torch, f"{sign}int{bits}"): f"{'U' if sign else 'I'}{bits}"
        for sign in ("u", "")
        for bits in (8, 16, 32, 64)
    },
    **{torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e4m3fnuz: "F8_E4M3FNUZ"},
    **{torch.float8_e5m2: "F8_E5M2", torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0"},
}
"""What safetensors calls each dtype."""

DTYPES = {name: dtype for dtype, name in NAMES.items()}
CHUNK = 1 << 22  # bytes that are looked at together


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is of something else."""


class Stored:
    """A tensor in an open file, not read yet.

    Attributes:
        dtype: Its dtype.
        shape: Its shape.
    """

    def __init__(self, file: BinaryIO, start: int, dtype: torch.dtype, shape: torch.Size) -> None:
        self._file, self._start = file, start
        self.dtype, self.shape, self._stored_as = dtype, shape, (dtype, shape)

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.shape.numel() * self.dtype.itemsize

    def read(self) -> Tensor:
        """A tensor of its own, on the CPU."""
        dtype, shape = self._stored_as
        made = torch.empty(shape, dtype=dtype)
        self._file.seek(self._start)
        _fill(self._file, _bytes(made))
        return made if dtype == self.dtype else torch.view_as_complex(made)

    def read_into(self, target: Tensor) -> None:
        """Fill a tensor of this shape, wherever it is, with no copy in between where none is needed."""
        plain = type(target.data) is Tensor and target.layout == torch.strided and target.is_contiguous()
        if plain and target.device.type == "cpu" and (target.dtype, target.shape) == self._stored_as:
            self._file.seek(self._start)
            _fill(self._file, _bytes(target.detach()))
            torch.autograd.graph.increment_version(target)
        else:
            with torch.no_grad():
                target.copy_(self.read())

    def as_complex(self) -> Stored:
        """The same as complex numbers, whose two parts are its last dimension."""
        if self.shape[-1:] != (2,) or not self.dtype.is_floating_point:
            raise ValueError(f"a tensor of {self.dtype} {tuple(self.shape)} holds no complex numbers")
        made = copy(self)
        made.dtype, made.shape = self.dtype.to_complex(), self.shape[:-1]
        return made

    def equals(self, other: Stored) -> bool:
        """Whether the file says the same of both."""
        return self._start == other._start or self.checksum() == other.checksum()

    def checksum(self) -> str:
        """Of its bytes, dtype and shape."""
        value, left, buffer = _start(self.dtype, self.shape), self.nbytes, bytearray(min(CHUNK, self.nbytes))
        self._file.seek(self._start)
        while left:
            view = memoryview(buffer)[: min(left, CHUNK)]
            got = _some(self._file, view)
            value, left = zlib.crc32(view[:got], value), left - got
        return f"{value:08x}"


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
    tensors: dict[str, Tensor] = {}
    document = json.dumps(_encode(tree, "", tensors, {}))
    tensors = dict(sorted(tensors.items(), key=lambda named: -named[1].element_size()))  # so each is aligned
    checksums = dict.fromkeys(tensors, "0" * 8)
    with replacing(Path(os.path.realpath(path))) as file, ThreadPoolExecutor(1) as helper:
        file.write(_header(tensors, document, checksums))  # again when the checksums are known
        buffer = memoryview(bytearray(CHUNK))
        for name, tensor in tensors.items():
            value = _start(tensor.dtype, tensor.shape)
            data = _bytes(tensor.resolve_conj().resolve_neg().cpu().contiguous())
            for start in range(0, len(data), CHUNK):
                chunk = buffer[: len(data[start : start + CHUNK])]
                chunk[:] = data[
                    start : start + CHUNK
                ]  # of just these bytes, whoever else writes to the tensor
                summed = helper.submit(zlib.crc32, chunk, value)
                file.write(chunk)
                value = summed.result()
            checksums[name] = f"{value:08x}"
        file.seek(0)
        file.write(_header(tensors, document, checksums))


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
            tree = _checked(file)
        except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
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


def _header(tensors: dict[str, Tensor], document: str, checksums: dict[str, str]) -> bytes:
    """What a safetensors file begins with; of one length whatever the checksums are."""
    said = json.dumps(checksums)
    checksum = _header_checksum(document, said)
    layout: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "tree": document, "checksums": said, "checksum": checksum}
    }
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        kind = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)}
        layout[name] = {**kind, "data_offsets": [start, end]}
    text = json.dumps(layout).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _checked(file: BinaryIO) -> dict[str, Any]:
    """The tree of a file that is whole."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= size - 8:
        raise ValueError("it has no header of safetensors")
    text = bytearray(length)
    _fill(file, memoryview(text))
    layout = json.loads(text)
    metadata = layout.pop("__metadata__", {})
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r}, this version reads {FORMAT!r}")
    document, said = metadata["tree"], metadata["checksums"]
    if metadata["checksum"] != _header_checksum(document, said):
        raise ValueError("its header is not what was saved")
    tensors: dict[str, Stored] = {}
    expected = 8 + length
    for name, entry in layout.items():
        dtype, shape, (start, end) = DTYPES[entry["dtype"]], torch.Size(entry["shape"]), entry["data_offsets"]
        tensors[name] = Stored(file, 8 + length + start, dtype, shape)
        if min(shape, default=0) < 0 or 8 + length + start != expected or end - start != tensors[name].nbytes:
            raise ValueError(f"{name} is not where it should be")
        expected = 8 + length + end
    if expected != size:
        raise ValueError(f"it has {size} bytes, and should have {expected}")
    checksums = json.loads(said)
    for name in sorted(checksums.keys() | tensors.keys()):
        if name not in tensors or checksums.get(name) != tensors[name].checksum():
            raise ValueError(f"{name} is not what was saved")
    tree: dict[str, Any] = _decode(json.loads(document), tensors)
    return tree


def _encode(value: Any, place: str, tensors: dict[str, Tensor], memory: dict[Any, str]) -> Any:
    """The value as JSON; its tensors go to ``tensors`` under the name of their place, what is there twice once."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
        tensor, kind = value.detach(), "complex" if value.is_complex() else "tensor"
        if tensor.dtype not in NAMES and not tensor.is_complex():
            raise TypeError(
                f"{place} is a tensor of {tensor.dtype}: a checkpoint takes {', '.join(NAMES.values())}"
            )
        if place in tensors:
            raise TypeError(f"two tensors are at {place}: rename the key that has a slash in it")
        if place == "__metadata__":
            raise TypeError("a tensor is at __metadata__, which safetensors keeps for itself: rename the key")
        where = (
            tensor.data_ptr(),
            tensor.dtype,
            tensor.shape,
            tensor.stride(),
            tensor.is_conj(),
            tensor.is_neg(),
        )
        if tensor.numel() and type(value) in (Tensor, Parameter) and where in memory:
            return {kind: memory[where]}
        memory[where] = place
        tensors[place] = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
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
    kind = f"{value.layout} {value.device} tensor" if isinstance(value, Tensor) else type(value).__name__
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


def _start(dtype: torch.dtype, shape: torch.Size) -> int:
    """What a tensor's checksum begins with."""
    return zlib.crc32(f"{dtype} {tuple(shape)}".encode())


def _fill(file: BinaryIO, view: memoryview) -> None:
    while len(view):
        view = view[_some(file, view) :]  # a read gives 2 GiB at most


def _some(file: BinaryIO, view: memoryview) -> int:
    """How much the next read gave."""
    got: int = file.readinto(view)  # type: ignore[attr-defined]
    if not got:
        raise ValueError("it ends in the middle")
    return got


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    flat = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0, dtype=torch.uint8)
    return memoryview(flat.numpy())  # type: ignore[arg-type]


def _header_checksum(document: str, checksums: str) -> str:
    return f"{zlib.crc32((document + checksums).encode()):08x}"
