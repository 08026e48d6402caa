"""Checks of the class list: counts of objects, and similar names."""

from collections import defaultdict

import numpy as np

from detector.datasets.check.index import Index
from detector.datasets.dataset import Ledger
from detector.structures import Array

# As the rule `imbalance` says.
MAX_RATIO = 100


def judge_classes(index: Index, ledger: Ledger, where: str) -> None:
    """Check the class list; `where` is its file."""
    counts = objects_by_class(index)
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in index.classes:
        spelt["".join(name.casefold().split())].append(name)
    for names in spelt.values():
        if len(names) > 1:
            ledger.add(where, names[0], "similar-names", f"also written {', '.join(names[1:])}")
    if not counts.any():
        return
    for label in np.flatnonzero(counts == 0):
        ledger.add(where, index.classes[label], "unused-class", "has no object")
    used = np.where(counts > 0, counts, counts.max())  # 0 has its own note
    rare, common = int(used.argmin()), int(counts.argmax())
    if counts[common] > MAX_RATIO * used[rare]:
        why = f"{counts[common]} objects, {index.classes[rare]} has {used[rare]}"
        ledger.add(where, index.classes[common], "imbalance", why)


def judge_set_aside(index: Index, ledger: Ledger, where: str) -> None:
    """Add a note for each class, or one for all, whose objects are all difficult or crowds."""
    counts = objects_by_class(index)
    rows = index.boxes.rows
    aside = np.array([row.crowd or row.difficult for row in rows], bool)
    kinds = {
        "crowds (iscrowd 1)" if row.crowd else "difficult"
        for row in rows
        if row.crowd or row.difficult
    }
    what = " or ".join(sorted(kinds))
    alike = counts > 0
    alike &= np.bincount(index.boxes.label[aside], minlength=len(counts)) == counts
    if len(aside) and aside.all():
        why = f"all {len(aside)} objects are {what}" if len(aside) > 1 else f"it is {what}"
        ledger.add(where, "all objects", "nothing-counts", why)
        return
    for label in np.flatnonzero(alike):
        why = f"all {counts[label]} objects of it are {what}"
        ledger.add(where, index.classes[label], "nothing-counts", why)


def judge_empty_pictures(index: Index, ledger: Ledger) -> None:
    """Add one note for all annotated images without objects."""
    annotated = [picture for picture in index.pictures if picture.entry.labelled]
    empty = [picture for picture in annotated if not picture.entry.rows]
    if empty:
        why = f"{len(empty)} of {len(annotated)} annotated images have no object"
        ledger.add(empty[0].file, empty[0].id, "no-objects", why)


def objects_by_class(index: Index) -> Array:
    """Number of boxes of each class: (K,)."""
    return np.bincount(index.boxes.label, minlength=len(index.classes))
