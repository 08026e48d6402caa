"""The geometry of the page's curves: values to coordinates of an SVG."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detector.structures import Array

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 8, 38


@dataclass(frozen=True)
class Chart:
    """Curves over a horizontal axis that spans `ticks`; the vertical axis is 0 to 1.

    curves   pairs (x, y) of arrays
    columns  (from, to, height) drawn under the curves;  ideal  also draws the diagonal
    """

    name: str
    curves: Sequence[tuple[Array, Array]]
    label: str
    ticks: Sequence[float]
    logarithmic: bool = False
    columns: Sequence[tuple[float, float, float]] = ()
    ideal: bool = False

    def x(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        # A single tick spans nothing.
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / ((high - low) or 1)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value

    def lines(self) -> list[str]:
        """Each curve as the points of a polyline."""
        found = []
        for across, up in self.curves:
            line = polyline(map(self.x, across.tolist()), map(self.y, up.tolist()))
            # A dot: the same point twice, with round ends.
            found.append(f"{line} {line}" if len(across) == 1 else line)
        return found


def polyline(x: Iterable[float], y: Iterable[float]) -> str:
    """The points of a line in tenths of a pixel."""
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def percent(share: float) -> str:
    """A share in per cent; a dash for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"
