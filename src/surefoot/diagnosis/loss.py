"""What the loss gives away."""

from __future__ import annotations

import math
from statistics import median

from surefoot.diagnosis.cause import Cause, Finding
from surefoot.diagnosis.history import FIRST, History, Watched
from surefoot.diagnosis.words import short

__all__ = ["Diverged", "NoLearning", "Nonfinite", "Overfitting"]


class Nonfinite(Cause):
    """The loss, or a gradient that was applied, is infinite or NaN."""

    kind = "nonfinite"

    def __init__(self) -> None:
        super().__init__()
        self._last = math.nan

    def see(self, history: History, record: Watched) -> Finding | None:
        if not record.applied:
            return None
        if record.nonfinite:
            what = f"{record.nonfinite} element{'s' * (record.nonfinite > 1)} of the gradients are not finite"
        elif history.read and not math.isfinite(history.loss):
            what = f"The loss is {history.loss}"
        else:
            self._last = history.loss
            return None
        seen = f"{what} at step {record.step}"
        if math.isnan(self._last):
            return self.say(
                history,
                f"{seen}, the first that was seen.",
                "Look for NaN and infinity in the data, and in the loss of one batch.",
            )
        return self.say(
            history,
            f"{seen}, after {short(self._last)} (learning rate {short(history.rate)}{history.range_test}).",
            f"{_lower(history)} If it comes back, nonfinite='raise' names the parameters: look for a "
            "logarithm, a root or a division at zero.",
        )

    def end(self, history: History) -> Finding | None:
        since = self.finding is not None and history.step > self.finding.step
        return None if since and math.isfinite(history.loss) else self.finding


class Diverged(Cause):
    """The loss is far above its start, or back there after it was down to a quarter."""

    kind = "diverged"
    when = "level"

    def see(self, history: History, record: Watched) -> Finding | None:
        level, start, very_first = history.level, history.start, history.first[0]
        lowest, highest = min(history.first), max(history.first)
        left = level > highest + 4 * max(abs(highest), highest - lowest)
        # Up before there were FIRST readings, which are no measure then; more than noise, which is as wide as high.
        at_once = level > 10 * very_first > 0 and history.spread < level / 5
        lost = start > 0 and history.best < start / 4 and level > highest
        if left or at_once or lost:
            start = very_first if at_once else start
            been = f", and had been down to {short(history.best)}" if lost else ""
            return self.say(
                history,
                f"The loss diverged: it is about {short(level)} at step {record.step}, began at {short(start)}{been} "
                f"(learning rate {short(history.rate)}{history.range_test}).",
                _lower(history),
            )
        return None

    def end(self, history: History) -> Finding | None:
        start = min(history.first, default=math.nan)
        recovered = history.level < start - abs(start) / 4
        return None if recovered else self.finding


class NoLearning(Cause):
    """The loss is where it was, or no gradient arrives."""

    kind = "no_learning"
    when = "level"
    ZEROS = 20  # updates in a row without a gradient

    def see(self, history: History, record: Watched) -> Finding | None:
        if history.zeros >= self.ZEROS or (history.enough and history.step - history.peak_step >= 100):
            return self._judge(history)
        return None

    def end(self, history: History) -> Finding | None:
        return self._judge(history)

    def _judge(self, history: History) -> Finding | None:
        if history.zeros >= self.ZEROS and abs(history.level) > 1e-6:  # a loss of zero has no gradient either
            return self._tell(history)
        if history.updates >= 100 and history.from_start and self._flat(history):
            return self._tell(history)
        return None

    def _flat(self, history: History) -> bool:
        """Whether the loss is sure not to be 5 % better than at the start."""
        noise = 1.48 * 1.25 * history.spread / math.sqrt(FIRST)  # of a median of so few readings
        return history.start - history.level + 2 * noise < 0.05 * abs(history.start)

    def _tell(self, history: History) -> Finding:
        message = f"No learning: the loss is {history.level:.3g} at step {history.step} and was {history.start:.3g} at the start"
        if history.zeros >= self.ZEROS:
            return self.say(
                history,
                f"{message}; all gradients have been zero for {history.zeros} updates.",
                "See that the loss depends on the trained parameters: nothing detached, frozen or under no_grad, "
                "no units that are all off.",
            )
        rate = f"; the learning rate was never above {short(history.peak)}{history.range_test}."
        if history.peak == 0:
            advice = "Set a learning rate above 0, and see where the schedule begins."
        elif history.too_low:
            advice = f"Raise the learning rate to {short(history.suggestion or 0)}."
        elif history.too_high:
            advice = f"Lower the learning rate to {short(history.suggestion or 0)}: what is too high destroys in a few updates."
        else:
            advice = (
                "Train on one batch again and again: if its loss falls, the labels may be shuffled against the inputs, or "
                "say nothing about them; if not, look at the learning rate and the scale of the inputs."
            )
        return self.say(history, message + rate, advice)


class Overfitting(Cause):
    """The held-out loss has risen since its best, while the training loss fell on."""

    kind = "overfitting"
    PATIENCE = 5  # measurements since the best

    def __init__(self) -> None:
        super().__init__()
        self._best, self._best_step, self._level = math.inf, 0, math.nan
        self._count, self._last = 0, [math.nan]

    def see(self, history: History, record: Watched) -> Finding | None:
        if record.metrics is None or history.monitor not in record.metrics:
            return None
        held_out = float(record.metrics[history.monitor])
        if not math.isfinite(held_out):
            return None
        if held_out <= self._best:
            self._best, self._best_step, self._level = held_out, history.step, history.level
            self._count, self._last = 0, []
            return None
        self._count, self._last = self._count + 1, [*self._last, held_out][-3:]
        now = median(self._last)
        if self._count >= self.PATIENCE and now > 1.2 * self._best > 0 and history.level < 0.9 * self._level:
            return self.say(
                history,
                f"Overfitting: the held-out loss was best at step {self._best_step} ({short(self._best)}) and is about "
                f"{short(now)} at step {history.step}, while the training loss fell from {short(self._level)} to "
                f"{short(history.level)}.",
                "Keep the best checkpoint and stop there; more data, augmentation, dropout or weight decay make it later.",
            )
        return None


def _lower(history: History) -> str:
    """The advice where the rate is likely to be too high."""
    if history.too_high:
        return f"Lower the learning rate to {short(history.suggestion or 0)}."
    return (
        f"Lower the learning rate to {short(history.peak / 10)} or warm up longer; clip_norm=1 bounds the harm that "
        "single batches do."
    )
