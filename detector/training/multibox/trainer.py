"""The training of a MultiBox, from its start or its checkpoint to its last step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from detector.hardware import choose_precision
from detector.progress.live import TrainingDisplay
from detector.settings import save_config
from detector.training.engine.left_out import SkippedFiles
from detector.training.engine.logs import Logs
from detector.training.engine.loop import TrainingLoop
from detector.training.engine.optimisers import build_optimiser, rate_by_step
from detector.training.engine.run_folder import CONFIG, naming_what_differs
from detector.training.engine.state import TrainingState, freeze
from detector.training.multibox.settings import NOT_OF_THE_WEIGHTS, run_fingerprint
from detector.training.multibox.step import Step, Sums

if TYPE_CHECKING:
    from torch import Tensor

    from detector.progress.interruption import Stop
    from detector.training.engine.context import RunContext
    from detector.training.engine.distributed import Group
    from detector.training.multibox.inputs import Learning
    from detector.training.multibox.settings import MultiBoxTrainingConfig


def train(
    settings: MultiBoxTrainingConfig,
    learning: Learning,
    context: RunContext,
    group: Group,
    stop: Stop,
) -> tuple[dict[str, Tensor], SkippedFiles]:
    """Train in `context.out` until the last step or until `stop`; the averaged weights, and the
    images that they have not learnt from.
    """
    how, network = settings.optimiser, learning.network
    freeze(network, [])
    steps_per_epoch = learning.count / how.batch
    last = math.ceil(how.epochs * steps_per_epoch)
    run = TrainingState(
        network, how,
        run_fingerprint(settings, learning.digest(), learning.below),
        build_optimiser(network, how), rate_by_step(how, last, steps_per_epoch),
    )  # fmt: skip
    with naming_what_differs(context.out, settings, NOT_OF_THE_WEIGHTS):
        loop = TrainingLoop(run, how, context, group, stop, last=last, seed=how.seed, clip=how.clip)
    if group.is_main:
        save_config(context.out / CONFIG, settings)
    left_out = SkippedFiles(context.out, group, resumed=loop.first > 0)
    left_out.record(learning.views.broken)
    if loop.first == 0:
        _measure(learning, context.device, group)
        run.average.load({**run.average.values, **dict(network.named_buffers())})
    step_of = Step(
        torch.compile(network) if context.compiled else network,  # type: ignore[arg-type]
        learning.priors, settings.loss, context.device,
        choose_precision(how.precision, context.device), how.batch, how.accumulate,
    )  # fmt: skip
    display = TrainingDisplay(
        last, loop.first, how.batch, context.quiet, items="views", right="distance"
    )
    with ExitStack() as stack:
        logs = Logs(context, loop.first, silent=not group.is_main, stack=stack)
        for current in loop.steps(learning.make, threads=max(1, context.threads - 1)):
            left_out.record(learning.views.broken)
            step_of.seconds = 0.0
            sums = step_of(current.batch, loop.factor)
            result = loop.update(current.step, sums, _mean_loss, lambda: current.batch.replay)  # noqa: B023 called at once
            total = Sums(*result.sums)
            views, objects = max(total.views, 1), max(total.matched, 1)
            curves = {
                "location": round(total.location / views, 5),
                "confidence": round(total.confidence / views, 5),
            }
            logs.step(
                current, result, curves,
                objects=int(total.matched), matching=round(step_of.seconds, 4),
            )  # fmt: skip
            distance = math.sqrt(2 * total.location / settings.loss.alpha / objects / 4)
            display.step(current.step, result.loss, current.rate, distance, current.waited)
    display.close()
    return run.averaged(), left_out


def _mean_loss(sums: Sequence[float]) -> float:
    total = Sums(*sums)
    return (total.location + total.confidence) / total.views if total.views else math.nan


def _measure(learning: Learning, device: torch.device, group: Group) -> None:
    """The deviation of the maps' channels, on the first batch; the same in all processes."""
    heads: Any = learning.whole.heads
    if group.is_main:
        inputs = learning.whole_batch(0).inputs.to(device)
        learns_below = learning.network is learning.whole
        with torch.no_grad():
            heads.standardise.measure(learning.whole.trunk(inputs) if learns_below else inputs)
    group.broadcast_weights(heads)
