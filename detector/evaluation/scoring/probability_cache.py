"""A cache of class probabilities on disk: an interrupted evaluation resumes, and a table over
models and crops computes nothing twice.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.errors import EvaluationError
from detector.files import write_atomically
from detector.structures import Array


class ProbabilityCache:
    """An (N, K) float32 file whose rows are NaN until they are known."""

    def __init__(self, folder: str | Path, description: str, shape: tuple[int, int]) -> None:
        """Open or create the file for `description`, all that the probabilities depend on."""
        name = hashlib.sha256(f"{description}\n{shape}".encode()).hexdigest()[:16]
        self.path = Path(folder) / f"probabilities-{name}.npy"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not self.path.exists():
                # Whole or not at all: in half of one, rows of zeros would count as known.
                write_atomically(self.path, _unknown(shape))
            self.rows: Array = np.lib.format.open_memmap(self.path, "r+")
        except (OSError, ValueError, EOFError) as error:
            raise EvaluationError(
                f"{self.path}: cannot be used ({error}); delete it, or give another --out"
            ) from None
        if self.rows.shape != shape or self.rows.dtype != np.float32:
            raise EvaluationError(f"{self.path}: damaged; delete it")

    def missing(self) -> Array:
        """The rows that are not known yet, ascending."""
        return np.flatnonzero(np.isnan(self.rows[:, 0]))

    def put(self, rows: Array, values: Array) -> None:
        """Store finite `values` (R, K) in the rows (R,)."""
        self.rows[rows] = values


# Row by row, so that a file of any size needs the memory of one row.
def _unknown(shape: tuple[int, int]) -> Iterator[bytes]:
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    yield header.getvalue()
    row = np.full(shape[1], np.nan, "<f4").tobytes()
    for _ in range(shape[0]):
        yield row
