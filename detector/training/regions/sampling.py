"""Sampling of the regions that a region classifier learns from (Girshick et al. 2014, section 2.3).

A region belongs to the object that it overlaps best, if at IoU >= 0.5; everything else is
background. A batch holds 32 objects and 96 background regions of the whole data set, not of one
image.

Departs from the paper, each by a setting that restores it: positives are drawn object by object,
with rare classes somewhat more often (`positives="windows"` draws uniformly over regions); half of
the background overlaps an object a little (`near_fraction=0` draws uniformly).

Where only some classes are annotated (a *partial* image, ILSVRC's `train`), a region away from
every box proves one thing: it is none of the annotated classes. Its target is the set of all the
others (loss.py). R-CNN took no background at all from such images; so does an
image marked `positives_only`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from detector import boxes as box_ops
from detector.datasets import Dataset, Sample
from detector.errors import TrainingError
from detector.heads.bbox_regression import encode_deltas
from detector.matching import BACKGROUND, match_to_objects
from detector.settings import Settings
from detector.structures import Annotations, Array, Proposals
from detector.training.engine.checkpoint import digest_of


class SamplingSettings(Settings):
    """Composition of a batch."""

    positives_per_batch: int = Field(32, ge=1)
    background_per_batch: int = Field(96, ge=0)
    hard_candidates: int = Field(0, ge=0)
    """So many more background regions are drawn, and only the background_per_batch with the largest
    loss are learnt from.
    """
    positive_iou: float = Field(0.5, gt=0, le=1)
    """At least this with an object: a positive (R-CNN's fine-tuning)."""
    background_low: float = Field(0.0, ge=0, lt=1)
    """Background overlaps its best object by at least this (Fast R-CNN: 0.1)."""
    positives: str = Field("objects", pattern="^(objects|windows)$")
    class_power: float = Field(0.5, ge=0, le=1)
    """With "objects": a class of n objects is drawn n ** power often; 0 draws all alike."""
    near_fraction: float = Field(0.5, ge=0, le=1)
    """Share of the background drawn from regions that overlap an object by at least near_iou."""
    near_iou: float = Field(0.1, gt=0, lt=1)
    background_prior: float = Field(1.0, gt=0)
    """How many times commoner background is among proposals than in the batches. The finished
    network's background logit is raised by its logarithm (Saerens et al. 2002).
    """
    size_prior: bool = True
    """The finished detector corrects its scores by how common objects are among proposals of each
    size (size_prior.py). Departs from the paper; False leaves the softmax as it is.
    """
    max_proposals: int | None = Field(None, ge=1)
    """Only the best ranked of each image's proposals are used."""

    @property
    def hard_share(self) -> float:
        """The share of the drawn background that is learnt from, its hard negatives."""
        drawn = self.background_per_batch + self.hard_candidates
        return self.background_per_batch / drawn if drawn else 1.0

    @property
    def drawn_per_batch(self) -> int:
        """Regions of a batch before hard negatives are selected."""
        return self.positives_per_batch + self.background_per_batch + self.hard_candidates


@dataclass(frozen=True, eq=False)
class RegionBatch:
    """Regions to learn from, before cropping.

    image            (N,) int64 position of the image in the data set
    boxes            (N, 4) float32
    labels           (N,) int64, K is background
    allowed_classes  (N, K+1) bool: the classes that the region may be; one True where it is known
    flip             (N,) bool: mirror the crop
    rows             (N,) int64 their rows in the pool
    place            (N,) int64 their positions in the whole batch, where this is a process's part
    whole            how many the whole batch has; 0: these are all
    """

    image: Array
    boxes: Array
    labels: Array
    allowed_classes: Array
    flip: Array
    rows: Array
    place: Array | None = None
    whole: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def replay(self) -> dict[str, object]:
        """The regions as JSON, to repeat a step."""
        return {"image": self.image.tolist(), "boxes": self.boxes.tolist()}

    def part(self, rank: int, world_size: int) -> RegionBatch:
        """The share of one process: every `world_size`-th region."""
        rows = slice(rank, None, world_size)
        return RegionBatch(
            self.image[rows], self.boxes[rows], self.labels[rows], self.allowed_classes[rows],
            self.flip[rows], self.rows[rows], np.arange(len(self))[rows], len(self),
        )  # fmt: skip


class RegionPool:
    """All regions of a data set with their targets, from which batches are drawn.

    A batch is a function of (seed, step) alone: a resumed or a distributed run draws the same ones.
    """

    def __init__(
        self, dataset: Dataset, proposals: Mapping[str, Proposals], settings: SamplingSettings
    ) -> None:
        need_objects(dataset)
        self.settings = settings
        self.classes = dataset.classes
        parts = [
            _drop_unproven_background(
                sample, assign(sample.annotations, proposals[sample.image_id], settings)
            )
            for sample in dataset.samples
        ]
        count = [len(part[0]) for part in parts]
        self.image = np.repeat(np.arange(len(parts)), count)
        self.boxes = _stack([part[0] for part in parts], (0, 4)).astype(np.float32)
        self.object = _stack([part[1] for part in parts], (0,)).astype(np.int64)
        self.overlap = _stack([part[2] for part in parts], (0,)).astype(np.float32)
        self.labels = np.full(len(self.boxes), len(self.classes), np.int64)
        # Number the objects of the whole set one after the other.
        totals = [len(sample.annotations) for sample in dataset.samples]
        first = np.concatenate([[0], np.cumsum(totals)[:-1]]).astype(np.int64)
        self.object_labels = _stack([s.annotations.labels for s in dataset.samples], (0,))
        self.object_boxes = _stack([s.annotations.boxes for s in dataset.samples], (0, 4))
        sizes = [proposals[sample.image_id].size for sample in dataset.samples]
        self.sizes = np.array(sizes, np.int64).reshape(-1, 2)  # (images, 2) of (H, W)
        hit = self.object >= 0
        self.object[hit] += np.repeat(first, count)[hit]
        self.labels[hit] = self.object_labels[self.object[hit]]
        self._allowed = _allowed_background(dataset)
        self.name = dataset.name
        self.image_ids = tuple(sample.image_id for sample in dataset.samples)
        self._index()

    def _index(self) -> None:
        # Regions of one object stand in a run, so that drawing one of them is an addition.
        hit = self.object >= 0
        self.positive = np.flatnonzero(hit)
        self.background = np.flatnonzero(~hit)
        self.near = np.flatnonzero(~hit & (self.overlap >= self.settings.near_iou))
        order = np.argsort(self.object[self.positive], kind="stable")
        self._by_object = self.positive[order]
        self._objects, self._first, self._count = np.unique(
            self.object[self._by_object], return_index=True, return_counts=True
        )
        labels = self.object_labels[self._objects]
        self._of_class = [np.flatnonzero(labels == c) for c in range(len(self.classes))]
        sizes = np.array([len(objects) for objects in self._of_class], np.float64)
        # 0 ** 0 is 1, but a class without objects cannot be drawn.
        weight = np.where(sizes > 0, np.maximum(sizes, 1) ** self.settings.class_power, 0)
        self._class_chance = weight / weight.sum()

    def digest(self, rows: Array | None = None) -> str:
        """A hash of the regions, their images and their labels."""
        rows = np.arange(len(self.boxes)) if rows is None else rows
        image = self.image[rows]
        ids = [self.image_ids[number] for number in np.unique(image)]
        return digest_of(ids, image, self.boxes[rows], self.labels[rows])

    def batch_size(self) -> int:
        """The number of regions of a batch that are learnt from."""
        background = self.settings.background_per_batch if len(self.background) else 0
        return self.settings.positives_per_batch + background

    def describe(self) -> dict[str, int]:
        """Counts for the report before training."""
        return {
            "regions": len(self.boxes),
            "positive regions": len(self.positive),
            "objects": len(self._objects),
            "background regions": len(self.background),
            "near background": len(self.near),
        }

    def draw(self, seed: int, step: int) -> RegionBatch:
        """Draw the batch of one step."""
        rng = np.random.default_rng([seed, step])
        wanted = self.settings.positives_per_batch
        chosen = [self._draw_positives(wanted, rng)]
        if len(self.background):
            total = self.settings.background_per_batch + self.settings.hard_candidates
            near = round(total * self.settings.near_fraction) if len(self.near) else 0
            if near:
                chosen.append(self.near[rng.integers(len(self.near), size=near)])
            chosen.append(self.background[rng.integers(len(self.background), size=total - near)])
        rows = np.concatenate(chosen)
        rows = rows[rng.permutation(len(rows))]
        # Lots of mirroring, even where no crop is flipped.
        return self.batch(rows, rng.random(len(rows)) < 0.5)

    def restricted(self, rows: Array) -> RegionPool:
        """The pool of these rows alone, renumbered 0, 1, 2 ... in the given order."""
        part = copy.copy(self)
        part.image, part.boxes, part.object = self.image[rows], self.boxes[rows], self.object[rows]
        part.overlap, part.labels = self.overlap[rows], self.labels[rows]
        part._index()
        return part

    def _draw_positives(self, count: int, rng: np.random.Generator) -> Array:
        if self.settings.positives == "windows":
            return self.positive[rng.integers(len(self.positive), size=count)]
        labels = rng.choice(len(self.classes), size=count, p=self._class_chance)
        objects = np.array(
            [self._of_class[c][rng.integers(len(self._of_class[c]))] for c in labels]
        )
        # Each object equally often, however many regions it has.
        offset = (rng.random(count) * self._count[objects]).astype(np.int64)
        return self._by_object[self._first[objects] + offset]

    def batch(self, rows: Array, flip: Array) -> RegionBatch:
        """The given rows with their targets."""
        labels = self.labels[rows]
        allowed_classes = np.zeros((len(rows), len(self.classes) + 1), bool)
        allowed_classes[np.arange(len(rows)), labels] = True
        background = labels == len(self.classes)
        allowed_classes[background] = self._allowed[self.image[rows[background]]]
        return RegionBatch(self.image[rows], self.boxes[rows], labels, allowed_classes, flip, rows)

    def deltas(self, rows: Array, mirrored: Array) -> Array:
        """Box deltas (N, 4) float32 from each region to its object, mirrored where `mirrored` (N,)
        is true (heads/bbox_regression.py); zeros for background.
        """
        deltas = np.zeros((len(rows), 4), np.float32)
        hit = np.flatnonzero(self.object[rows] >= 0)
        goal = self.object_boxes[self.object[rows[hit]]]
        deltas[hit] = encode_deltas(self.boxes[rows[hit]], goal)
        # Mirroring turns the horizontal offset around; vertical offset and scales stay.
        deltas[mirrored, 0] *= -1
        return deltas


def need_objects(dataset: Dataset) -> None:
    """Raise TrainingError, with the cure, where no object counts."""
    if (why := dataset.why_nothing_counts()) is not None:
        raise TrainingError(f"{dataset.name}: {why}; there is nothing to learn from")


def assign(
    truth: Annotations, proposals: Proposals, settings: SamplingSettings
) -> tuple[Array, Array, Array]:
    """Assign the regions of one image to its objects: boxes (N, 4), object (N,) or -1 for
    background, best IoU (N,).

    Ground-truth boxes are regions, too. Those neither positive nor background are left out.
    """
    candidates = proposals.boxes[: settings.max_proposals]
    # First, so that a proposal equal to an annotated box is the one that goes.
    candidates = np.concatenate([truth.boxes[truth.real], candidates])
    candidates = candidates[box_ops.unique(candidates)]
    which, best = match_to_objects(candidates, truth, settings.positive_iou)
    keep = (which >= 0) | ((which == BACKGROUND) & (best >= settings.background_low))
    return candidates[keep], which[keep], best[keep]


def _drop_unproven_background(
    sample: Sample, regions: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    # R-CNN took no background from images where an object may lie outside every box.
    keep = (regions[1] >= 0) | (not sample.positives_only)
    boxes, which, overlap = regions
    return boxes[keep], which[keep], overlap[keep]


def _allowed_background(dataset: Dataset) -> Array:
    """The classes (images, K+1) bool that a region without objects may have."""
    allowed = np.zeros((len(dataset.samples), len(dataset.classes) + 1), bool)
    allowed[:, -1] = True  # background, and in a partial image any class not annotated there
    for row, sample in zip(allowed, dataset.samples, strict=True):
        if sample.annotated is not None:
            row[:] = True
            row[list(sample.annotated)] = False
    return allowed


def _stack(parts: list[Array], empty: tuple[int, ...]) -> Array:
    # NumPy refuses to join no arrays.
    return np.concatenate(parts) if parts else np.zeros(empty)
