"""Reading annotated images: every format becomes one `Dataset`."""

from detector.datasets.dataset import (
    COCO_TO_VOC,
    VOC_CLASSES,
    Dataset,
    Dropped,
    Sample,
    join,
)

__all__ = ["COCO_TO_VOC", "VOC_CLASSES", "Dataset", "Dropped", "Sample", "join"]
