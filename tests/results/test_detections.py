"""Detections as a program uses them: a loop, rows chosen, other libraries' forms, a picture."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.datasets import read_dataset
from detector.errors import ImageError, SettingsError
from detector.results.coco_json import detection_rows
from detector.results.results import read_results
from detector.structures import Detections

BOXES = [[1, 2, 11, 22], [5, 5, 30, 20], [0, 0, 8, 8]]
FOUND = Detections(BOXES, [0.9, 0.5, 0.25], [1, 0, 1], classes=("dog", "cat"))
"""A cat, a dog and a smaller cat."""
BARE = replace(FOUND, classes=())
"""The same without names, as a file's results are."""


def test_a_loop_gives_box_score_and_label() -> None:
    rows = [(box.tolist(), score, label) for box, score, label in FOUND]
    assert rows == [(BOXES[0], pytest.approx(0.9), 1), (BOXES[1], 0.5, 0), (BOXES[2], 0.25, 1)]
    box, score, label = next(iter(FOUND))
    assert (box.shape, box.dtype, type(score), type(label)) == ((4,), np.float32, float, int)
    assert list(Detections.empty()) == []


@pytest.mark.parametrize(
    "keep", [0, slice(0, 1), [0], np.array([True, False, False]), FOUND.scores > 0.6]
)
def test_the_names_go_with_the_rows(keep: object) -> None:
    one = FOUND[keep]
    assert (one.classes, one.labels.tolist()) == (("dog", "cat"), [1])


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="label 2 has no name; there are 2 classes"):
        Detections(BOXES[:1], [0.9], [2], classes=("dog", "cat"))


@pytest.mark.parametrize(
    ("classes", "score", "kept"),
    [
        (["cat"], 0.0, [0, 2]),
        ("cat", 0.0, [0, 2]),  # a name is not its letters
        (["cat"], 0.5, [0]),
        (None, 0.5, [0, 1]),  # at least, as score_threshold counts
        (["dog", "cat"], 0.0, [0, 1, 2]),
        ([], 0.0, []),
        (("dog",), 0.6, []),
    ],
)
def test_rows_are_chosen_by_class_and_score(
    classes: str | list[str] | None, score: float, kept: list[int]
) -> None:
    assert FOUND.filter(classes=classes, score=score).boxes.tolist() == FOUND.boxes[kept].tolist()


def test_a_class_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"no class 'Cat' .*: dog, cat"):
        FOUND.filter(classes=["Cat"])
    with pytest.raises(SettingsError, match="not known here"):
        BARE.filter(classes=["cat"])


def test_torchvision_s_dictionary() -> None:
    found = FOUND.to_torch()
    assert {name: (one.dtype, tuple(one.shape)) for name, one in found.items()} == {
        "boxes": (torch.float32, (3, 4)),
        "labels": (torch.int64, (3,)),
        "scores": (torch.float32, (3,)),
    }
    assert found["labels"].tolist() == [1, 0, 1]
    found["boxes"][0] = 0  # a copy
    assert FOUND.boxes[0].tolist() == BOXES[0]
    assert Detections.empty().to_torch()["boxes"].shape == (0, 4)


def test_a_table_of_pandas() -> None:
    pytest.importorskip("pandas")
    table = FOUND.to_pandas()
    assert list(table.columns) == ["label", "class", "score", "x1", "y1", "x2", "y2"]
    assert table["class"].tolist() == ["cat", "dog", "cat"]
    assert table[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == BOXES
    assert "class" not in BARE.to_pandas()
    assert len(Detections.empty().to_pandas()) == 0


@pytest.mark.filterwarnings("default")
def test_the_detections_of_supervision() -> None:
    pytest.importorskip("supervision")
    found = FOUND.to_supervision()
    assert found.xyxy.tolist() == BOXES
    assert found.class_id.tolist() == [1, 0, 1]
    assert found.confidence.tolist() == FOUND.scores.tolist()
    assert found.data["class_name"].tolist() == ["cat", "dog", "cat"]
    assert len(found[found.confidence > 0.6]) == 1
    assert "class_name" not in BARE.to_supervision().data
    assert len(FOUND[[]].to_supervision()) == len(Detections.empty().to_supervision()) == 0


@pytest.mark.parametrize("library", ["pandas", "supervision"])
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SettingsError, match=f"pip install {library}"):
        getattr(FOUND, f"to_{library}")()


def test_a_saved_file_is_coco_s_results_and_evaluation_reads_it(tmp_path: Path) -> None:
    image = tmp_path / "street.png"
    Image.new("RGB", (40, 30)).save(image)
    FOUND[:2].save(tmp_path / "street.json")
    assert json.loads((tmp_path / "street.json").read_text()) == [
        {"image_id": "street", "category_id": 2, "category_name": "cat",
         "bbox": [1, 2, 10, 20], "score": 0.9},
        {"image_id": "street", "category_id": 1, "category_name": "dog",
         "bbox": [5, 5, 25, 15], "score": 0.5},
    ]  # fmt: skip
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({
        "images": [{"id": 0, "file_name": "street.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 2, "bbox": [1, 2, 10, 20],
                         "area": 200, "iscrowd": 0}],
    }))  # fmt: skip
    FOUND.save(tmp_path / "rows.json", image_id=0, file_name="street.png")
    ((_, read),) = read_results(tmp_path / "rows.json", read_dataset(truth)).items()
    assert read.boxes.tolist() == BOXES
    assert read.labels.tolist() == [1, 0, 1]


def test_rows_are_those_that_the_command_writes_with_names_or_without() -> None:
    named = FOUND.to_coco(7, "a.jpg")
    assert named == detection_rows(7, "a.jpg", BARE, ("dog", "cat"))
    assert BARE.to_coco(7) == [
        {key: value for key, value in row.items() if key not in ("file_name", "category_name")}
        for row in named
    ]
    assert [row["category_id"] for row in FOUND.to_coco(7, None, (18, 17))] == [17, 18, 17]
    assert Detections.empty().to_coco(7) == []


def test_what_is_not_saved_is_told_with_what_does(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.csv", "a"):
        with pytest.raises(SettingsError, match=r"found\.draw\(image\)\.save"):
            FOUND.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found", [FOUND, BARE], ids=["named", "bare"])
def test_a_picture_is_drawn_on_whatever_the_detector_takes(
    found: Detections, tmp_path: Path
) -> None:
    pixels = np.full((60, 80, 3), 90, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    forms = [pixels, Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png"),
             torch.from_numpy(pixels).permute(2, 0, 1)]  # fmt: skip
    drawn = [np.asarray(found.draw(form)) for form in forms]
    assert all((one == drawn[0]).all() for one in drawn[1:])
    assert (drawn[0] != pixels).any()
    assert (pixels == 90).all()
    with pytest.raises(ImageError):
        found.draw(None)  # type: ignore[arg-type]
