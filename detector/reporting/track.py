"""Curves in TensorBoard, for those who have it (extra [track])."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detector.errors import SettingsError


class Tracker:
    """Numbers by name and step, as TensorBoard shows them; `resume_at` hides what a resumed run
    will write again.
    """

    def __init__(self, folder: str | Path, *, resume_at: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SettingsError(
                f"--tensorboard needs TensorBoard, which is not installed ({error});"
                " pip install 'inception-rcnn[track]'"
            ) from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=resume_at or None)

    def write(self, step: int, **numbers: float) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
