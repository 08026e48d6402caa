"""Reading Label Studio's JSON: a list of tasks, each with the annotations or predictions of one
picture, in percent of its sides.

A task's last submitted annotation counts, or the one marked as ground truth. Where no task of the
file has any, its predictions are read, as in a file of pre-annotations.
"""

from pathlib import Path
from typing import Any

from detector.datasets.dataset import Ledger
from detector.datasets.formats.coco import read_json
from detector.datasets.formats.coco_boxes import as_float, is_number
from detector.datasets.formats.coco_entries import LeftOut, size_of
from detector.datasets.formats.label_tools import Picture, Shape, ToolFile, other_shape, turned
from detector.datasets.image_files import SUFFIXES
from detector.datasets.image_names import as_id, plain_path
from detector.errors import AnnotationError

_SIDES = ("x", "y", "width", "height")
_UNSIZED = LeftOut("missing-field", "needs original_width and original_height")
_TURNED = LeftOut("other-shape", "was drawn on the picture turned in Label Studio")


def read_label_studio(path: Path, ledger: Ledger) -> ToolFile:
    """Read the tasks of a file; one without image or annotation is recorded and left out."""
    content = read_json(path)
    tasks = content if isinstance(content, list) else [content]
    if any(isinstance(task, dict) and "data" not in task for task in tasks):
        cure = "export it again as JSON, not as JSON-MIN"
        raise AnnotationError(f"{path}: no Label Studio tasks: one has no 'data'; {cure}")
    labelled = any(_annotation_of(task, "annotations") is not None for task in tasks)
    pictures = []
    for position, task in enumerate(tasks):
        number = as_id(task.get("id")) if isinstance(task, dict) else None
        where, image = f"task {number or position}", _image_of(task)
        results = _annotation_of(task, "annotations" if labelled else "predictions")
        if image is None:
            ledger.add(path, where, "missing-field", "its data name no image")
        elif results is None:
            name, why = Path(plain_path(image)).stem, f"{where} has no submitted annotation"
            ledger.add(path, name, "missing-annotation", why)
        else:
            pictures.append(_picture_of(path, image, results))
    return ToolFile(pictures)


def _annotation_of(task: Any, part: str) -> list[Any] | None:
    """The results of the annotation or prediction that counts; None where there is none."""
    rows = task.get(part) if isinstance(task, dict) else None
    chosen: dict[str, Any] | None = None
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict) or row.get("was_cancelled") or not _is_list(row, "result"):
            continue
        if chosen is None or _rank(row) >= _rank(chosen):
            chosen = row
    return None if chosen is None else chosen["result"]


def _is_list(row: dict[str, Any], name: str) -> bool:
    return isinstance(row.get(name), list)


def _rank(row: dict[str, Any]) -> tuple[bool, str]:
    return row.get("ground_truth") is True, str(row.get("updated_at") or "")


def _image_of(task: Any) -> str | None:
    data = task.get("data") if isinstance(task, dict) else None
    texts = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(
        data, dict
    ) else {}  # fmt: skip
    # The labelling interface may call it otherwise.
    images = [text for text in texts.values() if plain_path(text).lower().endswith(SUFFIXES)]
    return texts.get("image", images[0] if len(images) == 1 else None)


def _picture_of(path: Path, image: str, results: list[Any]) -> Picture:
    # Those of other types are relations, and what is said of the whole picture.
    regions = [
        row for row in results
        if isinstance(row, dict) and str(row.get("type", "")).endswith("labels")
    ]  # fmt: skip
    sizes = [size for row in regions if (size := _size_of(row)) is not None]
    height, width = sizes[0] if sizes else (None, None)
    shapes = [_shape_of(row) for row in regions]
    return Picture(path, image, {"height": height, "width": width}, shapes)


def _size_of(row: dict[str, Any]) -> tuple[int, int] | None:
    return size_of({"height": row.get("original_height"), "width": row.get("original_width")})


def _shape_of(row: dict[str, Any]) -> Shape:
    kind, value, size = row["type"], row.get("value"), _size_of(row)
    value = value if isinstance(value, dict) else {}
    labels = value.get(kind)
    label = labels[0] if isinstance(labels, list) and len(labels) == 1 else None
    points = _percents_of(value, size or (1, 1))
    if points is None:
        return Shape(label, fault=other_shape(str(kind)))
    if size is None:
        return Shape(label, fault=_UNSIZED)
    return Shape(label, points, fault=_TURNED if row.get("image_rotation") else None)


def _percents_of(value: dict[str, Any], size: tuple[int, int]) -> Any:
    """Corners in pixels of a rectangle or polygon in percent; None of any other shape."""
    height, width = size[0] / 100, size[1] / 100
    if "points" in value:
        rows = value["points"] if isinstance(value["points"], list) else []
        return [
            [as_float(row[0]) * width, as_float(row[1]) * height]
            if isinstance(row, list) and len(row) == 2 and all(map(is_number, row)) else row
            for row in rows
        ]  # fmt: skip
    if not all(side in value for side in _SIDES):
        return None
    numbers = [*(value[side] for side in _SIDES), value.get("rotation") or 0]
    if not all(map(is_number, numbers)):
        return []
    x, y, right, down, degrees = map(as_float, numbers)
    return turned(x * width, y * height, right * width, down * height, degrees)
