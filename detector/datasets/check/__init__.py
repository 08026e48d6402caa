"""The linter of annotated data sets, which only reads.

A new format needs a function (folder or file, Asked) -> Index, and its row in FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.datasets.check.boxes import judge_boxes, judge_reach
from detector.datasets.check.classes import judge_classes, judge_empty_pictures, judge_set_aside
from detector.datasets.check.coco import index_coco
from detector.datasets.check.findings import Finding, Findings
from detector.datasets.check.index import Asked, Index, Watch
from detector.datasets.check.listing import Listing
from detector.datasets.check.pictures import judge_pictures, judge_splits
from detector.datasets.check.rules import RULES, Rule
from detector.datasets.check.voc import index_voc
from detector.datasets.check.yolo import index_yolo
from detector.datasets.formats.recognise import detect_format, is_yolo, yolo_in
from detector.errors import DatasetError, SettingsError

FORMATS: dict[str, Callable[[Path, Asked], Index]] = {
    "voc": index_voc,
    "coco": index_coco,
    "yolo": index_yolo,
}

__all__ = ["FORMATS", "RULES", "Finding", "Findings", "Report", "Rule", "lint"]


@dataclass(frozen=True)
class Report:
    """Findings in a data set, with its counts."""

    format: str
    path: Path
    images: int
    objects: int
    classes: tuple[str, ...]
    fast: bool
    found: Findings

    @property
    def findings(self) -> list[Finding]:
        return self.found.entries

    @property
    def defects(self) -> int:
        return sum(finding.is_defect for finding in self.findings)

    def describe(self) -> dict[str, Any]:
        """Describe the report as a dictionary for JSON."""
        return {
            "format": self.format,
            "path": str(self.path),
            "images": self.images,
            "objects": self.objects,
            "classes": list(self.classes),
            "fast": self.fast,
            "defects": self.defects,
            "notes": len(self.findings) - self.defects,
            "counts": {name: times for name, _, times in self.found.by_rule()},
            "findings": [finding.describe() for finding in self.findings],
        }


def lint(
    path: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    images_root: str | Path | None = None,
    fast: bool = False,
    watch: Watch = lambda items, label: items,
) -> Report:
    """Find the defects of the data set at `path`: a folder, COCO's JSON or YOLO's YAML file.

    format       one of FORMATS, where it cannot be told from the files
    classes      VOC and YOLO: the class list, where the files do not hold it
    images_root  COCO: the folder of the images, where they lie far from the JSON file
    fast         open no image, and skip the checks that need pixels
    watch        (items, label) -> items, for progress

    Raises DatasetError where there is no data set of a known format, and SettingsError for an
    option that the format does not have.
    """
    path = Path(path)
    format, home = _recognised(path, format)
    if images_root is not None and format != "coco":
        raise SettingsError(f"{path} is {format}: a folder of images is COCO's; leave --images out")
    if classes and format == "coco":
        raise SettingsError(f"{path} is coco: its file lists the classes; leave --classes out")
    root = home if home.is_dir() else home.parent
    findings = Findings(root.resolve() if format == "yolo" else root)
    asked = Asked(
        findings, Listing(), watch, tuple(classes) if classes else None,
        Path(images_root) if images_root is not None else None,
    )  # fmt: skip
    index = FORMATS[format](home.resolve() if format == "yolo" else home, asked)
    if not fast:
        judge_pictures(index, findings, watch)
    judge_splits(index, findings)
    judge_boxes(index, findings)
    judge_reach(index, findings)
    judge_classes(index, findings, home.name)
    judge_set_aside(index, findings, home.name)
    judge_empty_pictures(index, findings)
    return Report(
        format, path, len(index.pictures), len(index.boxes.written), index.classes, fast, findings
    )


def _recognised(path: Path, format: str | None) -> tuple[str, Path]:
    """Recognise the format, and the folder or file to read."""
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    if format is not None and format not in FORMATS:
        raise DatasetError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    if path.is_file():
        by_name = "yolo" if is_yolo(path) else "coco" if path.suffix.lower() == ".json" else None
        chosen = format or by_name
        if chosen is None or chosen == "voc":
            raise DatasetError(f"{path}: expected COCO's .json, YOLO's .yaml, or a VOC folder")
        return chosen, path
    if format == "yolo":
        return format, _yaml_in(path)
    if format is not None:
        return format, path
    detected = detect_format(path)
    if detected.format not in FORMATS:
        raise DatasetError(f"{path}: the linter reads {', '.join(FORMATS)}, not {detected.format}")
    return detected.format, detected.path


def _yaml_in(folder: Path) -> Path:
    """The YAML file that a training would use, or else the first one."""
    if (detected := yolo_in(folder)) is not None:
        return detected.path
    for path in sorted(folder.iterdir()):
        if is_yolo(path):
            return path
    raise DatasetError(f"{folder}: no .yaml file in it; name the file")
