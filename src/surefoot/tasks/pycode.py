"""Python's own source: a small GPT that reads the standard library letter by letter."""

from __future__ import annotations

import math
import sysconfig
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from surefoot.tasks.base import Task

__all__ = ["GPT", "decode", "encode", "source", "task"]

# Modules that Python has had from 3.11 on, in the order of the alphabet; one that a version lacks is left out.
NAMES = """
    _collections_abc _pyio _strptime _weakrefset abc argparse ast base64 bdb bisect calendar cmd code
    codecs codeop colorsys compileall configparser contextlib copy copyreg csv dataclasses difflib dis
    doctest enum filecmp fileinput fnmatch fractions ftplib functools getopt getpass gettext glob
    graphlib gzip hashlib heapq hmac imaplib inspect io ipaddress keyword linecache locale mailbox
    mimetypes modulefinder netrc numbers opcode operator optparse os pdb pickle pkgutil platform
    plistlib poplib posixpath pprint profile pstats pty py_compile pyclbr queue quopri random reprlib
    runpy sched secrets selectors shelve shlex shutil signal site smtplib socket socketserver ssl stat
    statistics stringprep subprocess symtable tabnanny tarfile tempfile textwrap threading timeit token
    tokenize trace traceback tracemalloc tty types typing uuid wave weakref webbrowser zipapp
"""
MODULES = NAMES.split()
EVERY = 20  # so many modules, of which one is held out
HELD_OUT = 18

LETTERS = "\n" + "".join(map(chr, range(32, 127)))
RARE = len(LETTERS)  # stands for every other one
NUMBERS = {letter: number for number, letter in enumerate(LETTERS)}

CONTEXT = 128
WIDTH, HEADS, LAYERS = 128, 4, 4


def task(batch_size: int = 12, seed: int = 0) -> Task:
    """A GPT of 0.8 million parameters and a hundred modules of this Python's standard library.

    The tokens are characters, the loss is in nats a character. Of every twenty modules one is held out, always the same.

    Args:
        batch_size: Pieces of 128 characters for each update, at least 1.
        seed: Of the initial weights and of the order of the batches.

    Raises:
        FileNotFoundError: This Python has no source of its standard library.

    Example:
        >>> made = task()
        >>> sum(p.numel() for p in made.model.parameters())
        822144
    """
    train, held_out = (Pieces(encode(text)) for text in source())
    torch.manual_seed(seed)
    return Task(
        model=GPT(),
        loss=_loss,
        train_loader=DataLoader(
            train, batch_size, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(seed)
        ),
        val_loader=DataLoader(held_out, 64, generator=torch.Generator().manual_seed(0)),
        description=f"the source of Python's standard library, {len(train) * CONTEXT:,} characters to train on, "
        f"{len(held_out) * CONTEXT:,} held out",
        finish=sample,
        settings={
            "optimizer": "adamw",
            "lr": 3e-3,
            "schedule": "onecycle",
            "steps": 2500,
            "weight_decay": 0.1,
            "clip_norm": 1.0,
            "evaluate_every": 250,
        },
    )


def source(folder: Path | None = None) -> tuple[str, str]:
    """The text to train on and the one held out.

    Args:
        folder: Where the standard library is; this Python's if None.

    Raises:
        FileNotFoundError: Fewer than half of the modules are there as source.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    paths = [folder / f"{name}.py" for name in MODULES]
    texts = [path.read_text(encoding="utf-8") if path.is_file() else "" for path in paths]
    if sum(map(bool, texts)) < len(texts) / 2:
        raise FileNotFoundError(
            f"{folder} has no source of Python's standard library, which is the text of this task: use a Python that has"
        )
    train = "".join(text for i, text in enumerate(texts) if i % EVERY != HELD_OUT)
    return train, "".join(texts[HELD_OUT::EVERY])


def encode(text: str) -> Tensor:
    r"""A number for each character, the same for all that are rare.

    Example:
        >>> encode("a = 1\n").tolist()
        [66, 1, 30, 1, 18, 0]
        >>> decode(encode("naïve"))
        'na?ve'
    """
    return torch.tensor([NUMBERS.get(letter, RARE) for letter in text])


def decode(tokens: Tensor) -> str:
    """The text of such numbers, with ``?`` for what is rare."""
    return "".join("?" if number == RARE else LETTERS[number] for number in tokens.tolist())


class Pieces(Dataset[tuple[Tensor, Tensor]]):
    """A text in pieces of ``CONTEXT`` characters, each with the characters that follow."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // CONTEXT

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        piece = self.tokens[index * CONTEXT : (index + 1) * CONTEXT + 1]
        return piece[:-1], piece[1:]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    tokens, following = batch
    return functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


class Block(nn.Module):
    """Attention to what came before, then two layers for each position; a norm before each."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.mixed = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.attention(self.attention_norm(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind()
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mixed(attended.transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(functional.gelu(self.up(self.norm(x))))
        return out


class GPT(nn.Module):
    """A decoder of four layers; the embedding of the characters is the output layer, too.

    Radford et al., 2019, "Language Models are Unsupervised Multitask Learners".
    """

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(RARE + 1, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        for name, parameter in self.named_parameters():
            if name.endswith(("mixed.weight", "down.weight")):  # they add up over the layers
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS))
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """What may follow each of ``tokens`` (batch, at most 128): logits (batch, length, characters)."""
        x = self.letters(tokens) + self.places.weight[: tokens.shape[1]]
        return functional.linear(self.norm(self.blocks(x)), self.letters.weight)


@torch.no_grad()
def sample(model: nn.Module, begin: str = "def ", length: int = 400, seed: int = 0) -> str:
    """Text that the model writes; the generators of the training are left as they are."""
    generator = torch.Generator().manual_seed(seed)
    tokens = encode(begin)
    for _ in range(length):
        logits: Any = model(tokens[None, -CONTEXT:])[0, -1]
        drawn = torch.multinomial(torch.softmax(logits / 0.7, 0), 1, generator=generator)
        tokens = torch.cat([tokens, drawn])
    return decode(tokens)
