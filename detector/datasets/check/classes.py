"""Checks of the class list: counts of objects, and similar names."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from detector.datasets.check.findings import Findings
from detector.datasets.check.index import Index
from detector.structures import Array

MOST_TIMES = 100


def judge_classes(index: Index, findings: Findings, where: str) -> None:
    """Check the class list; `where` is its file."""
    counts = objects_by_class(index)
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in index.classes:
        spelt["".join(name.casefold().split())].append(name)
    for names in spelt.values():
        if len(names) > 1:
            findings.add(where, names[0], "similar-names", f"also written {', '.join(names[1:])}")
    if not counts.any():
        return
    for label in np.flatnonzero(counts == 0):
        findings.add(where, index.classes[label], "unused-class", "has no object")
    used = np.where(counts > 0, counts, counts.max())
    rare, common = int(used.argmin()), int(counts.argmax())
    if counts[common] > MOST_TIMES * used[rare]:
        why = f"{counts[common]} objects, {index.classes[rare]} has {used[rare]}"
        findings.add(where, index.classes[common], "imbalance", why)


def judge_set_aside(index: Index, findings: Findings, where: str) -> None:
    """Add a note for each class, or one for all, whose objects are all difficult or crowds."""
    counts = objects_by_class(index)
    aside = np.array([bool(mark) for mark in index.boxes.aside], bool)
    kinds = sorted(set(index.boxes.aside) - {""})
    what = " or ".join({"crowd": "crowds (iscrowd 1)"}.get(kind, kind) for kind in kinds)
    labels = np.array(index.boxes.label, int)
    alike = counts > 0
    alike &= np.bincount(labels[aside], minlength=len(counts)) == counts
    if len(aside) and aside.all():
        why = f"all {len(aside)} objects are {what}" if len(aside) > 1 else f"it is {what}"
        findings.add(where, "all objects", "nothing-counts", why)
        return
    for label in np.flatnonzero(alike):
        why = f"all {counts[label]} objects of it are {what}"
        findings.add(where, index.classes[label], "nothing-counts", why)


def judge_empty_pictures(index: Index, findings: Findings) -> None:
    """Add one note for all annotated images without objects."""
    filled = set(index.boxes.picture)
    labelled = [(row, picture) for row, picture in enumerate(index.pictures) if picture.labelled]
    empty = [picture for row, picture in labelled if row not in filled]
    if empty:
        why = f"{len(empty)} of {len(labelled)} annotated images have no object"
        findings.add(empty[0].file, empty[0].id, "no-objects", why)


def objects_by_class(index: Index) -> Array:
    """Number of boxes of each class: (K,)."""
    return np.bincount(np.array(index.boxes.label, int), minlength=len(index.classes))
