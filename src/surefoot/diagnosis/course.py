"""What the course of a training gives away: its schedule, the updates that were not made, the time spent waiting."""

from __future__ import annotations

from surefoot.diagnosis.cause import Cause, Finding, Steady
from surefoot.diagnosis.history import History, Watched
from surefoot.diagnosis.words import short

__all__ = ["DataLoading", "ScheduleCut", "ScheduleEnded", "SkippedUpdates"]


SMOOTH = 10  # changes of the rate, with which it goes along a curve and not down a few stairs


class ScheduleEnded(Cause):
    """A rate that went along a curve has stood at its floor for a fifth of the training."""

    kind = "schedule_ended"
    when = "level"

    def see(self, history: History, record: Watched) -> Finding | None:
        return self._judge(history)

    def end(self, history: History) -> Finding | None:
        return self._judge(history)

    def _judge(self, history: History) -> Finding | None:
        flat = history.step - history.since
        long = flat >= max(100, 5 * history.longest, history.updates // 5)
        if history.changes < SMOOTH or not long or history.rate > 0.1 * history.peak:
            return None
        return self.say(
            history,
            f"The schedule ended at step {history.since}: the learning rate has been {short(history.rate)} since (its peak "
            f"was {short(history.peak)}), for {flat} updates.",
            f"Make the schedule as long as the training, {history.planned_steps or history.step} updates, and see that "
            "its steps are updates, not epochs.",
        )


class ScheduleCut(Cause):
    """Training is over before its schedule is."""

    kind = "schedule_cut"
    when = "end"

    def end(self, history: History) -> Finding | None:
        planned, step = history.planned_steps, history.step
        moving = history.changes >= 3 and step - history.since <= max(history.updates // 20, history.longest)
        if history.updates < 100 or not moving:
            return None
        if not history.fell:
            return self.say(
                history,
                f"Training ended at step {step} while the learning rate was still rising (at {short(history.rate)}).",
                f"Make the schedule as long as the training, {step} updates, and step it after each of them.",
            )
        if planned is None or step >= 0.9 * planned or history.changes < SMOOTH:
            return None
        if history.rate <= 0.5 * history.peak:
            return None
        return self.say(
            history,
            f"Training ended at step {step} of {planned}, with the learning rate at {short(history.rate)} of "
            f"{short(history.peak)}: the schedule was cut, and most of the progress comes as the rate falls.",
            f"Resume to the end, or train again with a schedule of {step} updates.",
        )


class SkippedUpdates(Steady):
    """A quarter of the updates is not made."""

    kind = "skipped_updates"

    def __init__(self) -> None:
        super().__init__()
        self._skipped = 0

    def count(self, history: History, record: Watched) -> None:
        self._skipped += not record.applied

    def judge(self, history: History) -> tuple[str, str] | None:
        skipped, self._skipped = self._skipped, 0
        if skipped <= self.SIZE // 4:
            return None
        return (
            f"{skipped} of the last {self.SIZE} updates were skipped, since gradients were not finite.",
            "Train in bfloat16 in place of float16, which needs no scaler; or lower the learning rate, and look for "
            "infinity and NaN in the data and the loss.",
        )


class DataLoading(Steady):
    """Most of the time passes waiting for batches, and it is seconds."""

    kind = "data_loading"
    LEAST = 2.5  # seconds a block waits: nobody minds less

    def __init__(self) -> None:
        super().__init__()
        self._waited = self._seconds = 0.0
        self._pass_begins = True  # workers start, and that is no steady state

    def count(self, history: History, record: Watched) -> None:
        if not self._pass_begins:
            self._waited += record.waited
            self._seconds += record.seconds
        self._pass_begins = record.last_of_pass

    def judge(self, history: History) -> tuple[str, str] | None:
        waited, seconds = self._waited, self._seconds
        self._waited = self._seconds = 0.0
        if waited < self.LEAST or waited < 0.5 * seconds:
            return None
        return (
            f"{waited / seconds:.0%} of the time of the last {self.SIZE} updates passed waiting for data "
            f"({1000 * waited / self.SIZE:.0f} ms an update).",
            "Give the DataLoader num_workers (and persistent_workers=True, pin_memory=True for a GPU), do once what is "
            "done to each sample each time, or keep the data in memory.",
        )
