import builtins
import errno
import io
import json
import math
import os
import pickle
import resource
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from trainings import bits

from surefoot import archive, files
from surefoot.archive import CheckpointError

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def again(path: Path, tree: Any) -> Any:
    """The tree, saved and loaded."""
    archive.save(path, tree)
    return archive.load(path)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (64,), (5, 3)], ids=str)
def test_every_dtype_comes_back_to_the_bit(dtype: torch.dtype, shape: tuple[int, ...], path: Path) -> None:
    """Random bytes: denormal numbers, infinities and NaNs with payloads among them."""
    size = math.prod(shape) * dtype.itemsize
    data = torch.randint(2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8)
    tensor = data.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)
    loaded = again(path, {"tensor": tensor})["tensor"]
    assert (loaded.dtype, loaded.shape, loaded.device.type) == (dtype, tensor.shape, "cpu")
    assert bits(loaded) == bits(tensor)


def test_a_nan_keeps_its_payload(path: Path) -> None:
    payloads = torch.tensor([0x7FC00001, 0x7F800001, -0x00400001 & 0x7FFFFFFF], dtype=torch.int32)
    loaded = again(path, {"a": payloads.view(torch.float32)})["a"]
    assert loaded.view(torch.int32).tolist() == payloads.tolist()


BASE = torch.arange(24.0).reshape(2, 3, 4)
WAVE = torch.randn(3, 4, dtype=torch.complex64)
VIEWS: dict[str, Callable[[], torch.Tensor]] = {
    "transposed": lambda: BASE.transpose(0, 2),
    "a part": lambda: BASE[1, 1:, 2],
    "every other": lambda: BASE.reshape(-1)[::2],
    "expanded": lambda: BASE[:1].expand(5, 3, 4),
    "expanded number": lambda: torch.tensor(1.0).expand(3),
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "conjugate": lambda: WAVE.conj(),
    "imaginary part": lambda: WAVE.conj().imag,
    "adjoint": lambda: WAVE.mH,
    "parameter": lambda: nn.Parameter(torch.randn(3)),
    "of a graph": lambda: nn.Parameter(torch.randn(3)) * 2,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_tensor_comes_back_however_it_lies_in_memory(view: Any, path: Path) -> None:
    tensor = view()
    loaded = again(path, {"a": tensor})["a"]
    assert torch.equal(loaded, tensor)
    assert loaded.dtype == tensor.dtype
    assert not loaded.requires_grad


def test_tensors_that_share_memory_come_back_whole(path: Path) -> None:
    weight = torch.randn(4, 4)
    tree = {"weight": weight, "tied": weight, "row": weight[1], "turned": weight.t(), "tail": [weight[2:]]}
    assert bits(again(path, tree)) == bits(tree)


def test_what_was_loaded_can_be_written_to(path: Path) -> None:
    loaded = again(path, {"a": torch.zeros(3)})
    loaded["a"].add_(1)
    assert torch.equal(archive.load(path)["a"], torch.zeros(3))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(), TREES, max_size=4))
