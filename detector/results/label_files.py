"""Detections as pre-annotations: a folder that labelling tools import and `read_dataset` reads.

In it `images` (`JPEGImages` in VOC's layout) is a link to the folder of the pictures, so that the
corrected labels are a data set as they lie there.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from detector.datasets.dataset import Dataset, Ledger
from detector.datasets.image_files import upright_size
from detector.errors import EvaluationError, brief
from detector.results.label_writers import WRITERS, Box, LabelSet, Picture
from detector.results.results_text import best_first
from detector.structures import Detections

FORMATS = tuple(WRITERS)
# Where no results are meant, whose layouts have these names, too.
_SHORT = {"voc": "voc-xml", "coco": "coco-instances"}
_LINKS = {"voc-xml": "JPEGImages"}
_ONE_FILE_A_STEM = ("yolo", "voc-xml", "labelme")
# No XML file or line of a list can hold these.
_UNWRITABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def label_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats of these names, `voc` and `coco` for their label files. Raises ValueError."""
    formats = tuple(_SHORT.get(name, name) for name in names)
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"{brief(name)} is not known; choose among {', '.join(FORMATS)}")
    return formats


def write_label_files(
    folder: Path, dataset: Dataset, results: Mapping[str, Detections], format: str
) -> list[str]:
    """Write label files of every picture, empty ones where nothing was found.

    Returns a sentence for each picture that is left out. Raises EvaluationError where the folder
    holds something, which may be somebody's corrections.
    """
    refuse_written(folder)
    paths = [Path(os.path.abspath(sample.path)) for sample in dataset.samples]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    ledger = Ledger(root)
    pictures: dict[str, Picture] = {}
    for sample, path in zip(dataset.samples, paths, strict=True):
        name = path.relative_to(root).as_posix()
        size = sample.size or upright_size(path)
        picture = Picture(name, size or (1, 1), _boxes_of(results.get(sample.image_id)))
        key = picture.stem if format in _ONE_FILE_A_STEM else name
        if size is None:
            ledger.add(path, sample.image_id, "unreadable-image", "its size cannot be read")
        elif _UNWRITABLE.search(name):
            ledger.add(path, sample.image_id, "unusable-name", "no label file can hold its name")
        elif key in pictures:
            why = f"{pictures[key].name} has the same name but for its ending"
            ledger.add(path, sample.image_id, "duplicate-image", why)
        else:
            pictures[key] = picture
    labels = LabelSet(dataset.classes, dataset.category_ids, root.name, [*pictures.values()])
    with _new(folder) as temporary:
        WRITERS[format](temporary, labels)
        # Some systems have no links; the docs say what to do.
        with suppress(OSError, ValueError):
            target = os.path.relpath(root, os.path.realpath(temporary))
            os.symlink(target, temporary / _LINKS.get(format, "images"), target_is_directory=True)
    return [str(entry) for entry in ledger.entries]


def refuse_written(folder: Path) -> None:
    """Raise EvaluationError where a folder of label files would replace something."""
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise EvaluationError(
            f"{folder}: is there already, perhaps with corrected labels; move it, or choose another"
            " --out"
        )


def _boxes_of(detections: Detections | None) -> list[Box]:
    if detections is None:
        return []
    rows = best_first(detections, np.asarray)
    return [Box(label, *map(float, fields)) for label, fields in rows]


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """Yield a folder beside it that takes its place when the block ends well: all files or none."""
    folder = Path(os.path.abspath(folder))
    temporary = folder.parent / f".{folder.name}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        with suppress(FileNotFoundError):
            folder.rmdir()
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
