"""The small XML files, one an image, in which VOC and ILSVRC write their objects."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from detector.datasets.formats.annotation_files import decoded, read_limited
from detector.errors import AnnotationError

MAX_XML_BYTES = 16_000_000
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Elements and attributes by which other programs' XML speaks of objects, without underscores.
_OF_BOXES = frozenset(
    (
        "object", "objects", "obj", "instance", "item", "annotation", "shape", "region", "bndbox",
        "bbox", "box", "boundingbox", "robndbox", "rect", "rectangle", "polygon", "points", "xmin",
        "x1", "xtl",
    )
)  # fmt: skip
_OF_VOC = frozenset(
    ("folder", "filename", "path", "source", "owner", "size", "imagesize", "segmented", "object")
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:e[-+]?[0-9]+)?", re.I)
_NUMBERS_OF_A_BOX = 4


def read_xml(path: Path) -> ET.Element:
    """Read the root of VOC's <annotation>.

    A file that begins otherwise, or holds what looks like objects elsewhere, is an AnnotationError:
    taken for an image without objects, it would teach that they are background.
    """
    tree = parse_xml(path, MAX_XML_BYTES)
    _refuse_other_xml(tree, path)
    return tree


def parse_xml(path: Path, max_bytes: int) -> ET.Element:
    """Read the root of an XML file without a document type, which is where entity bombs live."""
    data = read_limited(path, max_bytes)
    if not data:
        raise AnnotationError(f"{path}: has 0 bytes", "empty-file")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise AnnotationError(
            f"{path}: declares a document type or entities; remove them", "entities"
        )
    # Without a declaration it must be UTF-8; the parser decodes declared encodings itself.
    if b"\0" in data or b"encoding=" not in data[:100]:
        decoded(data, path)
    try:
        return ET.fromstring(data)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise AnnotationError(f"{path}: not well-formed XML: {error}") from error


def _refuse_other_xml(tree: ET.Element, path: Path) -> None:
    if tree.tag != "annotation":
        raise AnnotationError(
            f"{path}: no <annotation> of VOC's: begins with <{tree.tag[:60]}>; export it again as"
            " PASCAL VOC"
        )
    for child in tree:
        if child.tag != "object" and any(map(_may_hold_a_box, child.iter())):
            raise AnnotationError(
                f"{path}: <{child.tag[:60]}> is none of VOC's and holds objects; export it again"
                " as PASCAL VOC"
            )
    others = [child for child in tree if child.tag not in _OF_VOC]
    if tree.find("object") is None and sum(map(_numbers_in, others)) >= _NUMBERS_OF_A_BOX:
        some = ", ".join(dict.fromkeys(f"<{node.tag[:40]}>" for node in others[:3]))
        raise AnnotationError(
            f"{path}: no <object> of VOC's, but numbers that may be a box in {some}; export it"
            " again as PASCAL VOC"
        )


def _numbers_in(node: ET.Element) -> int:
    texts = (
        text for element in node.iter() for text in (element.text, *element.attrib.values()) if text
    )
    words = (word for text in texts for word in re.split(r"[\s,;]+", text))
    return sum(_NUMBER.fullmatch(word) is not None for word in words)


def _may_hold_a_box(node: ET.Element) -> bool:
    names = (node.tag.rpartition("}")[2], *node.attrib)  # without a namespace
    return any(name.lower().replace("_", "") in _OF_BOXES for name in names)


def is_complete(node: ET.Element) -> bool:
    """True of an object with one name, and one box of which no corner is missing."""
    boxes, names = node.findall("bndbox"), node.findall("name")
    return (
        len(boxes) == len(names) == 1
        and bool(text_of(node, "name"))
        and all(boxes[0].find(corner) is not None for corner in CORNERS)
    )


def is_difficult(node: ET.Element) -> bool:
    return number_of(node, "difficult") == 1 or text_of(node, "difficult").lower() == "true"


def size_of(tree: ET.Element) -> tuple[int, int] | None:
    """(H, W), or None where the file leaves it out or writes 0 as some labelling programs do."""
    height, width = number_of(tree, "size/height"), number_of(tree, "size/width")
    if not (1 <= height < 1e9 and 1 <= width < 1e9):
        return None
    return int(height), int(width)


def corners_of(node: ET.Element) -> list[float]:
    """The four corners of an object as they are written; NaN where one is missing."""
    return [number_of(node, f"bndbox/{corner}") for corner in CORNERS]


def text_of(node: ET.Element, path: str) -> str:
    return (node.findtext(path) or "").strip()


def number_of(node: ET.Element, path: str) -> float:
    """The number at `path`, or NaN where there is none."""
    try:
        return float(text_of(node, path))
    except ValueError:
        return float("nan")
