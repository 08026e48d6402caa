"""What every training does around its steps: batches ahead, seeds, rates, the gradients of all
processes as one, a rule for what is not finite, checkpoints, and an end when somebody asks for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from detector.errors import TrainingError
from detector.progress.messages import say
from detector.progress.prefetch import prefetched
from detector.training.engine.context import RunContext
from detector.training.engine.distributed import Asked, Group
from detector.training.engine.loss_scale import LossScale
from detector.training.engine.optimisers import clip_gradients
from detector.training.engine.state import TrainingState

Batch = TypeVar("Batch")


class LoopSettings(Protocol):
    """The settings that a loop needs."""

    @property
    def precision(self) -> str: ...
    @property
    def save_every(self) -> int: ...


@dataclass(frozen=True)
class StepContext(Generic[Batch]):
    """One step that is about to be taken.

    rate    the learning rate
    waited  seconds for the batch
    began   when the one before had ended (time.perf_counter)
    """

    step: int
    batch: Batch
    rate: float
    waited: float
    began: float

    @property
    def seconds(self) -> float:
        """Since the step before."""
        return time.perf_counter() - self.began


class StepResult(NamedTuple):
    """What one step found, over all processes.

    sums   as the step gave them, added up
    loss   nan where there was nothing to learn from
    norm   of the whole gradient
    taken  whether the weights moved
    """

    sums: Sequence[float]
    loss: float
    norm: float
    taken: bool


class TrainingLoop:
    """The steps of one training, from its start or the checkpoint in `context.out` to its last.

    for current in loop.steps(make):
        sums = ...  # adds this process's gradients of loop.factor times the loss
        result = loop.update(current.step, sums, mean_loss, replay)
    """

    def __init__(
        self, run: TrainingState, settings: LoopSettings, context: RunContext, group: Group,
        stop: Asked, *, last: int, seed: int, clip: float | None = None,
    ) -> None:  # fmt: skip
        """Resumes `run`. `seed` decides dropout, with the step; gradients longer than `clip` are
        shortened.
        """
        self.run, self.group, self.last = run, group, last
        self._settings, self._context, self._stop = settings, context, stop
        self._seed, self._clip, self._bad_in_a_row = seed, clip, 0
        self._scale = LossScale(settings.precision == "float16")
        run.extra["progress"] = self._scale.state()
        context.out.mkdir(parents=True, exist_ok=True)
        self.first = run.resume(context.out, say if group.is_main else None)
        self._scale.load(run.extra["progress"])
        if self.first == 0 and group.is_main:  # those of an earlier run say nothing of this one
            for path in context.out.glob("not-finite-*.json"):
                path.unlink()
        if not group.agree(self.first, context.device):
            raise TrainingError(
                f"{context.out}: the processes would go on at different steps, this one at"
                f" {self.first}; give an --out that all of them read alike"
            )

    @property
    def factor(self) -> float:
        """What the loss is to be multiplied by before its gradients are taken."""
        return self._scale.factor

    def steps(
        self,
        make: Callable[[int], Batch],
        *,
        threads: int = 1,
        ahead: int | None = None,
        after: Callable[[int], bool] | None = None,
    ) -> Iterator[StepContext[Batch]]:
        """Each step with its batch, make(step). Between two of them a checkpoint is written if it
        is due; then `after` is called with the number of steps that are done, and says whether
        there was something to do (in all processes alike).

        Ends after the last step, or, with a checkpoint, where any process was asked to stop.
        """
        if self._asked_to_stop():
            return
        before, every = time.perf_counter(), self._settings.save_every
        batches = prefetched(make, self.first, self.last, threads=threads, ahead=ahead)
        for step, batch in enumerate(batches, start=self.first):
            waited = time.perf_counter() - before
            torch.manual_seed((self._seed * 1_000_003 + step) * 1009 + self.group.rank)
            self.run.begin()
            yield StepContext(step, batch, self.run.set_rate(step), waited, before)
            done = step + 1
            stopping = self._asked_to_stop()
            saved = stopping or done == self.last or done % every == 0
            if saved:
                self._save(done)
            if after is not None and after(done) and not stopping:  # it may have taken long
                stopping = self._asked_to_stop()
                if stopping and not saved:
                    self._save(done)
            if stopping:
                return
            before = time.perf_counter()

    def _asked_to_stop(self) -> bool:
        return self.group.stops(self._stop, self._context.device)

    def _save(self, done: int) -> None:
        if self.group.is_main:
            self.run.extra["progress"] = self._scale.state()
            self.run.save(self._context.out, done)
        self.group.barrier()

    def update(
        self,
        step: int,
        sums: Tensor,
        mean_loss: Callable[[Sequence[float]], float],
        replay: Callable[[], Mapping[str, Any]],
    ) -> StepResult:
        """Take the step, with the gradients of all processes added up.

        sums       (S,) of this process
        mean_loss  the sums of all processes -> the loss of a region, image or view; nan where there
                   was none
        replay     what would repeat the step (JSON)

        A loss or gradient that is not finite leaves the network as it was and a file that says
        what was in the batch (each process its own); a few of them in a row are a TrainingError, as
        are batches with nothing to learn from. Where float16's loss scale may be the cause, it is
        halved, and nothing else happens.
        """
        run = self.run
        self.group.all_reduce_gradients(run.trainable)
        self._scale.unscale(run.trainable)
        norm = run.gradient_norm().to(sums)
        *total, length = torch.cat([self.group.all_reduce(sums), norm[None]]).tolist()  # waits once
        loss = mean_loss(total)
        taken = math.isfinite(loss) and math.isfinite(length)
        if taken:
            clip_gradients(run.trainable, length, self._clip)
            run.update(step)
            self._scale.succeeded()
            self._bad_in_a_row = 0
        elif math.isfinite(loss) and self._scale.overflowed():
            run.undo()  # float16 only: try again, scaled less
        else:
            self._bad_in_a_row += 1
            empty = math.isnan(loss) and length == 0
            if empty and self._bad_in_a_row >= run.settings.max_bad_steps:
                raise TrainingError(
                    f"step {step}: nothing in the last {self._bad_in_a_row} batches could be read;"
                    " check that the images are still there, and whole"
                )
            run.skip(step, replay(), self._replay_path(step), self._bad_in_a_row)
        return StepResult(total, loss, length, taken)

    def _replay_path(self, step: int) -> Path:
        of_rank = f"-{self.group.rank}" if self.group.world_size > 1 else ""
        return self._context.out / f"not-finite-{step:07d}{of_rank}.json"
