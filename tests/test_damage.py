"""Damaged checkpoints: each is an error that names the file, and what it was to be loaded into stays as it was."""

import json
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainings import bits, everything, loader, loss, net, seed

import surefoot
from surefoot import archive, checkpoint, lr_scheduler
from surefoot.checkpoint import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 1_000
PARTS = ("model", "optimizer", "scheduler", "scaler")
ANY = ("class", "named", "curves", "shapes")
"""Words in the place of what may be anything, or is said in a warning."""

DTYPES = {
    "F32": torch.float32,
    "F64": torch.float64,
    "I32": torch.int32,
    "I64": torch.int64,
    "U32": torch.uint32,
}
OTHERS = {"F32": ["I32", "U32"], "F64": ["I64"], "I64": ["F64"]}
"""Dtypes of the same size."""


def parts(width: int = 8) -> dict[str, Any]:
    """What a run is made of."""
    seed()
    model = net() if width == 8 else nn.Sequential(nn.Linear(6, width), nn.Linear(width, 3))
    params = list(model.named_parameters())
    optimizer = surefoot.AdamW([{"params": params[:2], "weight_decay": 0.0}, {"params": params[2:]}], lr=0.01)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}


def trained(steps: int, width: int = 8) -> dict[str, Any]:
    """Parts after some steps."""
    made = parts(width)
    for _, batch in zip(range(steps), loader(), strict=False):
        made["optimizer"].zero_grad()
        made["scaler"].scale(loss(made["model"], batch)).backward()
        made["scaler"].step(made["optimizer"])
        made["scaler"].update()
        made["scheduler"].step()
    return made


def whole(live: dict[str, Any]) -> Any:
    """Every bit of live parts."""
    states = [bits(live[name].state_dict()) for name in ("scheduler", "scaler")]
    return everything(live["model"], live["optimizer"]), states


class File:
    """A checkpoint taken apart: the header of safetensors, what surefoot wrote into it, and the tensors' bytes."""

    def __init__(self, data: bytes) -> None:
        (size,) = struct.unpack("<Q", data[:8])
        self.header = json.loads(data[8 : 8 + size])
        metadata = self.header.pop("__metadata__")
        self.parts = json.loads(metadata["tree"])["dict"]
        self.places = {
            name: slice(*(8 + size + offset for offset in one["data_offsets"]))
            for name, one in self.header.items()
        }
        self.data = {name: data[place] for name, place in self.places.items()}

    def sealed(self) -> bytes:
        """The file again, all checksums made to agree."""
        header, start, checksums = {}, 0, {}
        for name, one in self.header.items():
            end = start + len(self.data[name])
            header[name] = {**one, "data_offsets": [start, end]}
            start = end
            kind = f"{DTYPES[one['dtype']]} {tuple(one['shape'])}"
            checksums[name] = f"{zlib.crc32(self.data[name], zlib.crc32(kind.encode())):08x}"
        metadata = {
            "format": archive.FORMAT,
            "tree": json.dumps({"dict": self.parts}),
            "checksums": json.dumps(checksums),
        }
        metadata["checksum"] = f"{zlib.crc32((metadata['tree'] + metadata['checksums']).encode()):08x}"
        text = json.dumps({"__metadata__": metadata, **header}).encode()
        return struct.pack("<Q", len(text)) + text + b"".join(self.data.values())

    def nodes(self) -> Iterator[tuple[Any, Any, Any]]:
        """Everything in the tree that counts when the parts are loaded: what it is, what it is in, and as what."""

        def within(node: Any, owner: Any, key: Any) -> Iterator[tuple[Any, Any, Any]]:
            yield node, owner, key
            (kind, content), *_ = node.items() if isinstance(node, dict) else [("", None)]
            inner = {"dict": lambda: content.items(), "list": lambda: enumerate(content)}
            for name, value in inner.get(kind.replace("tuple", "list"), tuple)():
                if name not in ANY:
                    yield from within(value, content, name)

        for part in PARTS:
            yield from within(self.parts[part], self.parts, part)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    """Checkpoints of a training, of the same two steps later, and of one of a narrower model."""
    path = tmp_path_factory.mktemp("good") / "run"

    def saved(live: dict[str, Any]) -> bytes:
        checkpoint.save(path, **live, extra={"rows": [1, (2.5, None)]})
        return path.read_bytes()

    return saved(trained(3)), saved(trained(5)), saved(trained(3, width=5))


# Damage to bytes


def truncated(draw: random.Random, good: bytes, later: bytes) -> bytes:
    return good[: draw.randrange(len(good))]


