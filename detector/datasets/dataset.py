"""`Dataset`: images, their objects, and a record of everything that was left out.

Every reader returns one; training and evaluation use nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from detector.datasets.formats.names import plain
from detector.errors import AnnotationError, DatasetError, brief, cut
from detector.structures import Annotations, Array

# The twenty classes of PASCAL VOC in the order of its development kit.
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

# COCO has all twenty, six of them under other names.
COCO_TO_VOC = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}

# Limit of characters of a reason, which may contain foreign names of any length.
MAX_WHY = 300
# Rules of the linter that leave out an image with all its objects.
IMAGE_RULES = frozenset(
    (
        "not-a-file", "empty-file", "too-large", "not-utf8", "unreadable", "too-deep", "entities",
        "unsafe-path", "missing-image", "missing-annotation", "duplicate-image",
        "duplicate-id", "unusable-name", "ambiguous-name",
        "unreadable-image", "truncated-image", "wrong-size", "raw-frame",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Dropped:
    """An annotation or image that was left out: its file and id, the rule, and the reason."""

    file: str
    id: str
    rule: str
    why: str

    def __str__(self) -> str:
        return f"{cut(self.file, 300)}: {cut(self.id)}: {self.why} ({self.rule})"


@dataclass(frozen=True)
class Sample:
    """One image and its objects.

    size            (H, W) as the annotation file says, or None where it does not
    annotated       the labels that are annotated exhaustively in this image; None stands for all.
                    Other classes may occur without boxes, so that no region is background for them.
    positives_only  training takes no background from this image (R-CNN's rule for ILSVRC's train)
    index           the number that the set's own lists give to the image, or None
    size_declared   False where the size is the image's own, since the format has none (YOLO)
    labelled        False where no annotation mentions the image, which then counts as empty
    """

    image_id: str
    path: Path
    size: tuple[int, int] | None
    annotations: Annotations
    annotated: frozenset[int] | None = None
    positives_only: bool = False
    index: int | None = None
    size_declared: bool = True
    labelled: bool = True

    def is_annotated(self, label: int) -> bool:
        return self.annotated is None or label in self.annotated

    @property
    def background_of(self) -> frozenset[int] | None:
        """Labels for which regions away from every box are background in training; None for all."""
        return frozenset() if self.positives_only else self.annotated


@dataclass(frozen=True)
class Dataset:
    """Named classes, samples with unique image ids, and the record of everything left out.

    category_ids  the ids that the data set's own files give to the classes (COCO's have holes);
                  1, 2, ... where they give none
    """

    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    dropped: tuple[Dropped, ...] = ()
    category_ids: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        _refuse_repeats(self.classes, f"{self.name}: class")
        _refuse_repeats([s.image_id for s in self.samples], f"{self.name}: image id")
        if not self.category_ids:
            object.__setattr__(self, "category_ids", tuple(range(1, len(self.classes) + 1)))
        if len(self.category_ids) != len(self.classes):
            raise DatasetError(
                f"{self.name}: {len(self.category_ids)} category ids, {len(self.classes)} classes"
            )
        for sample in self.samples:
            labels = sample.annotations.labels
            if len(labels) and labels.max() >= len(self.classes):
                raise DatasetError(
                    f"{self.name}: image {sample.image_id} has label {labels.max()}, "
                    f"but there are {len(self.classes)} classes"
                )

    def __len__(self) -> int:
        return len(self.samples)

    def why_nothing_counts(self) -> str | None:
        """Explain why the set has no object for training or evaluation, with the cure, or None."""
        objects = [sample.annotations for sample in self.samples]
        if any(annotations.real.any() for annotations in objects):
            return None
        total = sum(map(len, objects))
        crowds = sum(int(annotations.crowd.sum()) for annotations in objects)
        if not total:
            return "none of its images has an object; check the annotations and the class names"
        what = f"all {total} objects are" if total > 1 else "its only object is"
        if crowds == total:
            crowd = "crowds" if total > 1 else "a crowd"
            return f"{what} {crowd} (iscrowd 1): set 0 where one thing is outlined"
        if not crowds:
            return f"{what} difficult (difficult 1): set 0 where an object is to count"
        return (
            f"{what} difficult or crowds, which do not count: set difficult, or iscrowd, to 0 where"
            " an object is to count"
        )

    def indices(self) -> tuple[int, ...]:
        """Image numbers in ILSVRC's files: those of the set's lists, else 1, 2, ..."""
        numbers = tuple(
            position if sample.index is None else sample.index
            for position, sample in enumerate(self.samples, start=1)
        )
        _refuse_repeats(list(map(str, numbers)), f"{self.name}: image index")
        return numbers

    def subset(self, chosen: int | Iterable[str]) -> Dataset:
        """Take a fixed part in its own order: `chosen` evenly spaced images, or those ids."""
        if isinstance(chosen, int):
            if chosen < 1:
                raise DatasetError(f"{self.name}: a subset needs at least 1 image, not {chosen}")
            n = min(chosen, len(self))
            return replace(self, samples=tuple(self.samples[i * len(self) // n] for i in range(n)))
        wanted = set(chosen)
        unknown = wanted - {sample.image_id for sample in self.samples}
        if unknown:
            raise DatasetError(
                f"{self.name}: no image {_some(unknown)} among its {len(self)} images"
            )
        return replace(self, samples=tuple(s for s in self.samples if s.image_id in wanted))

    def with_classes(
        self, names: Sequence[str], rename: Mapping[str, str] | None = None
    ) -> Dataset:
        """Map the set to another class list; objects of other classes are left out.

        rename  this set's name -> the new list's name, for classes called differently, such as
                COCO_TO_VOC. A class of the new list that this set does not know becomes one that
                is not annotated in any of its images.
        """
        rename = rename or {}
        position = {name: label for label, name in enumerate(names)}
        new_label = np.array([position.get(rename.get(name, name), -1) for name in self.classes])
        if (new_label < 0).all():
            raise DatasetError(
                f"{self.name}: none of its classes ({_some(self.classes)}) is among {_some(names)}"
            )
        samples = tuple(_relabel(s, new_label, len(names)) for s in self.samples)
        # The files' ids are those of the old list.
        return replace(self, classes=tuple(names), samples=samples, category_ids=())

    def partial(self, names: Iterable[str]) -> Dataset:
        """Mark only the classes `names` as annotated exhaustively, at most those marked already."""
        names = tuple(names)
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            raise DatasetError(
                f"{self.name}: no class {_some(unknown)}; it has {_some(self.classes)}"
            )
        labels = frozenset(self.classes.index(name) for name in names)

        def known(sample: Sample) -> frozenset[int]:
            return labels if sample.annotated is None else labels & sample.annotated

        return replace(self, samples=tuple(replace(s, annotated=known(s)) for s in self.samples))

    def with_positives_only(self, yes: bool) -> Dataset:
        """Exclude the images from background in training, or include them."""
        return replace(self, samples=tuple(replace(s, positives_only=yes) for s in self.samples))

    def not_empty(self) -> Dataset:
        """Return the set itself. Raises DatasetError where it is empty, with the reason."""
        if self.samples:
            return self
        why = ", ".join(f"{n} x {rule}" for rule, n in self.dropped_by_rule().items())
        example = f"; for example {self.dropped[0]}" if self.dropped else ""
        raise DatasetError(f"{self.name}: no usable image ({why or 'none listed'}){example}")

    def notes(self) -> list[str]:
        """Remarks on the images, for the user to read before they are used."""
        bare = sum(not sample.labelled for sample in self.samples)
        have = "image has" if bare == 1 else "images have"
        return [f"{bare} {have} no label file: taken as empty"] if bare else []

    def dropped_by_rule(self) -> dict[str, int]:
        """Number of annotations that each rule left out."""
        return dict(sorted(Counter(record.rule for record in self.dropped).items()))

    def left_out(self) -> dict[str, str]:
        """Rule by image id, for listed images that are not among the samples."""
        here = {sample.image_id for sample in self.samples}
        return {
            record.id: record.rule
            for record in self.dropped
            if record.rule in IMAGE_RULES and record.id not in here  # a duplicate's image stays
        }

    def dropped_by_file(self, most: int = 10) -> list[str]:
        """Summarise what was left out: a line a file and rule, or a line a rule if over `most`."""
        by_file = Counter((record.file, record.rule) for record in self.dropped)
        if len(by_file) <= most:
            return [f"{n} x {rule} in {file}" for (file, rule), n in sorted(by_file.items())]
        files = Counter(rule for _, rule in by_file)
        first = {record.rule: record for record in reversed(self.dropped)}
        return [
            f"{n} x {rule} in {files[rule]} files, such as {first[rule]}"
            if files[rule] > 1
            else f"{n} x {rule} in {first[rule].file}"
            for rule, n in self.dropped_by_rule().items()
        ]


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Join data sets of one class list. Ids that occur in several get the set's name as prefix."""
    if not datasets:
        raise DatasetError("there are no data sets to join")
    first = datasets[0]
    for other in datasets[1:]:
        if other.classes != first.classes:
            raise DatasetError(
                f"{first.name} and {other.name} have different classes ({_some(first.classes)} "
                f"against {_some(other.classes)}); bring them to one list with with_classes"
            )
    times = Counter(sample.image_id for dataset in datasets for sample in dataset.samples)
    samples: list[Sample] = []
    for position, dataset in enumerate(datasets):
        # Sets of one name are told apart by their places.
        same_name = sum(other.name == dataset.name for other in datasets) > 1
        prefix = f"{dataset.name}.{position}" if same_name else dataset.name
        samples += [
            replace(s, image_id=f"{prefix}/{s.image_id}") if times[s.image_id] > 1 else s
            for s in dataset.samples
        ]
    return Dataset(
        name="+".join(dataset.name for dataset in datasets),
        classes=first.classes,
        samples=tuple(samples),
        dropped=tuple(record for dataset in datasets for record in dataset.dropped),
        category_ids=first.category_ids,
    )


