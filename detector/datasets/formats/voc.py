"""Reading PASCAL VOC's development-kit layout: one XML file an image, lists of images a split.

root/Annotations/ID.xml   root/JPEGImages/ID.jpg   root/ImageSets/Main/SPLIT.txt

Labelling tools put the same XML elsewhere (voc_files.py).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_voc
from detector.datasets.dataset import VOC_CLASSES, Dataset, Ledger, Sample
from detector.datasets.formats.names import class_name, fault_of_class, is_unicode
from detector.datasets.formats.objects import Objects
from detector.datasets.formats.voc_files import KNOWN, LISTS, VocFolder, folders_of, lists_of
from detector.datasets.formats.xml_files import (
    corners_of,
    is_complete,
    is_difficult,
    objects_of,
    read_xml,
    size_of,
    text_of,
)
from detector.datasets.image_files import has_true_size, is_inside
from detector.errors import AmbiguousName, AnnotationError, DatasetError

FEWEST_VOC_CLASSES = 10
"""So many of VOC's twenty classes make a set VOC's own, whatever else its files say."""


def read_voc(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    strict: bool = False,
    check_sizes: bool = True,
) -> Dataset:
    """The images of one split (all annotated ones where there are no splits).

    classes      by default all names that occur in the set, sorted; or VOC's twenty where none is
                 another and it plainly is VOC (`class_names`)
    strict       stop with an AnnotationError at the first defect instead of leaving it out
    check_sizes  compare the sizes in the XML files with the images' own
    """
    root = Path(root)
    folder, lists = _chosen(root, split)
    ledger = Ledger(root, strict)
    trees = _read_trees(folder, _ids_of(folder, lists, ledger), ledger)
    if classes is None:
        classes = _classes_of(root, folder, trees)
    classes = tuple(map(class_name, classes))
    samples: dict[Path, Sample] = {}
    for identifier, tree in trees.items():
        file = folder.file_of(identifier)
        try:
            path = folder.image_of(identifier, text_of(tree, "filename"))
        except AmbiguousName as error:
            ledger.drop(file, identifier, "ambiguous-name", str(error))
            continue
        if path is None:
            why = f"no such image in {folder.layout.pictures}"
            ledger.drop(file, identifier, "missing-image", why)
        elif path in samples:
            ledger.drop(file, identifier, "duplicate-image", f"{path.name} was there before")
        elif not check_sizes or has_true_size(file, identifier, path, size_of(tree), ledger):
            objects = Objects(file, size_of(tree), ledger)
            for position, node in enumerate(tree.findall("object"), start=1):
                _add_object(objects, f"object {position}", node, classes)
            samples[path] = objects.sample(identifier, path)
    name = f"{root.resolve().name}/{split}" if split else root.resolve().name
    return Dataset(name, classes, tuple(samples.values()), tuple(ledger.entries)).not_empty()


def splits_of(root: Path) -> list[str]:
    """The names of the image lists, or of the folders that are splits."""
    return sorted(lists_of(root)) or sorted(filter(None, folders_of(root)))


def class_names(times: Mapping[str, int], trees: Iterable[ET.Element]) -> tuple[str, ...]:
    """The class list of a set in which names occur so many times: VOC's twenty where all are among
    them and it plainly is VOC, by half of them that occur or by what most files say of themselves.

    A set of buses and cars has two classes, not twenty.
    """
    others = sorted(set(times) - set(VOC_CLASSES))
    if others or not times:
        return tuple(sorted(times))
    if len(times) >= FEWEST_VOC_CLASSES:
        return VOC_CLASSES
    says = [_says_voc(tree) for tree in trees]
    return VOC_CLASSES if sum(says) > len(says) / 2 else tuple(sorted(times))


def names_in(tree: ET.Element) -> list[str]:
    """The class names of a file that can be used."""
    names = (class_name(text_of(node, "name")) for node in tree.findall("object"))
    return [name for name in names if fault_of_class(name) is None]


def _says_voc(tree: ET.Element) -> bool:
    """The development kits write <folder>VOC2012</folder>, <database>The VOC2007 Database."""
    said = text_of(tree, "folder"), text_of(tree, "source/database")
    return said[0].startswith("VOC") or "VOC2" in said[1]


def _chosen(root: Path, split: str | None) -> tuple[VocFolder, list[Path]]:
    """The folder of a split, and its lists; a set without splits has one folder and no list."""
    folders, lists = folders_of(root), lists_of(root)
    if not folders:
        raise DatasetError(f"{root}: no folder {KNOWN[0].home}; expected PASCAL VOC's layout")
    if "" in folders and (split in lists or (split is None and not lists)):
        return VocFolder(root, folders[""]), lists.get(split or "", [])
    if split is not None and split in folders:
        return VocFolder(root, folders[split]), []
    known = ", ".join(splits_of(root)) or "none"
    raise DatasetError(f"{root}: no split {split!r} in {LISTS[0].as_posix()}; it has: {known}")


def _ids_of(folder: VocFolder, lists: Sequence[Path], ledger: Ledger) -> list[str]:
    if not lists:
        return list(folder.files)
    ids: dict[str, None] = {}
    for path in lists:
        ids_before: set[str] = set()
        for number, identifier, fault in folder.listed_ids(path):
            if fault:
                ledger.drop(f"{path.name}", f"line {number}", "ambiguous-name", fault)
            elif not is_inside(identifier):
                ledger.drop(
                    "ImageSets", identifier, "unsafe-path", "is not a name inside the folder"
                )
            elif identifier in ids_before:
                ledger.drop("ImageSets", identifier, "duplicate-image", "is listed more than once")
            else:
                ids[identifier] = None
            ids_before.add(identifier)
    return list(ids)


def _read_trees(folder: VocFolder, ids: Iterable[str], ledger: Ledger) -> dict[str, ET.Element]:
    trees: dict[str, ET.Element] = {}
    for identifier in ids:
        file = folder.file_of(identifier)
        if not is_unicode(identifier):
            why = "its name is not Unicode; rename XML file and image"
            ledger.drop(file, identifier, "unusable-name", why)
            continue
        try:
            tree = read_xml(folder.root / file)
            objects_of(tree, folder.root / file)
        except AnnotationError as error:
            ledger.drop(file, identifier, error.rule, str(error))
        else:
            trees[identifier] = tree
    return trees


def _classes_of(root: Path, folder: VocFolder, trees: Mapping[str, ET.Element]) -> tuple[str, ...]:
    """Those of the whole set, so that train and val agree; files of other splits are read for it
    unless half of VOC's twenty occur in this one.
    """
    times = Counter(name for tree in trees.values() for name in names_in(tree))
    if len(times) >= FEWEST_VOC_CLASSES and times.keys() <= set(VOC_CLASSES):
        return VOC_CLASSES
    every = dict(trees)
    for layout in folders_of(root).values():
        other = VocFolder(root, layout)
        for identifier in other.files:
            if layout == folder.layout and identifier in trees:
                continue
            try:
                tree = read_xml(root / other.file_of(identifier))
            except AnnotationError:
                continue  # those of the split are in the ledger already
            if tree.tag == "annotation":
                times.update(names_in(tree))
                every[f"{layout.home}/{identifier}"] = tree
    return class_names(times, every.values())


def _add_object(
    objects: Objects, identifier: str, node: ET.Element, classes: Sequence[str]
) -> None:
    name = class_name(text_of(node, "name"))
    if not is_complete(node):
        why = "needs one name and one bndbox of xmin, ymin, xmax, ymax"
        objects.leave_out(identifier, "missing-field", why)
        return
    if fault := fault_of_class(name):
        objects.leave_out(identifier, *fault)
        return
    if name not in classes:
        objects.leave_out(identifier, "unknown-class", f"{name!r} is not among the classes")
        return
    corners = corners_of(node)
    box = xyxy_from_voc(np.array([corners]))[0].tolist()
    # Inclusive corners that coincide make a line of one pixel's width: a click, not an object.
    if corners[0] == corners[2] or corners[1] == corners[3]:
        box = corners
    objects.add(identifier, box, classes.index(name), difficult=is_difficult(node), written=corners)
