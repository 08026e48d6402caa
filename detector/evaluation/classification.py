"""Top-1 and top-5 error, and the table of models and crops (arXiv 1409.4842, Table 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.structures import Array


def hits(scores: Array, labels: Array, k: int) -> Array:
    """True where the label is among the k best of the scores (N, K), (N,) bool.

    Ties count against the label: a class is ahead if its score is at least as high. A label whose
    score is NaN is never a hit.
    """
    of_label = np.take_along_axis(scores, labels[:, None], 1)
    ahead = (scores >= of_label).sum(1) - 1  # the label itself is not ahead
    return (ahead < k) & ~np.isnan(of_label[:, 0])


class Row(NamedTuple):
    """One row of the table; errors are shares of 1."""

    models: int
    crops: int
    top1_error: float
    top5_error: float
    images: int

    @property
    def cost(self) -> int:
        return self.models * self.crops


def table(rows: Sequence[Row]) -> list[str]:
    """The table as lines of text, in the paper's layout; the first row is the base."""
    lines = ["models  crops   cost   top-5 error   against base   top-1 error"]
    for row in rows:
        gap = row.top5_error - rows[0].top5_error
        against = "base" if row is rows[0] else f"{100 * gap:+.2f} %"
        lines.append(
            f"{row.models:6d} {row.crops:6d} {row.cost:6d} {100 * row.top5_error:11.2f} %"
            f" {against:>14} {100 * row.top1_error:11.2f} %"
        )
    return lines
