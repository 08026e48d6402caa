"""Images for new classes from a few boxes: which of them, and what speaks against them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector import boxes as box_ops
from detector.datasets import Dataset, Sample, read_dataset
from detector.detection.bundle import BundleManifest
from detector.errors import DatasetError, ImageError, SettingsError, TrainingError
from detector.heads.few_shot import MIN_BOXES
from detector.images.paths import image_paths
from detector.progress.messages import pluralise
from detector.structures import Annotations

# Boxes of two classes that overlap more are taken for two opinions on one object.
SAME_BOX = 0.85


def check_names(
    add: Sequence[str], refine: Sequence[str], remove: Sequence[str], manifest: BundleManifest
) -> None:
    """Raise SettingsError unless these classes can be added, refined and removed."""
    names = [*add, *refine, *remove]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"{twice}: named twice; a class is added, refined or removed")
    for name in add:
        if not name.strip() or not name.isprintable() or len(name) > 100:
            raise SettingsError(f"--add {name!r}: a class name is 1 to 100 printable characters")
        if name in manifest.added_classes and name not in remove:
            raise SettingsError(
                f"--add {name}: the bundle has this class already; --refine {name} learns it from"
                " more boxes"
            )
        if name in manifest.network_classes:
            raise SettingsError(f"--add {name}: the bundle has this class already, in its networks")
    for option, name in [("refine", one) for one in refine] + [("remove", one) for one in remove]:
        if name in manifest.network_classes:
            raise SettingsError(
                f"--{option} {name}: a class of the networks themselves; only added classes can be"
                f" {option}d" + (", and found.filter hides it" if option == "remove" else "")
            )
        if name not in manifest.added_classes:
            known = ", ".join(manifest.added_classes) or "none"
            raise SettingsError(f"--{option} {name}: no such added class; the bundle has {known}")
    for head in manifest.heads:
        if head.name in refine and head.examples is None:
            raise SettingsError(
                f"--refine {head.name}: the bundle has no examples of it; --remove it and --add it"
                " again from all of its photographs"
            )


def images_of_classes(
    data: Path | Dataset | None, split: str | None, add: Sequence[str], refine: Sequence[str],
    boxes: int, background: Sequence[str],
) -> Dataset:  # fmt: skip
    """Images with the classes `add` and `refine`, at most `boxes` objects of each where images
    allow, and at most as many photographs without them. Raises TrainingError if there are too few.
    """
    names = (*add, *refine)
    if data is None:
        dataset = Dataset("photographs", tuple(names), ())
    else:
        dataset = data if isinstance(data, Dataset) else read_dataset(data, split)
        if missing := [name for name in add if name not in dataset.classes]:
            some = ", ".join(dataset.classes[:8])
            raise DatasetError(f"{dataset.name}: no class {missing[0]!r}; it has {some}")
        if set(names) & set(dataset.classes):
            dataset = dataset.with_classes(names)
            chosen = {
                sample.image_id
                for label, name in enumerate(names)
                for sample in few_images(dataset, label, boxes, needed=name in add)
            }
            # Photographs of refined classes that show none of them were corrected, too.
            if refine:
                empty = [one.image_id for one in dataset.samples if not one.annotations.real.any()]
                chosen |= set(empty[:boxes])
            dataset = dataset.subset(chosen)
        else:
            nothing = Annotations.empty()
            samples = tuple(replace(one, annotations=nothing) for one in dataset.samples[:boxes])
            dataset = replace(dataset, classes=tuple(names), samples=samples, category_ids=())
    if background:
        dataset = with_background(dataset, background)
    if not len(dataset):
        raise DatasetError("nothing to learn from: give --data, or --background with --refine")
    return dataset


def few_images(dataset: Dataset, label: int, boxes: int, needed: bool) -> Sequence[Sample]:
    """Evenly spaced images with a class, as many as hold at most `boxes` objects of it. Raises
    TrainingError if there are too few though they are `needed`.
    """

    def objects(part: Iterable[Sample]) -> int:
        return sum(real_objects(sample, label) for sample in part)

    name = dataset.classes[label]
    having = dataset.subset([s.image_id for s in dataset.samples if real_objects(s, label)])
    count = objects(having.samples)
    if needed and count < MIN_BOXES:
        raise TrainingError(
            f"{dataset.name}: {pluralise(count, 'box')} of {name} (difficult ones and crowds do not"
            f" count); at least {MIN_BOXES} are needed"
        )
    parts = (having.subset(number).samples for number in range(min(len(having), boxes), 0, -1))
    min_images, min_boxes = (2, MIN_BOXES) if needed else (1, 0)
    for part in parts:
        if len(part) >= min_images and min_boxes <= objects(part) <= boxes:
            return part
    if needed:
        raise TrainingError(
            f"{dataset.name}: {pluralise(count, 'box')} of {name} in"
            f" {pluralise(len(having), 'image')}: at least two images with {MIN_BOXES} to {boxes}"
            " (--set boxes) in all are needed, because scores are calibrated on images that the"
            " fit has not seen"
        )
    return having.samples[:1]


def with_background(dataset: Dataset, photographs: Sequence[str]) -> Dataset:
    """The data set and, evenly spaced, at most as many photographs without its classes (all of
    them, where it has no images).
    """
    missed: list[str] = []
    paths = image_paths(photographs, missed=missed)
    missed += [f"{path}: no such file" for path in paths if not path.is_file()]
    if missed:  # before minutes of features
        raise ImageError(f"--background {missed[0]}; give photographs, or folders of them")
    count = min(len(paths), len(dataset) or len(paths))
    extra = tuple(
        Sample(f"background {i}", paths[i * len(paths) // count], None, Annotations.empty())
        for i in range(count)
    )
    return replace(dataset, samples=dataset.samples + extra)


def real_objects(sample: Sample, label: int) -> int:
    """The number of objects of a class that are neither difficult nor crowds."""
    truth = sample.annotations
    return int((truth.labels[truth.real] == label).sum())


def gives_background(sample: Sample, label: int) -> bool:
    """True if unannotated regions of the image are known to lack the class."""
    return sample.background_of is None or label in sample.background_of


def contradictions(dataset: Dataset) -> list[str]:
    """A sentence for each pair of classes that the boxes give to one and the same region."""
    pairs: dict[tuple[int, int], list[str]] = {}
    for sample in dataset.samples:
        truth = sample.annotations[sample.annotations.real]
        same = np.triu(box_ops.iou(truth.boxes, truth.boxes) > SAME_BOX, 1)
        for first, second in zip(*np.nonzero(same), strict=True):
            labels = sorted((int(truth.labels[first]), int(truth.labels[second])))
            if labels[0] != labels[1]:
                pairs.setdefault((labels[0], labels[1]), []).append(sample.image_id)
    return [
        f"{dataset.classes[first]} and {dataset.classes[second]} have the same box in"
        f" {pluralise(len(images), 'place')} (first in {images[0]}): correct the labels, or both"
        " are found"
        for (first, second), images in pairs.items()
    ]
