"""Settings of `inception-rcnn detect`, as --set names them."""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from detector.detection.settings import DetectionSettings, FusionSettings
from detector.results.label_files import label_formats
from detector.settings import Seconds

# Settings of proposals and of suppression: another detector's boxes have had both.
OF_PROPOSALS = (
    "max_proposals", "budget", "tile", "tile_overlap", "nms_threshold", "class_agnostic_nms",
    "voting_iou", "max_detections", "proposals",
)  # fmt: skip


class DetectSettings(DetectionSettings, FusionSettings):
    """Those of detection are the bundle's unless they are given."""

    precision: str = "auto"
    """auto, float32, bfloat16 or int8."""
    engine: str = "auto"
    """What runs the networks on a CPU: torch, openvino or onnxruntime; auto is the fastest of those
    that are installed, by a measurement that is kept.
    """
    format: tuple[str, ...] = ()
    """Label files to correct in a labelling tool, in --out/FORMAT: yolo, voc-xml, coco-instances,
    labelme, label-studio, cvat; several with commas between them.
    """
    budget: Seconds | None = None
    """Time for each image, such as 0.5s: its best regions are classified until it is spent, one
    batch at least; null is all of them. What is found is then as with max_proposals=N (without
    tile), the number of regions that run.json says of the image.
    """
    batch_size: int | None = Field(None, ge=1)
    """Crops in one pass; null is 8 on a CPU, 128 elsewhere."""
    boxes: Path | None = None
    """Another detector's boxes of these images (COCO's results), to be judged: a second opinion."""
    categories: Path | None = None
    """A COCO file that names the category_ids of `boxes`; null: each row has a category_name."""

    @field_validator("format", mode="before")
    @classmethod
    def _known_formats(cls, value: Any) -> Any:
        return label_formats(value.split(",")) if isinstance(value, str) else value

    def of_detection(self, threshold: float | None) -> dict[str, Any]:
        """The DetectionSettings in place of the bundle's, by name."""
        given = self.model_dump(
            include=self.model_fields_set & DetectionSettings.model_fields.keys()
        )
        return given if threshold is None else {**given, "score_threshold": threshold}
