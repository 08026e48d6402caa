"""Settings of `inception-rcnn evaluate detections`, as --set names them."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from detector.detection.settings import DetectionSettings, FusionSettings
from detector.evaluation.protocols.coco_engines import MAX_DETS, CocoEngine
from detector.seeds import LARGEST

# Settings of a bundle that is run: saved detections are what they are.
RUNNING = (
    *DetectionSettings.model_fields,
    *FusionSettings.model_fields,
    "ensemble", "proposals", "boxes", "cache", "precision", "engine", "threads",
)  # fmt: skip


class EvaluateSettings(DetectionSettings, FusionSettings):
    """Those of detection are the bundle's unless they stand here or are given."""

    # R-CNN's protocol: low scores cost nothing in a mean average precision, and losing them does.
    score_threshold: float = Field(0.01, ge=0, le=1)
    """Detections below it are dropped; none with `boxes`, unless it is given."""
    nms_threshold: float = Field(0.3, ge=0, le=1)
    """Per-class suppression above this IoU."""
    max_detections: int = Field(300, ge=1)
    """The most in one image, over all classes."""
    ensemble: PositiveInt | Literal["all"] = 1
    """Members of the bundle in use."""
    proposals: str | None = None
    """An engine, NAME or NAME:SETTING=VALUE,..., or a proposal cache; null is the bundle's own."""
    boxes: Path | None = None
    """Another detector's results, any layout of --detections, whose boxes are judged: a second
    opinion.
    """
    cache: Path | None = None
    """Where new proposals go; null is OUT/proposals.sqlite."""
    precision: str = "auto"
    """auto, float32, bfloat16 or int8."""
    engine: str = "auto"
    """What runs the networks on a CPU: torch, openvino or onnxruntime; auto is the fastest of those
    that are installed, by a measurement that is kept.
    """
    threads: int | None = Field(None, ge=1)
    """CPU threads; null is all cores."""
    images: int | None = Field(None, ge=1)
    """Only so many images, evenly spaced."""
    blacklist: Path | None = None
    """Images not judged for a class (ILSVRC's file)."""
    per_class: int | None = Field(None, ge=1)
    """Only the best of a class; R-CNN on ILSVRC: 30000."""
    rounds: int = Field(1000, ge=0)
    """Bootstrap rounds; 0: no interval."""
    seed: int = Field(0, ge=0, le=LARGEST)
    """Seed of the bootstrap."""
    coco_engine: CocoEngine = "pycocotools"
    """The program of --protocol coco; fast needs hotcoco."""
    max_dets: int = Field(MAX_DETS, ge=1)
    """Detections of a class that count in an image, by --protocol coco."""
    operating: float | None = Field(None, ge=0, le=1)
    """Score that counts in the report; null is that of the best F1."""
    strict: bool = False
    """Stop at the first defective annotation."""

    def of_detection(self) -> dict[str, Any]:
        """The DetectionSettings in place of the bundle's, by name."""
        given = self.model_fields_set | {"score_threshold", "nms_threshold", "max_detections"}
        chosen = self.model_dump(include=given & DetectionSettings.model_fields.keys())
        if self.boxes is not None and "score_threshold" not in self.model_fields_set:
            chosen["score_threshold"] = 0.0  # another detector's boxes are few, at any score
        return chosen
