"""Which layer of a model each parameter is in, told by the order in which its modules were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase

from torch import nn

from surefoot import checks
from surefoot.names import named_in

__all__ = ["depths", "layers"]


def depths(model: nn.Module, depth: Callable[[str], int] | Mapping[str, int] | None) -> dict[str, int]:
    """:func:`layers`, or what a function of the name says, or layers by pattern for some.

    Raises:
        ValueError: A pattern means no parameter.
    """
    if callable(depth):
        return {
            name: checks.whole(f"depth({name!r})", depth(name), 0) for name, _ in model.named_parameters()
        }
    found = layers(model)
    last = max(found.values())
    for pattern, layer in (depth or {}).items():
        names = [name for name in found if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(
                f"depth has {pattern!r}, which means no parameter: their names begin with {', '.join([*found][:5])}"
            )
        found |= dict.fromkeys(names, layer if layer >= 0 else last + 1 + layer)
    return found


def layers(model: nn.Module) -> dict[str, int]:
    """Which layer each parameter is in, from 0, by the order in which blocks were added to the model.

    Blocks are the members of a ``ModuleList``, and those of a ``Sequential`` that have matrices: the blocks of a ResNet, a
    ViT or a GPT, the layers of an MLP; where such a member is a list of blocks itself, as a stage of a Swin is, its
    members. What comes before the first is layer 0, what comes after the last is the last layer; embeddings are in layer
    0. Where there are no blocks, each module with a matrix is one.

    The order is that in which modules were made: what is used in another one, parallel heads or towers, and a parameter of
    the outermost module itself are not where they are used. Give :func:`layer_decay` their ``depth``.

    Example:
        >>> from torch import nn
        >>> from surefoot.layers import layers
        >>> blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        >>> model = nn.ModuleDict({"embedding": nn.Embedding(9, 4), "blocks": blocks, "head": nn.Linear(4, 2)})
        >>> layers(model)
        {'embedding.weight': 0, 'blocks.0.weight': 1, 'blocks.0.bias': 1, 'blocks.1.weight': 2, 'blocks.1.bias': 2, 'head.weight': 3, 'head.bias': 3}
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a torch module")
    named, blocks = list(named_in(model)), list(_blocks(model))
    single = not blocks
    if single:  # each module that has a matrix of its own
        blocks = list(dict.fromkeys(name.rpartition(".")[0] for name, param, _ in named if param.ndim > 1))
    found: dict[str, int] = {}
    begun = 0
    for name, _, module in named:
        home = name.rpartition(".")[0]
        inside = next(
            (
                i
                for i, block in enumerate(blocks, 1)
                if home == block or (home.startswith(f"{block}.") and not single)
            ),
            0,
        )
        begun = max(begun, inside)
        if inside or isinstance(module, nn.Embedding):
            found[name] = inside
        else:  # before the first block, between two of them, or after the last
            found[name] = begun if begun < len(blocks) else len(blocks) + 1
    numbers = {place: number for number, place in enumerate(sorted({*found.values()}))}
    return {name: numbers[place] for name, place in found.items()}


def _blocks(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Names of the blocks, in order."""
    members = _members(module, 1)
    matrices = _members(module, 2)
    if isinstance(module, nn.ModuleList):
        blocks = members
    elif isinstance(module, nn.Sequential) and (len(matrices) > 1 or (len(members) == 1 and prefix)):
        blocks = matrices  # a norm belongs to what comes before it
    else:
        for name, child in members.items():
            yield from _blocks(child, f"{prefix}{name}.")
        return
    for name, block in blocks.items():
        if any(map(_lists_blocks, block.modules())):  # a stage
            yield from _blocks(block, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _members(module: nn.Module, dims: int) -> dict[str, nn.Module]:
    """Children with parameters of so many dimensions."""
    return {
        name: child
        for name, child in module.named_children()
        if any(param.ndim >= dims for param in child.parameters())
    }


def _lists_blocks(module: nn.Module) -> bool:
    """Whether it is a list of more than single layers, as the MLP inside a block is."""
    inner = [child for child in _members(module, 2).values() if _members(child, 1)]
    return isinstance(module, nn.ModuleList | nn.Sequential) and len(inner) > 1
