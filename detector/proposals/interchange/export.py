"""Write proposals in the layouts that Detectron2 and MMDetection read."""

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.datasets.image_names import ImageNames
from detector.errors import AmbiguousName, ProposalError, SettingsError
from detector.files import read_regular
from detector.images.decoding import SUFFIXES
from detector.structures import Array, Proposals

_LABEL = re.compile(r"(\s+-?\d+)+$")
_IMAGE = re.compile(rf"(.*?({'|'.join(map(re.escape, sorted(SUFFIXES)))}))\s", re.IGNORECASE)
FORMATS = ("detectron2", "mmdetection", "mmdetection2")


class Index(NamedTuple):
    """Images of a data set in its order: file names (or stems) and ids."""

    names: tuple[str, ...]
    ids: tuple[int | str, ...]


def read_index(path: str | Path) -> Index:
    """Read a COCO .json (file_name and id of its images), or a text file with one image a line.

    In a text file, whatever follows a suffix and a blank is ignored, and so are numbers after a
    stem, as in VOC's lists of a class. Raises ProposalError.
    """
    path = Path(path)
    try:
        text = read_regular(path).decode("utf-8-sig")  # Windows' editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise ProposalError(f"{path}: not a readable image list ({error})") from None
    if path.suffix.lower() != ".json":
        lines = [_name_in(line.strip()) for line in text.splitlines() if line.strip()]
        return Index(tuple(lines), tuple(Path(line).stem for line in lines))
    try:
        images = json.loads(text)["images"]
        return Index(
            tuple(str(image["file_name"]) for image in images),
            tuple(image["id"] for image in images),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProposalError(f"{path}: no COCO file with `images` of `file_name` and `id`") from None


def _name_in(line: str) -> str:
    image = _IMAGE.match(line)
    return image.group(1) if image else _LABEL.sub("", line)


def export(
    proposals: Mapping[str, Proposals], layout: str, index: Index | None = None, folder: str = ""
) -> bytes:
    """Encode `proposals`, by image file name, as the content of a file.

    detectron2    DATASETS.PROPOSAL_FILES_TRAIN: ids as in the index, or file stems
    mmdetection   version 3, proposal_file: keys are `folder`/file name, the last folder of img_path
    mmdetection2  version 2, proposal_file: a list in the order of the index
    """
    if layout not in FORMATS:
        raise SettingsError(f"layout {layout!r}: choose {', '.join(FORMATS)}")
    if index is not None:
        proposals = _in_order(proposals, index)
    ids = index.ids if index is not None else tuple(Path(name).stem for name in proposals)
    in_order = list(proposals.values())
    content: Any
    if layout == "detectron2":
        _all_differ(ids, proposals, "id")
        content = {
            "ids": list(ids),
            "boxes": [of_image.boxes for of_image in in_order],
            "objectness_logits": [objectness(of_image) for of_image in in_order],
            "bbox_mode": 0,  # BoxMode.XYXY_ABS
        }
    elif layout == "mmdetection":
        if not folder:
            raise SettingsError("MMDetection 3 names images by folder/file: give --folder")
        _all_differ((Path(name).name for name in proposals), proposals, "name")
        content = {
            f"{folder}/{Path(name).name}": {
                "bboxes": of_image.boxes,
                "scores": objectness(of_image),
            }
            for name, of_image in proposals.items()
        }
    else:
        if index is None:
            raise SettingsError("MMDetection 2 reads a list in the data set's order: give --index")
        content = [np.column_stack([of_image.boxes, objectness(of_image)]) for of_image in in_order]
    return pickle.dumps(content, protocol=4)  # any Python since 3.4 reads it


def objectness(proposals: Proposals) -> Array:
    """Scores (N,) float32 in rank order: the proposer's own, or else evenly from 1 down to 0."""
    if proposals.scores is not None:
        return proposals.scores
    # Readers sort by score: strictly falling numbers give the rank back.
    return np.linspace(1, 0, len(proposals) + 1, dtype=np.float32)[:-1]


def by_name(items: Iterable[tuple[str, Proposals]]) -> dict[str, Proposals]:
    """Index the items of a cache by image name. Raises ProposalError where two share a name."""
    named: dict[str, Proposals] = {}
    for name, proposals in items:
        if name in named:
            raise ProposalError(
                f"two images are called {name}, and the layouts know images by file name alone;"
                " export one folder at a time: inception-rcnn propose export CACHE FOLDER ..."
            )
        named[name] = proposals
    return named


def _in_order(proposals: Mapping[str, Proposals], index: Index) -> dict[str, Proposals]:
    stored = ImageNames({name: name for name in proposals})
    asked: dict[str, str] = {}
    missing: list[str] = []
    for name in index.names:
        try:
            fitting = stored.find(name)
        except AmbiguousName as error:
            raise ProposalError(f"of the index, {error}") from None
        if fitting is None:
            missing.append(name)
        elif fitting in asked:
            raise ProposalError(
                f"{asked[fitting]} and {name} of the index both fit the stored image"
                f" {fitting}; a cache knows images by file name alone: make one for each folder"
            )
        else:
            asked[fitting] = name
    if missing:
        raise ProposalError(
            f"no proposals for {len(missing)} of {len(index.names)} images of the index,"
            f" for example {missing[0]}; make them with inception-rcnn propose run"
        )
    return {name: proposals[image] for image, name in asked.items()}


def _all_differ(keys: Iterable[object], proposals: Mapping[str, Proposals], what: str) -> None:
    # A key may stand for two names of one image, but never for two images.
    known: dict[str, str] = {}
    # As texts, since that is how the readers compare their ids.
    for key, (name, of_image) in zip(map(str, keys), proposals.items(), strict=True):
        if key in known and not np.array_equal(proposals[known[key]].boxes, of_image.boxes):
            raise ProposalError(
                f"{known[key]} and {name} would both have the {what} {key}; rename one, or give"
                " an --index that tells them apart"
            )
        known[key] = name
