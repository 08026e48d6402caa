"""Evaluation of detections against annotations by the published rules."""

from detector.evaluation.bootstrap import Comparison
from detector.evaluation.diagnosis.oracles import oracle_detections
from detector.evaluation.evaluating import compare, evaluate
from detector.evaluation.result import PROTOCOLS, ClassResult, Evaluation, Interval, Protocol

__all__ = [
    "PROTOCOLS",
    "ClassResult",
    "Comparison",
    "Evaluation",
    "Interval",
    "Protocol",
    "compare",
    "evaluate",
    "oracle_detections",
]
