"""Index of a data set before its checks: pictures and classes as the files have them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from detector.datasets.dataset import Ledger
from detector.datasets.formats.entries import Boxes, Convention, Entry

# Wrapper of an iterable that reports progress: (items, label) -> items.
Watch = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(eq=False)
class Picture:
    """One existing image.

    splits  those that contain it
    true    (H, W) of the upright pixels, once decoded
    """

    entry: Entry
    splits: tuple[str, ...] = ()
    true: tuple[int, int] | None = None

    @property
    def file(self) -> str:
        return self.entry.file

    @property
    def id(self) -> str:
        return self.entry.image_id

    @property
    def path(self) -> Path:
        return self.entry.path


@dataclass(eq=False)
class Index:
    """A data set as its files have it."""

    how: Convention
    classes: tuple[str, ...] = ()
    pictures: list[Picture] = field(default_factory=list)

    @cached_property
    def boxes(self) -> Boxes:
        """All boxes in images of their declared sizes, else the decoded ones."""
        # Shares of an image of unknown size are judged as if it were one pixel.
        unknown = (1, 1) if self.how.shares else (float("inf"), float("inf"))
        sizes = [picture.entry.size or picture.true or unknown for picture in self.pictures]
        return Boxes(self.how, [picture.entry for picture in self.pictures], sizes)


@dataclass(frozen=True)
class Asked:
    """Arguments of a format's part of the linter.

    classes      the class list, where the user gives one
    images_root  the folder of the images, where they lie far from the annotations
    """

    ledger: Ledger
    watch: Watch
    classes: tuple[str, ...] | None = None
    images_root: Path | None = None

    def has_bytes(self, entry: Entry) -> bool:
        """Record an image file of 0 bytes."""
        if entry.path.stat().st_size == 0:
            self.ledger.add(entry.path, entry.image_id, "empty-file", "has 0 bytes")
            return False
        return True
