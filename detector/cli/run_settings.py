"""Settings of a training's run on this machine, `--set run.NAME=VALUE`."""

from pathlib import Path

from pydantic import Field

from detector.settings import Seconds, Settings


class RunSettings(Settings):
    """Settings that no result depends on, but for rounding."""

    threads: int | None = Field(None, ge=1)
    """Threads that make batches, and as many that compute; null is 2, and all cores."""
    compile: bool = False
    """Use torch.compile."""
    tensorboard: bool = False
    """Write curves into OUT/tensorboard, too."""


class BankRunSettings(RunSettings):
    """Settings of a run whose trunk may be frozen."""

    bank: Path | None = None
    """Folder of the trunk's maps, for settings with a bank; null is OUT/bank."""


class RegionRunSettings(BankRunSettings):
    """Settings of a run that looks for proposals."""

    cache: Path | None = None
    """Proposal cache; null is OUT/proposals.sqlite."""
    budget: Seconds | None = None
    """Time that the whole training may take, such as 90s, 10m or 2h, where no --config is given;
    null chooses by the data.
    """
