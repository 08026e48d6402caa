"""Photographs in a large picture, and what was found there given back to them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets import read_dataset

TOOL = Path(__file__).resolve().parents[2] / "experiments" / "montage.py"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two photographs of 100 x 50 with a cat at (10, 20) to (30, 40)."""
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name in "ab":
        Image.fromarray(np.full((50, 100, 3), 99, np.uint8)).save(root / f"JPEGImages/{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(
            "<annotation><size><width>100</width><height>50</height></size><object><name>cat</name>"
            "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
            "</annotation>"
        )
    (root / "ImageSets/Main/val.txt").write_text("a\nb\n")
    return root


def _montage(*options: object) -> None:
    subprocess.run([sys.executable, TOOL, *map(str, options)], check=True, capture_output=True)


def test_labels_go_into_the_picture_and_detections_come_back(voc: Path, tmp_path: Path) -> None:
    data = ("--data", voc, "--split", "val", "--across", 2, "--side", 50)
    _montage(*data, "--out", tmp_path / "large")
    (sample,) = read_dataset(tmp_path / "large", "val").samples
    # Half as large, and the second one a cell further.
    assert sample.annotations.boxes.tolist() == [[5, 10, 15, 20], [55, 10, 65, 20]]
    row = {"image_id": sample.image_id, "category_name": "cat", "score": 0.5}
    file = tmp_path / "found.json"
    file.write_text(json.dumps([{**row, "bbox": box} for box in ([5, 10, 10, 10], [55, 0, 9, 5])]))
    _montage(*data, "--detections", file, "--out", tmp_path / "back.json")
    back = json.loads((tmp_path / "back.json").read_text())
    assert [(row["image_id"], row["bbox"]) for row in back] == [
        ("a", [10, 20, 20, 20]), ("b", [10, 0, 18, 10]),
    ]  # fmt: skip
