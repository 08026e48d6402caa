"""Logs of a training's steps: a journal, and TensorBoard curves if asked for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from detector.progress.journal import Journal
from detector.progress.tensorboard import Tracker
from detector.training.engine.context import RunContext
from detector.training.engine.loop import StepContext, StepResult

JOURNAL = "journal.jsonl"
"""In the folder of a run."""


class Logs:
    """The journal of a run and its curves; silent on all processes but the main one."""

    def __init__(self, context: RunContext, first: int, *, silent: bool, stack: ExitStack) -> None:
        """Open both; entries of step `first` and later are dropped. `stack` closes the files."""
        self._journal: Journal | None = None
        self._tracker: Tracker | None = None
        if silent:
            return
        if context.tensorboard:
            curves = Tracker(context.out / "tensorboard", resume_at=first)
            self._tracker = stack.enter_context(closing(curves))
        entries = Journal(context.out / JOURNAL, resume_at=first)
        self._journal = stack.enter_context(closing(entries))

    def step(
        self, current: StepContext[Any], result: StepResult, curves: Mapping[str, float],
        **more: float,
    ) -> None:  # fmt: skip
        """Log one step; `curves` go into both, `more` into the journal only."""
        if self._journal is not None:
            self._journal.write(
                step=current.step, loss=round(result.loss, 5), rate=current.rate,
                gradient=round(result.norm, 4), **curves, **more,
                seconds=round(current.seconds, 3), waited=round(current.waited, 3),
            )  # fmt: skip
        if self._tracker is not None:
            numbers = {
                "loss": result.loss,
                "rate": current.rate,
                "gradient": result.norm,
                **curves,
            }
            self._tracker.write(current.step, **numbers)

    def note(self, step: int, name: str, numbers: Mapping[str, float]) -> None:
        """Log numbers of a step that share a name, such as an accuracy."""
        if self._journal is not None:
            self._journal.write(**{"step": step, name: dict(numbers)})
        if self._tracker is not None:
            self._tracker.write(step, **numbers)