class Ledger:
    """Record of what a reader leaves out, or the linter finds; a strict one raises AnnotationError
    at the first entry.
    """

    def __init__(self, root: str | Path, strict: bool = False) -> None:
        self.root, self.strict = Path(root), strict
        self.entries: list[Dropped] = []

    def add(self, file: str | Path, identifier: object, rule: str, why: str) -> None:
        why = plain(cut(why, MAX_WHY))
        entry = Dropped(plain(self.shown(file)), plain(str(identifier)), rule, why)
        if self.strict:
            raise AnnotationError(
                f"{self.root / entry.file}: {cut(entry.id)}: {entry.why} ({rule}); "
                "correct it, or read without strict to leave it out"
            )
        self.entries.append(entry)

    def refuse(self, file: Path, identifier: object, error: AnnotationError) -> None:
        """Record a file that cannot be read."""
        self.add(file, identifier, error.rule, str(error).removeprefix(f"{file}: "))

    def shown(self, file: str | Path) -> str:
        """Name a file as in the record: relative to the root where it lies below it."""
        is_below = isinstance(file, Path) and file.is_relative_to(self.root)
        return Path(file).relative_to(self.root).as_posix() if is_below else str(file)


def _relabel(sample: Sample, new_label: Array, classes: int) -> Sample:
    objects = sample.annotations
    labels = new_label[objects.labels]
    remaining = replace(objects[labels >= 0], labels=labels[labels >= 0])
    # A class made of several old ones is annotated exhaustively where all of them are.
    hidden = {int(new) for old, new in enumerate(new_label) if not sample.is_annotated(old)}
    covered = frozenset(int(new) for new in new_label if new >= 0) - hidden
    return replace(
        sample, annotations=remaining, annotated=None if len(covered) == classes else covered
    )


def _refuse_repeats(values: Sequence[str], what: str) -> None:
    if len(set(values)) < len(values):
        twice = next(value for value, n in Counter(values).items() if n > 1)
        raise DatasetError(f"{what} {brief(twice)} occurs more than once")


def _some(values: Iterable[str], limit: int = 4) -> str:
    values = sorted(values) if isinstance(values, (set, frozenset)) else list(values)
    return ", ".join(map(cut, values[:limit])) + (
        f", ... ({len(values)} in all)" if len(values) > limit else ""
    )
