"""A bundle made ready to run, as the command line asks for it."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector import jit
from detector.cli.app import members_of
from detector.detection import engine_choice
from detector.detection.detector import Detector
from detector.detection.load import load_detector
from detector.errors import SettingsError
from detector.hardware import use_device, use_threads
from detector.models.inference.engines import FORMATS, is_installed
from detector.progress.messages import escape_controls
from detector.proposals.engines import names_a_file
from detector.proposals.gather import StoredProposals


def load(
    weights: Path | None, quiet: bool, *, ensemble: int | str, device: str, precision: str,
    threads: int | None, settings: Mapping[str, Any], proposals: str | None = None,
    batch_size: int | None = None, engine: str = "torch",
) -> tuple[Detector, StoredProposals | None]:  # fmt: skip
    """Load the detector, and the file of its proposals where they come from one.

    settings   DetectionSettings by name; those not given are the bundle's
    proposals  an engine, or a proposal cache's path; None is what the bundle says
    """
    announce_compiling(quiet)
    members, file = members_of(str(ensemble)), None
    if proposals is not None and names_a_file(proposals):
        file, proposals = StoredProposals(proposals), None
        if settings.get("tile") is not None:
            raise SettingsError(
                f"tile={settings['tile']} looks for regions in windows, and those of"
                f" {file.store.path} are given; leave one of the two out"
            )
    detector = load_detector(
        weights, device=use_device(device), precision=precision, members=members,
        proposals=proposals, settings=settings, batch_size=batch_size, engine=engine,
        engine_folder=_engine_folder(), threads=use_threads(threads),
    )  # fmt: skip
    unlike = None if file is None else file.unlike(detector.proposer)
    if unlike is not None:
        print(escape_controls(f"warning: {unlike}"), file=sys.stderr)
    return detector, file


def within(detector: Detector, budget: float | None) -> Detector:
    """The detector with a budget for each image, after a first one that pays for the start."""
    if budget is None:
        return detector
    detector(np.zeros((64, 64, 3), np.uint8))
    return replace(detector, budget=budget)


def _engine_folder() -> Path | None:
    """The user's folder of converted networks and measurements, or None where there is nothing to
    keep, or no place for it.
    """
    if not any(map(is_installed, FORMATS)):
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "inception-rcnn" / "engines"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK) else None


def announce_compiling(quiet: bool) -> None:
    """Announce the compilation of kernels on stderr, once."""
    jit.when_compiling = None if quiet else lambda text: print(text, file=sys.stderr)
    engine_choice.when_preparing = jit.when_compiling
