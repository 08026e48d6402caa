"""One class more, learnt from a few boxes: what it may be learnt from, and the learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from detector.datasets import Dataset, Sample
from detector.detection.detector import Detector
from detector.errors import DatasetError, ImageError, SettingsError, TrainingError
from detector.heads import HeadManifest, LinearScores, SvmSettings
from detector.heads.few_shot import (
    LEAST_BOXES,
    Described,
    OneClassSettings,
    background_order,
    choose_positives,
    fit_one_class,
)
from detector.images.decoding import read_image
from detector.images.paths import image_paths
from detector.progress.bar import progress
from detector.structures import Annotations, Array, Proposals
from detector.training.heads.features import describe_regions


def check_new_class(name: str, known: tuple[str, ...], dataset: Dataset) -> None:
    """The name can be added, and there is something to learn it from."""
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise SettingsError(f"--add {name!r}: a class name is 1 to 100 printable characters")
    if name in known:
        raise SettingsError(f"--add {name}: the bundle has this class already")
    if name not in dataset.classes:
        some = ", ".join(dataset.classes[:8])
        raise DatasetError(f"{dataset.name}: no class {name!r}; it has {some}")


def few_images(dataset: Dataset, boxes: int) -> Dataset:
    """Evenly spaced images of those with the one class, as many as hold at most `boxes` objects."""

    def objects(part: Dataset) -> int:
        return sum(map(real_objects, part.samples))

    name = dataset.classes[0]
    having = dataset.subset([s.image_id for s in dataset.samples if real_objects(s)])
    if (found := objects(having)) < LEAST_BOXES:
        raise TrainingError(
            f"{dataset.name}: {found} boxes of {name} (difficult ones and crowds do not count);"
            f" at least {LEAST_BOXES} are needed"
        )
    parts = (having.subset(count) for count in range(min(len(having), boxes), 1, -1))
    part = next((part for part in parts if LEAST_BOXES <= objects(part) <= boxes), None)
    if part is None:
        raise TrainingError(
            f"{dataset.name}: {found} boxes of {name} in {len(having)} images: at least two images"
            f" with {LEAST_BOXES} to {boxes} (--boxes) in all are needed, because scores are"
            " calibrated on images that the fit has not seen"
        )
    return part


def with_background(dataset: Dataset, photographs: list[str]) -> Dataset:
    """The data set and, evenly spaced, at most as many photographs without its class."""
    missed: list[str] = []
    paths = image_paths(photographs, missed=missed)
    missed += [f"{path}: no such file" for path in paths if not path.is_file()]
    if missed:  # before minutes of features
        raise ImageError(f"--background {missed[0]}; give photographs, or folders of them")
    count = min(len(paths), len(dataset))
    extra = tuple(
        Sample(f"background {i}", paths[i * len(paths) // count], None, Annotations.empty())
        for i in range(count)
    )
    return replace(dataset, samples=dataset.samples + extra)


def real_objects(sample: Sample) -> int:
    """How many objects are neither difficult nor crowds."""
    return int(sample.annotations.real.sum())


def gives_background(sample: Sample) -> bool:
    """Whether what is not boxed is known to be none of the one class."""
    return sample.background_of is None or 0 in sample.background_of


def learn_class(
    name: str, samples: list[tuple[Sample, Proposals]], detector: Detector, crops: int, seed: int,
    recipe: dict[str, Any], quiet: bool,
) -> tuple[HeadManifest, LinearScores]:  # fmt: skip
    """One class more, on the first member: choose regions, describe them, fit."""
    settings = OneClassSettings(crops=crops, svm=SvmSettings(seed=seed))
    rng = np.random.default_rng(seed)
    objects = [
        choose_positives(sample.annotations, found.boxes, found.size, settings, rng)
        for sample, found in samples
    ]
    proving = sum(gives_background(sample) for sample, _ in samples)
    share = max(20, (crops - sum(len(one.boxes) for one in objects)) // max(proving, 1))
    early = round(share * settings.first_share)
    parts: tuple[list[Array], ...] = ([], [], [])  # objects, first background, the rest of it
    pairs = list(zip(samples, objects, strict=True))
    for (sample, found), own in progress(pairs, "regions", quiet=quiet):
        order = background_order(sample.annotations, found.boxes, settings, rng)
        order = order[: share if gives_background(sample) else 0]
        boxes = np.concatenate([own.boxes, found.boxes[order]])
        mirrored = np.concatenate([own.mirrored, np.zeros(len(order), bool)])
        features = describe_regions(detector, read_image(sample.path), boxes, mirrored)[0]
        ends = [len(own.boxes), len(own.boxes) + early]
        for part, rows in zip(parts, np.split(features, ends), strict=True):
            part.append(rows)
    positives, first, second = (Described.stacked(part) for part in parts)
    head = fit_one_class(positives, first, second, settings)
    counts = {"boxes": sum(real_objects(sample) for sample, _ in samples)}
    recipe = recipe | counts | settings.model_dump()
    return HeadManifest(kind="class", name=name, recipe=recipe), head
