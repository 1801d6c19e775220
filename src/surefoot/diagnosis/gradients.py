"""What gradients and updates give away, tensor by tensor where the optimizer has ``stats=True``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from statistics import median

from surefoot.diagnosis.cause import Cause, Finding, Steady
from surefoot.diagnosis.history import History, Typical, Watched
from surefoot.diagnosis.words import listed, short

__all__ = ["Clipping", "ExplodingGradients", "LargeUpdates", "SmallUpdates", "VanishingGradients"]


class OfTensors(Cause, ABC):
    """Trouble of a parameter that two blocks of samples in a row show."""

    when = "block"

    def __init__(self) -> None:
        super().__init__()
        self._before: set[str] = set()

    def see(self, history: History, record: Watched) -> Finding | None:
        bad = self.judge(history.tensors or {})
        sure = {name: number for name, number in bad.items() if name in self._before}
        self._before = set(bad)
        return self.tell(history, sure) if sure else None

    @abstractmethod
    def judge(self, tensors: dict[str, Typical]) -> dict[str, float]:
        """The parameters that are in trouble, with the number that shows it."""

    @abstractmethod
    def tell(self, history: History, bad: dict[str, float]) -> Finding:
        """The finding about these."""


class VanishingGradients(OfTensors):
    """A layer's gradient is 100,000 times smaller than another's, as it is and by the weight's length."""

    kind = "vanishing_gradients"

    def judge(self, tensors: dict[str, Typical]) -> dict[str, float]:
        if not tensors or _exploding(tensors):
            return {}
        largest = max(each.grad for each in tensors.values())
        most = max(each.relative for each in tensors.values())
        return {
            name: each.grad / largest
            for name, each in tensors.items()
            if each.grad < 1e-5 * largest and each.relative < 1e-5 * most
        }

    def tell(self, history: History, bad: dict[str, float]) -> Finding:
        worst = sorted(bad, key=lambda name: bad[name])
        least = bad[worst[0]]
        if least:
            how = f"down to {short(least)} of the largest layer's"
            advice = (
                "Put residual connections or normalization between the layers, ReLU or GELU in place of sigmoid and "
                "tanh, or an initialization that keeps the scale."
            )
        else:
            how = "zero"
            advice = "See why the loss does not depend on these: a branch that is not used, units that are all off, a detach."
        return self.say(history, f"Gradients vanish in {listed(worst)}: they are {how}.", advice)


class ExplodingGradients(OfTensors):
    """A layer's gradient is 100 times as long as its weight, and by this measure 1000 times what others have."""

    kind = "exploding_gradients"

    def judge(self, tensors: dict[str, Typical]) -> dict[str, float]:
        return _exploding(tensors)

    def tell(self, history: History, bad: dict[str, float]) -> Finding:
        worst = sorted(bad, key=lambda name: -bad[name])
        return self.say(
            history,
            f"Gradients explode in {listed(worst)}: they are {short(bad[worst[0]])} times as long as the weight, more than "
            "1000 times what other layers have.",
            "Set clip_norm=1; initialize smaller (orthogonal for recurrent weights), or normalize between the layers.",
        )


def _exploding(tensors: dict[str, Typical]) -> dict[str, float]:
    if len(tensors) < 3:
        return {}
    usual = sorted(each.relative for each in tensors.values())[len(tensors) // 4]  # of what need not be most
    bound = max(1e3 * usual, 100.0)
    return {name: each.relative for name, each in tensors.items() if each.relative > bound}


class SmallUpdates(Cause):
    """At least half of the weights never changed by more than 1e-5 of their length, and the loss has hardly fallen."""

    kind = "small_updates"
    when = "block"

    def __init__(self) -> None:
        super().__init__()
        self._largest: dict[str, float] = {}
        self._steady = False  # the rate has been at its height for a block

    def see(self, history: History, record: Watched) -> Finding | None:
        for name, each in (history.tensors or {}).items():
            self._largest[name] = max(each.largest, self._largest.get(name, 0.0))
        first, last = history.block_rates
        self._steady = self._steady or history.peak <= 1.01 * first or last < first
        return self._judge(history) if history.enough else None

    def end(self, history: History) -> Finding | None:
        return self._judge(history)

    def _judge(self, history: History) -> Finding | None:
        small = [name for name, ratio in self._largest.items() if ratio < 1e-5]
        if not self._steady or not small or 2 * len(small) < len(self._largest):
            return None
        if not history.level > min(history.start, history.start / 2):  # it works as it is
            return None
        ratio = median(self._largest[name] for name in small)
        advice = f"the learning rate to {short(history.suggestion or 0)}."
        if not history.too_low:
            advice = f"the learning rate of their groups (at most {short(history.peak)}) tenfold, and again, until the loss falls."
        return self.say(
            history,
            f"Updates are tiny: {listed(small)} never changed by more than about {short(ratio)} of their length in an "
            f"update (1e-3 is usual){history.range_test}.",
            f"Raise {advice}",
        )


class LargeUpdates(OfTensors):
    """A weight changes by more than a fifth of its length in typical updates."""

    kind = "large_updates"

    def judge(self, tensors: dict[str, Typical]) -> dict[str, float]:
        return {name: each.update for name, each in tensors.items() if each.update > 0.2}

    def tell(self, history: History, bad: dict[str, float]) -> Finding:
        worst = sorted(bad, key=lambda name: -bad[name])
        verb, its, groups = (
            ("changes", "its", "its group") if len(worst) == 1 else ("change", "their", "their groups")
        )
        return self.say(
            history,
            f"Updates are huge: {listed(worst)} {verb} by {short(bad[worst[0]])} of {its} length in a typical update (1e-3 "
            f"is usual; learning rate {short(history.rate)}{history.range_test}).",
            f"Lower the learning rate of {groups} tenfold.",
        )


class Clipping(Steady):
    """Nearly every gradient is cut to a tenth, or less."""

    kind = "clipping"

    def __init__(self) -> None:
        super().__init__()
        self._clipped, self._coefs = 0, 0.0

    def count(self, history: History, record: Watched) -> None:
        if record.clip_coef is not None and record.clip_coef < 1:
            self._clipped += 1
            self._coefs += record.clip_coef

    def judge(self, history: History) -> tuple[str, str] | None:
        clipped, coefs = self._clipped, self._coefs
        self._clipped, self._coefs = 0, 0.0
        if clipped < 0.95 * self.SIZE or coefs > 0.1 * clipped:
            return None
        return (
            f"{clipped} of the last {self.SIZE} gradients were clipped, to {short(coefs / clipped)} of their length on "
            "average: clip_norm is no bound for the rare long one, but the length of every one.",
            f"Raise clip_norm {short(clipped / coefs) if coefs else 10} times. With SGD lower the learning rate as much; Adam "
            "and its kin hardly mind the scale of all gradients.",
        )
