"""Curves in TensorBoard, for those who have it (extra [track])."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detector.errors import SettingsError


def need_tensorboard() -> Any:
    """What writes curves; a SettingsError where TensorBoard is not installed. Whoever will want
    curves after hours of other work asks before it.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingsError(
            f"--tensorboard needs TensorBoard, which is not installed ({error}): pip install"
            " tensorboard"
        ) from None
    return SummaryWriter


class Tracker:
    """Numbers by name and step, as TensorBoard shows them; `resume_at` hides what a resumed run
    will write again, which is everything where it begins again at 0.
    """

    def __init__(self, folder: str | Path, *, resume_at: int = 0) -> None:
        self._writer: Any = need_tensorboard()(str(folder), purge_step=resume_at)

    def write(self, step: int, **numbers: float) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
