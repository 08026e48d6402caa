"""The images of a run: annotated sets and unlabelled folders, all objects of one class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.build import obeying, read_source
from detector.datasets import Dataset, Sample
from detector.datasets.dataset import Dropped
from detector.errors import DatasetError, ImageError, SettingsError
from detector.reporting.inputs import image_paths
from detector.structures import Annotations, Array
from detector.training.pseudo_boxes import PseudoSettings
from multibox_training.settings import MultiBoxSource, MultiBoxTrainingConfig


def images_of(settings: MultiBoxTrainingConfig, root: Path) -> Dataset:
    """All images under one class, "object": classes of different sets need not agree."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    names = []
    for position, source in enumerate(settings.data):
        if source.unlabelled:
            _check_unlabelled(source, settings.pseudo_of(source))
            found = unlabelled(root / source.path)
        else:
            found = read_source(source, root)
        difficult = {sample.image_id: sample.annotations.difficult for sample in found.samples}
        one = obeying(source, found, root)
        samples += [
            _as_objects(sample, position, source, difficult[sample.image_id])
            for sample in one.samples
        ]
        dropped += one.dropped
        names.append(one.name)
    return Dataset("+".join(names), ("object",), tuple(samples), tuple(dropped))


def pseudo_settings_of(settings: MultiBoxTrainingConfig, sample: Sample) -> PseudoSettings | None:
    """Who labels an image of `images_of` beside its annotations; None where those are complete."""
    if sample.annotated is None:
        return None
    return settings.pseudo_of(settings.data[int(sample.image_id.partition("/")[0])])


def unlabelled(folder: Path) -> Dataset:
    """The images in a folder and below it, none of whose objects are annotated. Raises DatasetError
    where there are none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one of unlabelled images")
    try:
        paths = image_paths([str(folder)])
    except ImageError as error:
        raise DatasetError(str(error)) from None
    samples = tuple(
        Sample(str(path.relative_to(folder)), path, None, Annotations.empty(), frozenset())
        for path in paths
    )
    return Dataset(folder.resolve().name, ("object",), samples)


def _check_unlabelled(source: MultiBoxSource, pseudo: PseudoSettings | None) -> None:
    said = source.model_dump(
        exclude_defaults=True, exclude={"path", "unlabelled", "pseudo", "images"}
    )
    if said:
        raise SettingsError(
            f"data: {source.path} is unlabelled, so it has no split and no annotated classes;"
            f" leave out {', '.join(said)}"
        )
    if pseudo is None:
        raise SettingsError(
            f"data: {source.path} is unlabelled; say who labels it:"
            " pseudo: {from: BUNDLE} or pseudo: {from: selective-search}"
        )


def _as_objects(sample: Sample, position: int, source: MultiBoxSource, difficult: Array) -> Sample:
    """All objects of one class, without those that a blacklist or a cap set aside beside the
    `difficult` ones of the files.

    An image is not annotated in full where something was set aside, where its source is to be
    labelled, or where it gives positives only: R-CNN takes no background there, so nothing in it
    teaches silence.
    """
    aside = sample.annotations.difficult & ~difficult
    objects = sample.annotations[~aside]
    in_full = not (source.pseudo or sample.positives_only or aside.any())
    in_full = in_full and sample.annotated is None
    return replace(
        sample,
        image_id=f"{position}/{sample.image_id}",
        annotations=replace(objects, labels=np.zeros(len(objects), np.int64)),
        annotated=None if in_full else sample.annotated or frozenset(),
    )
