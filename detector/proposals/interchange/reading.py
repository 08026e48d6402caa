"""Readers of foreign proposal files: .mat, .pkl, .npz and JSON; none of them can run code.

    .mat    R-CNN and Fast R-CNN: cell arrays `boxes` and, where it is there, `images`
    .pkl    Detectron's dictionary (ids, boxes, objectness_logits or scores), MMDetection's list of
            (N, 5) arrays or dictionary of such, or a dictionary name -> boxes
    .npz    one (N, 4) or (N, 5) array an image, under its name
    .json   a dictionary name -> boxes, or COCO's list of (image_id or file_name, bbox, score)

A fifth column is a score. Where a file has no names, the caller gives the order of its images.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import AmbiguousName, ProposalError, is_out_of_memory
from detector.files import read_regular
from detector.proposals.interchange import plain_pickle
from detector.proposals.interchange.layout import ForeignBoxes
from detector.proposals.interchange.mat_files import read_mat
from detector.structures import Array

SUFFIXES = (".mat", ".pkl", ".pickle", ".npz", ".json")

_XYXY_ABS, _XYWH_ABS = 0, 1  # of Detectron2's BoxMode


def read_foreign(path: str | Path, names: Sequence[str] | None = None) -> dict[str, ForeignBoxes]:
    """Read boxes in the file's own layout, by image name.

    `names` lists the images of a file without names, in its order. Raises ProposalError.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ProposalError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    try:
        data = read_regular(path)
    except OSError as error:
        raise ProposalError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        content = reader(data)
        return _by_name(content, names)
    except ProposalError as error:
        raise ProposalError(f"{path}: {error}") from None
    except Exception as error:  # damaged files make their readers raise nearly every type
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ProposalError(f"{path}: not a readable proposal file ({reason})") from None


def _read_mat(data: bytes) -> Any:
    try:
        content = read_mat(data, ["boxes", "images"])
    except NotImplementedError:
        raise ProposalError(
            "saved by MATLAB as version 7.3; load it there and save it with save(..., '-v7')"
        ) from None
    if "boxes" not in content:
        raise ProposalError("has no variable `boxes`, which R-CNN's files have")
    cells = np.ravel(content["boxes"])
    if cells.dtype != object:
        raise ProposalError("`boxes` is not a cell array with one cell an image")
    if "images" not in content:
        return list(cells)
    images = list(np.ravel(content["images"]))
    if not all(isinstance(name, str) for name in images):
        raise ProposalError("`images` is not a cell array of names")
    return _pair(images, cells)


def _read_pickle(data: bytes) -> Any:
    content = plain_pickle.load(data)
    if isinstance(content, Mapping) and "boxes" in content:
        return _read_detectron(content)
    return content


def _read_detectron(content: Mapping[str, Any]) -> Any:
    # Detectron writes indexes and scores, Detectron2 ids and objectness_logits.
    ids = content.get("ids", content.get("indexes"))
    scores = content.get("objectness_logits", content.get("scores"))
    mode = int(content.get("bbox_mode", _XYXY_ABS))
    if mode not in (_XYXY_ABS, _XYWH_ABS):
        raise ProposalError(f"bbox_mode is {mode}; expected 0 (XYXY_ABS) or 1 (XYWH_ABS)")
    boxes: Iterable[Any] = content["boxes"]
    if scores is not None:
        boxes = [
            np.column_stack([_table(b), np.ravel(_shallow(s))])
            for b, s in zip(boxes, scores, strict=True)
        ]
    return list(boxes) if ids is None else _pair([str(image_id) for image_id in ids], boxes)


def _read_npz(data: bytes) -> Any:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:  # pickles could run code
        return {name: arrays[name] for name in arrays.files}


def _read_json(data: bytes) -> Any:
    try:
        content = json.loads(data)
    except RecursionError:
        raise ProposalError("nested too deeply to be a list of boxes") from None
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        return content
    rows: dict[str, list[list[float]]] = {}
    for entry in content:
        name = str(entry.get("file_name", entry.get("image_id")))
        row = [*entry["bbox"], entry["score"]] if "score" in entry else list(entry["bbox"])
        rows.setdefault(name, []).append(row)
    return rows


_READERS = {
    ".mat": _read_mat,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
    ".npz": _read_npz,
    ".json": _read_json,
}


def _by_name(content: Any, names: Sequence[str] | None) -> dict[str, ForeignBoxes]:
    if isinstance(content, (list, tuple)):
        if names is None:
            raise ProposalError(
                f"has {len(content)} lists of boxes and no image names; give --names with the"
                " image list that they follow, such as VOC's ImageSets/Main/val.txt"
            )
        content = _pair(names, content)
    if not isinstance(content, Mapping) or not content:
        raise ProposalError("holds no boxes by image")
    return {str(name): _foreign_boxes(str(name), value) for name, value in content.items()}


def _pair(names: Sequence[str], boxes: Iterable[Any]) -> dict[str, Any]:
    boxes = list(boxes)
    if len(names) != len(boxes):
        raise ProposalError(f"{len(names)} image names for {len(boxes)} lists of boxes")
    if len(set(names)) < len(names):
        raise ProposalError("an image name occurs twice")
    return dict(zip(names, boxes, strict=True))


def _foreign_boxes(name: str, value: Any) -> ForeignBoxes:
    scores = None
    if isinstance(value, Mapping):  # MMDetection 3
        value, scores = value.get("bboxes", value.get("boxes")), value.get("scores")
    table = _table(value, name)
    if table.shape[1] == 5:
        table, scores = table[:, :4], table[:, 4]
    if scores is not None:
        scores = np.asarray(_shallow(scores), np.float64).ravel()
        if len(scores) != len(table) or not np.isfinite(scores).all():
            raise ProposalError(
                f"{name}: {len(scores)} scores for {len(table)} boxes, or not finite"
            )
    return ForeignBoxes(table, scores)


def _table(value: Any, name: str = "boxes") -> Array:
    table = np.asarray(_shallow(value), np.float64)
    if table.size == 0:
        return np.zeros((0, 4))
    if table.ndim != 2 or table.shape[1] not in (4, 5):
        raise ProposalError(f"{name}: shape {table.shape}, expected (N, 4), or (N, 5) with scores")
    if not np.isfinite(table).all():
        raise ProposalError(f"{name}: not all numbers are finite")
    return table


def _shallow(value: Any) -> Any:
    # NumPy follows nested lists without end, and a pickled list may hold itself.
    lists = (list, tuple)
    rows = [row for row in value if isinstance(row, lists)] if isinstance(value, lists) else []
    if any(isinstance(one, lists) for row in rows for one in row):
        raise ProposalError("nested too deeply to be a list of boxes")
    return value


def match_names(names: Sequence[str], paths: Sequence[Path]) -> dict[str, Path]:
    """Match foreign image names to image files, as `ImageNames` does.

    Raises ProposalError where a name fits two files, or a file two names.
    """
    from detector.datasets.image_names import ImageNames

    images = ImageNames.of_files({str(path): path for path in paths})
    matched: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for name in names:
        try:
            fitting = images.find(name)
        except AmbiguousName as error:
            raise ProposalError(f"the name {error}") from None
        if fitting is None:
            continue
        path = Path(fitting)
        if path in taken:
            raise ProposalError(
                f"the names {taken[path]} and {name} both fit {path}; give the images of both"
            )
        matched[name], taken[path] = path, name
    return matched
