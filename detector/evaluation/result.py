"""The result of an evaluation: one number, one row a class, and the curves behind them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from detector.evaluation.protocols.average_precision import envelope
from detector.structures import Array

Protocol = Literal["voc07", "voc12", "ilsvrc", "coco"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

CURVE_POINTS = np.arange(101) / 100


@dataclass(frozen=True)
class Interval:
    """An estimate, and bounds: the central `confidence` of resampled values about their mean."""

    estimate: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True, eq=False)
class ClassResult:
    """One class.

    ap          average precision, NaN where there is no object to be found
    positives   objects to be found;  detections  those that were judged right or wrong
    recall, precision, scores  along the ranking, best first (COCO: at its 101 recall levels)
    interval    of the AP over images; None where there is none
    """

    name: str
    ap: float
    positives: int
    detections: int
    recall: Array
    precision: Array
    scores: Array
    interval: Interval | None = None

    @property
    def best_recall(self) -> float:
        """The share of the objects that is found when nothing is cut off."""
        return float(self.recall.max()) if len(self.recall) else 0.0

    def curve(self) -> Array:
        """The best precision at recall 0, 0.01, ..., 1 or beyond: (101,), 0 where not reached."""
        best = np.append(envelope(self.precision), 0.0)  # where recall does not reach
        return best[np.searchsorted(self.recall, CURVE_POINTS, side="left")]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The verdict on a set of detections by one protocol.

    mean_ap   the mean over the classes that have objects (COCO: over its ten thresholds as well)
    extras    what else the protocol gives (COCO's twelve numbers), and counts
    interval  of the mean AP over images, by `rounds` rounds of the bootstrap with this seed; COCO's
              protocol has none
    """

    protocol: Protocol
    mean_ap: float
    per_class: tuple[ClassResult, ...]
    extras: Mapping[str, float] = field(default_factory=dict)
    interval: Interval | None = None
    rounds: int = 0
    seed: int | None = None

    def to_json(self, about: Mapping[str, Any] | None = None) -> str:
        """Everything as JSON, curves at 101 recall levels; numbers that do not exist are null.

        about  what else is to be said of the evaluation: what was judged, and how
        """
        rows = [
            {
                "name": one.name,
                "ap": one.ap,
                "interval": one.interval and [one.interval.low, one.interval.high],
                "positives": one.positives,
                "detections": one.detections,
                "recall": one.best_recall,
                "curve": [round(float(p), 6) for p in one.curve()],
            }
            for one in self.per_class
        ]
        content = {
            "protocol": self.protocol,
            "mean_ap": self.mean_ap,
            "interval": self.interval and asdict(self.interval),
            "rounds": self.rounds,
            "seed": self.seed,
            **(about or {}),
            "extras": dict(self.extras),
            "per_class": rows,
        }
        return json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"

    def plot(self, path: str | Path) -> None:
        """Draw the precision-recall curves as a PNG: a small panel a class, best first."""
        # Imported here: numbers alone need no matplotlib.
        from detector.evaluation.report.plots import plot_precision_recall

        plot_precision_recall(self, path)


def without_nan(value: Any) -> Any:
    """Plain values for JSON, which has no NaN: null stands for a number that does not exist."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
