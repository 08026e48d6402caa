"""The data sets that a training names in its settings, read and brought under one class list."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from detector.datasets import COCO_TO_VOC, VOC_CLASSES, Dataset, join, read_dataset
from detector.datasets.blacklist import read_blacklist, without_blacklisted
from detector.datasets.dataset import Dropped
from detector.errors import SettingsError
from detector.seeds import Seed
from detector.settings import Settings
from detector.structures import Array

RULE = "over-the-cap"


class DataSource(Settings):
    """One annotated data set; several are joined."""

    path: str
    split: str | None = None
    partial: tuple[str, ...] = ()
    """Only these classes are annotated exhaustively; a region elsewhere proves no other class
    absent.
    """
    rename: Literal["none", "coco-to-voc"] = "none"
    images: int | None = Field(None, ge=1)
    """A fixed, evenly spaced subset of so many images."""
    blacklist: str | None = None
    """A file of images and classes that are not to be used together (ILSVRC's)."""
    positives_only: bool | None = None
    """No background is taken from these images; None leaves it to the format (ILSVRC's train)."""
    cap_per_class: int | None = Field(None, ge=1)
    """At most so many boxes of each class, drawn at random (R-CNN on ILSVRC's train: 1,000, section
    4.3, which does not say which).
    """
    cap_seed: Seed = 0


def build_dataset(
    sources: Sequence[DataSource], classes: str | tuple[str, ...], root: str | Path = "."
) -> Dataset:
    """The joined data sets under one class list; relative paths are taken from `root`."""
    root = Path(root)
    return join(
        [apply_settings(source, read_source(source, root), root, classes) for source in sources]
    )


def read_source(source: DataSource, root: Path) -> Dataset:
    """One data set as its files have it."""
    return read_dataset(root / source.path, source.split)


def apply_settings(
    source: DataSource, dataset: Dataset, root: Path, classes: str | tuple[str, ...] = "own"
) -> Dataset:
    """Bring a data set under the class list, and apply its other settings."""
    # First, since a blacklist has the data set's own names of classes.
    if source.blacklist is not None:
        dataset = without_blacklisted(dataset, read_blacklist(root / source.blacklist))
    if classes != "own":
        names = VOC_CLASSES if classes == "voc" else tuple(classes)
        dataset = dataset.with_classes(names, COCO_TO_VOC if source.rename == "coco-to-voc" else {})
    if source.partial:
        dataset = dataset.partial(source.partial)
    if source.positives_only is not None:
        dataset = dataset.with_positives_only(source.positives_only)
    if source.cap_per_class is not None:
        dataset = cap_boxes(dataset, source.cap_per_class, source.cap_seed)
    return dataset.subset(source.images) if source.images else dataset


def cap_boxes(dataset: Dataset, most: int, seed: int = 0) -> Dataset:
    """Keep at most `most` objects of each class as positives.

    The others are ignored as VOC's difficult objects are: regions on them are neither positives nor
    background. An image for positives only is left out if none remain. Both are recorded in
    `dropped`.
    """
    if most < 1:
        raise SettingsError(f"cap_per_class is {most}; expected at least 1")
    labels = np.concatenate([s.annotations.labels for s in dataset.samples])
    counted = ~np.concatenate(
        [s.annotations.difficult | s.annotations.crowd for s in dataset.samples]
    )
    # Difficult objects and crowds are ignored anyway, and take no place below the cap.
    chosen = _chosen(np.where(counted, labels, -1), len(dataset.classes), most, seed)
    ends = np.cumsum([len(sample.annotations) for sample in dataset.samples])
    samples, dropped = [], []
    for sample, keep in zip(dataset.samples, np.split(chosen, ends[:-1]), strict=True):
        truth = sample.annotations
        over = ~keep & ~(truth.difficult | truth.crowd)
        dropped += [
            Dropped(sample.path.name, f"object {i + 1}", RULE, f"more than {most} of its class")
            for i in np.flatnonzero(over)
        ]
        if keep.any() or not sample.positives_only:
            aside = replace(truth, difficult=truth.difficult | over)
            samples.append(replace(sample, annotations=aside))
    return replace(
        dataset, samples=tuple(samples), dropped=(*dataset.dropped, *dropped)
    ).not_empty()


def _chosen(labels: Array, classes: int, most: int, seed: int) -> Array:
    """Random mask (G,) of at most `most` objects of each label; a label of -1 is never chosen."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        chosen[mine if len(mine) <= most else rng.choice(mine, most, replace=False)] = True
    return chosen
