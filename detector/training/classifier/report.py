"""The early report on a classifier's images, before hours are spent on them."""

from __future__ import annotations

from collections.abc import Iterator

from detector.datasets.labelled.images import LabelledImages
from detector.errors import ImageError
from detector.images.decoding import decode
from detector.progress.messages import pluralise

SAMPLE = 50
"""Images of a set that are decoded to see whether they can be."""


def describe_images(purpose: str, images: LabelledImages | None) -> Iterator[str]:
    """Describe one set in lines: size, classes, skipped files and unreadable ones."""
    if images is None:
        yield f"{purpose}: no images, so nothing will be measured"
        return
    counts = images.per_class()
    yield (
        f"{purpose}: {images.name}, {pluralise(len(images), 'image')} of"
        f" {pluralise(len(images.classes), 'class')}, {counts.min()} to {counts.max()} each"
    )
    for rule, n in images.skipped_by_rule().items():
        example = next(skipped for skipped in images.skipped if skipped.rule == rule)
        yield f"  left out: {n} x {rule}, such as {example}"
    for file in images.subset(SAMPLE).files:
        try:
            decode(images.read(file), file)
        except ImageError as error:
            yield f"  warning: {error}"
