"""tools/fit_priors.py and the lists of boxes that it reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_classifiers import exit_code, tool

from detector.datasets.box_lists import fractions, guessed_size, read_box_list
from detector.errors import AnnotationError

LIST = "2007_1.jpg 1 1 250 375 14 251 1 500 375 2\n\n2007_2.jpg 1 1 333 500 0\n2007_3.jpg\n"


def test_a_list_of_boxes_is_read_in_our_pixels(tmp_path: Path):
    (tmp_path / "boxes.txt").write_text(LIST)
    found = read_box_list(tmp_path / "boxes.txt")
    assert found["2007_1"].tolist() == [[0, 0, 250, 375], [250, 0, 500, 375]]
    assert found["2007_3"].shape == (0, 4)


@pytest.mark.parametrize("line", ["a.jpg 1 2 3", "a.jpg 1 2 three 4 5"])
def test_a_line_of_something_else_is_named(tmp_path: Path, line: str):
    (tmp_path / "boxes.txt").write_text(LIST + line)
    with pytest.raises(AnnotationError, match="line 5"):
        read_box_list(tmp_path / "boxes.txt")
    with pytest.raises(AnnotationError, match="list of boxes"):
        read_box_list(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("corner", "size"),
    [((500, 375), (375, 500)), ((333, 500), (500, 375)), ((450, 450), (500, 500)),
     ((10, 10), (375, 500)), ((640, 480), (480, 640))],
)  # fmt: skip
def test_an_unknown_size_is_the_commonest_frame_that_holds_the_boxes(corner, size):
    assert guessed_size(np.array([[0, 0, *corner]])) == size


def test_known_sizes_come_before_guesses():
    lists = {"a": np.array([[0, 0, 100, 100.0]]), "b": np.array([[0, 0, 500, 375.0]])}
    found = fractions(lists, {"a": (200, 400)})
    assert found.tolist() == [[0, 0, 0.25, 0.5], [0, 0, 1, 1]]


def test_the_report_judges_priors_by_other_images(tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    lines = []
    for image in range(60):
        corners = rng.integers(1, 200, (3, 2))
        boxes = np.concatenate([corners, corners + rng.integers(20, 170, (3, 2))], 1)
        words = " ".join(" ".join(map(str, [*box, 14])) for box in boxes)
        lines.append(f"2008_{image}.jpg {words}")
    (tmp_path / "boxes.txt").write_text("\n".join(lines))
    words = ["--boxes", tmp_path / "boxes.txt", "--counts", "2,20", "--out", tmp_path, "--quiet"]
    assert exit_code(tool("fit_priors").main, *words) == 0
    whole = json.loads((tmp_path / "priors.json").read_text())
    assert (whole["images"], whole["sizes_known"], whole["learnt_from"]) == (60, 0, 90)
    assert [row["priors"] for row in whole["priors"]] == [2, 20, 1420]
    two, twenty, grids = (row["mean_best_iou"] for row in whole["priors"])
    assert two < twenty < grids
    assert "1,420" in capsys.readouterr().out
    assert (tmp_path / "priors.png").stat().st_size > 1000


def test_images_of_like_names_all_count(tmp_path: Path):
    """Roboflow's copies of one photograph differ after a dot, and two data sets may share names."""
    xml = (
        "<annotation><size><width>100</width><height>80</height></size><object><name>mug</name>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        "</annotation>"
    )
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (root / f"a_jpg.rf.{i}.xml" for root in (one, two) for i in range(3)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(xml)
        Image.new("RGB", (100, 80)).save(path.with_suffix(".jpg"))
    all_boxes = tool("fit_priors").all_boxes
    groups, known = all_boxes([one, two], None, [])
    assert (len(groups), known) == (6, 6)
    (tmp_path / "list.txt").write_text("a_jpg.rf.1.jpg 1 1 50 40 14\nb.jpg 1 1 500 375 14\n")
    groups, known = all_boxes([one], None, [tmp_path / "list.txt"])
    assert (len(groups), known) == (4, 3)
    assert groups[1].tolist() == [[0, 0, 0.5, 0.5]]
    assert groups[3].tolist() == [[0, 0, 1, 1]]


def test_too_many_priors_and_no_source_are_usage_errors(tmp_path: Path, capsys):
    (tmp_path / "boxes.txt").write_text(LIST)
    run = tool("fit_priors").main
    assert exit_code(run, "--boxes", tmp_path / "boxes.txt", "--out", tmp_path, "--quiet") == 2
    assert "ask for at most" in capsys.readouterr().err
    assert exit_code(run, "--out", tmp_path) == 2
    assert exit_code(run, "--boxes", tmp_path / "boxes.txt", "--counts", "x") == 2
