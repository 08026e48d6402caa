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
    from detector.training.engine.distributed import Group
    from detector.training.engine.places import RunContext
    from detector.training.regions.inputs import Learning
    from detector.training.regions.settings import RegionTrainingConfig


def train(
    settings: RegionTrainingConfig,
    learning: Learning,
    places: RunContext,
    group: Group,
    stop: Stop,
    begun: Callable[[], None],
) -> tuple[dict[str, Tensor], int]:
    """Train one member in `places.out` until its last step or `stop`; its averaged weights, and
    after how many steps.

    `begun` is called when it is known that the settings are those of what is in `places.out`.
    """
    how, network, seed = settings.optimiser, learning.network, settings.sampling_seed
    names = [name for name, _ in network.named_parameters()]
    freeze(network, [p for p in settings.member.freeze if any(n.startswith(p) for n in names)])
    gather_statistics(network)
    belongs = run_fingerprint(
        settings, learning.teacher_fingerprint, learning.pool.digest(), learning.below_hash
    )
    run = TrainingState(network, how, belongs)
    loop = TrainingLoop(run, how, places, group, stop, last=how.steps, seed=seed)
    begun()
    if group.world == 1:  # a share of a batch has another shape at each step
        search_kernels(places.device)
    step_of = _step_of(settings, learning, places, group)
    size = step_of.batch_size

    def batch_at(step: int) -> tuple[RegionBatch, Tensor, Target]:
        own = learning.pool.draw(seed, step).part(group.rank, group.world)
        seen = learning.make(own, step)
        moves = learning.moves(own, settings.augment.flip) if settings.box_loss else None
        told = None if learning.taught is None else learning.taught(own)
        labels = torch.from_numpy(own.labels)
        place = None if own.place is None else torch.from_numpy(own.place)
        target = Target(seen.possible, labels, moves, told, seen.read, place)
        return own, seen.inputs, target

    def mean_loss(sums: Sequence[float]) -> float:
        total = Sums(*sums)
        return total.loss / size if total.read else math.nan

    reached = loop.first
    display = TrainingDisplay(how.steps, loop.first, size, places.quiet)
    with ExitStack() as stack:
        logs = Logs(places, loop.first, silent=not group.is_main, stack=stack)
        ahead = 2 if isinstance(learning.make, DeviceCrops) else None  # in the device's memory
        for current in loop.steps(batch_at, threads=max(1, places.threads - 1), ahead=ahead):
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
    settings: RegionTrainingConfig, learning: Learning, places: RunContext, group: Group
) -> Step:
    """What stays the same from step to step."""
    how, sampling, network = settings.optimiser, settings.sampling, learning.network
    forward: Any = network if settings.box_loss is None else WithMoves(network).__call__
    taught = settings.teacher
    return Step(
        torch.compile(forward) if places.compiled else forward,
        places.device,
        choose_precision(how.precision, places.device),
        learning.pool.batch_size(),
        normalise=getattr(network, "normalisation", CENTRED),
        share=sampling.hard_share,
        drawn=sampling.positives_per_batch
        + sampling.background_per_batch
        + sampling.hard_candidates,
        sum_of_all=group.sum,
        accumulate=how.accumulate,
        label_smoothing=how.label_smoothing,
        teacher=learning.teacher,
        weight=taught.weight if taught else 0.0,
        temperature=taught.temperature if taught else 1.0,
        box_weight=settings.box_loss.weight if settings.box_loss else 0.0,
    )
