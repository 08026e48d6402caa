"""Reading PASCAL VOC's development-kit layout: one XML file an image, lists of images a split.

root/Annotations/ID.xml   root/JPEGImages/ID.jpg   root/ImageSets/Main/SPLIT.txt

Labelling tools put the same XML elsewhere (voc_files.py).
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_coco, xyxy_from_voc
from detector.datasets.dataset import VOC_CLASSES, Dataset, Ledger
from detector.datasets.formats.entries import Convention, Entry, Row, samples_of
from detector.datasets.formats.names import class_name, fault_of_class, is_unicode
from detector.datasets.formats.voc_files import KNOWN, LISTS, VocFolder, folders_of, lists_of
from detector.datasets.formats.xml_files import (
    corners_of,
    is_complete,
    is_difficult,
    read_xml,
    size_of,
    text_of,
)
from detector.errors import AmbiguousName, AnnotationError, DatasetError
from detector.structures import Array

# So many of VOC's twenty classes make a set VOC's own, whatever else its files say.
FEWEST_VOC_CLASSES = 10


def read_voc(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    strict: bool = False,
) -> Dataset:
    """Read the images of one split (all annotated ones where there are no splits).

    classes  by default all names that occur in the set, sorted; or VOC's twenty where none is
             another and it plainly is VOC (`class_names`)
    strict   stop with an AnnotationError at the first defect instead of leaving it out
    """
    root = Path(root)
    folder, lists = _chosen(root, split)
    ledger = Ledger(root, strict)
    trees = read_trees(folder, _ids_of(folder, lists, ledger), ledger)
    if classes is None:
        classes = _classes_of(root, folder, trees)
    classes = tuple(map(class_name, classes))
    entries = list(entries_of(folder, trees, classes, ledger, Entry.has_true_size))
    name = f"{root.resolve().name}/{split}" if split else root.resolve().name
    samples = samples_of(entries, CONVENTION)
    return Dataset(name, classes, samples, tuple(ledger.entries)).not_empty()


def splits_of(root: Path) -> list[str]:
    """Name the image lists, or the folders that are splits."""
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


# The development kits write <folder>VOC2012</folder>, <database>The VOC2007 Database.
def _says_voc(tree: ET.Element) -> bool:
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


def _ids_of(folder: VocFolder, lists: Sequence[Path], ledger: Ledger) -> Iterable[str]:
    if not lists:
        return folder.files
    return dict.fromkeys(name for path in lists for name in folder.listed_ids(path, ledger))


def read_trees(folder: VocFolder, ids: Iterable[str], ledger: Ledger) -> dict[str, ET.Element]:
    """Read the XML files of these ids."""
    trees: dict[str, ET.Element] = {}
    for identifier in ids:
        path = folder.root / folder.file_of(identifier)
        if not is_unicode(identifier):
            why = "its name is not Unicode; rename XML file and image"
            ledger.add(path, identifier, "unusable-name", why)
            continue
        try:
            trees[identifier] = read_xml(path)
        except AnnotationError as error:
            ledger.refuse(path, identifier, error)
    return trees


def entries_of(
    folder: VocFolder,
    trees: Mapping[str, ET.Element],
    classes: Sequence[str],
    ledger: Ledger,
    is_usable: Callable[[Entry], bool],
) -> Iterator[Entry]:
    """Find the image of each XML file, and read the objects of those that are usable."""
    taken: dict[Path, str] = {}
    for identifier, tree in trees.items():
        file = folder.file_of(identifier)
        try:
            path = folder.image_of(identifier, text_of(tree, "filename"))
        except AmbiguousName as error:
            ledger.add(file, identifier, "ambiguous-name", str(error))
            continue
        if path is None:
            why = f"no image {identifier} in {folder.layout.pictures}"
            ledger.add(file, identifier, "missing-image", why)
        elif path in taken:
            why = f"{path.name} is that of {taken[path]}"
            ledger.add(file, identifier, "duplicate-image", why)
        elif is_usable(entry := Entry(identifier, path, file, ledger, size_of(tree))):
            taken[path] = file
            # Direct children only: parts of an object are no objects.
            for position, node in enumerate(tree.findall("object"), start=1):
                _add_object(entry, f"object {position}", node, classes)
            yield entry


def _classes_of(root: Path, folder: VocFolder, trees: Mapping[str, ET.Element]) -> tuple[str, ...]:
    # Of the whole set, so that train and val agree; but the other splits need not be read where
    # half of VOC's twenty occur in this one.
    times = Counter(name for tree in trees.values() for name in names_in(tree))
    if len(times) >= FEWEST_VOC_CLASSES and times.keys() <= set(VOC_CLASSES):
        return VOC_CLASSES
    every = list(trees.values())
    for layout in folders_of(root).values():
        other = VocFolder(root, layout)
        mine = trees if layout == folder.layout else ()
        # A ledger that nobody reads: those of the split are in the right one already.
        others = read_trees(other, [name for name in other.files if name not in mine], Ledger(root))
        every += others.values()
    return class_names(Counter(name for tree in every for name in names_in(tree)), every)


def _add_object(entry: Entry, identifier: str, node: ET.Element, classes: Sequence[str]) -> None:
    name = class_name(text_of(node, "name"))
    if not is_complete(node):
        why = "needs one name and one bndbox of xmin, ymin, xmax, ymax"
        entry.leave_out(identifier, "missing-field", why)
    elif fault := fault_of_class(name):
        entry.leave_out(identifier, *fault)
    elif name not in classes:
        entry.leave_out(identifier, "unknown-class", f"{name!r} is not among the classes")
    else:
        label, corners = classes.index(name), corners_of(node)
        entry.rows.append(Row(identifier, label, corners, is_difficult(node)))


def _xyxy(written: Array, sizes: Array) -> Array:
    # Two corners that coincide are a click, not an object of a pixel's width.
    boxes = xyxy_from_voc(written)
    click = written[:, 2:] == written[:, :2]
    return np.concatenate([boxes[:, :2], np.where(click, boxes[:, :2], boxes[:, 2:])], 1)


def _sides(written: Array, sizes: Array) -> Array:
    boxes = _xyxy(written, sizes)
    return boxes[:, 2:] - boxes[:, :2]


CONVENTION = Convention(
    "xmin, ymin, xmax, ymax", _xyxy, _sides,
    "x, y, width, height", lambda written, sizes: xyxy_from_coco(written),
)  # fmt: skip
