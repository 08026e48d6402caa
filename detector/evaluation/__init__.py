"""Evaluation of detections against annotations by the published rules."""

from detector.evaluation.bootstrap import Comparison, Interval, bootstrap_interval, compare
from detector.evaluation.oracle import oracle_detections
from detector.evaluation.protocols.rules import evaluate
from detector.evaluation.result import PROTOCOLS, ClassResult, Evaluation, Protocol

__all__ = [
    "PROTOCOLS",
    "ClassResult",
    "Comparison",
    "Evaluation",
    "Interval",
    "Protocol",
    "bootstrap_interval",
    "compare",
    "evaluate",
    "oracle_detections",
]
