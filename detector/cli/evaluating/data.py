"""Annotated images and saved detections as the commands that judge or convert them read them."""

from pathlib import Path

import typer

from detector.datasets import COCO_TO_VOC, VOC_CLASSES, Dataset, read_dataset
from detector.datasets.blacklist import read_blacklist, without_blacklisted
from detector.detection.bundle import BundleManifest, read_manifest
from detector.errors import DatasetError, EvaluationError
from detector.progress.messages import say
from detector.results.results import read_results
from detector.results.unmatched import Unmatched
from detector.structures import Detections


def read_judged(
    data: Path,
    split: str | None,
    classes: str,
    *,
    strict: bool = False,
    bundle: Path | None = None,
    blacklist: Path | None = None,
) -> Dataset:
    """The data set under the class list asked for; stderr names the annotations left out.

    bundle  whose list `--classes weights` stands for, where the command has one
    """
    known = ["own", "voc", *(["weights"] if bundle else [])]
    if classes not in known:
        choices = ", ".join(known[:-1])
        raise typer.BadParameter(f"--classes is {classes!r}; choose {choices} or {known[-1]}")
    dataset = read_dataset(data, split, strict=strict)
    if blacklist is not None:
        dataset = without_blacklisted(dataset, read_blacklist(blacklist))
    for note in dataset.notes():
        say(f"note: {note}")
    if dataset.dropped:
        counts = ", ".join(f"{n} x {rule}" for rule, n in dataset.dropped_by_rule().items())
        say(f"left out: {counts}; for example {dataset.dropped[0]}")
    if classes == "weights" and bundle:
        return dataset.with_classes(read_manifest(bundle).classes)
    return dataset.with_classes(VOC_CLASSES, COCO_TO_VOC) if classes == "voc" else dataset


def read_under_networks(
    data: Path, split: str | None, images: int | None, manifest: BundleManifest, every: bool = False
) -> Dataset:
    """The data set, or so many of its images, under the class list of a bundle's networks.

    every  a class that is not annotated in it is an error
    """
    classes = manifest.network_classes
    rename = {old: new for old, new in COCO_TO_VOC.items() if old not in classes}
    dataset = read_dataset(data, split)
    unknown = set(classes) - {rename.get(name, name) for name in dataset.classes}
    if unknown and every:
        raise DatasetError(
            f"{dataset.name}: {len(unknown)} classes of the bundle are not annotated in it"
            f" ({', '.join(sorted(unknown)[:3])}), so it cannot say what is background;"
            " give data with all of them"
        )
    dataset = dataset.with_classes(classes, rename)
    return dataset if images is None else dataset.subset(images)


def read_detections(
    path: Path, dataset: Dataset, classes: str, verb: str = "not judged"
) -> tuple[dict[str, Detections], dict[str, int]]:
    """Saved detections by image id, and the number of those of other images or classes than the
    set's, which stderr tells.
    """
    unmatched = Unmatched()

    def cure() -> str:
        # Called after the reading, which fills `unmatched`.
        renamed = {COCO_TO_VOC.get(name) for name in dataset.classes} & unmatched.classes.keys()
        return "; --classes voc maps COCO's names to VOC's" if renamed and classes == "own" else ""

    try:
        found = read_results(path, dataset, unmatched)
    except EvaluationError as error:
        raise EvaluationError(f"{error}{cure()}") from error
    if len(unmatched):
        say(f"{verb}: {path}: {unmatched.sentence(dataset)}{cure()}")
    return found, unmatched.counts()
