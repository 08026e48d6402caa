"""The data sets that a training names in its settings, read and brought under one class list."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from detector.datasets import COCO_TO_VOC, VOC_CLASSES, Dataset, join, read_dataset
from detector.datasets.blacklist import read_blacklist, without_blacklisted
from detector.datasets.box_caps import cap_boxes
from detector.seeds import Seed
from detector.settings import Settings


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
    """At most so many boxes of each class, drawn at random (R-CNN on ILSVRC's train: 1,000)."""
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
