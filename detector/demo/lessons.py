"""Classes taught on the page: photographs with boxes, and the bundle that comes of them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from detector.demo.look import shrunk
from detector.detection.detector import Detector
from detector.detection.load import load_detector
from detector.errors import SettingsError
from detector.heads.few_shot import MIN_BOXES
from detector.images.decoding import read_image
from detector.progress.messages import pluralise
from detector.structures import Array
from detector.training.heads.class_report import ClassReport
from detector.training.heads.fit_classes import fit, fit_classes

MIN_IMAGES = 2
# A photograph to draw on is made no longer than this, in pixels: it goes to the browser and back.
LONGEST = 1000
# Where the images were too few to choose one.
USUAL_THRESHOLD = 0.5

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A photograph, and the boxes that were drawn on it, xyxy in its own pixels.

    shown  (h, w, 3), as large as the page has it
    scale  the photograph's pixels of one that is shown
    """

    path: Path
    shown: Array
    scale: float
    boxes: tuple[Box, ...] = ()

    def with_shown_boxes(self, boxes: Sequence[Mapping[str, float]]) -> Drawn:
        """The photograph with these boxes: xmin, ymin, xmax, ymax in pixels of `shown`."""
        corners = ("xmin", "ymin", "xmax", "ymax")
        rows = [tuple(self.scale * float(box[corner]) for corner in corners) for box in boxes]
        return replace(self, boxes=tuple(rows))  # type: ignore[arg-type]

    @property
    def shown_boxes(self) -> list[dict[str, float]]:
        corners = ("xmin", "ymin", "xmax", "ymax")
        return [
            {name: at / self.scale for name, at in zip(corners, box, strict=True)}
            for box in self.boxes
        ]


def open_photograph(path: str | Path) -> Drawn:
    """A photograph to draw on. Raises ImageError."""
    pixels = read_image(path)
    scale = max(1.0, max(pixels.shape[:2]) / LONGEST)
    shown = pixels
    if scale > 1:
        size = (round(pixels.shape[1] / scale), round(pixels.shape[0] / scale))
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
        shown = np.asarray(picture)
    return Drawn(Path(path), shown, scale)


def what_is_missing(photographs: Sequence[Drawn]) -> str | None:
    """A sentence where the boxes are too few to learn from; else None."""
    boxes = sum(len(one.boxes) for one in photographs)
    images = sum(bool(one.boxes) for one in photographs)
    if boxes >= MIN_BOXES and images >= MIN_IMAGES:
        return None
    return (
        f"{pluralise(boxes, 'box')} on {pluralise(images, 'photograph')} so far; at least"
        f" {MIN_BOXES} on {MIN_IMAGES} photographs are needed"
    )


@dataclass(frozen=True)
class Machine:
    """The bundle that the page begins with, and where detectors run."""

    bundle: Path
    device: str = "auto"
    threads: int | None = None
    members: int | None = 1

    def load(self, bundle: Path) -> Detector:
        """A bundle's detector."""
        return load_detector(
            bundle, device=self.device, threads=self.threads, members=self.members
        )  # fmt: skip


class Lessons:
    """The classes that one visitor has taught, in a folder that ends with the visit.

    detector    finds them, and all that it found before
    thresholds  of the classes that were taught, by name
    close       removes the folder
    """

    def __init__(self, machine: Machine) -> None:
        self.bundle = machine.bundle
        self.detector: Detector | None = None
        self.thresholds: dict[str, float] = {}
        self._machine, self._count = machine, 0
        self._folder = Path(tempfile.mkdtemp(prefix="lessons-"))
        # A visit that is forgotten ends with the process.
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def learn(self, name: str, photographs: Sequence[Drawn]) -> ClassReport:
        """Learn a class, or learn it anew where it was taught before.

        Photographs without a box show what the class is not. Raises SettingsError, DatasetError
        or TrainingError, and nothing has changed then.
        """
        name = name.strip()
        if not name:
            raise SettingsError("give the new class a name")
        if (missing := what_is_missing(photographs)) is not None:
            raise SettingsError(missing)
        before, machine = self.bundle, self._machine
        if name in self.thresholds:
            before = self._new_folder()
            fit_classes(None, before, remove=[name], bundle=self.bundle)
        out = self._new_folder()
        report = fit(
            [one.path for one in photographs], [one.boxes for one in photographs],
            [[name] * len(one.boxes) for one in photographs], out,
            bundle=before, add=[name], device=machine.device, threads=machine.threads,
        )  # fmt: skip
        (learnt,) = report.classes
        self.detector, self.bundle = machine.load(out), out
        self.thresholds[name] = USUAL_THRESHOLD if learnt.threshold is None else learnt.threshold
        return replace(learnt, warnings=(*report.warnings, *learnt.warnings))

    def found(self, path: str | Path) -> tuple[Image.Image, str]:
        """A photograph with what it shows of the taught classes, and a caption. Raises ImageError,
        or SettingsError before the first lesson.
        """
        if self.detector is None:
            raise SettingsError("nothing has been learnt yet")
        pixels = read_image(path)
        found = self.detector(pixels)
        names = np.array([found.classes[label] for label in found.labels.tolist()])
        least = np.array([self.thresholds.get(name, np.inf) for name in names.tolist()])
        found = found[found.scores >= least]
        counts = Counter(found.classes[label] for label in found.labels.tolist())
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        return shrunk(found.draw(pixels)), f"{listed or 'none'} in {Path(path).name}"

    def archive(self) -> Path:
        """The bundle as a .zip file."""
        base = str(self._folder / "bundle")
        return Path(shutil.make_archive(base, "zip", self.bundle))

    def _new_folder(self) -> Path:
        self._count += 1
        return self._folder / f"{self._count}"
