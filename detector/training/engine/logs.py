"""Logs of a training's steps: a journal, TensorBoard curves if asked for, and a line on the
terminal.
"""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any, Self

from detector.progress.journal import Journal
from detector.progress.live import TrainingDisplay
from detector.progress.tensorboard import Tracker
from detector.training.engine.context import RunContext
from detector.training.engine.loop import StepContext, StepResult, TrainingLoop

JOURNAL = "journal.jsonl"  # in the folder of a run


class Logs:
    """The logs of a run; files are written by the main process only."""

    def __init__(
        self, context: RunContext, loop: TrainingLoop, batch_size: int, *,
        items: str = "regions", right: str = "objects right",
    ) -> None:  # fmt: skip
        """Open them; entries of the first step and later are dropped.

        items  name of what a batch has `batch_size` of
        right  name of the number that the terminal shows beside the loss
        """
        self._display = TrainingDisplay(
            loop.last, loop.first, batch_size, context.quiet, items=items, right=right
        )
        self._journal: Journal | None = None
        self._tracker: Tracker | None = None
        self._files = ExitStack()
        if not context.group.is_main:
            return
        if context.tensorboard:
            curves = Tracker(context.out / "tensorboard", resume_at=loop.first)
            self._tracker = self._files.enter_context(closing(curves))
        entries = Journal(context.out / JOURNAL, resume_at=loop.first)
        self._journal = self._files.enter_context(closing(entries))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._files.close()
        if kind is None:  # it says that the run is saved, which after an error it is not
            self._display.close()

    def step(
        self, current: StepContext[Any], result: StepResult, curves: Mapping[str, float], *,
        shown: float, **more: float,
    ) -> None:  # fmt: skip
        """Log one step; `curves` go into journal and TensorBoard, `more` into the journal only, and
        `shown` is the number on the terminal.
        """
        if self._journal is not None:
            self._journal.write(
                step=current.step, loss=round(result.loss, 5), rate=current.rate,
                gradient=round(result.norm, 4), **curves, **more,
                seconds=round(current.seconds, 3), waited=round(current.waited, 3),
            )  # fmt: skip
        if self._tracker is not None:
            numbers = {"loss": result.loss, "rate": current.rate, "gradient": result.norm}
            self._tracker.write(current.step, **numbers, **curves)
        self._display.step(current.step, result.loss, current.rate, shown, current.waited)

    def note(self, step: int, name: str, numbers: Mapping[str, float], text: str) -> None:
        """Log numbers of a step that share a name, such as an accuracy, and show `text`."""
        self._display.say(f"{name}: {text}")
        if self._journal is not None:
            self._journal.write(**{"step": step, name: dict(numbers)})
        if self._tracker is not None:
            self._tracker.write(step, **numbers)

    def end(self, done: int, text: str) -> None:
        """Show why a training ends after `done` steps, though more were planned."""
        self._display.last = done
        self.say(f"ended at step {done}: {text}")

    def say(self, text: str) -> None:
        """Show a sentence."""
        self._display.say(text)
