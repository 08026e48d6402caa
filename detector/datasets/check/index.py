"""Index of a data set before its checks: pictures, boxes, classes as the files have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.datasets.check.findings import Findings
from detector.datasets.check.listing import Listing
from detector.structures import Array

Watch = Callable[[Iterable[Any], str], Iterable[Any]]
"""Wrapper of an iterable that reports progress: (items, label) -> items."""


@dataclass(eq=False)
class Picture:
    """One existing image.

    file      its annotation file, as findings call it
    splits    splits that contain it
    declared  (H, W) by the annotation file, or None
    labelled  False where no annotation file mentions it
    true      (H, W) of the upright pixels, once decoded
    """

    id: str
    path: Path
    file: str
    splits: tuple[str, ...] = ()
    declared: tuple[int, int] | None = None
    labelled: bool = True
    true: tuple[int, int] | None = None


@dataclass(eq=False)
class Boxes:
    """All boxes as parallel lists, in the file's own numbers.

    picture  position in Index.pictures;  written  four numbers as the file has them
    aside    "difficult" or "crowd" for objects that evaluation ignores, else ""
    """

    file: list[str] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    picture: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    written: list[Sequence[float]] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)

    def add(
        self, file: str, identifier: str, picture: int, label: int, written: Sequence[float],
        aside: str = "",
    ) -> None:  # fmt: skip
        self.file.append(file)
        self.id.append(identifier)
        self.picture.append(picture)
        self.label.append(label)
        self.written.append(written)
        self.aside.append(aside)


@dataclass(frozen=True)
class Reading:
    """Conversion of a format's four numbers to xyxy pixels, and the convention confused with it.

    xyxy     (N, 4) written, (N, 2) sizes (H, W) -> (N, 4)
    instead  the same for the convention that is confused with it
    shares   the numbers are fractions of the image, so that checks need no size
    """

    name: str
    xyxy: Callable[[Array, Array], Array]
    instead_name: str
    instead: Callable[[Array, Array], Array]
    shares: bool = False


@dataclass(eq=False)
class Index:
    """A data set as its files have it."""

    format: str
    reading: Reading
    classes: tuple[str, ...]
    pictures: list[Picture] = field(default_factory=list)
    boxes: Boxes = field(default_factory=Boxes)


@dataclass(frozen=True)
class Asked:
    """Arguments of a format's part of the linter.

    classes      the class list, where the user gives one
    images_root  the folder of the images, where they lie far from the annotations
    """

    findings: Findings
    listing: Listing
    watch: Watch
    classes: tuple[str, ...] | None = None
    images_root: Path | None = None
