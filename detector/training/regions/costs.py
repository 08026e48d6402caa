"""Measured times of a region training's parts on this machine: searches, crops through the network,
steps.
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from detector.datasets import Dataset
from detector.errors import ImageError
from detector.evaluation.coverage import coverage
from detector.models.inference.prepare import FixedBatches, fastest_precision, prepare_for_inference
from detector.models.split import Top, Trunk, map_shape
from detector.proposals.engines import build_engine, warm_up
from detector.proposals.gather import gather
from detector.structures import Array, Proposals
from detector.training.engine.context import RunContext
from detector.training.engine.state import TrainingState, freeze
from detector.training.regions.box_loss import add_layer
from detector.training.regions.crops import RegionCrops
from detector.training.regions.member import Member, prepared_trunk, start_network, step_of
from detector.training.regions.sampling import RegionPool
from detector.training.regions.settings import RegionTrainingConfig
from detector.training.regions.step import Target
from detector.training.regions.trainer import computing_threads

IMAGES, CROPS, STEPS = 8, 32, 1  # that are timed
TOLERANCE = 0.02  # of a recall


class Costs(NamedTuple):
    """Seconds.

    search   of an image
    map      of a region, through the layers whose maps are stored; 0 where none are
    scoring  of a region, by the finished network
    step     of a batch
    regions  mean number of proposals that the finished network scores in an image
    threads  1 where one thread computes a step quicker than all; else 0
    """

    search: float
    map: float
    scoring: float
    step: float
    regions: float
    threads: float = 0


class Search(NamedTuple):
    """A way to search, tried on a few images.

    option     its number among those that were tried
    recall     share of the objects that the first proposals (thresholds.max_proposals) reach
    in_first   the share that the first quarter of them reaches
    seconds    of an image
    proposals  by image id
    """

    option: int
    recall: float
    in_first: float
    seconds: float
    proposals: dict[str, Proposals]


def try_searches(
    settings: RegionTrainingConfig, dataset: Dataset, context: RunContext,
    *options: Mapping[str, float],
) -> Search:  # fmt: skip
    """Search a few images with each of the `options` on top of the settings' own. Returns the first
    of them that no other surpasses by more than TOLERANCE in recall.
    """
    engine, most = settings.proposals.engine, settings.thresholds.max_proposals
    single_thread = {"threads": 1} if context.bounded else {}
    warm_up(engine)
    best: Search | None = None
    for number, more in enumerate(options):
        proposer = build_engine(engine, {**single_thread, **settings.proposals.options, **more})
        paths, began = [sample.path for sample in dataset.samples], time.perf_counter()
        results = [one for _, one in gather(paths, proposer, None, threads=context.threads)]
        seconds = (time.perf_counter() - began) / len(paths)
        proposals = {
            sample.image_id: one
            for sample, one in zip(dataset.samples, results, strict=True)
            if not isinstance(one, ImageError)
        }
        limits = [None] if most is None else [max(1, most // 4), most]
        recall = coverage(dataset.subset(list(proposals)), proposals, limits).recall()
        if best is None or recall[-1] > best.recall + TOLERANCE:
            best = Search(number, float(recall[-1]), float(recall[0]), seconds, proposals)
    assert best is not None
    return best


def measure_costs(
    settings: RegionTrainingConfig, dataset: Dataset, search: Search, context: RunContext
) -> Costs:
    """Time a few crops and steps of the network; `dataset` holds the images that were searched."""
    proposals = search.proposals
    most, member = settings.thresholds.max_proposals, settings.member
    regions = float(np.mean([min(len(one), most or len(one)) for one in proposals.values()]))
    dataset = dataset.subset(list(proposals))
    pool = RegionPool(dataset, proposals, settings.sampling)
    network = start_network(settings, dataset, context)
    crops = RegionCrops(dataset, member.input_size, settings.augment, 0, member.context)
    rows = np.linspace(0, len(pool.boxes) - 1, CROPS).astype(int)

    def seconds_of_crop(prepared: nn.Module) -> float:
        # As bank.filled and the detector run it.
        size = 8 if context.device.type == "cpu" else 64
        batches = FixedBatches(prepared, batch_size=size, workers=context.threads)

        def run() -> None:
            batches(_batch(crops, pool, rows))

        return _seconds(run) / len(rows)

    normalisation = getattr(network, "normalisation", None)
    fast = fastest_precision(context.device)
    how = {} if normalisation is None else {"normalisation": normalisation}
    scoring = seconds_of_crop(prepare_for_inference(network, fast, **how))
    mapping, shape = 0.0, (3, member.input_size, member.input_size)
    if settings.bank is not None:
        trunk, network = Trunk(network, settings.bank.after), Top(network, settings.bank.after)
        mapping = seconds_of_crop(prepared_trunk(settings, trunk))
        shape = map_shape(trunk, member.input_size)
    step, threads = _seconds_of_step(settings, network, pool, shape, context)
    if settings.bank is None and context.device.type == "cpu":  # it makes the crops meanwhile
        making = _seconds(lambda: _batch(crops, pool, rows)) / len(rows)
        step += making * settings.sampling.drawn_per_batch
    return Costs(search.seconds, mapping, scoring, step, regions, threads)


def time_steps(member: Member, threads: int | None) -> tuple[float, float]:
    """Seconds of a step and of a look of a network with its examples, which moves its weights."""
    steps = iter(range(1 + 2 * STEPS))

    def run() -> None:
        inputs, target, _ = member.examples(next(steps))
        member.step(inputs, target, 1.0).tolist()
        member.state.update(0)

    with computing_threads(threads):
        seconds = _seconds(run, 2 * STEPS)
        began, watch = time.perf_counter(), member.watch
        if watch is not None:
            watch.look(STEPS)
        return seconds, time.perf_counter() - began


def _batch(crops: RegionCrops, pool: RegionPool, rows: Array) -> torch.Tensor:
    return crops(pool.batch(rows, np.zeros(len(rows), bool)), 0).inputs


def _seconds_of_step(
    settings: RegionTrainingConfig, network: nn.Module, pool: RegionPool, shape: tuple[int, ...],
    context: RunContext,
) -> tuple[float, int]:  # fmt: skip
    classes, batch = len(pool.classes), pool.draw(0, 0)
    if settings.box_loss is not None:
        add_layer(network, classes)
    names = [name for name, _ in network.named_parameters()]
    freeze(network, [p for p in settings.member.freeze if any(n.startswith(p) for n in names)])
    step = step_of(settings, network, pool, None, context)
    state = TrainingState(network, settings.optimiser, "", settings.optimiser.steps)
    inputs = torch.zeros(len(batch), *shape).to(memory_format=torch.channels_last)
    deltas = torch.zeros(len(batch), 4) if settings.box_loss is not None else None
    target = Target(
        torch.from_numpy(batch.allowed_classes), torch.from_numpy(batch.labels),
        torch.ones(len(batch), dtype=torch.bool), deltas,
    )  # fmt: skip

    def run() -> float:
        began = time.perf_counter()
        step(inputs, target, 1.0).tolist()  # waits for a GPU
        state.update(0)
        return time.perf_counter() - began

    if context.device.type != "cpu" or context.bounded or settings.optimiser.threads:
        with computing_threads(settings.optimiser.threads):
            return min(run() for _ in range(1 + STEPS)), 0
    with computing_threads(1):
        alone = min(run() for _ in range(1 + STEPS))
    together = run()  # with all; a second time only where it may be quicker
    if together < 2 * alone:
        together = min(together, run())
    return (alone, 1) if alone < together else (together, 0)


def _seconds(run: Callable[[], object], times: int = 1) -> float:
    """Seconds of a call, after a first that compiles and allocates."""
    run()
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times
