"""The training loop of a MultiBox, and the file of its weights."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor

from detector.hardware import choose_precision
from detector.progress.messages import pluralise
from detector.proposals.multibox.weights import MultiBoxHeader, TrainedMultiBox, save_multibox
from detector.training.engine.context import RunContext
from detector.training.engine.distributed import Group
from detector.training.engine.left_out import SkippedFiles
from detector.training.engine.logs import Logs
from detector.training.engine.loop import TrainingLoop
from detector.training.engine.state import TrainingState, freeze
from detector.training.multibox.inputs import TrainingSetup
from detector.training.multibox.settings import (
    NOT_OF_THE_WEIGHTS,
    MultiBoxTrainingConfig,
    run_fingerprint,
)
from detector.training.multibox.step import MultiBoxStep, MultiBoxSums


def train(
    settings: MultiBoxTrainingConfig, setup: TrainingSetup, context: RunContext
) -> tuple[dict[str, Tensor], SkippedFiles]:
    """Train in `context.out` until the last step or `context.stop`; returns the averaged weights
    and the skipped images.
    """
    optimiser, network, group = settings.optimiser, setup.network, context.group
    freeze(network, [])  # no layer by name: the statistics of batch normalisation alone
    steps_per_epoch = setup.count / optimiser.batch
    last = math.ceil(optimiser.epochs * steps_per_epoch)
    state = TrainingState(
        network, optimiser, run_fingerprint(settings, setup.digest(), setup.below),
        last, steps_per_epoch,
    )  # fmt: skip
    loop = TrainingLoop.begin(state, context, settings, NOT_OF_THE_WEIGHTS)
    left_out = SkippedFiles(context.out, group, resumed=loop.first > 0)
    left_out.record(setup.views.broken)
    if loop.first == 0:
        _measure(setup, context.device, group)
        # The average begins with the measured statistics, not with the untouched ones.
        state.average.load({**state.average.values, **dict(network.named_buffers())})
    training_step = MultiBoxStep(
        torch.compile(network) if context.compiled else network,  # type: ignore[arg-type]
        setup.priors,
        settings.loss,
        context.device,
        choose_precision(optimiser.precision, context.device),
        optimiser.batch,
        optimiser.accumulate,
    )
    with Logs(context, loop, optimiser.batch, items="views", right="distance") as logs:
        for current in loop.steps(setup.examples, threads=max(1, context.threads - 1)):
            left_out.record(setup.views.broken)
            training_step.seconds = 0.0
            sums = training_step(current.batch, loop.factor)
            result = loop.update(current.step, sums, _mean_loss, lambda: current.batch.replay)  # noqa: B023 called at once
            total = MultiBoxSums(*result.sums)
            views, objects = max(total.views, 1), max(total.matched, 1)
            curves = {
                "location": round(total.location / views, 5),
                "confidence": round(total.confidence / views, 5),
            }
            # Shown: a coordinate's root mean square distance in its prior's deviations, for the
            # loss is alpha / 2 times the squares of an object's four.
            logs.step(
                current, result, curves,
                objects=int(total.matched), matching=round(training_step.seconds, 4),
                shown=math.sqrt(2 * total.location / settings.loss.alpha / objects / 4),
            )  # fmt: skip
    return state.averaged(), left_out


def write_weights(
    out: Path,
    settings: MultiBoxTrainingConfig,
    setup: TrainingSetup,
    averaged: Mapping[str, Tensor],
) -> None:
    """Write the averaged weights as a file that every command takes as --multibox."""
    trained = copy.deepcopy(setup.network).cpu()
    trained.load_state_dict(dict(averaged))
    whole = copy.deepcopy(setup.whole).cpu()
    if setup.network is setup.whole:
        whole = trained  # type: ignore[assignment]
    else:  # a bank: only the heads were trained
        whole.heads = trained
    trunk, data = settings.trunk, setup.views.dataset
    header = MultiBoxHeader(
        architecture=trunk.architecture, options=trunk.options, after=trunk.after,
        input_size=trunk.input_size, heads=settings.heads, grids=setup.priors.grids,
        stored_as=settings.stored_as, licence=settings.licence,
        training_data=f"{pluralise(len(data), 'image')} of {data.name}",
    )  # fmt: skip
    path = out / "multibox.safetensors"
    save_multibox(path, TrainedMultiBox(whole, setup.priors, header))
    typer.echo(
        f"wrote {path}; try: inception-rcnn propose evaluate --engine multibox:weights={path}",
        err=True,
    )


def _mean_loss(sums: Sequence[float]) -> float:
    total = MultiBoxSums(*sums)
    return (total.location + total.confidence) / total.views if total.views else math.nan


def _measure(setup: TrainingSetup, device: torch.device, group: Group) -> None:
    heads: Any = setup.whole.heads
    if group.is_main:  # on the first batch of all processes; shares would differ
        whole = replace(setup.examples, stream=setup.examples.stream.whole())
        inputs = whole(0).inputs.to(device)
        learns_below = setup.network is setup.whole
        with torch.no_grad():
            heads.standardise.measure(setup.whole.trunk(inputs) if learns_below else inputs)
    group.broadcast_weights(heads)
