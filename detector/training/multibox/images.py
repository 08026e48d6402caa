"""The images of a run, all objects of one class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.datasets import Dataset, Sample
from detector.datasets.dataset import Dropped
from detector.datasets.sources import obeying, read_source
from detector.structures import Array
from detector.training.multibox.settings import MultiBoxTrainingConfig


def images_of(settings: MultiBoxTrainingConfig, root: Path) -> Dataset:
    """All images under one class, "object": classes of different sets need not agree."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    names = []
    for position, source in enumerate(settings.data):
        found = read_source(source, root)
        difficult = {sample.image_id: sample.annotations.difficult for sample in found.samples}
        one = obeying(source, found, root)
        samples += [
            _as_objects(sample, position, difficult[sample.image_id]) for sample in one.samples
        ]
        dropped += one.dropped
        names.append(one.name)
    return Dataset("+".join(names), ("object",), tuple(samples), tuple(dropped))


def _as_objects(sample: Sample, position: int, difficult: Array) -> Sample:
    """All objects of one class, without those that a blacklist or a cap set aside beside the
    `difficult` ones of the files.

    An image is not annotated in full where something was set aside, or where it gives positives
    only: R-CNN takes no background there, so nothing in it teaches silence.
    """
    aside = sample.annotations.difficult & ~difficult
    objects = sample.annotations[~aside]
    in_full = not (sample.positives_only or aside.any())
    in_full = in_full and sample.annotated is None
    return replace(
        sample,
        image_id=f"{position}/{sample.image_id}",
        annotations=replace(objects, labels=np.zeros(len(objects), np.int64)),
        annotated=None if in_full else sample.annotated or frozenset(),
    )
