"""Index of PASCAL VOC's files, with the checks that are VOC's alone."""

import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from detector.datasets.check.index import Asked, Index, Picture
from detector.datasets.dataset import VOC_CLASSES, Ledger
from detector.datasets.formats.annotation_files import decoded, read_limited
from detector.datasets.formats.voc import CONVENTION, class_names, entries_of, names_in, read_trees
from detector.datasets.formats.voc_files import MAX_LIST_BYTES, VocFolder, folders_of, lists_of
from detector.datasets.formats.xml_files import text_of
from detector.errors import AnnotationError

# VOC's own files have four levels below the root: object, part, bndbox, xmin.
_MAX_DEPTH = 10


def index_voc(root: Path, asked: Asked) -> Index:
    """Index all annotations of the folder, including those of no split."""
    folders = {part: VocFolder(root, layout) for part, layout in folders_of(root).items()}
    trees = {
        part: read_trees(folder, asked.watch(folder.files, "read annotations"), asked.ledger)
        for part, folder in folders.items()
    }
    every = [tree for mine in trees.values() for tree in mine.values()]
    index = Index(CONVENTION, asked.classes or _class_names(every))
    for part, folder in folders.items():
        _add_folder(index, folder, part, trees[part], asked)
    return index


def _add_folder(
    index: Index, folder: VocFolder, part: str, trees: Mapping[str, ET.Element], asked: Asked
) -> None:
    _judge_copies(folder, asked.ledger)
    splits = {identifier: [part] for identifier in trees} if part else _splits(folder, asked.ledger)
    for identifier, tree in trees.items():
        _judge_text(tree, Path(identifier).name, folder.file_of(identifier), asked.ledger)
    taken = set()
    for entry in entries_of(folder, trees, index.classes, asked.ledger, asked.has_bytes):
        taken.add(entry.path)
        index.pictures.append(Picture(entry, tuple(splits.get(entry.image_id, ()))))
    for identifier, path in sorted(folder.images.items()):
        if path not in taken and identifier not in folder.files:
            asked.ledger.add(
                path, identifier, "unlabelled-image", f"no {folder.file_of(identifier)}"
            )


def _judge_copies(folder: VocFolder, ledger: Ledger) -> None:
    for path in folder.other_images():
        if os.path.isfile(path):
            why = "an image of the same name is taken"
            ledger.add(path, path.stem, "duplicate-image", why)
        else:
            ledger.add(path, path.stem, "not-a-file", "is not a regular file")


def _splits(folder: VocFolder, ledger: Ledger) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for split, paths in lists_of(folder.root).items():
        listed = {name: None for path in paths for name in _listed(folder, path, ledger)}
        for identifier in listed:
            splits.setdefault(identifier, []).append(split)
    return splits


def _listed(folder: VocFolder, path: Path, ledger: Ledger) -> list[str]:
    try:
        data = read_limited(path, MAX_LIST_BYTES)
        if not data:
            raise AnnotationError(f"{path}: has 0 bytes", "empty-file")
        decoded(data, path)
    except AnnotationError as error:
        ledger.refuse(path, path.stem, error)
        return []
    names = folder.listed_ids(path, ledger)
    for name in names:
        if name not in folder.files:
            missing = "annotation" if name in folder.images else "annotation and no image"
            ledger.add(path, name, "missing-annotation", f"there is no {missing}")
    return [name for name in names if name in folder.files]


def _class_names(trees: Collection[ET.Element]) -> tuple[str, ...]:
    # As the reader does; but where nine of ten objects have VOC's names, and half of these occur,
    # other names are typos.
    times = Counter(name for tree in trees for name in names_in(tree))
    of_voc = {name: times[name] for name in VOC_CLASSES if times[name]}
    if sum(of_voc.values()) >= 0.9 * times.total() and class_names(of_voc, trees) == VOC_CLASSES:
        return VOC_CLASSES
    return class_names(times, trees)


# What other programs read of a file, and training does not.
def _judge_text(tree: ET.Element, stem: str, file: str, ledger: Ledger) -> None:
    level = [tree]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in node]
    if level:
        ledger.add(file, stem, "too-deep", f"over {_MAX_DEPTH} elements deep")
    said = text_of(tree, "filename")
    if said and stem not in (said, Path(said).stem):
        ledger.add(file, stem, "wrong-filename", f"says <filename>{said}</filename>")
    for position, node in enumerate(tree.findall("object"), start=1):
        if (difficult := text_of(node, "difficult")) not in ("", "0", "1"):
            ledger.add(file, f"object {position}", "bad-flag", f"difficult is {difficult!r}")
