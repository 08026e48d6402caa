"""Optimal bipartite matching of predictions to objects (arXiv 1312.2249, section 3.2).

With M objects, some optimal matching gives every object one of its M cheapest predictions, so only
those are passed to the solver; the result costs the same as the matching over all K.
"""

from __future__ import annotations

import numpy as np

from detector.structures import Array


def assign(cost: Array) -> tuple[Array, Array]:
    """Match (M, K) costs: indices of objects and of their predictions, both (min(M, K),)."""
    from scipy.optimize import linear_sum_assignment

    objects, predictions = cost.shape
    if objects == 0 or predictions == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if objects * objects >= predictions:
        return linear_sum_assignment(cost)
    if objects == 1:
        return np.zeros(1, np.int64), cost.argmin(1)
    cheapest = np.argpartition(cost, objects - 1, axis=1)[:, :objects]
    columns = np.unique(cheapest)
    rows, chosen = linear_sum_assignment(cost[:, columns])
    return rows, columns[chosen]