@example(
    {"nan": math.nan, "inf": [math.inf, -math.inf], "zero": (-0.0,), "nothing": None, "none": [(), [], {}]}
)
@example({"tensor": {"tensor": "tensor"}, "dict": {"list": ["tuple"]}, "__metadata__": {"format": "pt"}})
@example({"one": 1, "true": True, "float": 1.0, "large": 2**80})
def test_plain_values_come_back_as_they_were(tree: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert bits(again(Path(folder) / "a", tree)) == bits(tree)


@pytest.mark.parametrize(
    "key", ["", " ", "a/b", "/", "/a", "a/", "ключ", "a\nb", "a.b", '"', "\\", "\0", "0", "tensor", "dict"]
)
def test_any_string_is_a_key(key: str, path: Path) -> None:
    tree = {"outer": {key: torch.ones(2), "other": 1}, "deep": {key: {key: torch.zeros(3)}}}
    assert bits(again(path, tree)) == bits(tree)
    assert bits(again(path, {key: torch.ones(1)})) == bits({key: torch.ones(1)})


@pytest.mark.parametrize(
    "tree",
    [
        {"a/b": torch.ones(2), "a": {"b": torch.zeros(2)}},
        {"/a": torch.ones(2), "a": torch.zeros(2)},
        {"a": [torch.ones(2)], "a/0": torch.zeros(2)},
        {"a": {1: torch.ones(2), "1": torch.zeros(2)}},
    ],
)
def test_two_tensors_that_would_have_one_name_are_an_error(tree: Any, path: Path) -> None:
    with pytest.raises(TypeError, match=r"two tensors are at a.*rename the key"):
        archive.save(path, tree)


def test_the_one_name_that_the_format_keeps_for_itself_is_an_error(path: Path) -> None:
    archive.save(path, {"a": 1})
    with pytest.raises(TypeError, match=r"__metadata__.*rename"):
        archive.save(path, {"__metadata__": torch.ones(2)})
    assert archive.load(path) == {"a": 1}


NOT_DATA = {
    "set": {1, 2},
    "object": object(),
    "function": len,
    "bytes": b"ab",
    "complex": 1j,
    "dtype": torch.float32,
    "device": torch.device("cpu"),
    "ndarray": np.ones(2),
    "float32": np.float32(1),
    "Linear": nn.Linear(1, 1),
    "sparse": torch.eye(2).to_sparse(),
    "meta": torch.empty(2, device="meta"),
}


@pytest.mark.parametrize("name", NOT_DATA)
def test_what_is_not_data_is_an_error_that_says_where(name: str, path: Path) -> None:
    archive.save(path, {"older": True})
    with pytest.raises(TypeError, match=rf"^extra/rows/1/what is a .*{name}.*takes dense tensors"):
        archive.save(path, {"extra": {"rows": [0, {"what": NOT_DATA[name]}]}})
    assert archive.load(path) == {"older": True}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "tree",
    [{3: 1, 7: [2]}, {-1: torch.ones(2), "a": 1}, {"a": {0: torch.ones(1), 10**30: {}}}, {"1": 1, 1: 2}],
)
def test_integers_are_keys_and_stay_integers(tree: Any, path: Path) -> None:
    assert bits(again(path, tree)) == bits(tree)


@pytest.mark.parametrize("key", [True, None, (1, 2), 0.5, b"a"])
def test_a_key_that_is_something_else_is_an_error_that_says_where(key: Any, path: Path) -> None:
    with pytest.raises(TypeError, match=r"^a/b has keys .*takes strings and integers"):
        archive.save(path, {"a": {"b": {"c": 1, key: 2}}})
    with pytest.raises(TypeError, match=r"^the tree has keys"):
        archive.save(path, {key: 2})
    assert not path.exists()


# Saving


def test_saving_takes_any_kind_of_path_and_replaces(path: Path) -> None:
    archive.save(str(path), {"a": 1})
    assert archive.load(str(path)) == {"a": 1}
    archive.save(path, {"b": torch.ones(3)})
    assert list(archive.load(path)) == ["b"]
    assert list(path.parent.iterdir()) == [path]


def test_saving_leaves_what_is_saved_alone(path: Path) -> None:
    weight = nn.Parameter(torch.randn(3, 4).t())
    weight.grad = torch.ones(4, 3)
    tree = {"weight": weight, "list": [1, (2, None)]}
    before, stride = bits(tree), weight.stride()
    archive.save(path, tree)
    assert bits(tree) == before
    assert weight.stride() == stride
    assert tree["weight"] is weight


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_file_has_the_mode_of_any_other(mask: int, mode: int, path: Path) -> None:
    previous = os.umask(mask)
    try:
        archive.save(path, {"a": torch.ones(1)})
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == mode


