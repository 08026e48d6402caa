"""Reading PASCAL VOC's development-kit layout: one XML file an image, lists of images a split.

root/Annotations/ID.xml   root/JPEGImages/ID.jpg   root/ImageSets/Main/SPLIT.txt

Labelling tools write the same XML elsewhere: LAYOUTS.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_voc
from detector.datasets.dataset import VOC_CLASSES, Dataset, Ledger, Sample
from detector.datasets.image_files import has_true_size, images_in, is_inside
from detector.datasets.objects import Objects
from detector.datasets.xml_files import (
    corners_of,
    is_complete,
    number_of,
    read_xml,
    size_of,
    text_of,
)
from detector.errors import AnnotationError, DatasetError

LAYOUTS = (("Annotations", "JPEGImages"), ("annotations", "images"), (".", "."))
"""Where annotations and images lie below the root; the last is both side by side, as LabelImg and
Roboflow leave them.
"""


def layout_of(root: Path) -> tuple[str, str]:
    """The one of LAYOUTS with annotations in it; the development kit's where none has any. Where
    capitals do not count in file names, the folder of the images tells the first two apart.
    """
    found = [one for one in LAYOUTS if holds_annotations(root / one[0])] or [LAYOUTS[0]]
    named = (one for one in found if one[1] != "." and (root / one[1]).is_dir())
    return next(named, found[0])


def holds_annotations(folder: Path) -> bool:
    return next(folder.glob("[!.]*.xml"), None) is not None


def read_voc(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    strict: bool = False,
    check_sizes: bool = True,
) -> Dataset:
    """The images of one split (all annotated ones where there is no ImageSets folder).

    classes      by default VOC's twenty, or, where an annotation holds any other name, all the
                 names that occur in the folder, sorted
    strict       stop with an AnnotationError at the first defect instead of leaving it out
    check_sizes  compare the sizes in the XML files with the images' own
    """
    root = Path(root)
    home, pictures = layout_of(root)
    if not (root / home).is_dir():
        raise DatasetError(f"{root}: no folder {home}; expected PASCAL VOC's layout")
    ledger = Ledger(root, strict)
    trees = _read_trees(root, _ids_of(root, split, home), home, ledger)
    if classes is None:
        classes = _class_names(root / home, trees.values())
    images = images_in(root / pictures) if (root / pictures).is_dir() else {}
    samples = []
    for identifier, tree in trees.items():
        file = annotation_file(home, identifier)
        if identifier not in images:
            ledger.drop(file, identifier, "missing-image", f"no such image in {pictures}")
            continue
        path, size = images[identifier], size_of(tree)
        if check_sizes and not has_true_size(file, identifier, path, size, ledger):
            continue
        objects = Objects(file, size, ledger)
        for position, node in enumerate(tree.findall("object"), start=1):
            _add_object(objects, f"object {position}", node, classes)
        samples.append(Sample(identifier, path, size, objects.annotations()))
    name = f"{root.resolve().name}/{split}" if split else root.resolve().name
    return Dataset(name, tuple(classes), tuple(samples), tuple(ledger.entries)).not_empty()


def annotation_file(home: str, identifier: str) -> str:
    """Its name below the root."""
    return (Path(home) / f"{identifier}.xml").as_posix()


def splits_of(root: Path) -> list[str]:
    """The names of the image lists; VOC's own lists of single classes (`cat_train`) left out."""
    return sorted(
        path.stem
        for path in (root / "ImageSets" / "Main").glob("[!.]*.txt")
        if path.stem.rpartition("_")[0] not in VOC_CLASSES
    )


def _ids_of(root: Path, split: str | None, home: str) -> list[str]:
    if split is None and not splits_of(root):
        return sorted(path.stem for path in (root / home).glob("[!.]*.xml"))
    if split not in splits_of(root):
        known = ", ".join(splits_of(root)) or "none"
        raise DatasetError(f"{root}: no split {split!r} in ImageSets/Main; it has: {known}")
    lines = (root / "ImageSets" / "Main" / f"{split}.txt").read_text("utf-8", "replace")
    return [line.split()[0] for line in lines.splitlines() if line.strip()]


def _read_trees(root: Path, ids: Iterable[str], home: str, ledger: Ledger) -> dict[str, ET.Element]:
    trees: dict[str, ET.Element] = {}
    for identifier in ids:
        file = annotation_file(home, identifier)
        if not is_inside(identifier):
            ledger.drop("ImageSets", identifier, "unsafe-path", "is not a name inside the folder")
        elif identifier in trees:
            ledger.drop("ImageSets", identifier, "duplicate-image", "is listed more than once")
        else:
            try:
                trees[identifier] = read_xml(root / file)
            except AnnotationError as error:
                ledger.drop(file, identifier, error.rule, str(error))
    return trees


def _class_names(folder: Path, trees: Iterable[ET.Element]) -> tuple[str, ...]:
    """VOC's twenty if no other name occurs; else all names of the folder, not only of one split."""
    if all(name in VOC_CLASSES for tree in trees for name in _names_in(tree)):
        return VOC_CLASSES
    found: set[str] = set()
    for path in folder.glob("[!.]*.xml"):
        try:
            found.update(_names_in(read_xml(path)))
        except AnnotationError:
            continue  # those of the split are in the ledger already
    return tuple(sorted(found))


def _names_in(tree: ET.Element) -> list[str]:
    return [name for node in tree.findall("object") if (name := text_of(node, "name"))]


def _add_object(
    objects: Objects, identifier: str, node: ET.Element, classes: Sequence[str]
) -> None:
    name = text_of(node, "name")
    if not is_complete(node):
        why = "needs a name and a bndbox of xmin, ymin, xmax, ymax"
        objects.ledger.drop(objects.file, identifier, "missing-field", why)
        return
    if name not in classes:
        objects.ledger.drop(
            objects.file, identifier, "unknown-class", f"{name!r} is not among the classes"
        )
        return
    corners = corners_of(node)
    box = xyxy_from_voc(np.array([corners]))[0].tolist()
    # Inclusive corners that coincide make a line of one pixel's width: a click, not an object.
    if corners[0] == corners[2] or corners[1] == corners[3]:
        box = corners
    difficult = number_of(node, "difficult") == 1
    objects.add(identifier, box, classes.index(name), difficult=difficult, written=corners)
