"""Settings of `inception-rcnn detect`, as --set names them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from detector.detection.settings import DetectionSettings


class DetectSettings(DetectionSettings):
    """Those of detection are the bundle's unless they are given."""

    precision: str = "auto"
    """auto, float32, bfloat16 or int8."""
    batch_size: int | None = Field(None, ge=1)
    """Crops in one pass; null is 8 on a CPU, 128 elsewhere."""

    def of_detection(self, threshold: float | None) -> dict[str, Any]:
        """The DetectionSettings in place of the bundle's, by name."""
        given = self.model_dump(
            include=self.model_fields_set & DetectionSettings.model_fields.keys()
        )
        return given if threshold is None else {**given, "score_threshold": threshold}
