"""Detections whose image or class a data set does not have: counted and reported, and an error only
if nothing else is in the file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError


class Unmatched:
    """Counts of the detections in a file that cannot be judged.

    images   detections of each image that the set does not have, by the file's name for it
    classes  detections, in images that it has, of each class that it does not have
    """

    def __init__(self) -> None:
        self.images: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.images.total() + self.classes.total()

    def counts(self) -> dict[str, int]:
        """The numbers of unmatched detections that are not 0."""
        counts = {
            "detections_of_other_images": self.images.total(),
            "detections_of_other_classes": self.classes.total(),
        }
        return {name: number for name, number in counts.items() if number}

    def sentence(self, dataset: Dataset) -> str:
        """One line about all unmatched detections, with the rule that excluded an image if known;
        empty if there are none.
        """
        parts = []
        rules = dataset.left_out()
        listed = {name: n for name, n in self.images.items() if name in rules}
        if listed:
            why = ", ".join(sorted({rules[name] for name in listed}))
            parts.append(
                _part(listed, "image", f"that {dataset.name} lists but leaves out ({why})")
            )
        others = {name: n for name, n in self.images.items() if name not in rules}
        if others:
            or_leaves = " or leaves out" if rules else ""  # COCO's rules name ids, not files
            parts.append(_part(others, "image", f"that {dataset.name} does not have{or_leaves}"))
        if self.classes:
            parts.append(_part(self.classes, "class", f"that {dataset.name} does not have"))
        return "; ".join(parts)

    def refuse_nothing(self, path: Path, dataset: Dataset, matched: int) -> None:
        """Raise EvaluationError if there are detections and none can be judged."""
        if matched or not len(self):
            return
        said = f"{path}: {self.sentence(dataset)}, and nothing else is in the file"
        if self.images:
            names = _few([sample.path.name for sample in dataset.samples])
            raise EvaluationError(
                f"{said}; {dataset.name} has {names}; choose the data set and split that was"
                " detected on"
            )
        raise EvaluationError(
            f"{said}; {dataset.name} has {_few(dataset.classes)}: the class lists must match"
        )


def _part(counts: Mapping[str, int], kind: str, what: str) -> str:
    number = sum(counts.values())
    kinds = {"image": "images", "class": "classes"}
    of = (
        f"a{'n' * (kind == 'image')} {kind}" if len(counts) == 1 else f"{len(counts)} {kinds[kind]}"
    )
    verb = "detection is" if number == 1 else "detections are"
    return f"{number} {verb} of {of} {what}: {_few([repr(name) for name in counts])}"


def _few(names: Sequence[str]) -> str:
    some = ", ".join(name if len(name) <= 80 else f"{name[:80]}..." for name in names[:4])
    return some + (f", ... {len(names)} in all" if len(names) > 4 else "")
