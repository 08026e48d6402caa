"""The loop around every training's steps: batches prepared ahead, seeds, learning rates, gradients
summed over processes, non-finite steps skipped, checkpoints, and an orderly stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor

from detector.errors import TrainingError
from detector.progress.messages import say
from detector.progress.prefetch import prefetched
from detector.settings import save_config
from detector.training.engine.context import RunContext
from detector.training.engine.loss_scale import LossScale
from detector.training.engine.optimisers import clip_gradients
from detector.training.engine.run_folder import CONFIG, naming_what_differs
from detector.training.engine.state import TrainingState

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class StepContext(Generic[Batch]):
    """One step, before it is taken.

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
        """Seconds since the step before ended."""
        return time.perf_counter() - self.began


class StepResult(NamedTuple):
    """The outcome of one step, over all processes.

    sums   the steps' own sums, added over the processes
    loss   nan where no example could be read
    norm   of the whole gradient
    taken  True if the weights moved
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

    def __init__(self, state: TrainingState, context: RunContext) -> None:
        """Resume `state` from its last checkpoint. Raises TrainingError where the processes would
        resume at different steps.
        """
        self.state, self.last = state, state.steps
        self._context, self._bad_in_a_row = context, 0
        self._scale = LossScale(state.settings.precision == "float16")
        state.extra["progress"] = self._scale.state()
        context.out.mkdir(parents=True, exist_ok=True)
        self.first = state.resume(context.out, say if context.group.is_main else None)
        self._scale.load(state.extra["progress"])
        if self.first == 0 and context.group.is_main:  # an earlier run's say nothing of this one
            for path in context.out.glob("not-finite-*.json"):
                path.unlink()
        # One may see another folder: it would train another network, or be waited for in vain.
        if not context.group.agree(self.first, context.device):
            raise TrainingError(
                f"{context.out}: the processes would go on at different steps, this one at"
                f" {self.first}; give an --out that all of them read alike"
            )

    @classmethod
    def begin(
        cls, state: TrainingState, context: RunContext, settings: BaseModel, free: Any,
        folder: Path | None = None,
    ) -> TrainingLoop:  # fmt: skip
        """Begin the run of a folder, or resume it, and write its settings there. A refusal to
        resume names the settings that differ from the written ones.

        free    settings that may change (as pydantic's `exclude`)
        folder  of the settings, where it is not `context.out`
        """
        folder = folder or context.out
        with naming_what_differs(folder, settings, free):
            loop = cls(state, context)
        if context.group.is_main:
            save_config(folder / CONFIG, settings)
        return loop

    @property
    def factor(self) -> float:
        """The loss scale: multiply the loss by it before its gradients are taken."""
        return self._scale.factor

    def steps(
        self,
        make: Callable[[int], Batch],
        *,
        threads: int = 1,
        ahead: int | None = None,
        after: Callable[[int], bool] | None = None,
    ) -> Iterator[StepContext[Batch]]:
        """Yield each step with its batch, make(step). Between two steps a checkpoint is written if
        it is due; then `after` is called with the number of finished steps, and returns True if it
        did something (in all processes alike).

        Ends after the last step (`last`, which may be brought forward), or, with a checkpoint,
        where any process was asked to stop.
        """
        if self._context.stops():  # asked before the first step, while the inputs were made
            return
        settings = self.state.settings
        before, seed = time.perf_counter(), settings.seed_of_draws
        batches = prefetched(make, range(self.first, self.last), threads=threads, ahead=ahead)
        for step, batch in enumerate(batches, start=self.first):
            waited = time.perf_counter() - before
            # Dropout depends on (seed, step, rank) alone, so a resumed run draws the same masks.
            # The prime factors keep the seeds of different triples apart.
            torch.manual_seed((seed * 1_000_003 + step) * 1009 + self._context.group.rank)
            self.state.begin()
            yield StepContext(step, batch, self.state.set_rate(step), waited, before)
            done = step + 1
            stopping = self._context.stops()
            saved = stopping or done == self.last or done % settings.save_every == 0
            if saved:
                self._save(done)
            # Asked again: a validation may take minutes, and one was asked to stop meanwhile.
            if after is not None and after(done) and not stopping:
                stopping = self._context.stops()
                if stopping and not saved:
                    self._save(done)
            if stopping or done >= self.last:
                return
            before = time.perf_counter()

    def _save(self, done: int) -> None:
        if self._context.group.is_main:
            self.state.extra["progress"] = self._scale.state()
            self.state.save(self._context.out, done)
        self._context.group.barrier()

    def update(
        self,
        step: int,
        sums: Tensor,
        mean_loss: Callable[[Sequence[float]], float],
        replay: Callable[[], Mapping[str, Any]],
    ) -> StepResult:
        """Take the step with the gradients summed over all processes.

        sums       (S,) of this process
        mean_loss  the sums of all processes -> the mean loss of a region, image or view; nan where
                   there was none
        replay     returns what would repeat the step (JSON)

        A loss or gradient that is not finite leaves the network as it was and a file that says
        what was in the batch (each process its own); a few of them in a row are a TrainingError, as
        are batches with nothing to learn from. Where float16's loss scale may be the cause, it is
        halved, and nothing else happens.
        """
        state = self.state
        self._context.group.all_reduce_gradients(state.trainable)
        self._scale.unscale(state.trainable)
        # Of the summed gradients, so it is the same in all processes, and so is what follows.
        norm = state.gradient_norm().to(sums)
        # One transfer for all numbers: each .tolist() waits for the GPU.
        *total, length = torch.cat([self._context.group.all_reduce(sums), norm[None]]).tolist()
        loss = mean_loss(total)
        taken = math.isfinite(loss) and math.isfinite(length)
        if taken:
            clip_gradients(state.trainable, length, state.settings.clip)
            state.update(step)
            self._scale.succeeded()
            self._bad_in_a_row = 0
        elif math.isfinite(loss) and self._scale.overflowed():
            state.undo()  # float16 only: try again, scaled less
        else:
            # Not even a step of no gradient: momentum and decay would move the weights.
            self._bad_in_a_row += 1
            empty = math.isnan(loss) and length == 0
            if empty and self._bad_in_a_row >= state.settings.max_bad_steps:
                raise TrainingError(
                    f"step {step}: nothing in the last {self._bad_in_a_row} batches could be read;"
                    " check that the images are still there, and whole"
                )
            state.skip(step, replay(), self._replay_path(step), self._bad_in_a_row)
        return StepResult(total, loss, length, taken)

    def _replay_path(self, step: int) -> Path:
        of_rank = f"-{self._context.group.rank}" if self._context.group.world_size > 1 else ""
        return self._context.out / f"not-finite-{step:07d}{of_rank}.json"
