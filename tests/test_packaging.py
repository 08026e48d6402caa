"""What a program that uses the package sees of it: types, also from an editable install, and the
README's own lines.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
USER = """
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from detector import (
    Detections, Detector, compare, diagnose, evaluate, load_detector, read_dataset, read_image
)

detect: Detector = load_detector()
pixels = read_image("street.jpg")
forms = (pixels, "a.jpg", Path("a.jpg"), Image.open("a.jpg"), torch.zeros(3, 8, 9))
for image in forms:
    found: Detections = detect(image)
for box, score, label in found:
    corners: list[float] = box.tolist()
    print(found.classes[label].upper(), score.is_integer(), label.bit_length(), corners)
best: Detections = found[found.scores > 0.5][:3].filter(classes=["cat"], score=0.5)
best.draw("street.jpg").save("drawn.jpg")
best.save(Path("street.json"), image_id=3)
boxes: torch.Tensor = best.to_torch()["boxes"]
rows: list[dict[str, object]] = best.to_coco("street")
mask = np.asarray(found.labels == 1)
for many in detect.detect_many(["a.jpg", "b.jpg"]):
    print(len(many[mask]), many.to_pandas(), many.to_supervision())
dataset = read_dataset("VOC2012", "val")
for given in (detect, "out", Path("found.csv"), {"a": found}):
    result = evaluate("VOC2012", given, "coco", split="val", rounds=100, seed=1)
if result.interval is not None:
    print(result.mean_ap.hex(), result.interval.low.hex())
for one in result.per_class:
    print(one.name.upper(), one.ap.hex(), one.interval and one.interval.high.hex(), one.curve())
result.plot("curves.png")
text: str = result.to_json({"mine": 1})
print(compare(dataset, {}, {"a": found}).p_worse.hex(), diagnose(dataset, {"a": found}).misses())
"""
"""A program of somebody who checks types strictly."""


def test_an_editable_install_is_a_path_that_type_checkers_follow(tmp_path: Path) -> None:
    """Not an import hook, which only a running program can follow."""
    pytest.importorskip("setuptools")
    project, out = tmp_path / "project", tmp_path / "out"
    (project / "detector").mkdir(parents=True)
    out.mkdir()
    for name in ("pyproject.toml", "README.md", "detector/__init__.py", "detector/py.typed"):
        shutil.copy(ROOT / name, project / name)
    build = f"from setuptools import build_meta; build_meta.build_editable({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=project, capture_output=True, check=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as built:
        found = {name: built.read(name).decode() for name in built.namelist() if "/" not in name}
    (path,) = found.values()
    assert Path(path.strip()) == project


@pytest.mark.slow
def test_what_the_readme_shows_in_python_passes_the_strictest_check(tmp_path: Path) -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(shown) >= 2
    given = "import numpy as np\n\nimage = np.zeros((40, 50, 3), np.uint8)\n"
    (tmp_path / "readme.py").write_text("\n".join([given, *shown]))
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "readme.py", "user.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
