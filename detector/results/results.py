"""Reading and writing of result files, and writing of label files; the layout is recognised or, for
writing, named.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError, SettingsError
from detector.results import coco_json, csv_results, devkits, label_files
from detector.results.unmatched import Unmatched
from detector.structures import Detections

Layout = Literal["coco", "voc", "ilsvrc", "csv"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

Reader = Callable[[Path, Dataset, Unmatched], dict[str, Detections]]
Writer = Callable[[Path, Dataset, Mapping[str, Detections]], None]
_FILES: dict[Layout, tuple[Reader, Writer]] = {
    "coco": (coco_json.read_detections, coco_json.write_results),
    "voc": (devkits.read_voc_results, devkits.write_voc_results),
    "ilsvrc": (devkits.read_ilsvrc_results, devkits.write_ilsvrc_results),
    "csv": (csv_results.read_csv_results, csv_results.write_csv_results),
}
_SUFFIXES: dict[str, Layout] = {".json": "coco", ".txt": "ilsvrc", ".csv": "csv"}


def read_results(
    path: str | Path, dataset: Dataset, unmatched: Unmatched | None = None
) -> dict[str, Detections]:
    """Read detections by image id of `dataset` from any layout.

    A folder of `inception-rcnn detect` stands for the detections.json in it. Detections of images
    or classes that the data set does not have are counted in `unmatched`. Raises EvaluationError if
    the file has no others.
    """
    path = Path(path)
    if (path / coco_json.FILE).is_file():
        path /= coco_json.FILE
    read, _ = _FILES[layout_of(path)]
    return read(path, dataset, Unmatched() if unmatched is None else unmatched)


def write_results(
    path: str | Path, dataset: Dataset, results: Mapping[str, Detections], layout: str
) -> list[str]:
    """Save detections to a file, or to a folder of files (VOC's results, and label files).

    Returns a sentence for each image that no label file could be written for.
    """
    layout = check_layout(layout)
    if layout in label_files.FORMATS:
        return label_files.write_label_files(Path(path), dataset, results, layout)
    _, write = _FILES[cast("Layout", layout)]
    write(Path(path), dataset, results)
    return []


def check_layout(name: str) -> str:
    """The layout named `name`, of results or of label files. Raises SettingsError with the known
    names.
    """
    known = (*LAYOUTS, *label_files.FORMATS)
    if name in known:
        return name
    raise SettingsError(f"layout {name!r} is not known; choose one of {', '.join(known)}")


def layout_of(path: str | Path) -> Layout:
    """The layout of saved detections. Raises EvaluationError with the expected ones."""
    path = Path(path)
    if path.is_dir() and next(path.glob(devkits.VOC_FILES), None) is not None:
        return "voc"
    if path.match(devkits.VOC_FILES):
        raise EvaluationError(f"{path}: holds one class of VOC's results; give its folder")
    if path.is_dir() or path.suffix.lower() not in _SUFFIXES:
        raise EvaluationError(
            f"{path}: no results recognised; expected COCO's results (.json), ILSVRC's lines"
            f" (.txt), a table (.csv), or a folder of VOC's files ({devkits.VOC_FILES}) or with"
            f" {coco_json.FILE} in it"
        )
    return _SUFFIXES[path.suffix.lower()]
