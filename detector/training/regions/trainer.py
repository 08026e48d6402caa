"""The training loop of one region classifier."""

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
from detector.training.regions.box_loss import WithDeltas
from detector.training.regions.device_crops import DeviceCrops
from detector.training.regions.run import run_fingerprint
from detector.training.regions.sampling import RegionBatch
from detector.training.regions.step import RegionStep, RegionSums, Target

if TYPE_CHECKING:
    from torch import Tensor

    from detector.training.engine.context import RunContext
    from detector.training.regions.inputs import TrainingSetup
    from detector.training.regions.settings import RegionTrainingConfig


def train(
    settings: RegionTrainingConfig,
    setup: TrainingSetup,
    context: RunContext,
    on_start: Callable[[], None],
) -> tuple[dict[str, Tensor], int]:
    """Train one member in `context.out` until its last step or `context.stop`; returns its averaged
    weights and the number of finished steps.

    `on_start` is called once the settings are known to match what is in `context.out`.
    """
    optimiser, network, group = settings.optimiser, setup.network, context.group
    names = [name for name, _ in network.named_parameters()]
    freeze(network, [p for p in settings.member.freeze if any(n.startswith(p) for n in names)])
    gather_statistics(network)
    fingerprint = run_fingerprint(
        settings, setup.teacher_fingerprint, setup.pool.digest(), setup.below_hash
    )
    state = TrainingState(network, optimiser, fingerprint, optimiser.steps)
    loop = TrainingLoop(state, context)
    on_start()
    if group.world_size == 1:  # shares of a batch differ in shape, so a search would not pay
        search_kernels(context.device)
    training_step = _build_step(settings, setup, context)
    size = training_step.batch_size

    def batch_at(step: int) -> tuple[RegionBatch, Tensor, Target]:
        batch = setup.pool.draw(optimiser.seed_of_draws, step).part(group.rank, group.world_size)
        crops = setup.make(batch, step)
        deltas = setup.deltas(batch, settings.augment.flip) if settings.box_loss else None
        teacher_logits = None if setup.teacher_logits is None else setup.teacher_logits(batch)
        labels = torch.from_numpy(batch.labels)
        place = None if batch.place is None else torch.from_numpy(batch.place)
        target = Target(crops.allowed_classes, labels, deltas, teacher_logits, crops.read, place)
        return batch, crops.inputs, target

    def mean_loss(sums: Sequence[float]) -> float:
        total = RegionSums(*sums)
        return total.loss / size if total.read else math.nan

    reached = loop.first
    display = TrainingDisplay(optimiser.steps, loop.first, size, context.quiet)
    with ExitStack() as stack:
        logs = Logs(context, loop.first, silent=not group.is_main, stack=stack)
        # Batches made on the GPU wait in its memory.
        ahead = 2 if isinstance(setup.make, DeviceCrops) else None
        for current in loop.steps(batch_at, threads=max(1, context.threads - 1), ahead=ahead):
            batch, inputs, target = current.batch
            sums = training_step(inputs, target, loop.factor)
            result = loop.update(current.step, sums, mean_loss, batch.replay)
            total, reached = RegionSums(*result.sums), current.step + 1
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
    return state.averaged(), reached


def _build_step(
    settings: RegionTrainingConfig, setup: TrainingSetup, context: RunContext
) -> RegionStep:
    """The step of this training, from its settings."""
    optimiser, sampling, network = settings.optimiser, settings.sampling, setup.network
    forward: Any = network if settings.box_loss is None else WithDeltas(network).__call__
    teacher = settings.teacher
    return RegionStep(
        torch.compile(forward) if context.compiled else forward,
        context.device,
        choose_precision(optimiser.precision, context.device),
        setup.pool.batch_size(),
        normalise=getattr(network, "normalisation", CENTRED),
        share=sampling.hard_share,
        drawn=sampling.positives_per_batch
        + sampling.background_per_batch
        + sampling.hard_candidates,
        all_reduce=context.group.all_reduce,
        accumulate=optimiser.accumulate,
        label_smoothing=optimiser.label_smoothing,
        teacher=setup.teacher,
        weight=teacher.weight if teacher else 0.0,
        temperature=teacher.temperature if teacher else 1.0,
        box_weight=settings.box_loss.weight if settings.box_loss else 0.0,
    )