def flipped(draw: random.Random, good: bytes, later: bytes) -> bytes:
    data = bytearray(good)
    for place in draw.sample(range(len(data)), draw.choice([1, 1, 2, 8])):
        data[place] ^= 1 << draw.randrange(8)
    return bytes(data)


def overwritten(draw: random.Random, good: bytes, later: bytes) -> bytes:
    size = draw.randint(1, 200)
    start = draw.randrange(len(good) - size)
    return good[:start] + draw.choice([bytes(size), draw.randbytes(size)]) + good[start + size :]


def swapped(draw: random.Random, good: bytes, later: bytes) -> bytes:
    """Two tensors of one size, each in the other's place."""
    file, data = File(good), bytearray(good)
    one = draw.choice([*file.data])
    two = draw.choice([name for name in file.data if len(file.data[name]) == len(file.data[one])])
    data[file.places[one]], data[file.places[two]] = file.data[two], file.data[one]
    return bytes(data)


def of_later(draw: random.Random, good: bytes, later: bytes) -> bytes:
    """A tensor of another checkpoint of the same training."""
    file, data = File(good), bytearray(good)
    name = draw.choice([*file.data])
    data[file.places[name]] = File(later).data[name]
    return bytes(data)


# Damage to what the bytes say, with checksums that agree


def retyped(draw: random.Random, file: File, narrow: File) -> None:
    """A tensor of another dtype, or of another shape."""
    name = draw.choice([*file.header])
    one, size = file.header[name], len(file.data[name]) // 4
    if size > 2 and draw.random() < 0.7:
        shapes = [one["shape"][::-1], [1, *one["shape"]], [*one["shape"], 1], [size]]
        one["shape"] = draw.choice([shape for shape in shapes if shape != one["shape"]])
    else:
        one["dtype"] = draw.choice(OTHERS[one["dtype"]])


def another_value(draw: random.Random, file: File, narrow: File) -> None:
    """A value of another kind in the place of a number, text, or None."""
    value, owner, key = draw.choice([node for node in file.nodes() if not isinstance(node[0], dict)])
    values = [other for other in (None, True, "0.1", 3) if type(other) is not type(value)]
    if isinstance(value, float):
        values.remove(3)
    owner[key] = draw.choice([*values, {"list": [value]}, {"dict": {}}])


def another_kind(draw: random.Random, file: File, narrow: File) -> None:
    """Something else in the place of a tensor, dict or list."""
    node, owner, key = draw.choice([node for node in file.nodes() if isinstance(node[0], dict)])
    (content,) = node.values()
    plain = [True, "text", None, {"list": [content]}, {"dict": {"a": 1}}]
    owner[key] = draw.choice([*plain, {"tensor": "nothing"}, {"complex": content}, {"code": content}])


def renamed(draw: random.Random, file: File, narrow: File) -> None:
    """An entry of a dict under another name."""
    dicts = [node["dict"] for node, _, _ in file.nodes() if isinstance(node, dict) and "dict" in node]
    content = draw.choice([each for each in dicts if each.keys() - {*ANY}])
    name = draw.choice([name for name in content if name not in ANY])
    entries = [(f"{key}x" if key == name else key, value) for key, value in content.items()]
    content.clear()
    content.update(entries)


def nested(draw: random.Random, file: File, narrow: File) -> None:
    """A level more."""
    node, owner, key = draw.choice([*file.nodes()])
    owner[key] = draw.choice([{"list": [node]}, {"dict": {str(key): node}}])


def exchanged(draw: random.Random, file: File, narrow: File) -> None:
    """Two parts, each in the other's place."""
    one, two = draw.sample(PARTS, 2)
    file.parts[one], file.parts[two] = file.parts[two], file.parts[one]


def of_narrow(draw: random.Random, file: File, narrow: File) -> None:
    """The weights or the state of a checkpoint of another model."""
    part = draw.choice(["model", "optimizer"])
    file.parts[part] = narrow.parts[part]
    for mine, theirs in ((file.data, narrow.data), (file.header, narrow.header)):
        kept = {name: one for name, one in mine.items() if not name.startswith(part)}
        mine.clear()
        mine.update(kept, **{name: one for name, one in theirs.items() if name.startswith(part)})


BYTES = [truncated, flipped, overwritten, swapped, of_later]
SENSE = [retyped, another_value, another_kind, renamed, nested, exchanged, of_narrow]


def edited(draw: random.Random, good: bytes, later: bytes) -> bytes:
    """Some of the manifest, and its checksums are those of before."""
    file, end = File(good), min(place.start for place in File(good).places.values())
    text = good[8:end]
    old, new = draw.choice(
        [(b"0.01", b"0.10"), (b"false", b"true "), (b"tuple", b"list "), (b"F32", b"I32"), (b"step", b"stop")]
    )
    places = [i for i in range(len(text)) if text.startswith(old, i)]
    start = 8 + draw.choice(places)
    assert file.parts
    return good[:start] + new + good[start + len(old) :]


