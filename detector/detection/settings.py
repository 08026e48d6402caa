"""Thresholds and limits of a detector."""

from __future__ import annotations

from pydantic import Field

from detector.settings import Settings


class DetectionSettings(Settings):
    """Settings of the steps after scoring. Bundles and the configurations of trainings, whose
    `thresholds` they are, write some by a shorter name.
    """

    score_threshold: float = Field(0.05, ge=0, le=1, alias="score")
    """Detections below it are dropped. Measuring mAP wants about 0.01: low scores cost nothing
    there.
    """
    nms_threshold: float = Field(0.3, ge=0, le=1, alias="nms")
    """Per-class suppression above this IoU (R-CNN: 0.3)."""
    class_agnostic_nms: float | None = Field(None, ge=0, le=1)
    """After that, suppression of a worse box of any class above this IoU: one object of an unknown
    kind is then one detection, not a dog, a horse and a cow. None is off, as in the paper.
    """
    voting_iou: float | None = Field(None, gt=0, le=1, alias="voting")
    """Move each detection to the score-weighted mean of the regions that overlap it at least so
    much (box voting; 0.5 is usual). Departs from the paper: GoogLeNet took boxes as proposed, and
    None does so too.
    """
    max_detections: int = Field(100, ge=1)
    """Most detections of one image, over all classes; COCO's limit."""
    max_proposals: int | None = Field(None, ge=1)
    """Only so many of the best ranked proposals are classified; None is all."""
    svm: bool = False
    """Scores of the bundle's SVMs in place of the softmax. Departs from the paper, as
    `regression` does: GoogLeNet's entry had neither, for lack of time.
    """
    regression: bool = False
    """Each class moves its regions before suppression."""
