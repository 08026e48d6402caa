"""The engine that runs an ensemble on a CPU: torch, or another one that was measured to be faster.

Measurements and converted networks are kept in a folder, under all that they depend on: the bundle,
the versions and, for a measurement, the machine. The folder may be deleted at any time.
"""

import json
import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from detector import __version__
from detector.detection.ensemble import Ensemble, Member
from detector.errors import DetectorWarning, SettingsError
from detector.files import write_atomically
from detector.hardware import usable_cores
from detector.models.inference.engines import (
    FORMAT_OF,
    FORMATS,
    check_installed,
    export_network,
    is_installed,
    open_network,
    versions,
)
from detector.models.inference.prepare import fastest_precision
from detector.proposals.cache.stored import settings_hash

ENGINES = ("torch", *FORMAT_OF)
ROUNDS = 5
# Another engine changes the last bits of scores, so it has to win by more than chance.
GAIN = 1.1
MAX_BUNDLES = 8  # whose converted networks are kept, 28 MB for a GoogLeNet

# Gets a sentence before seconds of preparation; a command sets it.
when_preparing: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Engines:
    """The engines that the ensemble of a bundle may run on.

    bundle     all that decides its networks
    folder     where measurements and converted networks are kept; None: nowhere
    precision  auto is the fastest one that an engine has
    """

    members: Sequence[Member]
    bundle: Mapping[str, Any]
    folder: Path | None
    precision: str
    device: torch.device
    batch_size: int | None
    workers: int

    def build(self, engine: str) -> Ensemble:
        """The ensemble on an engine; "auto" is the fastest of those that are installed.

        One that fails is replaced by torch, with a DetectorWarning. Raises SettingsError for one
        that is not installed, or does not go with the device or the precision.
        """
        if engine not in ("auto", *ENGINES):
            raise SettingsError(f"engine {engine!r} is not one of auto, {', '.join(ENGINES)}")
        installed = [engine for engine, format in FORMAT_OF.items() if is_installed(format)]
        others = [name for name in installed if not self._misfit(name)]
        if engine == "torch" or (engine == "auto" and not others):
            return self._by_torch()
        if engine != "auto":
            check_installed(FORMAT_OF[engine])
            if misfit := self._misfit(engine):
                raise SettingsError(misfit)
        with TemporaryDirectory(ignore_cleanup_errors=True) as nowhere:
            folder = _folder_of(self.folder or Path(nowhere), {**self.bundle, **versions()})
            if engine == "auto":
                return self._fastest(others, folder)
            return self._by(engine, folder) or self._by_torch()

    def _misfit(self, engine: str) -> str | None:
        if self.device.type != "cpu":
            return f"engine {engine} is for a CPU, not for {self.device.type}; use engine torch"
        if self.precision == "int8":
            return f"engine {engine} does not run int8 as fitted here; use engine torch"
        if self.precision == "bfloat16" and engine == "onnxruntime":
            return "engine onnxruntime has float32 only; use openvino or torch"
        return None

    def _fastest(self, others: Sequence[str], folder: Path) -> Ensemble:
        file = folder / f"{self._machine()}.json"
        try:
            chosen = json.loads(file.read_bytes())["engine"]
        except (OSError, ValueError, KeyError, TypeError):  # none yet
            chosen = None
        if chosen in ENGINES:
            return (self._by(chosen, folder) if chosen in others else None) or self._by_torch()
        _say(f"first run: measuring once which is fastest, {', '.join(['torch', *others])}")
        built = {"torch": self._by_torch()}
        for name in others:
            ensemble = self._by(name, folder)
            if ensemble is not None:
                built[name] = ensemble
        seconds = seconds_of(built, self.workers)
        fastest = min(seconds, key=seconds.__getitem__)
        chosen = fastest if seconds["torch"] > GAIN * seconds[fastest] else "torch"
        with suppress(OSError):
            write_atomically(file, json.dumps({"engine": chosen, "seconds": seconds}) + "\n")
        _say(f"{chosen} runs the networks from now on")
        return built[chosen]

    def _by_torch(self) -> Ensemble:
        return self._ensemble(self._precision("torch"))

    def _by(self, engine: str, folder: Path) -> Ensemble | None:
        """The ensemble on another engine than torch; None, after a warning, if that fails."""
        precision, format = self._precision(engine), FORMAT_OF[engine]

        def prepare(network: nn.Module, side: int, group: int) -> Callable[[Tensor], Tensor]:
            path = folder / engine / f"{group}{FORMATS[format].suffix}"
            if not path.is_file():
                _say(f"first run: converting the networks for {engine}, once")
                path.parent.mkdir(exist_ok=True)
                export_network(network, {"crops": side}, ["columns"], format, path, {})
            run = open_network(path, precision, self.workers)
            return lambda crops: run(crops)[0]

        try:
            name = f"{engine} {versions().get(engine, '')}".strip()
            ensemble = self._ensemble(precision, engine=prepare, engine_name=name)
            ensemble.forward(_noise(ensemble, 1))
        except SettingsError:  # of the members
            raise
        except Exception as error:  # the engine's own, of any type
            shutil.rmtree(folder / engine, ignore_errors=True)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            text = f"engine {engine} failed, and torch runs the networks: {reason}"
            warnings.warn(text, DetectorWarning, stacklevel=2)
            return None
        return ensemble

    def _precision(self, engine: str) -> str:
        if self.precision != "auto":
            return self.precision
        return "float32" if engine == "onnxruntime" else fastest_precision(self.device)

    def _ensemble(self, precision: Any, **engine: Any) -> Ensemble:
        return Ensemble(
            self.members, precision=precision, device=self.device, batch_size=self.batch_size,
            workers=self.workers, **engine,
        )  # fmt: skip

    def _machine(self) -> str:
        """The name of a measurement: of a processor, and of all else that its speed depends on."""
        processor = platform.processor()
        with suppress(OSError):  # Linux, whose platform.processor() names no model
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            processor = next((line for line in lines if line.startswith("model name")), processor)
        decides = {
            "machine": [platform.machine(), processor, usable_cores()],
            "precision": self.precision, "batch": self.batch_size, "workers": self.workers,
        }  # fmt: skip
        return settings_hash(decides)[:32]


