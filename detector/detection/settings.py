"""Thresholds and limits of a detector."""

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
    """Only so many of the best ranked proposals are classified; None is all. With `tile`, of the
    image and of each window.
    """
    prescore: int | None = Field(None, ge=1)
    """Only so many regions are classified, the best of all that are proposed by the bundle's
    pre-scorer (inception-rcnn fit prescorer). None leaves it out.
    """
    cascade: float | None = Field(None, ge=0, le=1)
    """Members after the first see only regions to which it gives a class at least this score,
    before the prior of sizes; the rest have its scores alone. None: every member sees every region.
    """
    tile: int | None = Field(None, ge=64)
    """Look for regions in overlapping windows of this side in pixels, too: for small things in
    large photographs. None is the whole image alone.
    """
    tile_overlap: float = Field(0.2, ge=0, le=0.5)
    """Least share of a window's side that the next one has, too; what is smaller than that is whole
    in one of them.
    """
    svm: bool = False
    """Scores of the bundle's SVMs in place of the softmax. Departs from the paper, as
    `regression` does: GoogLeNet's entry had neither, for lack of time.
    """
    regression: bool = False
    """Each of the networks' classes moves its regions before suppression; added ones always do."""


# Measured on YOLOv3-tiny's boxes; docs/evaluation.md has the others.
REGION_WEIGHT = 0.5


class FusionSettings(Settings):
    """The fusion of another detector's scores with ours (second_opinion.py)."""

    region_weight: float = Field(REGION_WEIGHT, ge=0, le=1)
    """Weight w of our score p of another detector's box, whose own score is s: the fused one is
    p^w s^(1-w). 0 leaves the other detector's, 1 takes ours.
    """
