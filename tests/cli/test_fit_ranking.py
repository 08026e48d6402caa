"""tools/fit_ranking.py writes weights that the ranking reads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_classifiers import exit_code, tool

import detector.datasets
from detector.datasets import Sample, read_dataset
from detector.proposals.selective_search import learned_ranking
from detector.structures import Annotations, Array

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


def test_a_place_is_made_or_refused_before_the_work(tmp_path: Path, monkeypatch, capsys):
    data = _squares(tmp_path / "data", "")
    module = tool("fit_ranking")
    monkeypatch.setattr(module, "examples", lambda *_: pytest.fail("it began"))
    words = ["--data", data, "--split", "train", "--quiet", "--out", tmp_path]
    assert exit_code(module.main, *words) == 3
    assert "Is a directory" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_is_said_and_the_rest_go_on(tmp_path: Path):
    box = "<xmin>31</xmin><ymin>21</ymin><xmax>70</xmax><ymax>60</ymax>"
    data = _squares(tmp_path / "data", box)
    (data / "JPEGImages" / "1.jpg").write_bytes(b"no picture")
    done = _run(data, tmp_path / "new" / "weights.json")
    assert done.returncode == 0
    assert "1.jpg" in done.stderr
    assert "2 images" in done.stdout
    assert (tmp_path / "new" / "weights.json").is_file()


class FiveRegions:
    """The object twice, a difficult one, one in a crowd, and one of nothing; numbered."""

    def box_features(self, image: Array) -> tuple[Array, Array]:
        boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [50, 50, 60, 60], [0, 80, 9, 90]]
        return np.array(boxes, np.float32), np.arange(5)[:, None]


def test_regions_on_what_does_not_count_teach_nothing(tmp_path: Path, monkeypatch):
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    boxes = [[20, 0, 30, 10], [40, 40, 90, 90], [0, 0, 10, 10]]
    truth = Annotations(boxes, [0, 0, 0], [True, False, False], [False, True, False])
    sample = Sample("a", tmp_path / "a.png", (100, 100), truth)
    numbers, is_object, weight = tool("fit_ranking").examples(sample, FiveRegions(), 0.7)
    assert numbers.ravel().tolist() == [0, 1, 4]
    assert is_object.tolist() == [True, True, False]
    assert weight.tolist() == [4, 4, 1]


def test_images_in_which_objects_may_be_unboxed_teach_nothing(tmp_path: Path, monkeypatch, capsys):
    box = "<xmin>31</xmin><ymin>21</ymin><xmax>70</xmax><ymax>60</ymax>"
    partial = read_dataset(_squares(tmp_path / "data", box), "train").partial(())
    monkeypatch.setattr(detector.datasets, "read_dataset", lambda *_: partial)
    words = ["--data", tmp_path, "--out", tmp_path / "weights.json"]
    assert exit_code(tool("fit_ranking").main, *words) == 3
    assert "nothing to learn from" in capsys.readouterr().err
