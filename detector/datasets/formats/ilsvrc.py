"""Reading ILSVRC DET in its official layout: two hundred classes, WordNet ids for names.

Data/DET/{train,val}/IMAGE.JPEG   Annotations/DET/{train,val}/IMAGE.xml   ImageSets/DET/SPLIT.txt

Every class is annotated in the images of val; of those of train, each list of a class says in which
that one is. Training images give positives only, R-CNN's rule (Girshick et al. 2014, section 4.3):
no negatives are taken from train, because its annotations are not exhaustive.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_coco, xyxy_from_ilsvrc
from detector.datasets.balanced_split import Halves, balanced_halves, class_counts
from detector.datasets.dataset import Dataset, Ledger
from detector.datasets.formats.entries import Convention, Entry, Row, samples_of
from detector.datasets.formats.ilsvrc_lists import (
    ANNOTATIONS,
    IMAGES,
    LISTS,
    TrainLabels,
    is_home,
    read_list,
    splits_of,
    synsets_of,
    train_labels,
)
from detector.datasets.formats.xml_files import corners_of, read_xml, size_of, text_of
from detector.datasets.image_files import is_inside
from detector.errors import AnnotationError, DatasetError
from detector.structures import Array

HALVES = ("val1", "val2")
_SUFFIXES = (".JPEG", ".jpg", ".jpeg", ".png")


def read_ilsvrc(
    root: str | Path, split: str = "val", *, seed: int = 0, strict: bool = False
) -> Dataset:
    """The images of one list of ImageSets/DET; also `train`, `val1`, `val2`, or a list FILE.txt.

    train        where there is no train.txt: the images in which a class is said to occur
    val1, val2   where there are no such lists: the halves of val that `halves_of_val` makes
    seed         of those halves
    strict       stop with an AnnotationError at the first defect instead of leaving it out
    """
    root = Path(root)
    if not is_home(root):
        raise DatasetError(f"{root}: no folders {ANNOTATIONS} and {LISTS}; expected ILSVRC DET")
    listed = _list_of(root, split)
    # Lists of that name, such as R-CNN's own, go before our halves.
    if listed is None and split in HALVES and "val" in splits_of(root):
        return _half_of_val(root, split, seed, strict)
    labels = train_labels(root) if _may_hold_train(split) else {}
    if listed is None and split == "train" and labels:
        listed = [
            (image, None) for image, said in sorted(labels.items()) if max(said.values()) >= 0
        ]
    if listed is None:
        known = ", ".join(splits_of(root)) or "none"
        raise DatasetError(f"{root}: no list {split!r} in {LISTS}; it has: {known}")
    return _read(root, split, listed, labels, strict)


def halves_of_val(val: Dataset, seed: int = 0) -> Halves:
    """val1 and val2 (section 4.2), balanced by class; the same for every caller with this seed."""
    return balanced_halves(class_counts(val), seed)


def _half_of_val(root: Path, split: str, seed: int, strict: bool) -> Dataset:
    val = read_ilsvrc(root, "val", strict=strict)
    mine = halves_of_val(val, seed).first == (split == HALVES[0])
    samples = tuple(val.samples[i] for i in np.flatnonzero(mine))
    return replace(val, name=f"{root.resolve().name}/{split}", samples=samples)


def _list_of(root: Path, split: str) -> list[tuple[str, int | None]] | None:
    path = Path(split) if split.endswith(".txt") else root / LISTS / f"{split}.txt"
    return read_list(path) if path.is_file() else None


# Lists of val and test need not wait for the two hundred lists of train.
def _may_hold_train(split: str) -> bool:
    return not Path(split).name.startswith(("val", "test"))


def _read(
    root: Path,
    split: str,
    listed: Iterable[tuple[str, int | None]],
    labels: TrainLabels,
    strict: bool,
) -> Dataset:
    synsets = synsets_of(root)
    label_of = {synset.name: label for label, synset in enumerate(synsets)}
    label_of |= {synset.wnid: label for label, synset in enumerate(synsets)}
    ledger = Ledger(root, strict)
    entries: dict[str, Entry] = {}
    stems: dict[str, Path] = {}
    places: dict[str, int] = {}
    for line, (identifier, number) in enumerate(listed, start=1):
        if identifier in entries:
            why = "is listed more than once"
            ledger.add(LISTS.as_posix(), identifier, "duplicate-image", why)
        elif (stem := _find_image(root, identifier, ledger)) and (
            entry := _entry_of(root, identifier, *stem, label_of, ledger)
        ):
            entries[identifier], stems[identifier] = entry, stem[0]
            # Second columns of train's lists are labels. A place in the list, unlike one among the
            # samples, stays when an image before it is left out.
            if number is None or stem[0].parts[0] == "train":
                number = line
            places[identifier] = number
    samples = [
        replace(
            sample,
            annotated=_annotated(stems[sample.image_id], labels.get(sample.image_id, {})),
            positives_only=sample.positives_only or stems[sample.image_id].parts[0] == "train",
            index=places[sample.image_id],
        )
        for sample in samples_of(list(entries.values()), CONVENTION)
    ]
    return Dataset(
        name=f"{root.resolve().name}/{Path(split).stem}",
        classes=tuple(synset.name for synset in synsets),
        samples=tuple(samples),
        dropped=tuple(ledger.entries),
    ).not_empty()


def _entry_of(
    root: Path, identifier: str, stem: Path, path: Path, label_of: Mapping[str, int],
    ledger: Ledger,
) -> Entry | None:  # fmt: skip
    """Read one image with its objects, or None with a line in the ledger."""
    xml, part = ANNOTATIONS / stem.parent / f"{stem.name}.xml", stem.parts[0]
    # Annotations of test were never published.
    if part != "test" and not (root / ANNOTATIONS / part).is_dir():
        why = f"no folder {ANNOTATIONS / part}"
        ledger.add(xml.as_posix(), identifier, "missing-annotation", why)
        return None
    entry = Entry(identifier, path, xml.as_posix(), ledger)
    if not (root / xml).exists():  # as an image without objects may leave it out
        return entry
    try:
        tree = read_xml(root / xml)
    except AnnotationError as error:
        ledger.refuse(root / xml, identifier, error)
        return None
    entry.size = size_of(tree)
    if not entry.has_true_size():
        return None
    for position, node in enumerate(tree.findall("object"), start=1):
        name, corners = text_of(node, "name"), corners_of(node)
        if name in label_of:
            entry.rows.append(Row(f"object {position}", label_of[name], corners))
        else:
            why = f"{name!r} is not among the classes"
            entry.leave_out(f"object {position}", "unknown-class", why)
    return entry


def _sides(written: Array, sizes: Array) -> Array:
    boxes = xyxy_from_ilsvrc(written)
    return boxes[:, 2:] - boxes[:, :2]


CONVENTION = Convention(
    "xmin, ymin, xmax, ymax", lambda written, sizes: xyxy_from_ilsvrc(written), _sides,
    "x, y, width, height", lambda written, sizes: xyxy_from_coco(written),
)  # fmt: skip


# All classes are boxed in val and in the images that 2014 added to train.
def _annotated(stem: Path, class_labels: Mapping[int, int]) -> frozenset[int] | None:
    part = stem.parts[0]
    if part == "val" or stem.name.startswith("ILSVRC2014_train_"):
        return None
    return frozenset(label for label, value in class_labels.items() if value != 0)


def _find_image(root: Path, identifier: str, ledger: Ledger) -> tuple[Path, Path] | None:
    """(Place below Data/DET without suffix, file); None, with a line in the ledger, if missing."""
    lists = LISTS.as_posix()
    if not is_inside(identifier):
        ledger.add(lists, identifier, "unsafe-path", "is not a name inside the folder")
        return None
    name = Path(identifier)
    stems = [Path(part) / name for part in ("val", "train", "test")]
    if name.parts[0] in ("val", "train", "test"):
        stems = [name, *stems]
    if len(name.parts) == 1:  # ILSVRC 2013's lists leave out the folders
        wnid = name.name.partition("_")[0]
        stems = [*stems, Path("train") / "ILSVRC2013_train" / wnid / name]
    for stem in stems:
        for suffix in _SUFFIXES:
            path = root / IMAGES / stem.parent / f"{stem.name}{suffix}"
            if os.path.isfile(path):
                return stem, path
    ledger.add(lists, identifier, "missing-image", f"no such image in {IMAGES}")
    return None
