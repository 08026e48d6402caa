"""One folder a class, images inside: `root/tench/1.jpg`; also `root/tench/images/1.jpg`.

Tiny-ImageNet's `val` has one folder, images, and val_annotations.txt beside it: `val_0.JPEG
n03444034 0 32 44 62` in a line.
"""

import os
from pathlib import Path

from detector.datasets.dataset import Ledger
from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.image_files import SUFFIXES
from detector.datasets.labelled.images import LabelledImages, labelled_images
from detector.images.decoding import read_bytes

LISTED = "val_annotations.txt"
_MAX_TEXT = 100_000_000


def read_image_folders(root: str | Path) -> LabelledImages:
    """The images of a folder of class folders. Other files and empty classes are noted, hidden ones
    are not. Raises DatasetError where no image is found.
    """
    root = Path(root)
    ledger, pairs = Ledger(root), []
    if (root / LISTED).is_file():
        return labelled_images(
            root.resolve().name, _read_listing(root, ledger), FilesUnder(root), ledger.entries
        )
    for name in _folders_in(root):
        # Tiny-ImageNet's train has its images one folder deeper.
        here = name if _images_in(root / name, None) else f"{name}/images"
        files = _images_in(root / here, ledger)
        if not files:
            ledger.add(name, name, "empty-class", "holds no image")
        pairs += [(name, f"{here}/{file}") for file in files]
    return labelled_images(root.resolve().name, pairs, FilesUnder(root), ledger.entries)


def _read_listing(root: Path, ledger: Ledger) -> list[tuple[str, str]]:
    there, pairs = set(_images_in(root / "images", ledger)), []
    text = read_limited(root / LISTED, _MAX_TEXT).decode("utf-8", errors="replace")
    for number, words in enumerate(map(str.split, text.splitlines()), start=1):
        if len(words) < 2:
            continue
        if words[0] in there:
            there.remove(words[0])
            pairs.append((words[1], f"images/{words[0]}"))
        else:
            why = f"there is no {words[0]!r}, or it was named before"
            ledger.add(LISTED, f"line {number}", "missing-image", why)
    for name in sorted(there):
        ledger.add("images", name, "no-label", f"{LISTED} does not name it")
    return pairs


def has_class_folders(root: Path) -> bool:
    """True where some folder directly below `root` holds an image."""
    return any(
        _images_in(root / name, None) or _images_in(root / name / "images", None)
        for name in _folders_in(root)
    )


class FilesUnder:
    """The content of regular files by their name below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, name: str) -> bytes:
        return read_bytes(self.root / name)

    def place(self, name: str) -> Path:
        """The file on disk that holds it."""
        return self.root / name


def _folders_in(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


# By suffix alone: opening a million files to see what they are would take hours.
def _images_in(folder: Path, ledger: Ledger | None) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.is_dir())
    visible = [name for name in names if not name.startswith(".")]
    images = [name for name in visible if name.lower().endswith(SUFFIXES)]
    if ledger is not None:
        for name in sorted(set(visible) - set(images)):
            ledger.add(folder.relative_to(ledger.root), name, "not-an-image", "has another suffix")
    return images
