"""Class probabilities of many images, kept on disk as they are computed: an interrupted evaluation
goes on, and a table over models and crops computes nothing twice.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from detector.errors import EvaluationError
from detector.structures import Array


class KeptProbabilities:
    """An (N, K) float32 file whose rows are NaN until they are known."""

    def __init__(self, folder: str | Path, description: str, shape: tuple[int, int]) -> None:
        """description  all that the numbers depend on; another one is another file"""
        name = hashlib.sha256(f"{description}\n{shape}".encode()).hexdigest()[:16]
        self.path = Path(folder) / f"probabilities-{name}.npy"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.path.exists():
                self.rows: Array = np.lib.format.open_memmap(self.path, "r+")
            else:
                new = np.lib.format.open_memmap(self.path, "w+", np.float32, shape)
                new[:] = np.nan
                self.rows = new
        except (OSError, ValueError, EOFError) as error:
            raise EvaluationError(
                f"{self.path}: cannot be used ({error}); delete it, or give another --out"
            ) from None
        if self.rows.shape != shape or self.rows.dtype != np.float32:
            raise EvaluationError(f"{self.path}: damaged; delete it")

    def missing(self) -> Array:
        """Numbers of the rows that are not known yet, ascending."""
        return np.flatnonzero(np.isnan(self.rows[:, 0]))

    def put(self, rows: Array, values: Array) -> None:
        """values (R, K) finite, of the row numbers (R,)."""
        self.rows[rows] = values
