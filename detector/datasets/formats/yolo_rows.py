"""Rows of a YOLO label file: a box, a box with something behind it, or an outline.

    class cx cy width height                           a box
    class cx cy width height confidence [track]        a box, as a detector or tracker saves it
    class cx cy width height x1 y1 [v1] x2 y2 [v2] ..  a box with key points
    class x1 y1 x2 y2 x3 y3 ...                        an outline, of which the box is taken

A long row can often be read in two ways. `kpt_shape` in data.yaml decides; without it, whether the
first four numbers are a box that holds the points after them; where that is so by chance in a set
of outlines, the other rows of the split decide. What stays uncertain is left out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.errors import AnnotationError, brief

EXPECTED = "expected: class cx cy width height, in numbers that blanks part"
_UNCERTAIN = (
    "{} numbers may be a box with key points or an outline: "
    "write kpt_shape: [points, 2 or 3] into data.yaml, or kpt_shape: null for outlines"
)
# So far beyond its image an outline may reach.
BEYOND = 0.5
# So far, in shares of the image, the box before key points may.
EDGE = 0.02
# So far beyond its box, in shares of the box, a key point may lie.
AROUND = 0.05
# Key points take at least so much of a side of their box. The first two points of an outline lie
# close together, so that the box they would be is far larger than the outline.
MIN_SPREAD = 0.2


@dataclass(frozen=True)
class Row:
    """One line: its class, and the box around its object as YOLO writes it."""

    label: float
    box: list[float]


@dataclass(frozen=True)
class Fault:
    """Why a line is left out; `rule` as the linter calls it, and its class if that can be told."""

    rule: str
    why: str
    label: float | None = None


@dataclass(frozen=True)
class Meaning:
    """The meaning of a split's long rows.

    points     (number, 2 or 3) of the key points behind each box, or None
    ambiguous  what a row is that can be both: "box", "outline", or "" where nothing tells
    """

    points: tuple[int, int] | None = None
    ambiguous: str = "box"

    def box_of(self, values: Sequence[float]) -> list[float] | Fault:
        """Centre and size, from the numbers after the class."""
        box, count = list(values[:4]), len(values)
        if count == 4:
            return box
        if count == 5:  # where the confidence stands first, the rest is mostly no box
            return box if holds_what_follows(values) else Fault("missing-field", EXPECTED)
        if self.points is not None:
            number, dimensions = self.points
            rest = values[4 + number * dimensions :]
            if _is_appendix(values[4:]) or (
                count >= 4 + number * dimensions and (not rest or _is_appendix(rest))
            ):
                return box
            why = f"{count + 1} numbers, but kpt_shape means {5 + number * dimensions}"
            return Fault("missing-field", why)
        as_box, as_outline = holds_what_follows(values), is_outline(values)
        if as_box and as_outline:
            if not self.ambiguous:
                return Fault("ambiguous-row", _UNCERTAIN.format(count + 1))
            as_box = self.ambiguous == "box"
        if as_box:
            return box
        if as_outline:
            return box_around(values)
        if count >= 6 and count % 2 == 0 and all(map(math.isfinite, values)):
            return Fault("not-normalised", "an outline with values outside 0 to 1")
        return Fault("missing-field", EXPECTED)


def meaning_of(settings: Mapping[str, Any], texts: Iterable[str]) -> Meaning:
    """Tell long rows apart by data.yaml, else by all rows of the split (`texts` of label files)."""
    if "kpt_shape" in settings:
        shape = settings["kpt_shape"]
        if shape in (None, []):
            return Meaning(None, "outline")
        if (
            isinstance(shape, list)
            and len(shape) == 2
            and all(isinstance(side, int) and not isinstance(side, bool) for side in shape)
            and shape[0] >= 1
            and shape[1] in (2, 3)
        ):
            return Meaning((shape[0], shape[1]))
        raise AnnotationError(f"kpt_shape is {brief(shape)}; expected [points, 2 or 3]")
    return Meaning(None, _what_both_are(texts))


def _what_both_are(texts: Iterable[str]) -> str:
    # Rows that can be one thing only decide, nine to one. Where there are none, the lengths do: key
    # points are of one number in every row, while outlines vary.
    only_box = only_outline = both = 0
    lengths = set()
    for text in texts:
        for line in text.splitlines():
            fields = line.split()
            # An outline has three points at least.
            if len(fields) < 7 or (values := _numbers(fields[1:])) is None:
                continue
            as_box, as_outline = holds_what_follows(values), is_outline(values)
            only_box += as_box and not as_outline
            only_outline += as_outline and not as_box
            both += as_box and as_outline
            if as_outline:
                lengths.add(len(fields))
    if not only_box and not only_outline:
        return "outline" if len(lengths) > 1 else "box"
    if only_box >= 9 * only_outline:
        return "box"
    if only_outline >= 9 * only_box and (len(lengths) > 1 or 3 * only_outline >= both):
        return "outline"
    return ""


def read_row(line: str, meaning: Meaning, classes: int) -> Row | Fault:
    fields = line.split()
    values = _numbers(fields)
    if values is None or len(values) < 5:
        return Fault("missing-field", EXPECTED)
    label, box = values[0], meaning.box_of(values[1:])
    if isinstance(box, Fault):
        return box
    if label not in range(classes):  # 1.0 is within it, 1.5 is not
        why = f"class {brief(fields[0])[1:-1]} is not within 0 to {classes - 1}"
        return Fault("unknown-class", why, label if math.isfinite(label) else None)
    return Row(label, box)


def shift_of(labels: Iterable[float], classes: int) -> str | None:
    """Explain that the class numbers of a split are counted from 1, or None.

    All but the last class are then another one's, so that no label can be believed.
    """
    labels = list(labels)
    if labels and min(labels) >= 1 and max(labels) == classes:
        return f"class numbers go from {min(labels):.0f} to {classes}, as if from 1"
    return None


def numbered_rows(text: str) -> list[tuple[str, str]]:
    """("line N", text) of each line that is neither blank nor a comment."""
    lines = ((f"line {n}", line.strip()) for n, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def is_outline(values: Sequence[float]) -> bool:
    """True of three points or more, (x, y) after (x, y), in shares of the image."""
    inside = all(-BEYOND <= value <= 1 + BEYOND for value in values)
    return inside and len(values) >= 6 and len(values) % 2 == 0


def holds_what_follows(values: Sequence[float]) -> bool:
    """True where the first four can be a box, and the rest points in it, or confidence, track."""
    if len(values) < 5 or not all(map(math.isfinite, values)):
        return False
    x, y, width, height = values[:4]
    if width <= 0 or height <= 0:
        return False
    if min(x - width / 2, y - height / 2) < -EDGE or max(x + width / 2, y + height / 2) > 1 + EDGE:
        return False
    rest = values[4:]
    if _is_appendix(rest):
        return True
    for appended in (0, 1, 2):
        points = rest[: len(rest) - appended]
        if appended and not _is_appendix(rest[len(points) :]):
            continue
        if any(_are_key_points(points, dimensions, values) for dimensions in (2, 3)):
            return True
    return False


def _are_key_points(points: Sequence[float], dimensions: int, box: Sequence[float]) -> bool:
    if not points or len(points) % dimensions:
        return False
    labelled = [points[i : i + dimensions] for i in range(0, len(points), dimensions)]
    if dimensions == 3:
        visible = [point[2] for point in labelled]
        # A detector writes how sure it is instead; such a row is told from an outline only where
        # its numbers do not pair up.
        unpaired = (len(points) % 2 == 1) and all(0 <= point <= 1 for point in visible)
        if not (unpaired or all(point in (0, 1, 2) for point in visible)):
            return False
        labelled = [point for point in labelled if point[2] > 0]
    # Programs write (0, 0) or (-1, -1) where nobody labelled the point.
    labelled = [point for point in labelled if point[0] > 0 or point[1] > 0]
    spread = []
    for axis in (0, 1):
        centre, side = box[axis], box[2 + axis]
        reach = side / 2 + AROUND * side
        if not all(abs(point[axis] - centre) <= reach for point in labelled):
            return False
        coordinates = [point[axis] for point in labelled] or [0.0]
        spread.append((max(coordinates) - min(coordinates)) / side)
    return len(labelled) < 2 or max(spread) >= MIN_SPREAD


def _is_appendix(values: Sequence[float]) -> bool:
    """A confidence, a track, or the one and then the other."""
    if len(values) == 2:
        return 0 <= values[0] <= 1 and _is_track(values[1])
    return len(values) == 1 and (0 <= values[0] <= 1 or _is_track(values[0]))


def _is_track(value: float) -> bool:
    return math.isfinite(value) and value >= 0 and value == int(value)


def _numbers(fields: Sequence[str]) -> list[float] | None:
    try:
        return [float(field) for field in fields]
    except ValueError:
        return None


def box_around(points: Sequence[float]) -> list[float]:
    x, y = points[0::2], points[1::2]
    low, high = (min(x), min(y)), (max(x), max(y))
    return [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[0] - low[0], high[1] - low[1]]
