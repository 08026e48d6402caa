"""Index of PASCAL VOC's files: one XML file an image, lists of images a split."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_voc
from detector.datasets.check.findings import Findings
from detector.datasets.check.index import Asked, Index, Picture, Reading
from detector.datasets.check.listing import as_text, read_annotations
from detector.datasets.dataset import VOC_CLASSES
from detector.datasets.formats.names import class_name, fault_of_class, is_unicode
from detector.datasets.formats.voc import class_names, names_in
from detector.datasets.formats.voc_files import MAX_LIST_BYTES, VocFolder, folders_of, lists_of
from detector.datasets.formats.xml_files import (
    MAX_XML_BYTES,
    corners_of,
    is_complete,
    is_difficult,
    objects_of,
    size_of,
    text_of,
)
from detector.datasets.image_files import is_inside
from detector.errors import AmbiguousName, AnnotationError
from detector.structures import Array

_MOST_DEPTH = 10


def index_voc(root: Path, asked: Asked) -> Index:
    """Index all annotations of the folder, including those of no split."""
    index = Index("voc", READING, ())
    trees: dict[tuple[str, str], ET.Element] = {}
    for part, layout in folders_of(root).items():
        folder = VocFolder(root, layout)
        for identifier in asked.watch(folder.files, "read annotations"):
            tree = _read_tree(root / folder.file_of(identifier), identifier, asked)
            if tree is not None:
                trees[part, identifier] = tree
    index.classes = asked.classes or _class_names(trees.values())
    for part, layout in folders_of(root).items():
        folder = VocFolder(root, layout)
        mine = {key: tree for (of, key), tree in trees.items() if of == part}
        _add_folder(index, folder, part, mine, asked)
    return index


def _add_folder(
    index: Index, folder: VocFolder, part: str, trees: Mapping[str, ET.Element], asked: Asked
) -> None:
    _judge_copies(folder, asked)
    splits = {image_id: [part] for image_id in trees} if part else _splits(folder, asked)
    file_of: dict[Path, str] = {}
    for identifier, tree in trees.items():
        file, name = folder.file_of(identifier), f"{part}/{identifier}" if part else identifier
        _judge_filename(tree, Path(identifier).name, file, asked.findings)
        try:
            path = folder.image_of(identifier, text_of(tree, "filename"))
        except AmbiguousName as error:
            asked.findings.add(file, name, "ambiguous-name", str(error))
            continue
        if path is None:
            why = f"no image {identifier} in {folder.layout.pictures}"
            asked.findings.add(file, name, "missing-image", why)
        elif path in file_of:
            why = f"{path.name} is that of {file_of[path]}"
            asked.findings.add(file, name, "duplicate-image", why)
        else:
            file_of[path] = file
            where = tuple(splits.get(identifier, ()))
            index.pictures.append(Picture(name, path, file, where, size_of(tree)))
            for position, node in enumerate(tree.findall("object"), start=1):
                _add_object(index, f"object {position}", node, file, asked.findings)
    for identifier, path in sorted(folder.images.items()):
        if path not in file_of and identifier not in folder.files:
            why = f"no {folder.file_of(identifier)}"
            asked.findings.add(path, identifier, "unlabelled-image", why)


def _judge_copies(folder: VocFolder, asked: Asked) -> None:
    """Find image files that are not regular, and those that another format replaces."""
    for path in folder.other_images():
        identifier = path.stem
        if asked.listing.size_of(path) is None:
            asked.findings.add(path, identifier, "not-a-file", "is not a regular file")
        else:
            why = "an image of the same name is taken"
            asked.findings.add(path, identifier, "duplicate-image", why)


def _xyxy(written: Array, sizes: Array) -> Array:
    """Inclusive corners that coincide are a click, not an object of one pixel's width."""
    boxes = xyxy_from_voc(written)
    return np.concatenate(
        [boxes[:, :2], np.where(written[:, 2:] == written[:, :2], boxes[:, :2], boxes[:, 2:])], 1
    )


