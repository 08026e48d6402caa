"""Adding one class from a few boxes: choice of the images, and the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets import Dataset, Sample, read_dataset
from detector.detection.bundle import BundleManifest, read_manifest, save_heads
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED
from detector.errors import DatasetError, ImageError, SettingsError, TrainingError
from detector.files import exclusive_lock
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
from detector.progress.messages import pluralise
from detector.structures import Annotations, Array, Proposals
from detector.training.heads.data_features import describe_regions, load, proposals_of
from detector.training.heads.fitting import Fitted


def fit_class(
    name: str, data: str | Path, out: str | Path, *, split: str | None = None,
    bundle: str | Path | None = None, boxes: int = 100, crops: int = 3000,
    background: Sequence[str | Path] = (), max_proposals: int | None = None,
    device: str = "auto", precision: str = "auto", threads: int | None = None, seed: int = 0,
    quiet: bool = True,
) -> Path:  # fmt: skip
    """Add a class of a data set to a detector, as `inception-rcnn fit heads --add NAME` does: the
    folder `out` becomes a bundle for `load_detector`.

    The other classes are found as before. Images that cannot be read are left out, and named on
    stderr.

    data        a folder, a COCO .json or a YOLO .yaml with 5 boxes of the class or more, in two
                images at least
    bundle      the detector that learns; None is the one that ships
    boxes       the most that are used
    crops       about so many regions go through the network
    background  photographs without the class, or folders of them
    quiet       without it, progress is shown
    """
    out, bundle = Path(out), Path(bundle or SHIPPED)
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out}: a detector is written to a folder, and this is none")
    manifest = read_manifest(bundle)
    dataset = data_of_class(name, Path(data), split, boxes, list(map(str, background)), manifest)
    with exclusive_lock(out):
        fitted, _ = fit_new_class(
            dataset, bundle, max_proposals, crops, seed, device, precision, threads, quiet
        )
        save_heads(bundle, out, fitted)
    return out


def data_of_class(
    name: str, data: Path, split: str | None, boxes: int, background: list[str],
    manifest: BundleManifest,
) -> Dataset:  # fmt: skip
    """A few images with the new class, and photographs without it."""
    dataset = read_dataset(data, split)
    check_new_class(name, manifest.classes, dataset)
    dataset = few_images(dataset.with_classes((name,)), boxes)
    return with_background(dataset, background) if background else dataset


def fit_new_class(
    dataset: Dataset, bundle: Path, max_proposals: int | None, crops: int, seed: int, device: str,
    precision: str, threads: int | None, quiet: bool,
) -> tuple[Fitted, bool]:  # fmt: skip
    """Fit a class on the first network; returns it, and True if all images could be read."""
    detector = load(bundle, 1, max_proposals, device, precision, threads)
    samples = proposals_of(dataset, detector, None, quiet)
    recipe = {"data": f"{pluralise(len(dataset), 'image')} of {dataset.name}", "seed": seed}
    (name,) = dataset.classes
    fitted = learn_class(name, samples, detector, crops, seed, recipe, quiet)
    return [fitted], len(samples) == len(dataset)


def check_new_class(name: str, known: tuple[str, ...], dataset: Dataset) -> None:
    """Raise an error unless the name can be added and there is something to learn it from."""
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise SettingsError(f"--add {name!r}: a class name is 1 to 100 printable characters")
    if name in known:
        raise SettingsError(f"--add {name}: the bundle has this class already")
    if name not in dataset.classes:
        some = ", ".join(dataset.classes[:8])
        raise DatasetError(f"{dataset.name}: no class {name!r}; it has {some}")


def few_images(dataset: Dataset, boxes: int) -> Dataset:
    """Evenly spaced images with the class, as many as hold at most `boxes` objects. Raises
    TrainingError if there are too few.
    """

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
            f" with {LEAST_BOXES} to {boxes} (--set boxes) in all are needed, because scores are"
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
    """The number of objects that are neither difficult nor crowds."""
    return int(sample.annotations.real.sum())


def gives_background(sample: Sample) -> bool:
    """True if unannotated regions of the image are known to lack the class."""
    return sample.background_of is None or 0 in sample.background_of


def learn_class(
    name: str, samples: list[tuple[Sample, Proposals]], detector: Detector, crops: int, seed: int,
    recipe: dict[str, Any], quiet: bool,
) -> tuple[HeadManifest, LinearScores]:  # fmt: skip
    """Learn one more class on the first member: choose regions, describe them, fit."""
    settings = OneClassSettings(crops=crops, svm=SvmSettings(seed=seed))
    rng = np.random.default_rng(seed)
    objects = [
        choose_positives(sample.annotations, found.boxes, found.size, settings, rng)
        for sample, found in samples
    ]
    # What objects leave of the regions is shared among the images that prove background.
    proving = sum(gives_background(sample) for sample, _ in samples)
    share = max(20, (crops - sum(len(positives.boxes) for positives in objects)) // max(proving, 1))
    early = round(share * settings.first_share)
    parts: tuple[list[Array], ...] = ([], [], [])  # objects, first background, the rest of it
    pairs = list(zip(samples, objects, strict=True))
    for (sample, found), positives_of_image in progress(pairs, "regions", quiet=quiet):
        order = background_order(sample.annotations, found.boxes, settings, rng)
        order = order[: share if gives_background(sample) else 0]
        boxes = np.concatenate([positives_of_image.boxes, found.boxes[order]])
        mirrored = np.concatenate([positives_of_image.mirrored, np.zeros(len(order), bool)])
        features = describe_regions(detector, read_image(sample.path), boxes, mirrored)[0]
        ends = [len(positives_of_image.boxes), len(positives_of_image.boxes) + early]
        for part, rows in zip(parts, np.split(features, ends), strict=True):
            part.append(rows)
    positives, first, second = (Described.stacked(part) for part in parts)
    head = fit_one_class(positives, first, second, settings)
    counts = {"boxes": sum(real_objects(sample) for sample, _ in samples)}
    recipe = recipe | counts | settings.model_dump()
    return HeadManifest(kind="class", name=name, recipe=recipe), head
