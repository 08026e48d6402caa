"""The linter's fast pass over an index as large as COCO's: made up, with defects put in."""

import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benches.timing import clocks, machine
from detector.datasets.check import lint

CLASSES, DEFECTS = 80, 100


def measure(images: int, objects: int) -> dict[str, Any]:
    """Seconds and memory of one pass. Raises RuntimeError unless it finds every defect."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_index(Path(folder), images, objects)
        size = path.stat().st_size
        before = clocks()
        report = lint(path, fast=True)
        wall, processor = np.subtract(clocks(), before).round(1).tolist()
    # The time of a pass that misses something would mean nothing.
    if (report.images, len(report.defects)) != (images, DEFECTS):
        raise RuntimeError(f"{report.images} images and {len(report.defects)} defects were found")
    about = {"images": report.images, "objects": report.objects, "megabytes": round(size / 1e6, 1)}
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    row = {"wall seconds": wall, "processor seconds": processor, "peak megabytes": peak}
    return {"about": machine() | about, "tables": {"pass": {"--fast": row}}}


def write_index(folder: Path, images: int, objects: int) -> Path:
    """Write an instances file with boxes and outlines, and one byte as each image's file."""
    rng = np.random.default_rng(0)
    (folder / "train").mkdir()
    names = [f"{one:012d}.jpg" for one in range(images)]
    for name in names:
        (folder / "train" / name).write_bytes(b"x")
    corner = rng.uniform(0, 300, (objects, 2)).round(2)
    sides = rng.uniform(5, 150, (objects, 2)).round(2)
    sides[:DEFECTS] = 0  # boxes without area
    owner = rng.integers(0, images, objects)
    label = rng.integers(1, CLASSES + 1, objects)
    boxes = np.concatenate([corner, sides], 1).tolist()
    content = {
        "images": [
            {"id": i, "file_name": name, "width": 640, "height": 480}
            for i, name in enumerate(names)
        ],
        "annotations": [],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)],
    }
    path = folder / "annotations" / "instances_train.json"
    path.parent.mkdir()
    whole = json.dumps(content)
    with path.open("w") as file:  # a row at a time: the linter's memory is what is measured
        before, after = whole.split('"annotations": []')
        file.write(f'{before}"annotations": [')
        for i, (x, y, w, h) in enumerate(boxes):
            row = {
                "id": i, "image_id": int(owner[i]), "category_id": int(label[i]), "iscrowd": 0,
                "bbox": [x, y, w, h], "area": w * h,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }  # fmt: skip
            file.write((", " if i else "") + json.dumps(row))
        file.write(f"]{after}")
    return path
