"""ILSVRC DET's lists of images and classes (ImageSets/DET, and the development kit's map_det.txt).

val.txt         image_id index
train_K.txt     image_id label for the class of DET id K: 1 all its objects are boxed, 0 perhaps not
                all, -1 it does not occur (2013 and 2014: train_pos_K, train_part_K, train_neg_K)
"""

import re
from pathlib import Path
from typing import NamedTuple

from detector.datasets.formats.annotation_files import read_limited
from detector.errors import AnnotationError

MAX_LIST_BYTES = 200_000_000
LISTS = Path("ImageSets") / "DET"
ANNOTATIONS = Path("Annotations") / "DET"
IMAGES = Path("Data") / "DET"
_OF_ONE_CLASS = re.compile(r"train_(?:(pos|part|neg)_)?(\d+)")
_LABEL = {"pos": 1, "part": 0, "neg": -1}

# Image id -> label of a class -> 1 all boxed, 0 perhaps not all, -1 none there.
TrainLabels = dict[str, dict[int, int]]


class Synset(NamedTuple):
    """One class: its WordNet id and its name in English."""

    wnid: str
    name: str


def _read_table() -> tuple[Synset, ...]:
    table = Path(__file__).with_name("ilsvrc_det_synsets.txt").read_text(encoding="utf-8")
    return tuple(Synset(*line.split(" ", 1)) for line in table.splitlines())


# Names and WordNet ids are those of the development kit's meta_det.mat as public code copied them
# (Fast R-CNN and Faster R-CNN for ILSVRC, mmdetection). The copies agree but for two places: most
# have `bow tie` before `bow` (28 and 29), some the reverse. Here stands what most have; where a
# development kit is at hand, its own data/map_det.txt is asked (`synsets_of`). DET id 1 is first.
SYNSETS = _read_table()
NAME_OF = {synset.wnid: synset.name for synset in SYNSETS}


def is_home(folder: Path) -> bool:
    """True where ILSVRC's folders lie in this one."""
    return (folder / ANNOTATIONS).is_dir() and (folder / LISTS).is_dir()


def splits_of(root: Path) -> list[str]:
    """Name the splits: the lists, train out of those of single classes, the halves of val."""
    stems = {path.stem for path in (root / LISTS).glob("*.txt")}
    named = {stem for stem in stems if not _OF_ONE_CLASS.fullmatch(stem)}
    if named != stems:
        named.add("train")
    if "val" in named:
        named |= {"val1", "val2"}
    return sorted(named)


def read_list(path: Path) -> list[tuple[str, int | None]]:
    """(image id, second column) of each line; None where there is no number."""
    rows: list[tuple[str, int | None]] = []
    text = read_limited(path, MAX_LIST_BYTES).decode("utf-8", "replace")
    for line in text.splitlines():
        image, *rest = line.split() or [""]
        if image:
            number = rest[0].removeprefix("-") if rest else ""
            rows.append((image, int(rest[0]) if number.isdecimal() else None))
    return rows


def train_labels(root: Path) -> TrainLabels:
    """Read the lists of single classes."""
    labels: TrainLabels = {}
    for path in sorted((root / LISTS).glob("train_*.txt")):
        match = _OF_ONE_CLASS.fullmatch(path.stem)
        if match is None:
            continue
        kind, number = match.groups()
        for image, written in read_list(path):
            value = _LABEL[kind] if kind else written
            # DET ids begin at 1, labels at 0.
            labels.setdefault(image, {})[int(number) - 1] = 1 if value is None else value
    return labels


def synsets_of(root: Path) -> tuple[Synset, ...]:
    """Read the classes in the order of their DET ids, by the kit's own map_det.txt if it is there.

    Its lines are: wnid DET_id name_with_underscores.
    """
    for home in (root, root.parent):
        path = home / "devkit" / "data" / "map_det.txt"
        if path.is_file():
            return _read_map(path)
    return SYNSETS


def _read_map(path: Path) -> tuple[Synset, ...]:
    by_number: dict[int, Synset] = {}
    for number, line in enumerate(
        read_limited(path, MAX_LIST_BYTES).decode("utf-8", "replace").splitlines(), start=1
    ):
        fields = line.split(maxsplit=2)
        if not fields:
            continue
        if len(fields) != 3 or not fields[1].isdecimal():
            raise AnnotationError(f"{path}: line {number}: expected: wnid DET_id name")
        wnid, name = fields[0], fields[2].replace("_", " ")
        by_number[int(fields[1])] = Synset(wnid, NAME_OF.get(wnid, name))
    if sorted(by_number) != list(range(1, len(by_number) + 1)):
        raise AnnotationError(f"{path}: the DET ids are not 1, 2, 3, ... without a gap")
    return tuple(by_number[number] for number in sorted(by_number))
