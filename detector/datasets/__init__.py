"""Readers of annotated images: every format becomes a `Dataset`."""

from detector.datasets.dataset import COCO_TO_VOC, VOC_CLASSES, Dataset, Dropped, Sample, join
from detector.datasets.formats.coco import read_coco
from detector.datasets.formats.ilsvrc import read_ilsvrc
from detector.datasets.formats.recognise import detect_format, read_dataset
from detector.datasets.formats.voc import read_voc
from detector.datasets.formats.yolo import read_yolo

__all__ = [
    "COCO_TO_VOC",
    "VOC_CLASSES",
    "Dataset",
    "Dropped",
    "Sample",
    "detect_format",
    "join",
    "read_coco",
    "read_dataset",
    "read_ilsvrc",
    "read_voc",
    "read_yolo",
]
