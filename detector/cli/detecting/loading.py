"""A bundle made ready to run, as the command line asks for it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from detector import jit
from detector.cli.app import members_of
from detector.detection import engine_choice
from detector.detection.detector import Detector
from detector.detection.load import load_detector
from detector.errors import SettingsError
from detector.hardware import use_device, use_threads
from detector.progress.messages import escape_controls
from detector.proposals.engines import names_a_file
from detector.proposals.gather import StoredProposals


class Running(NamedTuple):
    """Options of running a bundle.

    settings   DetectionSettings by name; those not given are the bundle's
    proposals  an engine, or a proposal cache's path; None is what the bundle says
    """

    weights: Path | None
    ensemble: str
    proposals: str | None
    device: str
    precision: str
    threads: int | None
    settings: dict[str, Any]
    batch_size: int | None = None
    engine: str = "torch"


def load(running: Running, quiet: bool) -> tuple[Detector, StoredProposals | None]:
    """Load the detector, and the file of its proposals where they come from one."""
    announce_compiling(quiet)
    members, engine, file = members_of(running.ensemble), running.proposals, None
    if engine is not None and names_a_file(engine):
        file, engine = StoredProposals(engine), None
        if running.settings.get("tile") is not None:
            raise SettingsError(
                f"tile={running.settings['tile']} looks for regions in windows, and those of"
                f" {file.store.path} are given; leave one of the two out"
            )
    detector = load_detector(
        running.weights,
        device=use_device(running.device),
        precision=running.precision,
        engine=running.engine,
        engine_folder=_engine_folder(),
        members=members,
        proposals=engine,
        settings=running.settings,
        batch_size=running.batch_size,
        threads=use_threads(running.threads),
    )
    unlike = None if file is None else file.unlike(detector.proposer)
    if unlike is not None:
        print(escape_controls(f"warning: {unlike}"), file=sys.stderr)
    return detector, file


def _engine_folder() -> Path | None:
    """The user's folder of converted networks and measurements, or None where there can be none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "inception-rcnn" / "engines"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK) else None


def announce_compiling(quiet: bool) -> None:
    """Announce the compilation of kernels on stderr, once."""
    jit.when_compiling = None if quiet else lambda text: print(text, file=sys.stderr)
    engine_choice.when_preparing = jit.when_compiling
