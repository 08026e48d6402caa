"""Held-out examples watched during a training: the averaged weights with their lowest loss are
kept, and the training ends where it falls no more (Prechelt 1998, "Early stopping, but when?").

All of it is in the checkpoints, so that a resumed run decides as an undisturbed one.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from detector.training.engine.state import BEST, TrainingState

# A rise of the held-out loss above its lowest by this share is overfitting, if what is learnt from
# is predicted better than then; a smaller one is noise.
OVERFITTED = 0.1


class Losses(NamedTuple):
    """Mean losses, by one measure, of held-out examples and of as many that are learnt from."""

    held_out: float
    learnt: float

    def __str__(self) -> str:
        return f"loss {self.held_out:.4f}; of what is learnt from {self.learnt:.4f}"


class _Record(NamedTuple):
    """The looks so far: the best, the last, and how many there were since the best."""

    best_step: float = 0
    best: float = 0
    best_learnt: float = 0
    last: float = 0
    last_learnt: float = 0
    since: float = 0


class HeldOutWatch:
    """The losses of a training at intervals, its best weights, and its end."""

    def __init__(
        self,
        state: TrainingState,
        measure: Callable[[Mapping[str, Tensor]], Losses],
        every: int,
        patience: int = 0,
    ) -> None:
        """Watch a training that has not begun or resumed yet.

        measure   the averaged state of the network -> its losses, the same in all processes
        every     steps between two looks; the last step is looked at, too
        patience  looks without a lower loss that end the training; 0: none do
        """
        self.every, self.patience = every, patience
        self._state, self._measure = state, measure
        state.extra |= {"watch": {}, BEST: {}}

    def is_due(self, done: int, last: int) -> bool:
        """True if the weights after `done` steps, of `last`, are to be looked at."""
        return done % self.every == 0 or done == last

    def look(self, done: int) -> Losses:
        """Measure the averages after `done` steps, and keep them if they are the best yet."""
        state = self._state
        losses = self._measure(state.average.state_dict(state.network))
        record = self._record
        if not all(math.isfinite(loss) for loss in losses):
            record = record._replace(since=record.since + 1)
        elif not state.extra[BEST] or losses.held_out < record.best:
            record = _Record(done, *losses, *losses)
            state.extra[BEST] = {name: t.clone() for name, t in state.average.values.items()}
        else:
            since = record.since + 1
            record = record._replace(last=losses.held_out, last_learnt=losses.learnt, since=since)
        # A new tensor: one that is being saved does not change.
        state.extra["watch"] = {"record": torch.tensor(record, dtype=torch.float64)}
        return losses

    @property
    def is_over(self) -> bool:
        """True once so many looks as `patience` says have found no lower loss."""
        return 0 < self.patience <= self._record.since

    def conclusion(self) -> str:
        """A sentence on the weights that are kept, with a warning of overfitting; "" before the
        first look.
        """
        record = self._record
        if not self._state.extra[BEST]:
            return ""
        kept = f"the weights of step {record.best_step:.0f} are kept"
        if record.last > (1 + OVERFITTED) * record.best and record.last_learnt < record.best_learnt:
            return (
                f"warning: overfitting: since step {record.best_step:.0f} the loss of held-out"
                f" images rose from {record.best:.3f} to {record.last:.3f}, while that of images"
                f" learnt from fell from {record.best_learnt:.3f} to {record.last_learnt:.3f};"
                f" {kept}. More annotated images help, or a stronger augment"
            )
        return f"{kept}: held-out loss {record.best:.3f}"

    @property
    def _record(self) -> _Record:
        saved = self._state.extra["watch"].get("record")
        return _Record() if saved is None else _Record(*saved.tolist())
