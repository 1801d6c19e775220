"""Changes to an optimizer's groups at any step, by name, with the state kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from surefoot.optimizers.hyperparameters import check_ranges

__all__ = ["Surgery", "Which"]

Which: TypeAlias = str | Tensor | Iterable[Tensor] | Callable[[str, Tensor], bool]


class Surgery(torch.optim.Optimizer):
    """What an optimizer can do to its parameters while it is in use.

    Parameters are meant by a pattern of their names with ``*`` for anything, by themselves, or by a function of name and
    parameter. Without names they are called by their place, as in ``"0 of group 1"``. A group of which a part is meant
    is split in two; schedules go on in both.
    """

    _rebased: list[tuple[dict[str, Any], str]]
    """Groups and hyperparameters that were given other values, in order: a schedule reads their bases anew."""

    def labelled(self) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
        """Every parameter with its name, or else its place, and its group."""
        raise NotImplementedError

    def new_state(self, name: str, param: Tensor, hyper: dict[str, Any]) -> Tensor:
        """Counter or buffer ``name`` of a parameter before its first step."""
        raise NotImplementedError

    def _check_params(self, params: list[Any]) -> None:
        raise NotImplementedError

    def freeze(self, which: Which) -> None:
        """Keep parameters and their state exactly as they are, whatever gradients they get, until :meth:`unfreeze`.

        They take no part in steps: no momentum, no decay, no count, no norm for clipping. What is frozen already stays so.

        Args:
            which: ``"backbone.*"``, parameters, or a function of name and parameter.

        Raises:
            ValueError: No parameter is meant.

        Example:
            >>> import torch, surefoot
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
            >>> optimizer = surefoot.AdamW(model.named_parameters())
            >>> optimizer.freeze("0.*")
            >>> [(group["param_names"], group.get("frozen", False)) for group in optimizer.param_groups]
            [(['1.weight', '1.bias'], False), (['0.weight', '0.bias'], True)]
        """
        for group in self._split(which):
            group["frozen"] = True

    def unfreeze(self, which: Which = "*") -> None:
        """Let frozen parameters take part again, from the state that they had.

        Args:
            which: As of :meth:`freeze`; all by default.

        Raises:
            ValueError: No parameter is meant.
        """
        for group in self._split(which):
            group["frozen"] = False

    def set(self, which: Which, **hyper: Any) -> None:
        """Give parameters other hyperparameters; where a schedule drives one, this is its new base.

        Args:
            which: As of :meth:`freeze`.
            **hyper: The new values.

        Raises:
            ValueError: No parameter is meant, a hyperparameter is not the optimizer's or out of range; nothing is changed.

        Example:
            >>> import torch, surefoot
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
            >>> optimizer = surefoot.AdamW(model.named_parameters(), lr=1e-3)
            >>> optimizer.set("*.bias", weight_decay=0.0)
            >>> [(group["param_names"], group["weight_decay"]) for group in optimizer.param_groups]
            [(['0.weight', '1.weight'], 0.01), (['0.bias', '1.bias'], 0.0)]
        """
        which = _settled(which)
        _meant(which, list(self.labelled()))
        if unknown := hyper.keys() - self.defaults.keys():
            known = ", ".join(self.defaults)
            raise ValueError(
                f"{sorted(unknown)[0]!r} is no hyperparameter of {type(self).__name__}: it has {known}"
            )
        check_ranges(hyper)
        for group in self._split(which):
            for name, value in hyper.items():
                now = value
                for driven, base in _bases(name, value):
                    before = group.get(f"initial_{driven}")
                    if before is not None:
                        group[f"initial_{driven}"] = float(base)
                        self._rebased.append((group, driven))
                    if before and driven == name:  # as far along its curve as it is
                        now = float(base) * float(group[name]) / before
                group[name] = now

    def replace(
        self, old: str | Tensor, new: Tensor, state: Literal["keep", "reset", "resize"] = "keep"
    ) -> None:
        """Put another parameter in the place of one.

        Args:
            old: The parameter, or its name.
            new: The one that takes its place, in its group and under its name.
            state: ``"keep"``: the new one goes on with the state, which must be of its shape; ``"reset"``: it begins
                anew; ``"resize"``: it keeps the part of the state that both shapes have, as where an embedding grows.

        Raises:
            ValueError: ``old`` is not one parameter, ``new`` is one already or of another shape.
            TypeError: ``new`` is no parameter.

        Example:
            >>> import torch, surefoot
            >>> embedding = torch.nn.Embedding(3, 2)
            >>> optimizer = surefoot.AdamW(embedding.named_parameters())
            >>> embedding.weight = torch.nn.Parameter(torch.cat([embedding.weight, torch.zeros(1, 2)]))
            >>> optimizer.replace("weight", embedding.weight, state="resize")
            >>> optimizer.param_groups[0]["params"][0].shape
            torch.Size([4, 2])
        """
        if state not in ("keep", "reset", "resize"):
            raise ValueError(f"state={state!r} must be 'keep', 'reset' or 'resize'")
        labelled = list(self.labelled())
        meant = _meant(old, labelled)
        found = [(name, param, group) for name, param, group in labelled if id(param) in meant]
        if len(found) != 1:
            raise ValueError(f"{old!r} means {len(found)} parameters: replace one after the other")
        ((label, before, group),) = found
        self._check_params([(label, new)])
        entry = self.state.get(before)
        if entry is not None and state == "keep" and before.shape != new.shape:
            raise ValueError(
                f"{label} is of shape {tuple(before.shape)}, the new one of {tuple(new.shape)}: pass state='resize' or 'reset'"
            )
        if entry is not None and state == "resize":
            entry = {name: self._resized(name, value, before, new, group) for name, value in entry.items()}
        group["params"] = [new if param is before else param for param in group["params"]]
        self.state.pop(before, None)
        if entry is not None and state != "reset":
            self.state[new] = entry

    def _resized(self, name: str, value: Any, before: Tensor, new: Tensor, group: dict[str, Any]) -> Any:
        if not isinstance(value, Tensor) or value.shape != before.shape or value.dim() == 0:
            return value
        if new.dim() != value.dim():
            raise ValueError(
                f"{name} has {value.dim()} dimensions, the new parameter {new.dim()}: pass state='reset'"
            )
        made = self.new_state(name, new, group).to(value.dtype)
        common = tuple(slice(min(sizes)) for sizes in zip(value.shape, new.shape, strict=True))
        made[common] = value[common].to(made.device)
        return made

    def add(self, params: Iterable[Tensor] | Iterable[tuple[str, Tensor]], **hyper: Any) -> None:
        """Add parameters, with hyperparameters of their own; a schedule takes them in by name.

        Args:
            params: Parameters, or pairs of names and parameters if the optimizer has names.
            **hyper: What differs from the optimizer's defaults.

        Raises:
            ValueError: One is there already, or has no name where the others have; a hyperparameter is out of range.

        Example:
            >>> import torch, surefoot
            >>> body, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
            >>> optimizer = surefoot.AdamW(body.named_parameters("body"), lr=1e-4)
            >>> optimizer.add(head.named_parameters("head"), lr=1e-2)
            >>> [(group["param_names"], group["lr"]) for group in optimizer.param_groups]
            [(['body.weight', 'body.bias'], 0.0001), (['head.weight', 'head.bias'], 0.01)]
        """
        self.add_param_group({"params": list(params), **hyper})

    def remove(self, which: Which) -> None:
        """Drop parameters and their state.

        Args:
            which: As of :meth:`freeze`.

        Raises:
            ValueError: No parameter is meant, or all are.
        """
        which, labelled = _settled(which), list(self.labelled())
        if len(_meant(which, labelled)) == len({id(param) for _, param, _ in labelled}):
            raise ValueError(f"{which!r} means all parameters: an optimizer needs one")
        gone = self._split(which)
        self.param_groups[:] = [group for group in self.param_groups if not any(group is one for one in gone)]
        for group in gone:
            for param in group["params"]:
                self.state.pop(param, None)

    def reset_state(self, which: Which = "*") -> None:
        """Forget counts and buffers: the next step begins anew.

        Args:
            which: As of :meth:`freeze`; all by default.

        Raises:
            ValueError: No parameter is meant.
        """
        labelled = list(self.labelled())
        meant = _meant(which, labelled)
        for _, param, _ in labelled:
            if id(param) in meant:
                self.state.pop(param, None)

    def _split(self, which: Which) -> list[dict[str, Any]]:
        """Groups of exactly the parameters that are meant."""
        meant = _meant(which, list(self.labelled()))
        found = []
        for group in list(self.param_groups):
            inside = [id(param) in meant for param in group["params"]]
            if inside and all(inside):
                found.append(group)
            elif any(inside):
                found.append(_part(group, inside))
                for key, value in _part(group, [not there for there in inside]).items():
                    if key in ("params", "param_names"):
                        group[key] = value
                self.param_groups.append(found[-1])
        return found


def _part(group: dict[str, Any], inside: list[bool]) -> dict[str, Any]:
    """The group with some of its parameters; a tensor among its entries is each part's own."""
    part = {key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()}
    for key in ("params", "param_names"):
        if key in group:
            part[key] = [value for value, there in zip(group[key], inside, strict=True) if there]
    return part


def _settled(which: Which) -> Which:
    """What can be read more than once."""
    return which if isinstance(which, str | Tensor) or callable(which) else list(which)


def _bases(name: str, value: Any) -> list[tuple[str, Any]]:
    """What a schedule may call a hyperparameter, each with its number."""
    if name != "betas":
        return [(name, value)]
    return [("momentum", value[0]), ("betas[0]", value[0]), ("betas[1]", value[1])]


def _meant(which: Which, labelled: list[tuple[str, Tensor, dict[str, Any]]]) -> set[int]:
    if isinstance(which, str):
        meant = {id(param) for name, param, _ in labelled if fnmatchcase(name, which)}
    elif isinstance(which, Tensor) or not callable(which):
        asked = {id(param) for param in ([which] if isinstance(which, Tensor) else which)}
        meant = asked & {id(param) for _, param, _ in labelled}
        if meant != asked:
            raise ValueError(f"{len(asked - meant)} of the parameters are not the optimizer's")
    else:
        meant = {id(param) for name, param, _ in labelled if which(name, param)}
    if not meant:
        shown = ", ".join(name for name, *_ in labelled[:5])
        raise ValueError(f"{which!r} means no parameter: their names begin with {shown}")
    return meant