def _from_sizes(written: Array, sizes: Array) -> Array:
    return np.concatenate([written[:, :2], written[:, :2] + written[:, 2:]], 1)


READING = Reading("xmin, ymin, xmax, ymax", _xyxy, "x, y, width, height", _from_sizes)


def _splits(folder: VocFolder, asked: Asked) -> dict[str, list[str]]:
    """Splits that list each image, by image id."""
    splits: dict[str, list[str]] = {}
    for split, paths in lists_of(folder.root).items():
        listed: dict[str, None] = {}
        for path in paths:
            listed |= dict.fromkeys(_listed(folder, path, asked))
        for identifier in listed:
            splits.setdefault(identifier, []).append(split)
    return splits


def _listed(folder: VocFolder, path: Path, asked: Asked) -> list[str]:
    data = read_annotations(path, asked.findings, asked.listing, MAX_LIST_BYTES)
    if data is None or as_text(data, path, asked.findings) is None:
        return []
    ids: list[str] = []
    there = set(folder.files)
    for number, image_id, fault in folder.listed_ids(path):
        if fault:
            asked.findings.add(path, f"line {number}", "ambiguous-name", fault)
        elif not is_inside(image_id):
            why = f"{image_id!r} is not a name inside the folder"
            asked.findings.add(path, f"line {number}", "unsafe-path", why)
        elif image_id in there:
            ids.append(image_id)
            there.remove(image_id)
        elif image_id in folder.files:
            asked.findings.add(path, image_id, "duplicate-image", "is listed more than once")
        else:
            missing = "annotation" if image_id in folder.images else "annotation and no image"
            asked.findings.add(path, image_id, "missing-annotation", f"there is no {missing}")
    return ids


def _read_tree(path: Path, identifier: str, asked: Asked) -> ET.Element | None:
    if not is_unicode(identifier):
        why = "its name is not Unicode; rename XML file and image"
        asked.findings.add(path, identifier, "unusable-name", why)
        return None
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
    try:
        objects_of(tree, path)
    except AnnotationError as error:
        asked.findings.add(path, identifier, error.rule, str(error).removeprefix(f"{path}: "))
        return None
    return tree


def _is_deep(tree: ET.Element) -> bool:
    level = [tree]
    for _ in range(_MOST_DEPTH):
        level = [child for node in level for child in node]
    return bool(level)


def _class_names(trees: Collection[ET.Element]) -> tuple[str, ...]:
    """Class names as the reader takes them.

    But where nine of ten objects have VOC's names, and half of these occur, other names are typos.
    """
    times = Counter(name for tree in trees for name in names_in(tree))
    of_voc = {name: times[name] for name in VOC_CLASSES if times[name]}
    if sum(of_voc.values()) >= 0.9 * times.total() and class_names(of_voc, trees) == VOC_CLASSES:
        return VOC_CLASSES
    return class_names(times, trees)


def _judge_filename(tree: ET.Element, stem: str, file: str, findings: Findings) -> None:
    said = text_of(tree, "filename")
    if said and stem not in (said, Path(said).stem):
        findings.add(file, stem, "wrong-filename", f"says <filename>{said}</filename>")


def _add_object(
    index: Index, identifier: str, node: ET.Element, file: str, findings: Findings
) -> None:
    name = class_name(text_of(node, "name"))
    if not is_complete(node):
        why = "needs one name and one bndbox of xmin, ymin, xmax, ymax"
        findings.add(file, identifier, "missing-field", why)
    elif fault := fault_of_class(name):
        findings.add(file, identifier, *fault)
    elif name not in index.classes:
        findings.add(file, identifier, "unknown-class", f"{name!r} is not among the classes")
    else:
        if text_of(node, "difficult") not in ("", "0", "1"):
            why = f"difficult is {text_of(node, 'difficult')!r}"
            findings.add(file, identifier, "bad-flag", why)
        label = index.classes.index(name)
        row, aside = len(index.pictures) - 1, "difficult" * is_difficult(node)
        index.boxes.add(file, identifier, row, label, corners_of(node), aside)