class Full:
    """A file on a disk that is full after the header."""

    def __init__(self, path: Any, mode: str) -> None:
        self.file = builtins.open(path, mode)  # noqa: SIM115 - it is closed by its own exit
        self.written = 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: Any) -> None:
        self.file.close()

    def write(self, data: Any) -> int:
        self.written += 1
        if self.written == 2:
            raise OSError(28, "No space left on device")
        return self.file.write(data)


def _raises(error: BaseException) -> Callable[..., None]:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


FAILURES: dict[str, tuple[Any, str, Callable[..., None], type[BaseException]]] = {
    "killed while writing": (archive, "_header", _raises(KeyboardInterrupt()), KeyboardInterrupt),
    "disk full": (files, "open", Full, OSError),
    "killed before flushing": (os, "fsync", _raises(KeyboardInterrupt()), KeyboardInterrupt),
    "disk broken": (os, "fsync", _raises(OSError(5, "Input/output error")), OSError),
    "killed before renaming": (os, "replace", _raises(KeyboardInterrupt()), KeyboardInterrupt),
    "not renamed": (os, "replace", _raises(PermissionError(13, "Permission denied")), OSError),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_save_that_fails_loses_nothing(failure: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = {"weight": torch.randn(3), "step": 1}
    archive.save(path, older)
    where, name, what, error = FAILURES[failure]
    with monkeypatch.context() as patch:
        patch.setattr(where, name, what, raising=False)
        with pytest.raises(error):
            archive.save(path, {"weight": torch.randn(3), "step": 2})
    assert bits(archive.load(path)) == bits(older)
    assert list(path.parent.iterdir()) == [path]


def test_there_is_a_whole_file_at_every_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    replace = os.replace

    def look(source: Path, target: Path) -> None:
        seen.append((archive.load(target)["step"], archive.load(source)["step"]))
        replace(source, target)

    archive.save(path, {"step": 1})
    monkeypatch.setattr(os, "replace", look)
    archive.save(path, {"step": 2})
    assert seen == [(1, 2)]
    assert archive.load(path) == {"step": 2}


def test_two_threads_that_save_to_one_place_each_save_a_whole_file(path: Path) -> None:
    failures: list[BaseException] = []

    def save(number: int) -> None:
        try:
            for _ in range(25):
                archive.save(path, {"number": number, "weight": torch.full((2000,), float(number))})
                tree = archive.load(path)
                assert bool((tree["weight"] == tree["number"]).all())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_an_error_that_names_the_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "open", Full, raising=False)
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
        archive.save(path, {"a": torch.ones(1)})


LARGE = {"a": torch.ones(300_000), "step": 2}


def refused_and_kept(path: Path, code: int) -> None:
    """Assert that the large tree cannot be saved, for this reason, and that the older file is all there is."""
    with pytest.raises(OSError, match=str(path)) as caught:
        archive.save(path, LARGE)
    assert caught.value.errno == code
    assert archive.load(path) == {"step": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_may_grow_no_more_is_an_error_that_names_it(path: Path) -> None:
    """The system itself says it, in the middle of a write."""
    archive.save(path, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # Python ignores its signal
    try:
        refused_and_kept(path, errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    archive.save(path, LARGE)


def done(*arguments: str | Path) -> bool:
    """Whether it could be done."""
    return bool(shutil.which(arguments[0])) and not subprocess.run(arguments, capture_output=True).returncode


def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path: Path) -> None:
    """A disk of its own, which only root can make."""
    if not done("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path):
        pytest.skip("no file system may be mounted here")
    try:
        path = tmp_path / "run.safetensors"
        archive.save(path, {"step": 1})
        refused_and_kept(path, errno.ENOSPC)
        if done("mount", "-o", "remount,ro", tmp_path):
            refused_and_kept(path, errno.EROFS)
    finally:
        assert done("umount", tmp_path)


def test_a_temporary_conjugate_is_not_taken_for_another(path: Path) -> None:
    tensors = [torch.randn(30, 20, dtype=torch.complex64).mH for _ in range(20)]
    assert bits(again(path, {"t": tensors})) == bits({"t": tensors})


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    archive.save(tmp_path / "target", {"a": 1})
    path.symlink_to(tmp_path / "target")
    archive.save(path, {"a": 2})
    assert path.is_symlink()
    assert archive.load(tmp_path / "target") == {"a": 2}


def test_what_changes_while_it_is_saved_is_saved_whole(path: Path) -> None:
    """As it was at one moment or another, and readable."""
    weight, stop = torch.zeros(3_000_000), threading.Event()

    def train() -> None:
        while not stop.is_set():
            weight.add_(1)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(5):
            assert len(again(path, {"weight": weight})["weight"]) == 3_000_000
    finally:
        stop.set()
        thread.join()


def test_a_dtype_that_files_do_not_know_is_an_error_that_says_where(path: Path) -> None:
    packed = torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    with pytest.raises(
        TypeError, match=r"^a/b is a tensor of torch\.float4_e2m1fn_x2: a checkpoint takes BOOL, U8"
    ):
        archive.save(path, {"a": {"b": packed}})


def test_a_target_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for target, error in (
        (tmp_path / "missing" / "run.safetensors", FileNotFoundError),
        (tmp_path / "file" / "run.safetensors", NotADirectoryError),
        (tmp_path / "folder", IsADirectoryError),
    ):
        with pytest.raises(error, match=target.parent.name):
            archive.save(target, {"a": torch.ones(1)})
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_read_only_folder_is_an_error_that_names_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission bits do not bind root, so ``open`` says it."""
    archive.save(path, {"step": 1})

    def refuse(file: Any, *args: Any) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(PermissionError, match=path.name):
            archive.save(path, {"step": 2})
    assert archive.load(path) == {"step": 1}


def test_a_read_that_gives_only_a_part_is_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system does with more than 2 GiB."""

    class Short(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            return super().readinto(memoryview(buffer)[:7])

    tree = {"a": torch.randn(5, 3), "b": torch.randn(3, dtype=torch.complex64)}
    archive.save(path, tree)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "open", lambda path, *args, **kwargs: Short(path), raising=False)
        assert bits(archive.load(path)) == bits(tree)
        with archive.opened(path) as stored:
            target = torch.zeros(5, 3)
            stored["a"].read_into(target)
    assert bits(target) == bits(tree["a"])


# Loading what is not a checkpoint


class Bomb:
    """What a pickle can do when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def _torch_file(path: Path) -> None:
    torch.save({"bomb": Bomb()}, path)


NOT_CHECKPOINTS: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("# Notes\n\nA plain text file, longer than eight bytes.\n"),
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "ones": lambda path: path.write_bytes(b"\xff" * 1000),
    "pickle": _pickle,
    "torch.save": _torch_file,
    "safetensors": lambda path: safetensors.torch.save_file({"a": torch.ones(2)}, path),
    "of another": lambda path: safetensors.torch.save_file({"a": torch.ones(2)}, path, {"format": "pt"}),
    "of later": lambda path: safetensors.torch.save_file({}, path, {"format": "surefoot-2", "tree": "{}"}),
    "without tree": lambda path: safetensors.torch.save_file({}, path, {"format": archive.FORMAT}),
    "a name too long": lambda path: None,
}


@pytest.mark.parametrize("kind", NOT_CHECKPOINTS)
def test_what_is_not_a_checkpoint_is_an_error_that_names_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("x" * 300 if kind == "a name too long" else "file")
    NOT_CHECKPOINTS[kind](path)
    with pytest.raises(CheckpointError, match=str(path)):
        archive.load(path)
    assert not Path("exploded").exists()


def test_a_checkpoint_of_a_later_version_says_so(path: Path) -> None:
    NOT_CHECKPOINTS["of later"](path)
    with pytest.raises(CheckpointError, match=r"'surefoot-2', this version reads 'surefoot-1'"):
        archive.load(path)


SAMPLE = {
    "model": {"weight": torch.tensor([[1.0, -2.0, math.nan]]), "bias": torch.tensor(3.0).bfloat16()},
    "optimizer": [{"lr": 0.01, "betas": (0.9, 0.999), "amsgrad": False}, None, torch.tensor([7, 8])],
}


@pytest.fixture(scope="module")
def good() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "good"
        archive.save(path, SAMPLE)
        return path.read_bytes()


def refused(data: bytes, path: Path) -> None:
    """Assert that these bytes are a :class:`CheckpointError` that names the file."""
    path.write_bytes(data)
    try:
        archive.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)  # noqa: PT017 - thousands of times, pytest.raises is slow
    else:
        pytest.fail("the damage was not seen")


def test_a_truncated_file_is_refused_at_every_length(good: bytes, path: Path) -> None:
    for length in range(len(good)):
        refused(good[:length], path)
    refused(good + b"\0", path)


@pytest.mark.parametrize("shift", [0, 5])
def test_a_flipped_bit_is_seen_in_every_byte(shift: int, good: bytes, path: Path) -> None:
    """In a weight, in a name, in a shape, in a learning rate: all of them are read."""
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << (place + shift) % 8
        refused(bytes(data), path)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_other_damage_is_seen(good: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(good) - 1), "start")
    end = data.draw(st.integers(start, min(len(good), start + 64)), "end")
    instead = data.draw(st.binary(max_size=64) | st.just(good[: end - start]), "instead")
    damaged = good[:start] + instead + good[end:]
    if damaged != good:
        with tempfile.TemporaryDirectory() as folder:
            refused(damaged, Path(folder) / "damaged")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.999", b"0.998"),
        (b"false", b"true "),
        (b"tuple", b"list "),
        (b"[1, 3]", b"[3, 1]"),
        (b'"BF16"', b'"F16" '),
        (b'"I64"', b'"U64"'),
        (b"model/bias", b"model/bits"),
    ],
)
def test_an_edited_header_is_seen(old: bytes, new: bytes, good: bytes, path: Path) -> None:
    assert old in good
    refused(good.replace(old, new), path)


def test_swapped_tensors_are_seen(path: Path) -> None:
    archive.save(path, {"a": torch.zeros(4), "b": torch.ones(4)})
    data = path.read_bytes()
    refused(data[:-32] + data[-16:] + data[-32:-16], path)


CRAFTED = [
    "not json",
    "[" * 100_000,
    '{"dict": {"a": {"tensor": "nowhere"}}}',
    '{"dict": {"a": {"tensor": ["a"]}}}',
    '{"dict": {"a": {"complex": "a"}}}',
    '{"dict": {"a": {"complex": "a", "tensor": "a"}}}',
    '{"dict": {"a": {}}}',
    '{"dict": {"a": {"code": "print(1)"}}}',
    '{"dict": 3}',
    '{"items": [[["a"], 1]]}',
    '{"items": [1]}',
    '{"list": 3}',
    '{"tuple": null}',
]


@pytest.mark.parametrize("tree", CRAFTED, ids=lambda tree: tree[:40])
def test_a_header_made_up_by_hand_is_refused(tree: str, path: Path) -> None:
    """With checksums that agree: what is left is what the tree says."""
    archive.save(path, {"a": torch.ones(3)})
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {"a": file.get_tensor("a")}
    metadata["tree"] = tree
    metadata["checksum"] = str(zlib.crc32((tree + metadata["checksums"]).encode()))
    safetensors.torch.save_file(tensors, path, metadata)
    refused(path.read_bytes(), path)


def test_the_header_is_json_that_other_programs_can_read(good: bytes, path: Path) -> None:
    path.write_bytes(good)
    with safetensors.safe_open(path, framework="pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    assert names == {"model/weight", "model/bias", "optimizer/2"}
    assert metadata["format"] == "surefoot-1"
    assert json.loads(metadata["checksums"]).keys() == names
