"""Suspects: labels that are probably wrong, in one list, the most suspicious first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.files import write_atomically
from detector.results.csv_results import csv_line, inert
from detector.structures import Array

KINDS = {
    "overlooked": "the detector sees an object where nothing of its class is annotated",
    "swapped": "the box looks like another class",
    "misplaced": "the object lies beside the box, or the box holds a part of it",
    "spurious": "nothing of a known class is to be seen in the box",
    "doubled": "two boxes are on one object",
    "two splits": "the same picture stands in another split",
}
COLUMNS = (
    "rank", "suspicion", "kind", "image", "class", "x1", "y1", "x2", "y2",
    "suggestion", "to_x1", "to_y1", "to_x2", "to_y2", "why",
)  # fmt: skip


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong.

    suspicion   the probability that it is, 0 to 1
    label       the annotated class; None where nothing is annotated
    box         (4,) annotated, or of the detection where nothing is; None for a whole picture
    suggestion  what the detector would write: a class, "nothing", or another picture
    better_box  (4,) where the detector sees the object, or the other one of two boxes; or None
    row         of the annotation in its image; None where there is none
    evidence    the numbers that the suspicion was made of (suspicion.py)
    """

    image_id: str
    path: Path
    kind: str
    suspicion: float
    label: str | None
    box: Array | None
    suggestion: str
    better_box: Array | None = None
    row: int | None = None
    evidence: tuple[float, ...] = ()

    def describe(self, rank: int) -> dict[str, Any]:
        """The suspect as a dictionary for JSON; boxes are xyxy pixels."""
        return {
            "rank": rank,
            "suspicion": round(self.suspicion, 4),
            "kind": self.kind,
            "image": self.image_id,
            "file": str(self.path),
            "class": self.label,
            "box": _pixels(self.box),
            "suggestion": self.suggestion,
            "better_box": _pixels(self.better_box),
            "why": KINDS[self.kind],
        }


def ranked(suspects: Sequence[Suspect]) -> list[Suspect]:
    """The suspects by suspicion, the most suspicious first; ties keep their order."""
    return sorted(suspects, key=lambda suspect: -suspect.suspicion)


def write_suspects(folder: Path, suspects: Sequence[Suspect], about: dict[str, Any]) -> None:
    """Write wrong_labels.json, with what it is `about`, and wrong_labels.csv."""
    rows = [suspect.describe(rank) for rank, suspect in enumerate(suspects, 1)]
    text = json.dumps({**about, "labels": rows}, indent=1) + "\n"
    write_atomically(folder / "wrong_labels.json", text)
    lines = [csv_line(COLUMNS)]
    for row in rows:
        box, better = (row[name] or [""] * 4 for name in ("box", "better_box"))
        named = [inert(row[name] or "") for name in ("kind", "image", "class")]
        suggestion = inert(row["suggestion"])
        fields = [row["rank"], row["suspicion"], *named, *box, suggestion, *better, row["why"]]
        lines.append(csv_line(fields))
    write_atomically(folder / "wrong_labels.csv", "".join(lines))


def _pixels(box: Array | None) -> list[float] | None:
    return None if box is None else np.round(np.asarray(box, np.float64), 2).tolist()
