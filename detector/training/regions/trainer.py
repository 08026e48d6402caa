"""The training of one member, from its start or its checkpoint to its last step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from detector.hardware import choose_precision, search_kernels
from detector.models.normalisation import CENTRED
from detector.progress.live import TrainingDisplay
from detector.training.engine.logs import Logs
from detector.training.engine.loop import TrainingLoop
from detector.training.engine.state import TrainingState, freeze, gather_statistics
from detector.training.regions.box_loss import WithMoves
from detector.training.regions.device_crops import DeviceCrops
from detector.training.regions.run import run_fingerprint
from detector.training.regions.sampling import RegionBatch
from detector.training.regions.step import Step, Sums, Target

if TYPE_CHECKING:
    from torch import Tensor

    from detector.progress.interruption import Stop
    from detector.training.engine.context import RunContext
    from detector.training.engine.distributed import Group
    from detector.training.regions.inputs import Learning
    from detector.training.regions.settings import RegionTrainingConfig


def train(
    settings: RegionTrainingConfig,
    learning: Learning,
    context: RunContext,
    group: Group,
    stop: Stop,
    begun: Callable[[], None],
) -> tuple[dict[str, Tensor], int]:
    """Train one member in `context.out` until its last step or `stop`; its averaged weights, and
    after how many steps.

    `begun` is called when it is known that the settings are those of what is in `context.out`.
    """
    how, network, seed = settings.optimiser, learning.network, settings.sampling_seed
    names = [name for name, _ in network.named_parameters()]
    freeze(network, [p for p in settings.member.freeze if any(n.startswith(p) for n in names)])
    gather_statistics(network)
    belongs = run_fingerprint(
        settings, learning.teacher_fingerprint, learning.pool.digest(), learning.below_hash
    )
    run = TrainingState(network, how, belongs)
    loop = TrainingLoop(run, how, context, group, stop, last=how.steps, seed=seed)
    begun()
    if group.world_size == 1:  # a share of a batch has another shape at each step
        search_kernels(context.device)
    step_of = _step_of(settings, learning, context, group)
    size = step_of.batch_size

    def batch_at(step: int) -> tuple[RegionBatch, Tensor, Target]:
        own = learning.pool.draw(seed, step).part(group.rank, group.world_size)
        seen = learning.make(own, step)
        moves = learning.moves(own, settings.augment.flip) if settings.box_loss else None
        told = None if learning.teacher_logits is None else learning.teacher_logits(own)
        labels = torch.from_numpy(own.labels)
        place = None if own.place is None else torch.from_numpy(own.place)
        target = Target(seen.allowed_classes, labels, moves, told, seen.read, place)
        return own, seen.inputs, target

    def mean_loss(sums: Sequence[float]) -> float:
        total = Sums(*sums)
        return total.loss / size if total.read else math.nan

    reached = loop.first
    display = TrainingDisplay(how.steps, loop.first, size, context.quiet)
    with ExitStack() as stack:
        logs = Logs(context, loop.first, silent=not group.is_main, stack=stack)
        ahead = 2 if isinstance(learning.make, DeviceCrops) else None  # in the device's memory
        for current in loop.steps(batch_at, threads=max(1, context.threads - 1), ahead=ahead):
            batch, inputs, target = current.batch
            sums = step_of(inputs, target, loop.factor)
            result = loop.update(current.step, sums, mean_loss, batch.replay)
            total, reached = Sums(*result.sums), current.step + 1
            objects_right = total.objects_right / max(total.objects, 1)
            curves = {"boxes": round(total.boxes / size, 5)} if settings.box_loss else {}
            curves["positives_right"] = round(objects_right, 4)
            logs.step(current, result, curves, right=round(total.right / size, 4))
            display.step(
                current.step,
                result.loss,
                current.rate,
                objects_right,
                current.waited,
            )
    display.close()
    return run.averaged(), reached


def _step_of(
    settings: RegionTrainingConfig, learning: Learning, context: RunContext, group: Group
) -> Step:
    """What stays the same from step to step."""
    how, sampling, network = settings.optimiser, settings.sampling, learning.network
    forward: Any = network if settings.box_loss is None else WithMoves(network).__call__
    teacher = settings.teacher
    return Step(
        torch.compile(forward) if context.compiled else forward,
        context.device,
        choose_precision(how.precision, context.device),
        learning.pool.batch_size(),
        normalise=getattr(network, "normalisation", CENTRED),
        share=sampling.hard_share,
        drawn=sampling.positives_per_batch
        + sampling.background_per_batch
        + sampling.hard_candidates,
        all_reduce=group.all_reduce,
        accumulate=how.accumulate,
        label_smoothing=how.label_smoothing,
        teacher=learning.teacher,
        weight=teacher.weight if teacher else 0.0,
        temperature=teacher.temperature if teacher else 1.0,
        box_weight=settings.box_loss.weight if settings.box_loss else 0.0,
    )
