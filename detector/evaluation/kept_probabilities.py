"""Class probabilities of many images, kept on disk as they are computed: an interrupted evaluation
goes on, and a table over models and crops computes nothing twice.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from detector.errors import EvaluationError
from detector.files import sync_folder
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
                _create(self.path, shape)
                self.rows = np.lib.format.open_memmap(self.path, "r+")
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


def _create(path: Path, shape: tuple[int, int]) -> None:
    """A file of NaN at `path`, in one step: in half of one, rows of zeros would count as known.

    Its blocks are there before they are written to: where a disk is full, that is an OSError here
    and not a SIGBUS at some row.
    """
    temporary = path.parent / f".writing-{os.urandom(8).hex()}.tmp"
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    try:
        with open(temporary, "xb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            start, size = file.tell(), 4 * shape[0] * shape[1]
            file.flush()
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(file.fileno(), 0, start + size)
            row = np.full(shape[1], np.nan, "<f4").tobytes()
            for _ in range(shape[0]):
                file.write(row)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