def damaged(number: int, files: tuple[bytes, bytes, bytes]) -> tuple[str, bytes]:
    """What is done to a file, and the file; the number seeds it."""
    draw, data = random.Random(number), files[0]
    what = draw.choice([*BYTES, edited])
    while data == files[0]:  # two tensors may be the same
        data = what(draw, *files[:2])
    return what.__name__, data


def forged(number: int, files: tuple[bytes, bytes, bytes]) -> tuple[str, bytes]:
    """A file made to say something else, with checksums that agree."""
    draw, data = random.Random(number), files[0]
    what = draw.choice(SENSE)
    while data == files[0]:
        file = File(files[0])
        what(draw, file, File(files[2]))
        data = file.sealed()
    return what.__name__, data


def test_what_is_taken_apart_and_sealed_again_loads(
    files: tuple[bytes, bytes, bytes], tmp_path: Path
) -> None:
    """So that what is refused below is refused for its damage."""
    path, loaded = tmp_path / "run", []
    for data in (files[0], File(files[0]).sealed()):
        live = trained(1)
        path.write_bytes(data)
        assert checkpoint.load(path, **live).extra == {"rows": [1, (2.5, None)]}
        loaded.append(bits([live[part].state_dict() for part in PARTS]))
    assert loaded[0] == loaded[1]


def test_a_thousand_damaged_files_are_a_thousand_errors_and_change_nothing(
    files: tuple[bytes, bytes, bytes], tmp_path: Path
) -> None:
    path, live, wrong = tmp_path / "run", trained(2), []
    before = whole(live)
    for number in range(COUNT):
        what, data = damaged(number, files)
        path.write_bytes(data)
        said = "nothing"
        try:
            checkpoint.load(path, **live)
        except CheckpointError as error:
            said = "" if str(path) in str(error) else f"no path: {error}"
        except BaseException as error:
            said = repr(error)
        if said or whole(live) != before:
            wrong.append(f"damage {number}, {what}, said {said!r}")
            live = trained(2)
            before = whole(live)
    assert wrong == []


def test_a_forged_file_loads_or_is_an_error_that_changes_nothing(
    files: tuple[bytes, bytes, bytes], tmp_path: Path
) -> None:
    """Whoever makes checksums agree can say what he wants; all that comes of it is other values."""
    path, live, wrong, refused = tmp_path / "run", trained(2), [], 0
    before = whole(live)
    for number in range(300):
        what, data = forged(number, files)
        path.write_bytes(data)
        try:
            checkpoint.load(path, **live)
            live = trained(2)
            before = whole(live)
        except CheckpointError as error:
            refused += 1
            if str(path) not in str(error) or whole(live) != before:
                wrong.append(f"{number}, {what}: {error}")
                live = trained(2)
                before = whole(live)
        except BaseException as error:
            wrong.append(f"{number}, {what}: {error!r}")
            live = trained(2)
            before = whole(live)
    assert wrong == []
    assert refused > 200


def test_a_load_that_turns_out_not_to_fit_is_taken_back(tmp_path: Path) -> None:
    """A scheduler, such as one of the user's own, may find out only when it is given its state."""

    class Picky(torch.optim.lr_scheduler.StepLR):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            if errors:
                self.optimizer.param_groups[0]["lr"] = self.last_epoch = 7
                raise errors.pop()
            super().load_state_dict(state_dict)

    errors: list[BaseException] = []
    path, live = tmp_path / "run", trained(2)
    live["scheduler"] = Picky(live["optimizer"], step_size=3)
    checkpoint.save(path, **live)
    other = trained(4)
    other["scheduler"] = Picky(other["optimizer"], step_size=3)
    before = whole(other)
    for error, seen in (
        (IndexError("no such step"), CheckpointError),
        (UserWarning("odd"), UserWarning),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        errors.append(error)
        with pytest.raises(seen):
            checkpoint.load(path, **other)
        assert whole(other) == before


class Bomb:
    """What a pickle can do when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize(
    "write", [lambda path: path.write_bytes(pickle.dumps(Bomb())), lambda path: torch.save(Bomb(), path)]
)
def test_46_a_pickle_bomb_is_refused(
    write: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, live = tmp_path / "run", trained(1)
    write(path)
    before = whole(live)
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint.load(path, **live)
    assert whole(live) == before
    assert not Path("exploded").exists()
