"""Images with one label each: what a classifier learns from and is judged on.

Every layout (a folder a class, ILSVRC's, a tar file) becomes one of these.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detector.datasets.dataset import Dropped
from detector.errors import DatasetError
from detector.structures import Array

_WNID = re.compile(r"(n\d{8})(?:_.*)?$")

# A file's content by its name within the set; an ImageError where it cannot be read.
ReadFile = Callable[[str], bytes]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """N images under named classes, and the record of what was left out.

    classes  sorted by name, which for ImageNet's wnids is the order of all published weights
    files    the name of each image within the set
    labels   (N,) int64, positions in `classes`
    read     a file's bytes by its name; safe in threads
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: Array
    read: ReadFile
    skipped: tuple[Dropped, ...] = ()

    def __post_init__(self) -> None:
        if len(self.files) != len(self.labels):
            raise ValueError(f"{len(self.files)} files and {len(self.labels)} labels do not pair")
        if len(set(map(class_key, self.classes))) < len(self.classes):
            twice = Counter(map(class_key, self.classes)).most_common(1)[0][0]
            raise DatasetError(f"{self.name}: class {twice} occurs more than once")

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, count: int) -> LabelledImages:
        """Take a fixed part in its own order: `count` evenly spaced images."""
        if count < 1:
            raise DatasetError(f"{self.name}: a subset needs at least 1 image, not {count}")
        count = min(count, len(self))
        rows = [i * len(self) // count for i in range(count)]
        files = tuple(self.files[row] for row in rows)
        return replace(self, files=files, labels=self.labels[rows])

    def under(self, classes: Sequence[str]) -> LabelledImages:
        """Map the labels to another class list, such as that of trained weights.

        Classes match by name; of `n01440764_tench` and `n01440764` the wnid counts. A class that
        has images but no place in the new list is a DatasetError.
        """
        label_of = {class_key(name): label for label, name in enumerate(classes)}
        new = np.array([label_of.get(class_key(name), -1) for name in self.classes], np.int64)
        present = np.unique(self.labels)
        unknown = [self.classes[label] for label in present if new[label] < 0]
        if unknown:
            raise DatasetError(
                f"{self.name}: class {unknown[0]} and {len(unknown) - 1} others are not among the"
                f" {len(classes)} known ones ({', '.join(classes[:3])}, ...)"
            )
        return replace(self, classes=tuple(classes), labels=new[self.labels])

    def per_class(self) -> Array:
        """Count the images of each class: (K,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def skipped_by_rule(self) -> dict[str, int]:
        return dict(sorted(Counter(record.rule for record in self.skipped).items()))

    def not_empty(self) -> LabelledImages:
        """Return the set itself. Raises DatasetError where it is empty, with the reason."""
        if self.files:
            return self
        why = ", ".join(f"{n} x {rule}" for rule, n in self.skipped_by_rule().items())
        raise DatasetError(f"{self.name}: no image in it ({why or 'nothing was listed'})")


def class_key(name: str) -> str:
    """Reduce a class name to what all names of the class share: the wnid where there is one."""
    match = _WNID.match(name)
    return match.group(1) if match else name


def labelled_images(
    name: str, pairs: Sequence[tuple[str, str]], read: ReadFile, skipped: Sequence[Dropped]
) -> LabelledImages:
    """Build a set of (class, file) pairs; the classes are those that occur, sorted."""
    classes = tuple(sorted({class_name for class_name, _ in pairs}))
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    labels = np.array([label_of[class_name] for class_name, _ in pairs], np.int64)
    files = tuple(file for _, file in pairs)
    return LabelledImages(name, classes, files, labels, read, tuple(skipped)).not_empty()
