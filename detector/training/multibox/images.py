"""The images of a run, all objects of one class."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.datasets import Dataset, Sample
from detector.datasets.dataset import Dropped
from detector.datasets.sources import apply_settings, read_source
from detector.structures import Array
from detector.training.multibox.settings import MultiBoxTrainingConfig


def load_images(settings: MultiBoxTrainingConfig, root: Path) -> Dataset:
    """All images under one class, "object", so that classes of different sets need not agree."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    names = []
    for position, source in enumerate(settings.data):
        raw = read_source(source, root)
        difficult = {sample.image_id: sample.annotations.difficult for sample in raw.samples}
        filtered = apply_settings(source, raw, root)
        samples += [
            _as_objects(sample, position, difficult[sample.image_id]) for sample in filtered.samples
        ]
        dropped += filtered.dropped
        names.append(filtered.name)
    return Dataset("+".join(names), ("object",), tuple(samples), tuple(dropped))


def _as_objects(sample: Sample, position: int, difficult: Array) -> Sample:
    """All objects of one class, without those that a blacklist or a cap set aside beside the
    `difficult` ones of the files.

    An image is not annotated in full where something was set aside, or where it gives positives
    only: R-CNN takes no background there, so no prediction in it counts as false.
    """
    # Sources mark what they set aside as difficult; what a file calls so is an object here.
    set_aside = sample.annotations.difficult & ~difficult
    objects = sample.annotations[~set_aside]
    in_full = not (sample.positives_only or set_aside.any())
    in_full = in_full and sample.annotated is None
    return replace(
        sample,
        image_id=f"{position}/{sample.image_id}",  # two sets may use the same ids
        annotations=replace(objects, labels=np.zeros(len(objects), np.int64)),
        annotated=None if in_full else sample.annotated or frozenset(),
    )
