"""`--boxes`, another detector's boxes judged by a bundle, and `--tile`, windows of large images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_detector import save_detector

Command = Callable[..., tuple[Any, str, str]]
CAT = {"category_id": 17, "category_name": "cat", "bbox": [10, 20, 20, 20], "score": 0.9}
ZEBRA = {**CAT, "category_id": 24, "category_name": "zebra", "score": 0.7}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three images of 100 x 80 with a cat each, at 11..30, 21..40 in VOC's numbers."""
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for value, name in enumerate("abc"):
        pixels = np.full((80, 100, 3), 128, np.uint8)
        pixels[20:40, 10:30] = 50 * value
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(
            "<annotation><size><width>100</width><height>80</height></size><object><name>cat</name>"
            "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
            "</annotation>"
        )
    (root / "ImageSets/Main/val.txt").write_text("a\nb\nc\n")
    return root


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def detect(command: Command, bundle: Path, voc: Path, tmp_path: Path) -> Command:
    def call(*options: object) -> tuple[Any, str, str]:
        where = ("--weights", bundle, "--device", "cpu", "--out", tmp_path / "out")
        return command("detect", voc / "JPEGImages", *where, *options)

    return call


def test_detect_gives_the_boxes_of_a_file_three_scores(detect: Command, tmp_path: Path) -> None:
    boxes = written(
        tmp_path, {**CAT, "image_id": "a"}, {**ZEBRA, "image_id": "b"}, {**CAT, "image_id": "z"},
        {**CAT, "image_id": "b", "bbox": [200, 20, 5, 5]},
    )  # fmt: skip
    code, _, err = detect("--boxes", boxes, "--format", "yolo")
    assert code == 0
    assert "1 detection of 1 image not given here" in err
    assert "1 box is without area in its image" in err
    assert "do not know zebra" in err
    rows = {
        row["image_id"]: row for row in json.loads((tmp_path / "out/detections.json").read_text())
    }
    assert rows.keys() == {"a", "b"}
    cat, zebra = rows["a"], rows["b"]
    assert (cat["bbox"], cat["category_id"], cat["file_name"]) == ([10, 20, 20, 20], 17, "a.png")
    assert cat["score_detector"] == 0.9
    assert cat["score"] == pytest.approx((0.9 * cat["score_region"]) ** 0.5, abs=1e-5)
    assert (zebra["score"], zebra["score_region"], zebra["category_id"]) == (0.7, None, 24)
    # Labels of a tool count the file's classes, whatever its ids are: zebra is the second.
    (label,) = (tmp_path / "out/yolo").rglob("b.txt")
    assert label.read_text().split()[0] == "1"
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["classes"] == ["cat", "zebra"]
    assert run["proposals"]["file"] == str(boxes)
    assert {entry["proposals"] for entry in run["inputs"]} == {0, 1}
    # Below the threshold the false alarms go.
    detect("--boxes", boxes, "--threshold", "0.75", "--region-weight", "0")
    (only,) = json.loads((tmp_path / "out/detections.json").read_text())
    assert (only["image_id"], only["score"]) == ("a", 0.9)


