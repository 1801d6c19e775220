"""What a diagnosis comes to, a finding; and what finds it, a cause."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from surefoot.diagnosis.history import History, Watched

__all__ = ["Cause", "Finding", "Steady"]


@dataclass(frozen=True)
class Finding:
    """Something that goes wrong.

    Attributes:
        kind: Which of the kinds it is, such as ``"diverged"``.
        step: The update at which it was first sure.
        message: What was seen, a sentence.
        advice: What to try, a sentence.

    Example:
        >>> print(Finding("clipping", 300, "Every gradient is clipped.", "Raise clip_norm."))
        Every gradient is clipped. Raise clip_norm.
    """

    kind: str
    step: int
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message} {self.advice}"


class Cause:
    """One kind of trouble, and what of the records gives it away.

    Attributes:
        kind: Its name.
        when: Which records it looks at: every one, those that renew the loss's level or fill a block of samples, or
            none but the end.
        finding: What :meth:`see` found, if anything.
    """

    kind: ClassVar[str]
    when: ClassVar[Literal["record", "level", "block", "end"]] = "record"

    def __init__(self) -> None:
        self.finding: Finding | None = None

    def see(self, history: History, record: Watched) -> Finding | None:
        """What is sure since this record, if anything is; not called again after that."""
        raise NotImplementedError

    def end(self, history: History) -> Finding | None:
        """What stands of it when training is over."""
        return self.finding

    def say(self, history: History, message: str, advice: str) -> Finding:
        """A finding of now, or another wording of the one that there is."""
        step = history.step if self.finding is None else self.finding.step
        return Finding(self.kind, step, message, advice)


class Steady(Cause, ABC):
    """Trouble that shows in blocks of updates: it is sure after two in a row."""

    SIZE = 100

    def __init__(self) -> None:
        super().__init__()
        self._bad = 0

    def see(self, history: History, record: Watched) -> Finding | None:
        self.count(history, record)
        if history.updates % self.SIZE:
            return None
        words = self.judge(history)
        self._bad = self._bad + 1 if words else 0
        return self.say(history, *words) if words and self._bad == 2 else None

    @abstractmethod
    def count(self, history: History, record: Watched) -> None:
        """Count one more record."""

    @abstractmethod
    def judge(self, history: History) -> tuple[str, str] | None:
        """Message and advice if the block that is full is bad; begin the next."""