def _folder_of(folder: Path, decides: Mapping[str, Any]) -> Path:
    """The folder of a bundle; those of bundles that were not in use for the longest time go."""
    chosen = folder / settings_hash({"version": __version__, **decides})[:32]
    chosen.mkdir(parents=True, exist_ok=True)
    os.utime(chosen)
    with suppress(OSError):  # another process may do the same
        by_use = sorted(folder.glob("?" * 32), key=lambda path: path.stat().st_mtime)
        for old in by_use[:-MAX_BUNDLES]:
            shutil.rmtree(old, ignore_errors=True)
    return chosen


def seconds_of(ensembles: Mapping[str, Ensemble], workers: int) -> dict[str, float]:
    """Median seconds of each ensemble for a batch in every thread, measured by turns."""
    times: dict[str, list[float]] = {name: [] for name in ensembles}
    for _ in range(ROUNDS):
        for name, ensemble in ensembles.items():
            crops = _noise(ensemble, workers * ensemble.groups[0].batches.batch_size)
            started = time.perf_counter()
            ensemble.forward(crops)
            times[name].append(time.perf_counter() - started)
    return {name: median(taken) for name, taken in times.items()}


def _noise(ensemble: Ensemble, count: int) -> dict[Any, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        spec: torch.rand(count, 3, spec.size, spec.size, generator=random) - 0.5
        for spec in ensemble.crop_specs
    }


def _say(text: str) -> None:
    if when_preparing is not None:
        when_preparing(text)
