"""The linter of annotated data sets, which only reads.

A new format needs a function (folder or file, Asked) -> Index, and its row in FORMATS.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.datasets.check.boxes import judge_boxes, judge_reach
from detector.datasets.check.classes import judge_classes, judge_empty_pictures, judge_set_aside
from detector.datasets.check.coco import index_coco, index_tool
from detector.datasets.check.index import Asked, Index, Watch
from detector.datasets.check.pictures import judge_pictures, judge_splits
from detector.datasets.check.rules import RULES, Rule
from detector.datasets.check.voc import index_voc
from detector.datasets.check.yolo import index_yolo
from detector.datasets.dataset import Dropped, Ledger
from detector.datasets.formats.recognise import TOOLS, detect_format, is_yolo, yolo_in
from detector.errors import DatasetError, SettingsError

FORMATS: dict[str, Callable[[Path, Asked], Index]] = {
    "voc": index_voc,
    "coco": index_coco,
    "yolo": index_yolo,
    **{tool: index_tool(tool) for tool in TOOLS},
}

__all__ = ["FORMATS", "RULES", "Report", "Rule", "lint"]


@dataclass(frozen=True)
class Report:
    """Findings in a data set, with its counts."""

    format: str
    path: Path
    images: int
    objects: int
    classes: tuple[str, ...]
    fast: bool
    findings: list[Dropped]

    @property
    def defects(self) -> list[Dropped]:
        return [finding for finding in self.findings if RULES[finding.rule].level == "defect"]

    def by_rule(self) -> list[tuple[str, Rule, int]]:
        """Count the findings: (name, rule, count), in the order of the table."""
        times = Counter(finding.rule for finding in self.findings)
        return [(name, rule, times[name]) for name, rule in RULES.items() if times[name]]

    def describe(self) -> dict[str, Any]:
        """Describe the report as a dictionary for JSON."""
        return {
            "format": self.format,
            "path": str(self.path),
            "images": self.images,
            "objects": self.objects,
            "classes": list(self.classes),
            "fast": self.fast,
            "defects": len(self.defects),
            "notes": len(self.findings) - len(self.defects),
            "counts": {name: times for name, _, times in self.by_rule()},
            "findings": [
                {
                    "file": finding.file,
                    "id": finding.id,
                    "rule": finding.rule,
                    "level": RULES[finding.rule].level,
                    "why": finding.why,
                    "cure": RULES[finding.rule].cure,
                }
                for finding in self.findings
            ],
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
    if images_root is not None and format not in ("coco", *TOOLS):
        raise SettingsError(f"{path} is {format}: its images have their place; leave --images out")
    if classes and format == "coco":
        raise SettingsError(f"{path} is coco: its file lists the classes; leave --classes out")
    # YOLO's root is resolved (root_of), and the ledger names files relative to it.
    home = home.resolve() if format == "yolo" else home
    ledger = Ledger(home if home.is_dir() else home.parent)
    images_root = None if images_root is None else Path(images_root)
    index = FORMATS[format](
        home, Asked(ledger, watch, tuple(classes) if classes else None, images_root)
    )
    if not fast:
        judge_pictures(index, ledger, watch)
    judge_splits(index, ledger)
    judge_boxes(index, ledger)
    judge_reach(index, ledger)
    judge_classes(index, ledger, home.name)
    judge_set_aside(index, ledger, home.name)
    judge_empty_pictures(index, ledger)
    images, objects = len(index.pictures), len(index.boxes.rows)
    return Report(format, path, images, objects, index.classes, fast, ledger.entries)


def _recognised(path: Path, format: str | None) -> tuple[str, Path]:
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    if format is not None and format not in FORMATS:
        raise DatasetError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    if path.is_file():
        if format == "voc":
            raise DatasetError(f"{path}: expected COCO's .json, YOLO's .yaml, or a VOC folder")
        return format or ("yolo" if is_yolo(path) else detect_format(path).format), path
    if format == "yolo":
        return format, _yaml_in(path)
    if format is not None:
        return format, path
    detected = detect_format(path)
    if detected.format not in FORMATS:
        raise DatasetError(f"{path}: the linter reads {', '.join(FORMATS)}, not {detected.format}")
    return detected.format, detected.path


# The file that a training would use; else any, whose faults the linter then tells.
def _yaml_in(folder: Path) -> Path:
    if (detected := yolo_in(folder)) is not None:
        return detected.path
    for path in sorted(folder.iterdir()):
        if is_yolo(path):
            return path
    raise DatasetError(f"{folder}: no .yaml file in it; name the file")
