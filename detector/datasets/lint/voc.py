"""What PASCAL VOC's files say: one XML file an image, lists of images a split."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_voc
from detector.datasets.dataset import VOC_CLASSES
from detector.datasets.image_files import SUFFIXES, is_inside
from detector.datasets.lint.findings import Findings
from detector.datasets.lint.index import Asked, Index, Picture, Reading
from detector.datasets.lint.listing import as_text, numbered_lines, read_annotations
from detector.datasets.voc import annotation_file, layout_of
from detector.datasets.xml_files import MAX_XML_BYTES, corners_of, is_complete, size_of, text_of
from detector.structures import Array

_MAX_LIST_BYTES = 100_000_000
_MOST_DEPTH = 10


def index_voc(root: Path, asked: Asked) -> Index:
    """All annotations of the folder, those of no split too."""
    home, pictures = layout_of(root)
    images = _images_in(root / pictures, asked)
    names = asked.listing.names(root / home)
    stems = [name.removesuffix(".xml") for name in names if name.endswith(".xml")]
    splits = _splits(root, set(stems), set(images), asked)
    trees = {}
    for stem in asked.watch(stems, "read annotations"):
        tree = _read_tree(root / home / f"{stem}.xml", asked)
        if tree is not None:
            trees[stem] = tree
    classes = asked.classes or _class_names(trees)
    index = Index("voc", READING, classes)
    for stem, tree in trees.items():
        file = annotation_file(home, stem)
        _judge_filename(tree, stem, file, asked.findings)
        if stem not in images:
            asked.findings.add(file, stem, "missing-image", f"no image {stem} in {pictures}")
            continue
        size, where = size_of(tree), tuple(splits.get(stem, ()))
        index.pictures.append(Picture(stem, images[stem], file, where, size))
        for position, node in enumerate(tree.findall("object"), start=1):
            _add_object(index, f"object {position}", node, file, asked.findings)
    for stem in sorted(images.keys() - set(stems)):
        why = f"no {annotation_file(home, stem)}"
        asked.findings.add(images[stem], stem, "unlabelled-image", why)
    return index


def _xyxy(written: Array, sizes: Array) -> Array:
    """Inclusive corners that coincide are a click, not an object of one pixel's width."""
    boxes = xyxy_from_voc(written)
    return np.concatenate(
        [boxes[:, :2], np.where(written[:, 2:] == written[:, :2], boxes[:, :2], boxes[:, 2:])], 1
    )


def _from_sizes(written: Array, sizes: Array) -> Array:
    return np.concatenate([written[:, :2], written[:, :2] + written[:, 2:]], 1)


READING = Reading("xmin, ymin, xmax, ymax", _xyxy, "x, y, width, height", _from_sizes)


def _images_in(folder: Path, asked: Asked) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in asked.listing.names(folder):
        path = folder / name
        if path.suffix.lower() not in SUFFIXES:
            continue
        if asked.listing.size_of(path) is None:
            asked.findings.add(path, path.stem, "not-a-file", "is not a regular file")
        elif path.stem in found:
            why = f"{found[path.stem].name} has the same name"
            asked.findings.add(path, path.stem, "duplicate-image", why)
        else:
            found[path.stem] = path
    return found


def _splits(
    root: Path, annotated: set[str], images: set[str], asked: Asked
) -> dict[str, list[str]]:
    """Image id -> the splits that list it; VOC's own lists of single classes are left out."""
    splits: dict[str, list[str]] = {}
    folder = root / "ImageSets" / "Main"
    for name in asked.listing.names(folder):
        path = folder / name
        if path.suffix != ".txt" or path.stem.rpartition("_")[0] in VOC_CLASSES:
            continue
        data = read_annotations(path, asked.findings, asked.listing, _MAX_LIST_BYTES)
        text = None if data is None else as_text(data, path, asked.findings)
        seen: set[str] = set()
        for number, line in numbered_lines(text or ""):
            one = line.split()[0]
            if not is_inside(one):
                why = f"{one!r} is not a name inside the folder"
                asked.findings.add(path, f"line {number}", "unsafe-path", why)
            elif one in seen:
                asked.findings.add(path, one, "duplicate-image", "is listed more than once")
            elif one not in annotated:
                missing = "annotation" if one in images else "annotation and no image"
                asked.findings.add(path, one, "missing-annotation", f"there is no {missing}")
            else:
                splits.setdefault(one, []).append(path.stem)
            seen.add(one)
    return splits


def _read_tree(path: Path, asked: Asked) -> ET.Element | None:
    data = read_annotations(path, asked.findings, asked.listing, MAX_XML_BYTES)
    if data is None:
        return None
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        why = "declares a document type or entities"
        asked.findings.add(path, path.stem, "entities", why)
        return None
    if b"encoding=" not in data[:100] and as_text(data, path, asked.findings) is None:
        return None
    try:
        tree = ET.fromstring(data)
    except (ET.ParseError, LookupError, ValueError) as error:
        asked.findings.add(path, path.stem, "unreadable", f"not well-formed XML: {error}")
        return None
    if _is_deep(tree):
        asked.findings.add(path, path.stem, "too-deep", f"over {_MOST_DEPTH} elements deep")
        return None
    return tree


def _is_deep(tree: ET.Element) -> bool:
    level = [tree]
    for _ in range(_MOST_DEPTH):
        level = [child for node in level for child in node]
    return bool(level)


def _class_names(trees: Mapping[str, ET.Element]) -> tuple[str, ...]:
    """VOC's twenty where nine of ten objects are of them (another name is then a slip), else all
    the names.
    """
    times = Counter(
        text_of(node, "name") for tree in trees.values() for node in tree.findall("object")
    )
    if sum(times[name] for name in VOC_CLASSES) >= 0.9 * times.total():
        return VOC_CLASSES
    return tuple(sorted(name for name in times if name))


def _judge_filename(tree: ET.Element, stem: str, file: str, findings: Findings) -> None:
    said = text_of(tree, "filename")
    if said and stem not in (said, Path(said).stem):
        findings.add(file, stem, "wrong-filename", f"says <filename>{said}</filename>")


def _add_object(
    index: Index, identifier: str, node: ET.Element, file: str, findings: Findings
) -> None:
    name = text_of(node, "name")
    if not is_complete(node):
        why = "needs a name and a bndbox of xmin, ymin, xmax, ymax"
        findings.add(file, identifier, "missing-field", why)
    elif name not in index.classes:
        findings.add(file, identifier, "unknown-class", f"{name!r} is not among the classes")
    else:
        if text_of(node, "difficult") not in ("", "0", "1"):
            why = f"difficult is {text_of(node, 'difficult')!r}"
            findings.add(file, identifier, "bad-flag", why)
        label = index.classes.index(name)
        aside = "difficult" if text_of(node, "difficult") == "1" else ""
        index.boxes.add(file, identifier, len(index.pictures) - 1, label, corners_of(node), aside)
