"""ILSVRC's classification images (CLS-LOC) in the layout of the official archives.

    Data/CLS-LOC/train/n01440764/*.JPEG     the wnid is the folder
    Data/CLS-LOC/val/*.JPEG                 the wnid stands elsewhere, in one of

    LOC_val_solution.csv                    Kaggle's: ILSVRC2012_val_00000001,n01751748 x1 y1 ...
    Annotations/CLS-LOC/val/*.xml           <name>n01751748</name>
    ILSVRC2012_validation_ground_truth.txt  the devkit's, with meta.mat: line i is image i

A val folder that was sorted into class folders is read as such.
"""

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from detector.datasets.dataset import Ledger
from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.image_files import SUFFIXES, is_inside
from detector.datasets.labelled.folders import FilesUnder, has_class_folders, read_image_folders
from detector.datasets.labelled.images import LabelledImages, labelled_images
from detector.errors import AnnotationError, DatasetError, is_out_of_memory

SOLUTION = "LOC_val_solution.csv"
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
LOOKED_FOR = f"{SOLUTION}, Annotations/CLS-LOC/val/*.xml, {TRUTH} with {META}"
_NAME = re.compile(rb"<name>\s*(n\d{8})\s*</name>")
_MAX_TEXT, _MAX_XML, _MAX_META = 500_000_000, 1_000_000, 100_000_000


def home_of(folder: Path) -> Path | None:
    """Find the folder that holds Data/CLS-LOC: the one given, or the ILSVRC folder in it."""
    for home in (folder, folder / "ILSVRC"):
        if (home / "Data" / "CLS-LOC").is_dir():
            return home
    return None


def read_ilsvrc(home: Path, split: str) -> LabelledImages:
    """`train` or `val` of the 1,000 classes. Raises DatasetError."""
    images = home / "Data" / "CLS-LOC" / split
    if not images.is_dir():
        raise DatasetError(f"{home}: no Data/CLS-LOC/{split}")
    listing = home / "ImageSets" / "CLS-LOC" / "train_cls.txt"
    if split == "train" and listing.is_file():
        return _read_listing(images, listing)
    if has_class_folders(images):
        return read_image_folders(images)
    return _with_wnids(images, wnids_of_val(home))


# Lines `n01440764/n01440764_10026 1`: a million names without asking the disk for each.
def _read_listing(images: Path, listing: Path) -> LabelledImages:
    ledger, pairs = Ledger(images), []
    for number, line in enumerate(_text(listing, _MAX_TEXT).splitlines(), start=1):
        name = line.split(" ")[0].strip()
        if not name:
            continue
        if not is_inside(name) or name.count("/") != 1:
            ledger.add(listing.name, f"line {number}", "unsafe-path", f"{name!r} is no class/name")
        else:
            pairs.append((name.split("/")[0], f"{name}.JPEG"))
    return labelled_images("ILSVRC/train", pairs, FilesUnder(images), ledger.entries)


def _with_wnids(images: Path, wnids: dict[str, str]) -> LabelledImages:
    ledger, pairs = Ledger(images), []
    with os.scandir(images) as entries:
        names = sorted(entry.name for entry in entries if not entry.is_dir())
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in SUFFIXES:
            ledger.add("val", name, "not-an-image", "has another suffix")
        elif stem not in wnids:
            ledger.add("val", name, "no-label", "no ground truth names it")
        else:
            pairs.append((wnids[stem], name))
    return labelled_images("ILSVRC/val", pairs, FilesUnder(images), ledger.entries)


def wnids_of_val(home: Path) -> dict[str, str]:
    """Image stem -> wnid from whichever source is there, in the order above."""
    for folder in (home, home.parent):
        if (folder / SOLUTION).is_file():
            return dict(_of_solution(folder / SOLUTION))
    annotations = home / "Annotations" / "CLS-LOC" / "val"
    if annotations.is_dir():
        return dict(_of_annotations(annotations))
    for folder in (home, home.parent):
        for devkit in sorted((folder, *folder.glob("*devkit*"), *folder.glob("*devkit*/data"))):
            if (devkit / TRUTH).is_file() and (devkit / META).is_file():
                return _of_devkit(devkit / TRUTH, devkit / META)
    raise DatasetError(f"{home}: nothing says what is in the val images; looked for {LOOKED_FOR}")


def _of_solution(path: Path) -> Iterator[tuple[str, str]]:
    for row in csv.reader(io.StringIO(_text(path, _MAX_TEXT))):
        if len(row) >= 2 and row[1].startswith("n"):
            yield row[0], row[1].split(" ")[0]


# The first object's name will do: all objects of a CLS-LOC image are of its class.
def _of_annotations(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.xml")):
        match = _NAME.search(read_limited(path, _MAX_XML))
        if match:
            yield path.stem, match.group(1).decode()


def _of_devkit(truth: Path, meta: Path) -> dict[str, str]:
    import scipy.io

    try:
        synsets = scipy.io.loadmat(
            io.BytesIO(read_limited(meta, _MAX_META)), squeeze_me=True, variable_names=["synsets"]
        )["synsets"]
        wnid_of = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
        ids = [int(line) for line in _text(truth, _MAX_TEXT).split()]
        return {
            f"ILSVRC2012_val_{number:08d}": wnid_of[identifier]
            for number, identifier in enumerate(ids, start=1)
        }
    except Exception as error:  # whatever a damaged .mat provokes in its reader
        if isinstance(error, AnnotationError) or is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}"[:120]
        raise DatasetError(f"{truth.parent}: {TRUTH} and {META} do not fit: {reason}") from None


def _text(path: Path, limit: int) -> str:
    return read_limited(path, limit).decode("utf-8", errors="replace")
