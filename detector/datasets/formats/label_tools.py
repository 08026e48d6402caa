"""Files of labelling tools, read as COCO's instances: what LabelMe, Label Studio and CVAT share.

A tool's own reader gives `Picture`s. Put into COCO's three lists, they go the way of COCO's files,
so that images are found, boxes judged and faults recorded by the same rules. All three tools draw
on the upright picture; a file that tells the size of the raw frame is refused as `raw-frame`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.datasets.formats.coco_boxes import as_float, is_number
from detector.datasets.formats.coco_entries import LeftOut
from detector.datasets.formats.names import class_name, fault_of_class
from detector.datasets.image_names import plain_path
from detector.images.paths import image_ids

Content = dict[str, list[Any]]


class Shape(NamedTuple):
    """One shape of a picture.

    label   its class, as the file gives it
    points  corners (x, y) in pixels, whose bounding box is the object's
    flags   names of attributes -> values; `difficult` and `ignore` are understood
    fault   the reason for which it is no object
    """

    label: Any
    points: Any = ()
    flags: Mapping[str, Any] = {}
    fault: LeftOut | None = None


class Picture(NamedTuple):
    """One picture of a tool's file.

    source  the file that describes it
    name    path or address of the image, as the file gives it
    size    `height` and `width` in pixels of the upright image, as the file gives them
    """

    source: Path
    name: str
    size: Mapping[str, Any]
    shapes: Sequence[Shape]
    split: str = ""


class ToolFile(NamedTuple):
    """The content of a tool's file or folder; `classes` are those that it declares."""

    pictures: Sequence[Picture]
    classes: Sequence[str] = ()


def other_shape(kind: str) -> LeftOut:
    return LeftOut("other-shape", f"a {kind[:40]!r} is neither rectangle nor outline")


def contents_of(file: ToolFile, classes: Sequence[str] | None = None) -> dict[str, Content]:
    """Put the pictures of each split into COCO's three lists; a set without splits is that of "".

    classes  the class list; by default the declared ones, then all others that occur, sorted
    """
    named = {class_name(shape.label) for picture in file.pictures for shape in picture.shapes
             if isinstance(shape.label, str) and shape.fault is None}  # fmt: skip
    names = list(dict.fromkeys(map(class_name, classes or file.classes)))
    names += [] if classes else sorted(named - set(names))
    names = [name for name in names if fault_of_class(name) is None]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    ids = image_ids([Path(plain_path(picture.name)) for picture in file.pictures])
    contents: dict[str, Content] = {}
    for image_id, picture in zip(ids, file.pictures, strict=True):
        content = contents.setdefault(
            picture.split, {"images": [], "annotations": [], "categories": categories}
        )
        content["images"].append(
            {**picture.size, "id": image_id, "file_name": picture.name, "source": picture.source}
        )
        content["annotations"] += _rows(image_id, picture.shapes, numbers)
    return contents


def _rows(
    image_id: str, shapes: Iterable[Shape], numbers: Mapping[str, int]
) -> Iterable[dict[str, Any]]:
    for position, shape in enumerate(shapes, start=1):
        row = {"id": f"{image_id} shape {position}", "image_id": image_id}
        name = class_name(shape.label) if isinstance(shape.label, str) else None
        box = box_around(shape.points)
        if shape.fault is not None:
            yield {**row, "fault": shape.fault}
        elif name is None:
            yield {**row, "fault": LeftOut("missing-field", "needs one label, a text")}
        elif fault := fault_of_class(name):
            yield {**row, "fault": LeftOut(*fault)}
        elif name not in numbers:
            yield {**row, "fault": LeftOut("unknown-class", f"{name!r} is not among the classes")}
        elif box is None:
            yield {**row, "fault": LeftOut("missing-field", "needs two corners of numbers or more")}
        else:
            flags = {key: shape.flags[key] for key in ("difficult", "ignore") if key in shape.flags}
            yield {**row, "category_id": numbers[name], "bbox": box, **flags}


def box_around(points: Any) -> list[float] | None:
    """Bound points (x, y): x, y, width, height, all NaN where a number is not finite; None where
    there are no two points of numbers.
    """
    if not isinstance(points, list) or len(points) < 2:
        return None
    for point in points:
        if not (isinstance(point, list) and len(point) == 2 and all(map(is_number, point))):
            return None
    x, y = ([as_float(point[axis]) for point in points] for axis in (0, 1))
    if not all(map(math.isfinite, [*x, *y])):
        return [math.nan] * 4
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def turned(x: float, y: float, width: float, height: float, degrees: float) -> list[list[float]]:
    """Corners of a rectangle turned clockwise around its upper left corner (x, y)."""
    if not math.isfinite(degrees):
        return [[math.nan, math.nan]] * 4
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        [x + right * cos - down * sin, y + right * sin + down * cos]
        for right, down in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    ]
