"""An auto-annotation function of CVAT, which runs on the labeller's own machine.

    cvat-cli task auto-annotate 7 --function-module detector.labelling.cvat \\
        -p weights=str:runs/mug/bundle -p labels=str:mug,cat

The interface is cvat-sdk's: a `spec` of the labels, and `detect`; cvat-cli calls `create` with the
parameters of -p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cvat_sdk.auto_annotation as cvataa
from PIL.Image import Image

from detector.detection.bundle import read_manifest
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED, load_detector
from detector.errors import DetectorError, ImageError, SettingsError
from detector.hardware import use_device, use_threads
from detector.progress.messages import say_error


def create(**parameters: Any) -> CvatFunction:
    """The function for cvat-cli; parameters are those of CvatFunction.

    A fault ends the program with its sentence: of other exceptions cvat-cli shows the traceback.
    """
    try:
        return CvatFunction(**parameters)
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from None
    except TypeError as error:  # a parameter that does not exist, as Python words it
        raise SystemExit(
            f"error: {error}; -p takes weights, labels, device (str) and threads (int)"
        ) from None


class CvatFunction:
    """A detector as CVAT calls it: rectangles with scores for each picture of a task."""

    def __init__(
        self, weights: str | Path | None = None, labels: str | None = None, device: str = "auto",
        threads: int | None = None,
    ) -> None:  # fmt: skip
        """Load a bundle. Raises SettingsError for a label that it lacks.

        weights  bundle folder; None is the one that ships
        labels   the classes to propose, with commas between; None is all of the bundle
        device   auto, cpu, cuda, cuda:1, mps
        threads  CPU threads; None is all cores
        """
        weights = weights or SHIPPED
        self.labels = _chosen(labels, read_manifest(weights).classes)
        self.detector = load_detector(
            weights, device=use_device(device), threads=use_threads(threads)
        )

    @cached_property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """The labels; the id of each is its number in the bundle."""
        labels = [
            cvataa.label_spec(name, number, type="rectangle")
            for number, name in enumerate(self.detector.classes)
            if name in self.labels
        ]
        return cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image) -> list[Any]:
        """Rectangles of one picture, best first: above the threshold of the context, else the
        bundle's.

        A picture that cannot be used gets none, with a message on stderr: an exception would lose
        the annotations of the whole task, which CVAT receives at the end.
        """
        try:
            found = self._above(context.conf_threshold)(image).filter(classes=self.labels)
        except ImageError as error:
            say_error(ImageError(f"{context.frame_name}: {error}"))
            return []
        return [cvataa.rectangle(label, box.tolist(), score=score) for box, score, label in found]

    def _above(self, threshold: float | None) -> Detector:
        if threshold is None:
            return self.detector
        settings = self.detector.settings.model_copy(update={"score_threshold": threshold})
        return replace(self.detector, settings=settings)


def _chosen(labels: str | None, classes: Sequence[str]) -> list[str]:
    if labels is None:
        return list(classes)
    names = [name.strip() for name in labels.split(",") if name.strip()]
    if missing := [name for name in names if name not in classes]:
        some = ", ".join(classes[:20])
        raise SettingsError(
            f"labels: the bundle has no class {', '.join(missing)}; it has {some}; teach it"
            " another with inception-rcnn fit, or label that one by hand"
        )
    if not names:
        raise SettingsError("labels: empty; name the classes to propose, with commas between")
    return names