def test_numbers_are_named_by_a_coco_file(detect: Command, tmp_path: Path) -> None:
    row = {"image_id": "a", "category_id": 17, "bbox": [10, 20, 20, 20], "score": 0.9}
    boxes, names = written(tmp_path, row), tmp_path / "coco.json"
    code, _, err = detect("--boxes", boxes)
    assert (code, "row 0 has no category_name" in err, "--categories FILE" in err) == (
        3,
        True,
        True,
    )
    names.write_text(
        json.dumps({"categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "x"}]})
    )
    assert detect("--boxes", boxes, "--categories", names)[0] == 0
    (row,) = json.loads((tmp_path / "out/detections.json").read_text())
    assert (row["category_id"], row["category_name"]) == (17, "cat")


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([{**CAT, "image_id": "z"}], [], "this run has a.png, b.png, c.png"),
        ([{**ZEBRA, "image_id": "a"}], [], "none of the classes of these boxes (zebra)"),
        ([{**CAT, "image_id": "a", "bbox": [0.1, 0.1, 0.2, 0.2]}], [], "shares of the image"),
        ([{**CAT, "image_id": "a", "score": -3}], [], "must be from 0 to 1"),
        ([], [], "holds no detections"),
        ([{**CAT, "image_id": "a"}], ["--tile", "64"], "changes nothing with boxes"),
        ([{**CAT, "image_id": "a"}], ["--proposals", "opencv"], "changes nothing with boxes"),
    ],
)
def test_boxes_that_cannot_be_judged_are_a_sentence(
    detect: Command, tmp_path: Path, rows: list[Any], options: list[str], said: str
) -> None:
    code, _, err = detect("--boxes", written(tmp_path, *rows), *options)
    assert code in (2, 3)
    assert said in err
    assert len(err.splitlines()) <= 3


def test_evaluate_tells_the_map_before_and_after(
    command: Command, bundle: Path, voc: Path, tmp_path: Path
) -> None:
    rows = [{**CAT, "image_id": name} for name in "abc"]
    boxes = written(tmp_path, *rows, {**CAT, "image_id": "a", "bbox": [50, 50, 20, 20], "score": 1})
    data = ("--data", voc, "--split", "val", "--classes", "weights", "--weights", bundle)
    options = (*data, "--boxes", boxes, "--rounds", 20, "--out", tmp_path / "out", "--quiet")
    code, said, err = command("evaluate detections", *options, "--region-weight", "0")
    assert (code, err) == (0, "")
    lines = said.splitlines()
    # One false alarm above three right ones: precision 3/4 all along.
    for name in ("its scores", "fused     "):
        assert any(line.startswith(f"{name} mAP 75.0") for line in lines)
    assert any(line.startswith("ours       mAP") for line in lines)
    assert any(line.startswith("difference     0.0") for line in lines)
    content = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert (content["boxes"], content["region_weight"]) == (str(boxes), 0.0)
    assert (tmp_path / "out/comparison.json").is_file()
    # The regions are kept: another weight runs no network.
    before = sorted((tmp_path / "out/regions").rglob("*.npz"))
    stamps = [entry.stat().st_mtime_ns for entry in before]
    assert command("evaluate detections", *options)[0] == 0
    assert [entry.stat().st_mtime_ns for entry in before] == stamps
    rows = json.loads((tmp_path / "out/detections.json").read_text())
    assert {row["score_detector"] for row in rows} == {0.9, 1.0}
    code, said, _ = command("evaluate detections", *options, "--protocol", "coco")
    assert code == 2  # rounds, of which COCO's protocol has none
    code, said, _ = command(
        "evaluate detections", *data, "--boxes", boxes, "--protocol", "coco", "--out",
        tmp_path / "out",
    )  # fmt: skip
    assert code == 0
    assert "fused      mAP" in said


def test_tiles_find_more_regions_and_are_refused_with_given_ones(
    command: Command, bundle: Path, voc: Path, tmp_path: Path
) -> None:
    def regions(*options: object) -> set[int]:
        where = ("--weights", bundle, "--device", "cpu", "--out", tmp_path / "out")
        assert command("detect", voc / "JPEGImages", *where, *options)[0] == 0
        run = json.loads((tmp_path / "out/run.json").read_text())
        return {entry["proposals"] for entry in run["inputs"]}

    assert max(regions()) < max(regions("--tile", "64"))
    data = ("--data", voc, "--split", "val", "--classes", "weights", "--weights", bundle)
    out = ("--out", tmp_path / "ev", "--rounds", 0)
    assert command("evaluate detections", *data, *out, "--tile", "64")[0] == 0
    code, _, err = command(
        "evaluate detections", *data, *out, "--tile", "64", "--proposals",
        tmp_path / "ev/proposals.sqlite",
    )  # fmt: skip
    assert code != 0
    assert "tile=64 looks for regions in windows" in err
