"""Reading ILSVRC DET in its official layout: two hundred classes, WordNet ids for names.

Data/DET/{train,val}/IMAGE.JPEG   Annotations/DET/{train,val}/IMAGE.xml   ImageSets/DET/SPLIT.txt

Every class is annotated in the images of val; of those of train, each list of a class says in which
that one is. Training images give positives only, R-CNN's rule (Girshick et al. 2014, section 4.3):
no negatives are taken from train, because its annotations are not exhaustive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_ilsvrc
from detector.datasets.balanced_split import Halves, balanced_halves, class_counts
from detector.datasets.dataset import Dataset, Ledger, Sample
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
from detector.datasets.formats.objects import Objects
from detector.datasets.formats.xml_files import corners_of, objects_of, read_xml, size_of, text_of
from detector.datasets.image_files import has_true_size, is_file, is_inside
from detector.errors import AnnotationError, DatasetError

HALVES = ("val1", "val2")
_SUFFIXES = (".JPEG", ".jpg", ".jpeg", ".png")


def read_ilsvrc(
    root: str | Path,
    split: str = "val",
    *,
    seed: int = 0,
    strict: bool = False,
    check_sizes: bool = True,
) -> Dataset:
    """The images of one list of ImageSets/DET; also `train`, `val1`, `val2`, or a list FILE.txt.

    train        where there is no train.txt: the images in which a class is said to occur
    val1, val2   where there are no such lists: the halves of val that `halves_of_val` makes
    seed         of those halves
    strict       stop with an AnnotationError at the first defect instead of leaving it out
    check_sizes  compare the sizes in the XML files with the images' own
    """
    root = Path(root)
    if not is_home(root):
        raise DatasetError(f"{root}: no folders {ANNOTATIONS} and {LISTS}; expected ILSVRC DET")
    listed = _list_of(root, split)
    if listed is None and split in HALVES and "val" in splits_of(root):
        return _half_of_val(root, split, seed, strict, check_sizes)
    labels = train_labels(root) if _may_hold_train(split) else {}
    if listed is None and split == "train" and labels:
        listed = [
            (image, None) for image, said in sorted(labels.items()) if max(said.values()) >= 0
        ]
    if listed is None:
        known = ", ".join(splits_of(root)) or "none"
        raise DatasetError(f"{root}: no list {split!r} in {LISTS}; it has: {known}")
    return _read(root, split, listed, labels, strict, check_sizes)


def halves_of_val(val: Dataset, seed: int = 0) -> Halves:
    """val1 and val2 (section 4.2), balanced by class; the same for every caller with this seed."""
    return balanced_halves(class_counts(val), seed)


def _half_of_val(root: Path, split: str, seed: int, strict: bool, check_sizes: bool) -> Dataset:
    val = read_ilsvrc(root, "val", strict=strict, check_sizes=check_sizes)
    mine = halves_of_val(val, seed).first == (split == HALVES[0])
    samples = tuple(val.samples[i] for i in np.flatnonzero(mine))
    return replace(val, name=f"{root.resolve().name}/{split}", samples=samples)


def _list_of(root: Path, split: str) -> list[tuple[str, int | None]] | None:
    """The rows of the list, or None where there is no such list."""
    path = Path(split) if split.endswith(".txt") else root / LISTS / f"{split}.txt"
    return read_list(path) if path.is_file() else None


def _may_hold_train(split: str) -> bool:
    """Lists of val and test need not wait for the two hundred lists of train."""
    return not Path(split).name.startswith(("val", "test"))


def _read(
    root: Path,
    split: str,
    listed: Iterable[tuple[str, int | None]],
    labels: TrainLabels,
    strict: bool,
    check_sizes: bool,
) -> Dataset:
    synsets = synsets_of(root)
    label_of = {synset.name: label for label, synset in enumerate(synsets)}
    label_of |= {synset.wnid: label for label, synset in enumerate(synsets)}
    ledger = Ledger(root, strict)
    samples: dict[str, Sample] = {}
    for line, (identifier, number) in enumerate(listed, start=1):
        if identifier in samples:
            ledger.drop(LISTS, identifier, "duplicate-image", "is listed more than once")
            continue
        sample = _sample(root, identifier, label_of, labels, ledger, check_sizes)
        if sample is not None:
            # Second columns of train's lists are labels. A place in the list, unlike one among the
            # samples, stays when an image before it is left out.
            is_train = sample.path.relative_to(root / IMAGES).parts[0] == "train"
            is_number = number is not None and not is_train
            samples[identifier] = replace(sample, index=number if is_number else line)
    return Dataset(
        name=f"{root.resolve().name}/{Path(split).stem}",
        classes=tuple(synset.name for synset in synsets),
        samples=tuple(samples.values()),
        dropped=tuple(ledger.entries),
    ).not_empty()


def _sample(
    root: Path,
    identifier: str,
    label_of: Mapping[str, int],
    labels: TrainLabels,
    ledger: Ledger,
    check_sizes: bool,
) -> Sample | None:
    """One image with its objects, or None with an entry in the ledger."""
    if not is_inside(identifier):
        ledger.drop(LISTS, identifier, "unsafe-path", "is not a name inside the folder")
        return None
    stem, path = _image_of(root, identifier)
    if stem is None or path is None:
        ledger.drop(LISTS, identifier, "missing-image", f"no such image in {IMAGES}")
        return None
    xml, part = ANNOTATIONS / stem.parent / f"{stem.name}.xml", stem.parts[0]
    if part != "test" and not (root / ANNOTATIONS / part).is_dir():
        ledger.drop(xml, identifier, "missing-annotation", f"no folder {ANNOTATIONS / part}")
        return None
    objects = Objects(xml, None, ledger)
    # An image without objects need not have an XML file.
    if (root / xml).exists() and not _read_objects(objects, root, path, label_of, check_sizes):
        return None
    return Sample(
        identifier,
        path,
        objects.size,
        objects.annotations(),
        annotated=_annotated(stem, labels.get(identifier, {})),
        positives_only=part == "train" or not objects.complete,
    )


def _read_objects(
    objects: Objects, root: Path, image: Path, label_of: Mapping[str, int], check_sizes: bool
) -> bool:
    """Fill `objects` from its XML file; False where the image cannot be used."""
    file, ledger = objects.file, objects.ledger
    try:
        tree = read_xml(root / file)
        nodes = objects_of(tree, root / file)
    except AnnotationError as error:
        ledger.drop(file, image.stem, error.rule, str(error))
        return False
    objects.size = size_of(tree)
    if check_sizes and not has_true_size(file, image.stem, image, objects.size, ledger):
        return False
    for position, node in enumerate(nodes, start=1):
        identifier, name, corners = f"object {position}", text_of(node, "name"), corners_of(node)
        if name not in label_of:
            objects.leave_out(identifier, "unknown-class", f"{name!r} is not among the classes")
            continue
        box = xyxy_from_ilsvrc(np.array([corners]))[0].tolist()
        objects.add(identifier, box, label_of[name], written=corners)
    return True


def _annotated(stem: Path, class_labels: Mapping[int, int]) -> frozenset[int] | None:
    """The classes whose objects are all boxed: every one in val and in the images added in 2014."""
    part = stem.parts[0]
    if part == "val" or stem.name.startswith("ILSVRC2014_train_"):
        return None
    return frozenset(label for label, value in class_labels.items() if value != 0)


def _image_of(root: Path, identifier: str) -> tuple[Path | None, Path | None]:
    """(place below Data/DET without suffix, file). ILSVRC 2013's lists leave out the folders."""
    name = Path(identifier)
    stems: Sequence[Path] = [Path(part) / name for part in ("val", "train", "test")]
    if name.parts[0] in ("val", "train", "test"):
        stems = [name, *stems]
    if len(name.parts) == 1:
        wnid = name.name.partition("_")[0]
        stems = [*stems, Path("train") / "ILSVRC2013_train" / wnid / name]
    for stem in stems:
        for suffix in _SUFFIXES:
            path = root / IMAGES / stem.parent / f"{stem.name}{suffix}"
            if is_file(path):
                return stem, path
    return None, None
