"""Reading CVAT's own XML, "CVAT for images 1.1": one file for all pictures of a task or project.

    <annotations><meta>...<label><name/></label></meta>
      <image name width height subset>
        <box label xtl ytl xbr ybr rotation/>  <polygon label points="x,y;x,y"/>  <mask .../>

The subsets of a project are splits. An occluded object is an object like any other; one with an
attribute `difficult` or `ignore` is set aside.
"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from detector.datasets.dataset import Ledger
from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.formats.coco import MAX_JSON_BYTES as MAX_BYTES
from detector.datasets.formats.label_tools import Picture, Shape, ToolFile, other_shape, turned
from detector.datasets.formats.xml_files import parse_xml
from detector.errors import AnnotationError

_SUBSET = re.compile(rb'<image\s[^>]*?\bsubset="([^"]+)"')
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_MASK = ("left", "top", "width", "height")


def read_cvat(path: Path, ledger: Ledger) -> ToolFile:
    """Read the images of a file. Raises AnnotationError for one of a video."""
    tree = parse_xml(path, MAX_BYTES)
    if tree.tag != "annotations" or tree.find("track") is not None:
        said = "holds the tracks of a video" if tree.tag == "annotations" else "is no CVAT file"
        raise AnnotationError(f"{path}: {said}; export it as CVAT for images 1.1")
    pictures = [_picture_of(path, node) for node in tree.findall("image")]
    names = [(node.text or "").strip() for node in tree.findall("meta//label/name")]
    return ToolFile(pictures, names)


def splits_of(path: Path) -> list[str]:
    """Name the subsets of a project's export."""
    subsets = set(_SUBSET.findall(read_limited(path, MAX_BYTES)))
    return sorted(subset.decode("utf-8", "replace") for subset in subsets)


def _picture_of(path: Path, node: ET.Element) -> Picture:
    sides = {side: _number(node.get(side)) for side in ("height", "width")}
    # A tag is of the whole picture.
    shapes = [_shape_of(child) for child in node if child.tag != "tag"]
    return Picture(path, node.get("name", ""), sides, shapes, node.get("subset", ""))


def _shape_of(node: ET.Element) -> Shape:
    attributes = {
        (child.get("name") or "").lower(): (child.text or "") for child in node.iter("attribute")
    }
    label = node.get("label")
    if node.tag == "box":
        x1, y1, x2, y2 = (_number(node.get(corner)) for corner in _CORNERS)
        points = _turned_box(x1, y1, x2, y2, _number(node.get("rotation", "0")))
    elif node.tag == "mask":
        x, y, width, height = (_number(node.get(side)) for side in _MASK)
        points = [[x, y], [x + width, y + height]]
    elif node.tag == "polygon":
        pairs = (pair.split(",") for pair in node.get("points", "").split(";"))
        points = [[_number(side) for side in pair] for pair in pairs]
    else:
        return Shape(label, fault=other_shape(node.tag))
    return Shape(label, points, attributes)


def _turned_box(x1: float, y1: float, x2: float, y2: float, degrees: float) -> list[list[float]]:
    if not degrees:
        return [[x1, y1], [x2, y2]]
    # CVAT turns around the centre: the corners move by the centre's way.
    corners = turned(x1, y1, x2 - x1, y2 - y1, degrees)
    dx, dy = (
        (near + far) / 2 - (corners[0][axis] + corners[2][axis]) / 2
        for axis, (near, far) in enumerate(((x1, x2), (y1, y2)))
    )
    return [[x + dx, y + dy] for x, y in corners]


def _number(text: str | None) -> float:
    """NaN where there is no number."""
    try:
        return float(text or "")
    except ValueError:
        return float("nan")
