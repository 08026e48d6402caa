"""The splits of a data set as one, under the class list of a bundle."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from detector.datasets import COCO_TO_VOC, Dataset, read_dataset
from detector.datasets.dataset import join
from detector.datasets.formats.recognise import detect_format
from detector.errors import DatasetError
from detector.progress.messages import pluralise, say
from detector.structures import Array


class Labelled(NamedTuple):
    """A data set to be checked.

    dataset   under the bundle's classes
    splits    that of each sample
    names     of the bundle's classes, as the data set calls them
    unknown   image id -> boxes (N, 4) of classes that the bundle does not know
    """

    dataset: Dataset
    splits: tuple[str, ...]
    names: tuple[str, ...]
    unknown: dict[str, Array]


def read_labelled(data: Path, split: str | None, known: Sequence[str], **options: Any) -> Labelled:
    """Read a split, or all of them; stderr names what is left out.

    known    the classes of the bundle
    options  of read_dataset
    """
    wanted: Sequence[str | None] = (
        [split] if split is not None else [*detect_format(data).splits] or [None]
    )
    parts = [(name or "", one) for name in wanted if (one := _read(data, name, wanted, options))]
    parts = _without_repeats(parts)
    dataset = join([part for _, part in parts]).not_empty()
    if dataset.dropped:
        counts = ", ".join(f"{n} x {rule}" for rule, n in dataset.dropped_by_rule().items())
        say(f"left out: {counts}; inception-rcnn data check without --weights lists them")
    splits = tuple(name for name, part in parts for _ in part.samples)
    return _under(dataset, known, splits)


def _read(
    data: Path, split: str | None, wanted: Sequence[str | None], options: dict[str, Any]
) -> Dataset | None:
    try:
        return read_dataset(data, split, **options).not_empty()
    except DatasetError as error:
        if len(wanted) == 1:
            raise
        say(f"note: {split} is left out: {error}")  # a test split that nobody has copied
        return None


# A split that others make up, as trainval is, adds nothing: each image stays in its smallest.
def _without_repeats(parts: list[tuple[str, Dataset]]) -> list[tuple[str, Dataset]]:
    if not parts:
        raise DatasetError("no split of the data set can be read; see the notes above")
    seen: set[Path] = set()
    remaining = []
    for name, part in sorted(parts, key=lambda one: len(one[1])):
        samples = tuple(sample for sample in part.samples if sample.path not in seen)
        seen.update(sample.path for sample in samples)
        if samples:
            remaining.append((name, replace(part, samples=samples)))
    return remaining


def _under(dataset: Dataset, classes: Sequence[str], splits: tuple[str, ...]) -> Labelled:
    rename = {
        name: COCO_TO_VOC[name]
        for name in dataset.classes
        if name not in classes and COCO_TO_VOC.get(name) in classes
    }
    strange = [name for name in dataset.classes if rename.get(name, name) not in classes]
    labels = [dataset.classes.index(name) for name in strange]
    unknown = {}
    for sample in dataset.samples:
        boxes, of = sample.annotations.boxes, sample.annotations.labels
        unknown[sample.image_id] = boxes[[label in labels for label in of.tolist()]]
    if strange:
        count = sum(map(len, unknown.values()))
        named = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        say(
            f"note: the bundle does not know {pluralise(len(strange), 'class')} ({named}):"
            f" {pluralise(count, 'label')} not checked"
        )
    called = {new: old for old, new in rename.items()}
    names = tuple(called.get(name, name) for name in classes)
    return Labelled(dataset.with_classes(classes, rename), splits, names, unknown)
