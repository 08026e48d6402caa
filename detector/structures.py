"""The values that pass between rooms: frozen, checked when they are made, boxes in float32 xyxy
pixels. Their arrays are read-only copies of what they were made from; to change one, take
`found.boxes.copy()`.

Shape letters, the same in every file: `N` regions, `K` classes, `M` models, `B` images, `S` crop
side, `H W` pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from detector.errors import SettingsError
from detector.files import LARGEST_ID, write_json_rows

if TYPE_CHECKING:
    import pandas
    import supervision
    import torch
    from PIL.Image import Image

    from detector.images.inputs import ImageLike

Array = npt.NDArray[Any]

# ImageNet's mean colour as Caffe's models used it (104, 117, 123 in blue-green-red), here RGB in
# 0..1. Every crop is `pixel / 255 - FILL_MEAN`, so that what lies outside an image is exactly zero.
FILL_MEAN = (123 / 255, 117 / 255, 104 / 255)

# Smallest side of a box in a file, in pixels: none is rounded to nothing.
_MIN_SIDE = 0.01


def _frozen(value: Any, dtype: npt.DTypeLike, shape: tuple[int | None, ...], name: str) -> Array:
    """A read-only copy of `value` with the given dtype; `None` in `shape` stands for any length."""
    array = np.array(value, dtype=dtype, order="C")
    # No boxes are often written as [], of shape (0,).
    if array.size == 0 and len(shape) == 2 and shape[1] is not None:
        array = array.reshape(0, shape[1])
    if array.ndim != len(shape) or any(
        want is not None and have != want for have, want in zip(array.shape, shape, strict=False)
    ):
        wanted = "(" + ", ".join("N" if n is None else str(n) for n in shape) + ")"
        raise ValueError(f"{name} has shape {array.shape}, expected {wanted}")
    array.setflags(write=False)
    return array


def _check_boxes(boxes: Array, flat: bool = False) -> None:
    # flat: the results of others hold boxes without area, which evaluation counts.
    no_area = boxes[:, 2:] < boxes[:, :2] if flat else boxes[:, 2:] <= boxes[:, :2]
    for bad, reason in (
        (~np.isfinite(boxes), "is not finite"),
        (no_area, "has no area; boxes are (x1, y1, x2, y2) with x2 > x1 and y2 > y1"),
    ):
        if bad.any():
            row = int(bad.any(1).argmax())
            raise ValueError(f"boxes[{row}] = {boxes[row].tolist()} {reason}")


def _written(written: Any, boxes: Array) -> Array | None:
    """Boxes (N, 4) as a file writes them; raises ValueError where they are not these `boxes`."""
    if written is None:
        return None
    array = _frozen(written, np.float64, (len(boxes), 4), "written")
    corners = np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1)
    # A tolerance, since `boxes` were rounded to float32.
    if not (np.abs(corners - boxes) <= 1e-5 * (1 + np.abs(corners))).all():
        raise ValueError("written gives other boxes than boxes")
    return array


# eq=False here and below: == of two arrays is an array, so a generated __eq__ would raise.
@dataclass(frozen=True, eq=False)
class _Rows:
    """Columns with one row for each box, or None."""

    boxes: Array

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, keep: Any) -> Self:
        """The chosen rows, in the order of `keep` (a number, a slice, a mask or indices)."""
        # A number chooses one row, so that a loop over a value gives row after row.
        keep = [keep] if isinstance(keep, (int, np.integer)) else keep
        values = ((column.name, getattr(self, column.name)) for column in fields(self))
        chosen = {name: rows[keep] for name, rows in values if isinstance(rows, np.ndarray)}
        return replace(self, **chosen)

    @property
    def xywh(self) -> Array:
        """(N, 4) float64 x, y, width, height: as written, else those of the boxes."""
        written: Array | None = getattr(self, "written", None)
        if written is not None:
            return written
        boxes = self.boxes.astype(np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    def _freeze(self, name: str, dtype: npt.DTypeLike, *shape: int | None) -> None:
        """Replace a column by a read-only copy of this dtype and shape, (N,) if none is given."""
        array = _frozen(getattr(self, name), dtype, shape or (len(self.boxes),), name)
        if name == "scores" and not np.isfinite(array).all():
            raise ValueError("scores are not all finite")
        if name == "labels" and array.size and array.min() < 0:
            raise ValueError(f"label {array.min()} is negative; 0 is the first class")
        self._set(name, array)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Proposals(_Rows):
    """Class-agnostic regions of one image, best first: row 0 has rank 0.

    boxes   (N, 4) float32 xyxy pixels of the upright image, x2 and y2 exclusive
    size    (H, W) of that image
    scores  (N,) float32 objectness, not increasing, or None where the proposer only ranks
    """

    size: tuple[int, int]
    scores: Array | None = None

    def __post_init__(self) -> None:
        self._freeze("boxes", np.float32, None, 4)
        height, width = (int(side) for side in self.size)
        if height < 1 or width < 1:
            raise ValueError(f"image size {self.size} is not (height, width), both at least 1")
        self._set("size", (height, width))
        _check_boxes(self.boxes)
        if self.scores is not None:
            self._freeze("scores", np.float32)


@dataclass(frozen=True, eq=False)
class Detections(_Rows):
    """The objects found in one image, best first.

    boxes    (N, 4) float32 xyxy pixels
    scores   (N,) float32 in [0, 1]
    labels   (N,) int64, 0 is the first real class (background never appears)
    written  (N, 4) float64 x, y, width, height as a file gives them, by which evaluation counts.
             Then scores are float64, too, and a box may have no area: it overlaps nothing.
    classes  names of the labels; empty where they are not known, as in a file's results

    A loop gives (box, score, label), and `found[mask]` is a choice of rows:

        for box, score, label in found.filter(score=0.5):
            print(found.classes[label], score, box.tolist())
    """

    scores: Array
    labels: Array
    written: Array | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_file = self.written is not None
        self._freeze("boxes", np.float32, None, 4)
        self._freeze("scores", np.float64 if of_file else np.float32)
        self._freeze("labels", np.int64)
        _check_boxes(self.boxes, flat=of_file)
        self._set("written", _written(self.written, self.boxes))
        self._set("classes", tuple(self.classes))
        if self.classes and self.labels.max(initial=0) >= len(self.classes):
            raise ValueError(
                f"label {self.labels.max()} has no name; there are {len(self.classes)} classes"
            )

    def __iter__(self) -> Iterator[tuple[Array, float, int]]:
        """(box (4,) float32, score, label) of each row, best first."""
        return zip(self.boxes, self.scores.tolist(), self.labels.tolist(), strict=True)

    def filter(
        self, *, classes: str | Sequence[str] | None = None, score: float = 0.0
    ) -> Detections:
        """The rows of these classes, by name, whose score is at least `score`.

        Raises SettingsError for a name that is none of `found.classes`.
        """
        keep = self.scores >= score
        if classes is not None:
            names = [classes] if isinstance(classes, str) else list(classes)
            for name in names:
                if name not in self.classes:
                    known = ", ".join(self.classes[:20]) or "none (they are not known here)"
                    raise SettingsError(f"no class {name!r} in these detections; classes: {known}")
            keep &= np.isin(self.labels, [self.classes.index(name) for name in names])
        return self[keep]

    def to_torch(self) -> dict[str, torch.Tensor]:
        """The dictionary of torchvision's detectors: boxes (N, 4), labels and scores (N,).

        Labels stay as they are, 0 being the first class; torchvision's own models call that one 1.
        """
        import torch

        # Copies: torch has no read-only tensors.
        return {name: torch.tensor(getattr(self, name)) for name in ("boxes", "labels", "scores")}

    def to_supervision(self) -> supervision.Detections:
        """The detections as the supervision library has them, with names as `class_name`.

        Raises SettingsError where supervision is not installed.
        """
        data = {"class_name": np.array(self._names(), dtype=str)} if self.classes else {}
        return _optional("supervision").Detections(
            xyxy=self.boxes.copy(), confidence=self.scores.copy(), class_id=self.labels.copy(),
            data=data,
        )  # fmt: skip

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each detection: label, class (where names are known), score, x1,
        y1, x2, y2.

        Raises SettingsError where pandas is not installed.
        """
        columns: dict[str, Any] = {"label": self.labels}
        if self.classes:
            columns["class"] = self._names()
        columns["score"] = self.scores
        columns |= dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        return _optional("pandas").DataFrame(columns)

    def to_coco(
        self,
        image_id: int | str,
        file_name: str | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of COCO's results layout, best first: boxes in hundredths of a pixel, scores in
        millionths.

        category_ids  the data set's own ids of `classes`; 1, 2, ... where it has none
        """
        count = int(self.labels.max(initial=0)) + 1
        ids: Sequence[int | str] = category_ids or range(1, count + 1)
        if category_ids and max(category_ids) > LARGEST_ID:  # as text they are not rounded
            ids = [str(one) for one in category_ids]
        ranked = self[np.argsort(-self.scores.astype(np.float64), kind="stable")]
        boxes, scores, labels = ranked.xywh, ranked.scores.tolist(), ranked.labels.tolist()
        least = np.where(boxes[:, 2:] > 0, _MIN_SIDE, 0)
        boxes = np.round(boxes, 2)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], least)
        image = {"image_id": image_id} | ({} if file_name is None else {"file_name": file_name})
        rows = []
        for box, score, label in zip(boxes.tolist(), scores, labels, strict=True):
            name = {"category_name": self.classes[label]} if self.classes else {}
            category = {"category_id": ids[label], **name}
            rows.append({**image, **category, "bbox": box, "score": round(score, 6)})
        return rows

    def save(
        self, path: str | Path, *, image_id: int | str | None = None, file_name: str | None = None
    ) -> None:
        """Write a .json file in COCO's results layout, which COCO's tools and `evaluate` read.

        image_id  which image of a data set it is; the name of the file without .json if not given
        """
        if Path(path).suffix.lower() != ".json":
            raise SettingsError(
                f"{path}: detections are saved as .json (COCO's results); for a picture,"
                " found.draw(image).save(path); for a table, found.to_pandas().to_csv(path)"
            )
        image_id = Path(path).stem if image_id is None else image_id
        write_json_rows(path, self.to_coco(image_id, file_name))

    def draw(self, image: ImageLike) -> Image:
        """A Pillow picture of `image` with boxes, names and scores; `image` is not changed.

        image  the same that the detector was given, in any form that it takes
        """
        from detector.images.drawing import draw
        from detector.images.inputs import to_pixels
        from detector.images.lettering import drawable

        numbers = range(1, int(self.labels.max(initial=0)) + 2)
        names = self.classes or [f"#{number}" for number in numbers]
        return draw(to_pixels(image), self, drawable(names)[0])

    def _names(self) -> list[str]:
        return [self.classes[label] for label in self.labels.tolist()]

    @staticmethod
    def empty() -> Detections:
        return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))


def _optional(library: str) -> Any:
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:  # it is installed, but something that it imports is not
            raise
        raise SettingsError(
            f"this needs {library}, which is not installed; pip install {library}"
        ) from None


@dataclass(frozen=True, eq=False)
class Annotations(_Rows):
    """The labelled objects of one image.

    boxes      (N, 4) float32 xyxy pixels
    labels     (N,) int64 index into the data set's class names
    difficult  (N,) bool: neither reward nor penalty (PASCAL VOC); all False where not given
    crowd      (N,) bool: a box around many objects (COCO's iscrowd); all False where not given
    areas      (N,) float64 pixels inside the objects' outlines, by which COCO calls an object
               small, medium or large; the boxes' own areas where not given
    written    (N, 4) float64 x, y, width, height as a file gives them, by which evaluation counts
    """

    labels: Array
    difficult: Array = field(default_factory=lambda: np.zeros(0, bool))
    crowd: Array = field(default_factory=lambda: np.zeros(0, bool))
    areas: Array = field(default_factory=lambda: np.zeros(0))
    written: Array | None = None

    def __post_init__(self) -> None:
        self._freeze("boxes", np.float32, None, 4)
        self._freeze("labels", np.int64)
        _check_boxes(self.boxes)
        for name in ("difficult", "crowd"):
            if len(getattr(self, name)) == 0:
                self._set(name, np.zeros(len(self), bool))
            self._freeze(name, bool)
        self._set("written", _written(self.written, self.boxes))
        if len(self.areas) == 0:
            self._set("areas", self.xywh[:, 2] * self.xywh[:, 3])
        self._freeze("areas", np.float64)

    @property
    def real(self) -> Array:
        """(N,) bool: objects that count, neither `difficult` nor crowds."""
        return ~(self.difficult | self.crowd)

    @staticmethod
    def empty() -> Annotations:
        return Annotations(np.zeros((0, 4)), np.zeros(0))
