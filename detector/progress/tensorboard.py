"""TensorBoard curves, with the extra [track]."""

from pathlib import Path
from typing import Any

from detector.errors import SettingsError


def need_tensorboard() -> Any:
    """TensorBoard's writer class. Raises SettingsError if it is not installed; call it before hours
    of other work.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingsError(
            f"run.tensorboard needs TensorBoard, which is not installed ({error}): pip install"
            " tensorboard"
        ) from None
    return SummaryWriter


class Tracker:
    """Scalars by name and step in TensorBoard; `resume_at` hides the steps that a resumed run will
    write again.
    """

    def __init__(self, folder: str | Path, *, resume_at: int = 0) -> None:
        self._writer: Any = need_tensorboard()(str(folder), purge_step=resume_at)

    def write(self, step: int, **numbers: float) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
