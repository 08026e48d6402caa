"""Reading and writing of result files; the layout is recognised or, for writing, named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError, SettingsError
from detector.results import coco_json, csv_results, ilsvrc_results, voc_results
from detector.results.unmatched import Unmatched
from detector.structures import Detections

Layout = Literal["coco", "voc", "ilsvrc", "csv"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_LOOKED_FOR = (
    "COCO's results (.json), ILSVRC's lines (.txt), a table (.csv), or a folder of VOC's files "
    f"({voc_results.FILES}) or with {coco_json.FILE} in it"
)


def read_results(
    path: str | Path, dataset: Dataset, unmatched: Unmatched | None = None
) -> dict[str, Detections]:
    """Read detections by image id of `dataset` from any layout.

    A folder that tools/detect.py wrote stands for the detections.json in it. Detections of images
    or classes that the data set does not have are counted in `unmatched`. Raises EvaluationError if
    the file has no others.
    """
    unmatched = Unmatched() if unmatched is None else unmatched
    path = Path(path)
    if (path / coco_json.FILE).is_file():
        path /= coco_json.FILE
    readers: dict[Layout, Callable[[Path, Dataset, Unmatched], dict[str, Detections]]] = {
        "coco": coco_json.read_detections,
        "voc": voc_results.read_voc_results,
        "ilsvrc": ilsvrc_results.read_ilsvrc_results,
        "csv": csv_results.read_csv_results,
    }
    return readers[layout_of(path)](path, dataset, unmatched)


def write_results(
    path: str | Path, dataset: Dataset, results: Mapping[str, Detections], layout: str
) -> None:
    """Save detections to a file or, in VOC's layout, to a folder of files."""
    writers: dict[Layout, Callable[[Path, Dataset, Mapping[str, Detections]], None]] = {
        "coco": coco_json.write_results,
        "voc": voc_results.write_voc_results,
        "ilsvrc": ilsvrc_results.write_ilsvrc_results,
        "csv": csv_results.write_csv_results,
    }
    writers[check_layout(layout)](Path(path), dataset, results)


def check_layout(name: str) -> Layout:
    """The layout named `name`. Raises SettingsError with the known names."""
    for layout in LAYOUTS:
        if layout == name:
            return layout
    raise SettingsError(f"layout {name!r} is not known; choose one of {', '.join(LAYOUTS)}")


def layout_of(path: str | Path) -> Layout:
    """The layout of saved detections. Raises EvaluationError with the expected ones."""
    path = Path(path)
    if path.is_dir():
        if next(path.glob(voc_results.FILES), None) is None:
            raise EvaluationError(f"{path}: no results recognised; expected {_LOOKED_FOR}")
        return "voc"
    if path.match(voc_results.FILES):
        raise EvaluationError(f"{path}: holds one class of VOC's results; give its folder")
    by_suffix: dict[str, Layout] = {".json": "coco", ".txt": "ilsvrc", ".csv": "csv"}
    if path.suffix.lower() not in by_suffix:
        raise EvaluationError(f"{path}: no results recognised; expected {_LOOKED_FOR}")
    return by_suffix[path.suffix.lower()]
