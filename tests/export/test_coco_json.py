"""Saved detections: the layout, the rounding, and what is refused on the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets import Dataset, Sample
from detector.errors import AnnotationError, DetectorError, EvaluationError
from detector.export.coco_json import (
    detection_rows,
    read_detections,
    write_detections,
    write_results,
)
from detector.structures import Annotations, Detections

ROW = {
    "image_id": "2008_01",
    "file_name": "2008_01.jpg",
    "category_id": 2,
    "category_name": "dog",
    "bbox": [1.0, 2.0, 3.0, 4.0],
    "score": 0.5,
}


@pytest.fixture
def dataset() -> Dataset:
    samples = [
        Sample(name, Path(f"images/{name}.jpg"), (100, 100), Annotations.empty())
        for name in ("2008_01", "000012", "42")
    ]
    return Dataset("toy", ("cat", "dog"), tuple(samples))


def saved(folder: Path, content: Any) -> Path:
    path = folder / "detections.json"
    path.write_text(json.dumps(content))
    return path


def test_a_row_has_the_promised_fields_best_first() -> None:
    found = Detections([[0, 0, 9, 9], [1, 2, 4, 6.125]], [0.25, 0.12345678], [0, 1])
    rows = detection_rows("2008_01", "2008_01.jpg", found, ["cat", "dog"])
    assert rows[1] == {**ROW, "bbox": [1.0, 2.0, 3.0, 4.12], "score": 0.123457}
    assert [row["category_name"] for row in rows] == ["cat", "dog"]
    assert [row["score"] for row in rows] == [0.25, 0.123457]


def test_ids_are_the_data_sets_own_and_numbers_where_they_are_numbers() -> None:
    found = Detections([[0, 0, 9, 9]], [0.5], [1])
    assert detection_rows("42", "x", found, ["a", "b"], (3, 90))[0]["category_id"] == 90
    assert detection_rows("42", "x", found, ["a", "b"])[0]["image_id"] == 42
    assert detection_rows("000012", "x", found, ["a", "b"])[0]["image_id"] == "000012"


def test_writing_and_reading_gives_the_detections_back(tmp_path: Path, dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    results = {}
    for sample in dataset.samples:
        low = np.round(rng.uniform(0, 50, (6, 2)), 2)
        boxes = np.concatenate([low, low + np.round(rng.uniform(1, 50, (6, 2)), 2)], 1)
        scores = np.sort(np.round(rng.random(6), 6))[::-1]
        results[sample.image_id] = Detections(boxes, scores, rng.integers(0, 2, 6))
    write_results(tmp_path / "a.json", dataset, results)
    back = read_detections(tmp_path / "a.json", dataset)
    assert set(back) == set(results)
    for image_id, found in results.items():
        assert back[image_id].boxes == pytest.approx(found.boxes, abs=0.006)
        assert back[image_id].scores.tolist() == found.scores.tolist()
        assert back[image_id].labels.tolist() == found.labels.tolist()
    write_results(tmp_path / "b.json", dataset, back)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_nothing_found_is_an_empty_list(tmp_path: Path, dataset: Dataset) -> None:
    write_detections(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []
    assert read_detections(tmp_path / "none.json", dataset) == {}


def test_a_tiny_box_keeps_an_area(tmp_path: Path, dataset: Dataset) -> None:
    found = Detections([[5, 5, 5.001, 5.001]], [0.5], [0])
    write_results(tmp_path / "a.json", dataset, {"42": found})
    assert len(read_detections(tmp_path / "a.json", dataset)["42"]) == 1


@pytest.mark.parametrize(
    ("change", "image"),
    [
        ({}, "2008_01"),
        ({"image_id": 42}, "42"),
        ({"image_id": 7, "file_name": "elsewhere/000012.png"}, "000012"),  # by the file's stem
        ({"image_id": None, "file_name": "42.jpg"}, "42"),
    ],
)
def test_an_image_is_found_by_id_or_file_name(
    tmp_path: Path, dataset: Dataset, change: dict[str, Any], image: str
) -> None:
    path = saved(tmp_path, [{**ROW, **change}])
    assert list(read_detections(path, dataset)) == [image]


def test_a_class_is_found_by_name_and_without_one_by_id(tmp_path: Path, dataset: Dataset) -> None:
    by_name = {**ROW, "category_id": 77}
    by_id = {key: value for key, value in ROW.items() if key != "category_name"}
    for row in (by_name, by_id):
        found = read_detections(saved(tmp_path, [row]), dataset)["2008_01"]
        assert found.labels.tolist() == [1]
        assert found.boxes.tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"annotations": []}, AnnotationError, "a list of detections"),
        ([7], AnnotationError, "row 0 is not an object"),
        ([{**ROW, "bbox": [1, 2, 3]}], AnnotationError, "row 0 needs a bbox"),
        ([{**ROW, "bbox": [1, 2, 3, float("nan")]}], AnnotationError, "four finite numbers"),
        ([{**ROW, "bbox": [1, 2, 3, 10**400]}], AnnotationError, "four finite numbers"),
        ([{**ROW, "bbox": [1, 2, 0, 3]}], AnnotationError, "without area"),
        ([{**ROW, "bbox": [9e8, 2, 1e-6, 3]}], AnnotationError, "no area"),  # gone in float32
        ([{**ROW, "score": None}], AnnotationError, "and a score"),
        ([{**ROW, "score": True}], AnnotationError, "and a score"),
        ([ROW, {**ROW, "image_id": 7, "file_name": "z.jpg"}], EvaluationError, "row 1 is of image"),
        ([{**ROW, "category_name": "zebra"}], EvaluationError, "zebra.*class lists must match"),
        ([{**ROW, "category_name": None, "category_id": 9}], EvaluationError, "category 9"),
        ([{**ROW, "category_name": None, "category_id": None}], AnnotationError, "category_id or"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    tmp_path: Path,
    dataset: Dataset,
    content: Any,
    error: type[DetectorError],
    message: str,
) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(error, match=message) as refused:
        read_detections(path, dataset)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_names_are_escaped(tmp_path: Path) -> None:
    found = Detections([[0, 0, 9, 9]], [0.5], [0])
    write_detections(tmp_path / "a.json", detection_rows("é\n", 'a"\n.jpg', found, ["cat"]))
    text = (tmp_path / "a.json").read_bytes()
    assert text.isascii()
    assert text.count(b"\n") == 3
    assert json.loads(text)[0]["file_name"] == 'a"\n.jpg'
