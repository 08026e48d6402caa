"""tools/fit_ranking.py writes weights that the ranking reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from detector.proposals.selective_search import learned_ranking

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fit_ranking.py"


def _squares(root: Path, box: str) -> Path:
    """Three pictures in VOC's layout, a bright square in each."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        pixels = np.full((80, 100, 3), 60 + 10 * i, np.uint8)
        pixels[20:60, 30:70] = (220, 40, 40)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{i}.jpg", quality=95)
        (root / "Annotations" / f"{i}.xml").write_text(
            "<annotation><size><width>100</width><height>80</height></size>"
            f"<object><name>square</name><bndbox>{box}</bndbox></object></annotation>"
        )
    (root / "ImageSets/Main/train.txt").write_text("0\n1\n2\n")
    return root


def _run(data: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), "--data", str(data), "--split", "train", "--quiet"]
    return subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=False
    )


def test_weights_are_fitted_and_read(tmp_path: Path):
    box = "<xmin>31</xmin><ymin>21</ymin><xmax>70</xmax><ymax>60</ymax>"
    done = _run(_squares(tmp_path / "data", box), tmp_path / "weights.json")
    assert done.returncode == 0, done.stderr
    assert "3 images" in done.stdout
    assert np.isfinite(learned_ranking.read(tmp_path / "weights.json").linear).all()


def test_without_an_object_among_the_regions_it_says_so(tmp_path: Path):
    box = "<xmin>2</xmin><ymin>2</ymin><xmax>5</xmax><ymax>5</ymax>"
    done = _run(_squares(tmp_path / "data", box), tmp_path / "weights.json")
    assert done.returncode == 3
    assert "nothing to learn from" in done.stderr
    assert not (tmp_path / "weights.json").exists()
