"""Region-proposal detection: selective search, MultiBox and an ensemble of Inception classifiers.

The front door is small; everything is imported on first use, so that `import detector` is cheap:

    from detector import load_detector
    detect = load_detector()
    for box, score, label in (found := detect("street.jpg")):
        print(found.classes[label], score, box)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors, which do not see what __getattr__ finds
    from detector.datasets.formats.recognise import read_dataset as read_dataset
    from detector.detection.detector import Detector as Detector
    from detector.detection.load import load_detector as load_detector
    from detector.detection.second_opinion import SecondOpinion as SecondOpinion
    from detector.detection.settings import DetectionSettings as DetectionSettings
    from detector.errors import DetectorError as DetectorError
    from detector.evaluation.diagnosis.diagnosis import diagnose as diagnose
    from detector.evaluation.evaluating import compare as compare
    from detector.evaluation.evaluating import evaluate as evaluate
    from detector.images.decoding import read_image as read_image
    from detector.proposals.selective_search import SelectiveSearch as SelectiveSearch
    from detector.structures import Annotations as Annotations
    from detector.structures import Detections as Detections
    from detector.structures import Proposals as Proposals
    from detector.training.heads.fit_classes import fit as fit
    from detector.training.heads.fit_classes import fit_classes as fit_classes
    from detector.training.heads.suggest import suggest as suggest

__version__ = "0.1.0"

_HOME = {
    "load_detector": "detection.load",
    "read_image": "images.decoding",
    "read_dataset": "datasets.formats.recognise",
    "evaluate": "evaluation.evaluating",
    "compare": "evaluation.evaluating",
    "diagnose": "evaluation.diagnosis.diagnosis",
    "fit": "training.heads.fit_classes",
    "fit_classes": "training.heads.fit_classes",
    "suggest": "training.heads.suggest",
    "Detector": "detection.detector",
    "SecondOpinion": "detection.second_opinion",
    "DetectionSettings": "detection.settings",
    "SelectiveSearch": "proposals.selective_search",
    "Detections": "structures",
    "Proposals": "structures",
    "Annotations": "structures",
    "DetectorError": "errors",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'detector' has no attribute {name!r}; it has {sorted(_HOME)}")
    from importlib import import_module

    return getattr(import_module(f"detector.{_HOME[name]}"), name)
