"""ILSVRC's blacklist: images that are too ambiguous to evaluate for some class.

The development kit's ILSVRC2014_det_validation_blacklist.txt has a line for each image and class:
the image's number in val.txt and the class's WordNet id (eval_detection.m reads it as '%d %s').
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.datasets.dataset import Dataset, Sample
from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.formats.ilsvrc_lists import NAME_OF
from detector.errors import AnnotationError

MAX_BYTES = 50_000_000

# Names of blacklisted classes by image index.
Pairs = dict[int, set[str]]


def read_blacklist(path: str | Path) -> Pairs:
    """Read the pairs of a file, which has classes by WordNet id or by name."""
    path = Path(path)
    pairs: Pairs = {}
    text = read_limited(path, MAX_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        index, _, name = line.strip().partition(" ")  # names have blanks
        if not index.isdecimal() or not name.strip():
            raise AnnotationError(f"{path}: line {number}: expected: image_index class")
        name = name.strip()
        pairs.setdefault(int(index), set()).add(NAME_OF.get(name, name))
    return pairs


def without_blacklisted(dataset: Dataset, pairs: Pairs) -> Dataset:
    """Mark the blacklisted classes of each image as not annotated.

    Evaluation then ignores objects and detections of such a class, as the development kit does;
    training uses its objects neither as positives nor as background.
    """
    unknown = sorted(set().union(*pairs.values()) - set(dataset.classes))
    if unknown:
        raise AnnotationError(
            f"blacklist: class {unknown[0]!r} is not among the {len(dataset.classes)} classes of "
            f"{dataset.name}; name the blacklist of this data set"
        )
    label_of = {name: label for label, name in enumerate(dataset.classes)}
    samples = [
        _without(sample, {label_of[name] for name in pairs.get(index, ())}, len(label_of))
        for index, sample in zip(dataset.indices(), dataset.samples, strict=True)
    ]
    return replace(dataset, samples=tuple(samples))


def _without(sample: Sample, labels: Iterable[int], classes: int) -> Sample:
    labels = set(labels)
    if not labels:
        return sample
    truth = sample.annotations
    aside = truth.difficult | np.isin(truth.labels, sorted(labels))
    annotated = frozenset(range(classes)) if sample.annotated is None else sample.annotated
    return replace(
        sample, annotations=replace(truth, difficult=aside), annotated=annotated - labels
    )
