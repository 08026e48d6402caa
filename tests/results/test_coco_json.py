"""Saved detections: the layout, the rounding, and what is refused on the way back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets import Dataset, Dropped, Sample
from detector.errors import AnnotationError, DetectorError, EvaluationError
from detector.results.coco_json import (
    detection_rows,
    ids_of_one_type,
    write_detections,
    write_results,
)
from detector.results.results import read_results
from detector.results.unmatched import Unmatched
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


def test_ids_of_classes_are_the_data_sets_own() -> None:
    found = Detections([[0, 0, 9, 9]], [0.5], [1])
    assert detection_rows(42, "x", found, ["a", "b"], (3, 90))[0]["category_id"] == 90
    assert detection_rows(42, "x", found, ["a", "b"])[0]["category_id"] == 2
    large = detection_rows(42, "x", found, ["a", "b"], (3, 2**53 + 1))
    assert large[0]["category_id"] == str(2**53 + 1)  # JavaScript would read another number


@pytest.mark.parametrize("other", ["000012", "-1", "1.0", "", "x", " 7", "\u0661", str(2**53 + 1)])
def test_ids_of_images_are_all_numbers_or_all_text(other: str, tmp_path: Path) -> None:
    most = str(2**53)
    assert ids_of_one_type(["0", "42", most]) == {"0": 0, "42": 42, most: 2**53}
    assert ids_of_one_type(["42", other]) == {"42": "42", other: other}
    samples = [Sample(one, Path("x.jpg"), None, Annotations.empty()) for one in ("42", other)]
    found = Detections([[0, 0, 9, 9]], [0.5], [0])
    write_results(tmp_path / "a.json", Dataset("toy", ("cat",), tuple(samples)), {"42": found})
    assert json.loads((tmp_path / "a.json").read_text())[0]["image_id"] == "42"


def test_writing_and_reading_gives_the_detections_back(tmp_path: Path, dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    results = {}
    for sample in dataset.samples:
        low = np.round(rng.uniform(0, 50, (6, 2)), 2)
        boxes = np.concatenate([low, low + np.round(rng.uniform(1, 50, (6, 2)), 2)], 1)
        scores = np.sort(np.round(rng.random(6), 6))[::-1]
        results[sample.image_id] = Detections(boxes, scores, rng.integers(0, 2, 6))
    write_results(tmp_path / "a.json", dataset, results)
    back = read_results(tmp_path / "a.json", dataset)
    assert set(back) == set(results)
    for image_id, found in results.items():
        assert back[image_id].boxes == pytest.approx(found.boxes, abs=0.006)
        assert back[image_id].scores == pytest.approx(found.scores, abs=1e-7)
        assert back[image_id].labels.tolist() == found.labels.tolist()
    write_results(tmp_path / "b.json", dataset, back)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_nothing_found_is_an_empty_list(tmp_path: Path, dataset: Dataset) -> None:
    write_detections(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []
    assert read_results(tmp_path / "none.json", dataset) == {}


def test_a_tiny_box_keeps_an_area(tmp_path: Path, dataset: Dataset) -> None:
    found = Detections([[5, 5, 5.001, 5.001]], [0.5], [0])
    write_results(tmp_path / "a.json", dataset, {"42": found})
    assert len(read_results(tmp_path / "a.json", dataset)["42"]) == 1


@pytest.mark.parametrize(
    ("change", "image"),
    [
        ({}, "2008_01"),
        ({"image_id": 42}, "2008_01"),  # the file name decides
        ({"image_id": 42, "file_name": None}, "42"),
        ({"image_id": 42.0, "file_name": ""}, "42"),
        ({"image_id": "12", "file_name": None}, "000012"),
        ({"image_id": 7, "file_name": "elsewhere/000012.png"}, "000012"),  # by the file's stem
        ({"image_id": None, "file_name": "42.jpg"}, "42"),
    ],
)
def test_an_image_is_found_by_id_or_file_name(
    tmp_path: Path, dataset: Dataset, change: dict[str, Any], image: str
) -> None:
    path = saved(tmp_path, [{**ROW, **change}])
    assert list(read_results(path, dataset)) == [image]


def test_a_class_is_found_by_name_and_without_one_by_id(tmp_path: Path, dataset: Dataset) -> None:
    by_name = {**ROW, "category_id": 77}
    by_id = {key: value for key, value in ROW.items() if key != "category_name"}
    for row in (by_name, by_id):
        found = read_results(saved(tmp_path, [row]), dataset)["2008_01"]
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
        ([{**ROW, "bbox": [1, 2, -1e-9, 3]}], AnnotationError, "row 0 has a negative side"),
        ([{**ROW, "bbox": [1, 2, 3, "4"]}], AnnotationError, "four finite numbers"),
        ([{**ROW, "score": None}], AnnotationError, "and a score"),
        ([{**ROW, "score": True}], AnnotationError, "and a score"),
        ([{**ROW, "image_id": None, "file_name": ""}], AnnotationError, "row 0 needs an image_id"),
        ([{**ROW, "file_name": "z.jpg"}], EvaluationError, "of an image .*z.jpg.*choose the data"),
        ([{**ROW, "category_name": "zebra"}], EvaluationError, "zebra.*class lists must match"),
        ([{**ROW, "category_name": None, "category_id": 9}], EvaluationError, "category 9"),
        ([{**ROW, "image_id": "12", "file_name": "12/x"}], EvaluationError, "12/x"),
        ([{**ROW, "category_name": None, "category_id": None}], AnnotationError, "category_id or"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    tmp_path: Path, dataset: Dataset, content: Any, error: type[DetectorError], message: str
) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(error, match=message) as refused:
        read_results(path, dataset)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_what_the_data_set_lacks_is_counted_while_something_is_left(
    tmp_path: Path, dataset: Dataset
) -> None:
    left_out = Dropped("7.xml", "7", "wrong-size", "...")
    dataset = replace(dataset, dropped=(left_out,))
    rows = [
        ROW,
        {**ROW, "image_id": 7, "file_name": "7.jpg"},
        {**ROW, "image_id": 7, "file_name": None, "category_name": "zebra"},
        {**ROW, "file_name": "z.jpg"},
        {**ROW, "category_name": "zebra"},
        {**ROW, "category_name": None, "category_id": 9.0},
    ]
    unmatched = Unmatched()
    assert len(read_results(saved(tmp_path, rows), dataset, unmatched)["2008_01"]) == 1
    assert unmatched.counts() == {
        "detections_of_other_images": 3, "detections_of_other_classes": 2,
    }  # fmt: skip
    assert unmatched.sentence(dataset) == (
        "2 detections are of an image that toy lists but leaves out (wrong-size): '7';"
        " 1 detection is of an image that toy does not have or leaves out: 'z.jpg';"
        " 2 detections are of 2 classes that toy does not have: 'zebra', 'category 9'"
    )
    assert Unmatched().sentence(dataset) == ""


def test_a_number_is_never_the_name_of_a_class(tmp_path: Path, dataset: Dataset) -> None:
    digits = replace(dataset, classes=("0", "1"), category_ids=(1, 2))
    rows = [{**ROW, "category_name": None, "category_id": one} for one in (1, "2", 2.0, 0)]
    unmatched = Unmatched()
    found = read_results(saved(tmp_path, rows), digits, unmatched)
    assert found["2008_01"].labels.tolist() == [0, 1, 1]
    assert unmatched.classes == {"category 0": 1}


def test_numbers_stay_as_the_file_has_them(tmp_path: Path, dataset: Dataset) -> None:
    box, score = [0.1, 123456.7, 0.0, 1e-9], 0.1234567891234
    found = read_results(saved(tmp_path, [{**ROW, "bbox": box, "score": score}]), dataset)
    assert found["2008_01"].xywh.tolist() == [box]
    assert found["2008_01"].scores.tolist() == [score]
    write_results(tmp_path / "b.json", dataset, found)
    assert json.loads((tmp_path / "b.json").read_text())[0]["bbox"] == [0.1, 123456.7, 0.0, 0.01]


def test_names_are_escaped(tmp_path: Path) -> None:
    found = Detections([[0, 0, 9, 9]], [0.5], [0])
    write_detections(tmp_path / "a.json", detection_rows("é\n", 'a"\n.jpg', found, ["cat"]))
    text = (tmp_path / "a.json").read_bytes()
    assert text.isascii()
    assert text.count(b"\n") == 3
    assert json.loads(text)[0]["file_name"] == 'a"\n.jpg'
