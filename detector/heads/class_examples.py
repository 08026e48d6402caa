"""Examples of a class: features of its objects and of background, with their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.structures import Array


@dataclass(frozen=True, eq=False)
class Described:
    """Features (N, F) of regions, with the image number (N,) of each."""

    features: Array
    image: Array

    @staticmethod
    def stacked(parts: Sequence[Array]) -> Described:
        """Stack the features (n, F) of images 0, 1, ..."""
        counts = [len(part) for part in parts]
        return Described(np.concatenate(parts), np.repeat(np.arange(len(parts)), counts))

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, selection: Array) -> Described:
        """Some of the regions, by index or mask."""
        return Described(self.features[selection], self.image[selection])

    def joined(self, other: Described) -> Described:
        """These regions and those of other images, whose numbers follow `self`'s."""
        features = np.concatenate([self.features, other.features])
        return Described(features, np.concatenate([self.image, other.image]))


@dataclass(frozen=True, eq=False)
class ClassExamples:
    """All examples of a class: objects, and the background of the first fit and of the second.

    deltas  (P, 4) from the regions of `positives` to their objects (bbox_regression.py)
    """

    deltas: Array
    positives: Described
    first: Described
    second: Described

    def scaled(self, scale: float) -> ClassExamples:
        parts = (Described(part.features * scale, part.image) for part in self.parts)
        return ClassExamples(self.deltas, *parts)

    def fold(self, number: int, folds: int) -> tuple[ClassExamples, ClassExamples]:
        """The examples of all images but every `folds`-th, and those of the others."""
        mine = [part.image % folds == number for part in self.parts]
        pairs = list(zip(self.parts, mine, strict=True))
        training = ClassExamples(self.deltas[~mine[0]], *(part.rows(~mask) for part, mask in pairs))
        left_out = ClassExamples(self.deltas[mine[0]], *(part.rows(mask) for part, mask in pairs))
        return training, left_out

    def with_earlier(self, earlier: ClassExamples, images: int) -> ClassExamples:
        """These examples of so many images, and those of an earlier fit on others."""
        parts = (
            part.joined(Described(old.features, old.image + images))
            for part, old in zip(self.parts, earlier.parts, strict=True)
        )
        return ClassExamples(np.concatenate([self.deltas, earlier.deltas]), *parts)

    @property
    def parts(self) -> tuple[Described, Described, Described]:
        """Positives, first and second background."""
        return self.positives, self.first, self.second
