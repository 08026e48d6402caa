"""Telling a classification set's layout from what lies in its place, and reading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detector.datasets.labelled.folders import has_class_folders, read_image_folders
from detector.datasets.labelled.ilsvrc import home_of, read_ilsvrc
from detector.datasets.labelled.images import LabelledImages
from detector.datasets.labelled.tar import read_tar
from detector.errors import DatasetError

SPLITS = ("train", "val", "test")
_EXPECTED = (
    "Data/CLS-LOC or ILSVRC/Data/CLS-LOC (ILSVRC), train/ and val/ of class folders,"
    " train.tar and val.tar, or one folder a class with images in it"
)


@dataclass(frozen=True)
class Layout:
    """A recognised set: its kind, its place, and the splits that it has (none: it is one)."""

    kind: Literal["ilsvrc", "folders", "tar"]
    path: Path
    splits: tuple[str, ...] = ()


def detect_layout(path: str | Path) -> Layout:
    """Recognise the set at `path`, a folder or a tar file. Raises DatasetError."""
    path = Path(path)
    if path.is_file():
        return Layout("tar", path)
    if not path.is_dir():
        raise DatasetError(f"{path}: no such file or folder")
    home = home_of(path)
    if home is not None:
        images = home / "Data" / "CLS-LOC"
        # The labels of ILSVRC's test images were never published.
        return Layout("ilsvrc", home, tuple(s for s in SPLITS[:2] if (images / s).is_dir()))
    tars = tuple(split for split in SPLITS if (path / f"{split}.tar").is_file())
    if tars:
        return Layout("tar", path, tars)
    splits = tuple(s for s in SPLITS if (path / s).is_dir() and has_class_folders(path / s))
    if splits or has_class_folders(path):
        return Layout("folders", path, splits)
    raise DatasetError(f"{path}: no labelled images recognised; looked for {_EXPECTED}")


def read_labelled(path: str | Path, split: str | None = None) -> LabelledImages:
    """Read the images of one split; a set without splits is read whole, whatever is asked.

    split  may be left out where there is only one
    """
    layout = detect_layout(path)
    if not layout.splits:
        return read_tar(layout.path) if layout.kind == "tar" else read_image_folders(layout.path)
    if split is None and len(layout.splits) == 1:
        split = layout.splits[0]
    if split not in layout.splits:
        wanted = "name a split" if split is None else f"no split {split!r}"
        raise DatasetError(f"{path}: {wanted}; it has: {', '.join(layout.splits)}")
    if layout.kind == "tar":
        return read_tar(layout.path / f"{split}.tar")
    if layout.kind == "ilsvrc":
        return read_ilsvrc(layout.path, split)
    return read_image_folders(layout.path / split)
