"""The loss of held-out regions while a network is trained (engine/watch.py)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from detector.datasets import Dataset
from detector.structures import Array
from detector.training.augment import AugmentSettings
from detector.training.engine.context import RunContext
from detector.training.engine.distributed import Group
from detector.training.engine.watch import Losses
from detector.training.regions.bank import BankSettings, RegionBank, choose_rows, filled
from detector.training.regions.box_loss import WithDeltas
from detector.training.regions.crops import RegionCrops
from detector.training.regions.sampling import RegionPool
from detector.training.regions.step import RegionStep, Target

if TYPE_CHECKING:
    from detector.training.regions.data import RegionData
    from detector.training.regions.settings import RegionTrainingConfig

# Held-out regions of a look, and as many that are learnt from: enough for a mean, and quick.
REGIONS, AT_ONCE = 384, 64

UNCHANGED = AugmentSettings(flip=False, brightness=0, contrast=0, saturation=0, colour_shift=0)


@dataclass(frozen=True, eq=False)
class WatchedRegions:
    """Regions whose loss is measured, the same at each look.

    source  makes the network's inputs of them: crops, or maps of a bank
    rows    of the pool
    """

    pool: RegionPool
    source: RegionCrops | RegionBank
    rows: Array
    boxes: bool
    flip: bool

    def sums(self, step: RegionStep, group: Group) -> Tensor:
        """Sum of losses and number of the regions on objects, and of the others, (4,)."""
        sums = torch.zeros(4, device=step.device)
        rows = self.rows[group.rank :: group.world_size]
        for at in range(0, len(rows), AT_ONCE):
            inputs, target = self._batch(rows[at : at + AT_ONCE])
            target = target.each(lambda part: part.to(step.device))
            losses, _, logits = step.losses(inputs.to(step.device), target)
            objects = target.labels < logits.shape[1] - 1
            for first, chosen in ((0, objects), (2, ~objects)):
                sums[first] += losses[chosen].sum()
                sums[first + 1] += (chosen & target.read).sum()
        return group.all_reduce(sums)

    def _batch(self, rows: Array) -> tuple[Tensor, Target]:
        batch = self.pool.batch(rows, np.zeros(len(rows), bool))
        made, deltas = self.source(batch, 0), None
        if self.boxes:
            mirrored = batch.flip
            if isinstance(self.source, RegionBank):
                mirrored = self.source.mirrored[rows] & self.flip
            deltas = torch.from_numpy(self.pool.deltas(rows, mirrored))
        labels = torch.from_numpy(batch.labels)
        return made.inputs, Target(made.allowed_classes, labels, made.read, deltas)


def held_out_loss(
    settings: RegionTrainingConfig, data: RegionData, network: nn.Module, step: RegionStep,
    bank: RegionBank | None, trunk: nn.Module | None, context: RunContext,
) -> Callable[[Mapping[str, Tensor]], Losses]:  # fmt: skip
    """The measure of a watch: an averaged state of the `network` that is trained -> its losses, in
    which objects and background weigh as in a batch.

    bank, trunk  where maps are learnt from; those of the held-out regions are computed here
    """
    held, pool = data.held, data.held_pool
    assert held is not None
    assert pool is not None
    boxes, flip = settings.box_loss is not None, settings.augment.flip
    partial = np.zeros(len(held), bool)  # such images are not held out
    pool = pool.restricted(choose_rows(pool, partial, settings.bank or BankSettings()))
    pool = pool.restricted(_evenly(pool))

    def crops(dataset: Dataset) -> RegionCrops:
        member = settings.member
        return RegionCrops(dataset, member.input_size, UNCHANGED, 0, member.context)

    if bank is None or trunk is None:
        parts = [
            WatchedRegions(pool, crops(held), np.arange(len(pool.boxes)), boxes, False),
            WatchedRegions(data.pool, crops(data.dataset), _evenly(data.pool), boxes, False),
        ]
    else:
        folder = bank.folder / f"held-out-{pool.digest()}"
        maps = RegionBank(folder, pool, crops(held), bank.shape, bank.fingerprint)
        maps = filled(maps, trunk, context, "maps of held-out images")
        parts = [
            WatchedRegions(pool, maps, np.arange(len(pool.boxes)), boxes, False),
            WatchedRegions(bank.pool, bank, _evenly(bank.pool), boxes, flip),
        ]
    share = settings.sampling.positives_per_batch / pool.batch_size()

    @torch.no_grad()
    def measure(state: Mapping[str, Tensor]) -> Losses:
        average = copy.deepcopy(network).eval()
        average.load_state_dict(dict(state))
        forward: Any = WithDeltas(average) if boxes else average
        plain = replace(step, network=forward, teacher=None, weight=0.0, label_smoothing=0.0)
        losses = []
        for part in parts:
            objects, n, background, m = part.sums(plain, context.group).tolist()
            losses.append(share * objects / max(n, 1) + (1 - share) * background / max(m, 1))
        return Losses(*losses)

    return measure


def _evenly(pool: RegionPool) -> Array:
    """At most REGIONS rows: of objects and of background alike."""
    parts = [rows for rows in (pool.positive, pool.background) if len(rows)]
    spread = [
        rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), REGIONS // 2)).astype(int))]
        for rows in parts
    ]
    return np.sort(np.concatenate(spread))
