"""Reading COCO's instances JSON: coordinates, ids, real files, and every defect."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from dataset_files import coco_content, coco_image, coco_object, write_coco, write_image

from detector.boxes import coco_from_xyxy
from detector.datasets import read_coco
from detector.datasets.check import lint
from detector.datasets.formats.coco import read_json
from detector.errors import AnnotationError, DatasetError


def test_corner_and_size_become_two_corners(tmp_path: Path) -> None:
    crowd = coco_object(2, category_id=3, bbox=[0, 0, 100, 80], iscrowd=1, area=1234.5)
    dataset = read_coco(write_coco(tmp_path, coco_content((), [coco_object(), crowd])))
    (sample,) = dataset.samples
    assert sample.annotations.boxes.tolist() == [[10, 20, 30, 40], [0, 0, 100, 80]]
    assert coco_from_xyxy(sample.annotations.boxes).tolist()[0] == [10, 20, 20, 20]
    assert sample.annotations.crowd.tolist() == [False, True]
    assert sample.annotations.areas.tolist() == [400, 1234.5]  # the outline's where it is given
    assert (sample.image_id, sample.size) == ("1", (80, 100))
    assert sample.path == tmp_path / "train" / "1.jpg"


def test_labels_follow_the_category_ids_whatever_their_holes(tmp_path: Path) -> None:
    dataset = read_coco(write_coco(tmp_path, coco_content((), [coco_object()])))
    assert dataset.classes == ("car", "cat")
    assert dataset.category_ids == (3, 17)
    assert dataset.samples[0].annotations.labels.tolist() == [1]


def test_names_that_a_windows_program_wrote_are_found(tmp_path: Path) -> None:
    content = coco_content([coco_image(1, "train\\1.jpg")], [coco_object()])
    (sample,) = read_coco(write_coco(tmp_path, content, "result.json")).samples
    assert sample.path == tmp_path / "train" / "1.jpg"
    assert lint(tmp_path).defects == []


@pytest.mark.skipif(os.name == "nt", reason="there a backslash parts folders")
def test_a_file_whose_own_name_holds_a_backslash_is_found(tmp_path: Path) -> None:
    """As an archive from Windows leaves it, unpacked elsewhere."""
    path = write_coco(tmp_path, coco_content([coco_image(1, "images\\a.jpg")], [coco_object()]))
    write_image(tmp_path / "train" / "a.jpg").rename(tmp_path / "train" / "images\\a.jpg")
    (sample,) = read_coco(path).samples
    assert sample.path.name == "images\\a.jpg"
    assert lint(tmp_path).defects == []


def test_images_without_objects_are_samples_too(tmp_path: Path) -> None:
    images = [coco_image(2, "2.jpg"), coco_image(1, "1.jpg")]
    dataset = read_coco(write_coco(tmp_path, coco_content(images, [coco_object()])))
    assert [(one.image_id, len(one.annotations)) for one in dataset.samples] == [("2", 0), ("1", 1)]


@pytest.mark.parametrize(
    ("part", "objects", "crowds"), [("val2017", 815, 11), ("train2017", 705, 6)]
)
def test_real_files_are_read_whole(shared_data: Path, part: str, objects: int, crowds: int) -> None:
    dataset = read_coco(shared_data / "coco_tiny" / "annotations" / f"instances_{part}.json")
    truths = [one.annotations for one in dataset.samples]
    assert (len(dataset), len(dataset.classes)) == (80, 80)
    assert sum(map(len, truths)) == objects
    assert sum(int(truth.crowd.sum()) for truth in truths) == crowds
    assert dataset.category_ids[-1] == 90
    assert dataset.dropped == ()


BAD_OBJECTS = [
    (coco_object(2, bbox=[10, 20, 0, 20]), "degenerate"),
    (coco_object(2, bbox=[10, 20, 20, -5]), "negative"),
    (coco_object(2, bbox=[10, 20, 1e-12, 5]), "degenerate"),  # nothing is left of it in float32
    (coco_object(2, bbox=[10, 20, float("nan"), 5]), "not-finite"),
    (coco_object(2, bbox=[10, 20, float("inf"), 5]), "not-finite"),
    (coco_object(2, bbox=[10, 20, 10**400, 5]), "not-finite"),
    (coco_object(2, bbox=[60, 50, 90, 78]), "outside"),  # corners where sizes belong
    (coco_object(2, bbox=[500, 500, 20, 20]), "outside"),
    (coco_object(2, bbox=[10, 20, 20]), "missing-field"),
    (coco_object(2, bbox=["10", 20, 20, 20]), "missing-field"),
    (coco_object(2, bbox=[True, 20, 20, 20]), "missing-field"),
    (coco_object(2, bbox={"x": 1}), "missing-field"),
    (coco_object(2, image_id=None), "missing-field"),
    (coco_object(2, image_id=99), "unknown-image-id"),
    (coco_object(2, category_id=2), "unknown-class"),
    (coco_object(2, category_id=None), "unknown-class"),
    (coco_object(2, category_id=True), "unknown-class"),
    (coco_object(2), "duplicate"),  # the same box with the same class
]


@pytest.mark.parametrize(("bad", "rule"), BAD_OBJECTS)
def test_a_defective_object_is_left_out_and_written_down(
    tmp_path: Path, bad: dict[str, Any], rule: str
) -> None:
    path = write_coco(tmp_path, coco_content((), [coco_object(), bad]))
    dataset = read_coco(path)
    assert dataset.samples[0].annotations.boxes.tolist() == [[10, 20, 30, 40]]
    (dropped,) = dataset.dropped
    assert (dropped.file, dropped.id, dropped.rule) == (path.name, str(bad["id"]), rule)
    assert lint(path, fast=True).defects == [dropped]
    with pytest.raises(AnnotationError, match=re.escape(f"{path}: {bad['id']}: ")):
        read_coco(path, strict=True)


@pytest.mark.parametrize("entry", [None, 7, "text", [], {}])
def test_an_entry_that_is_no_object_is_left_out(tmp_path: Path, entry: object) -> None:
    content = coco_content([coco_image(), entry], [coco_object(), entry])  # type: ignore[list-item]
    dataset = read_coco(write_coco(tmp_path, content))
    assert len(dataset.samples[0].annotations) == 1
    assert [one.id for one in dataset.dropped] == ["images[1]", "annotations[1]"]
    assert dataset.dropped_by_rule() == {"missing-field": 2}


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (coco_image(2, "../3.jpg"), "unsafe-path"),
        (coco_image(2, "a/../../3.jpg"), "unsafe-path"),
        (coco_image(2, "..\\..\\3.jpg"), "unsafe-path"),
        (coco_image(2, "/etc/passwd"), "unsafe-path"),
        (coco_image(2, "C:\\3.jpg"), "unsafe-path"),
        (coco_image(2, "\\\\server\\3.jpg"), "unsafe-path"),
        (coco_image(2, "a\0b.jpg"), "unsafe-path"),
        (coco_image(2, ""), "unsafe-path"),
        (coco_image(2, "3.jpg"), "missing-image"),
        (coco_image(2, "x" * 300), "missing-image"),
        (coco_image(2, "1.jpg"), "duplicate-image"),
        (coco_image(2, 7), "missing-field"),
        (coco_image(None, "2.jpg"), "missing-field"),
        (coco_image(2, "2.jpg", width=80, height=100), "wrong-size"),
    ],
)
def test_a_defective_image_is_left_out_with_its_objects(
    tmp_path: Path, image: dict[str, Any], rule: str
) -> None:
    objects = [coco_object(), coco_object(2, image_id=2)]
    dataset = read_coco(write_coco(tmp_path, coco_content([coco_image(), image], objects)))
    assert [one.image_id for one in dataset.samples] == ["1"]
    assert len(dataset.samples[0].annotations) == 1
    assert dataset.dropped_by_rule()[rule] == 1
    assert rule in {one.rule for one in lint(tmp_path).defects}


def test_a_folder_in_place_of_an_image_is_no_image(tmp_path: Path) -> None:
    path = write_coco(tmp_path, coco_content([coco_image(), coco_image(2, "sub")]))
    (tmp_path / "train" / "sub").mkdir()
    assert read_coco(path).dropped_by_rule() == {"not-a-file": 1}


def test_a_size_that_is_left_out_does_no_harm(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "1.jpg", "height": 0}
    dataset = read_coco(write_coco(tmp_path, coco_content([image], [coco_object()])))
    assert dataset.samples[0].size is None
    assert len(dataset.samples[0].annotations) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[1" + "0" * 5000 + "]", "not JSON"),  # a number of five thousand digits
        ("[]", "no list 'images'"),
        ("7", "no list 'images'"),
        ({"images": {}}, "no list 'images'"),
        ({"images": [], "annotations": []}, "no list 'categories'"),
        ({**coco_content(), "categories": []}, "no categories"),
        ({**coco_content(), "categories": [{"id": "x", "name": "a"}]}, "categories.0. needs"),
        ({**coco_content(), "categories": [{"id": 1}]}, "categories.0. needs"),
        ({**coco_content(), "categories": [{"id": 1, "name": "a"}] * 2}, "id 1 was there before"),
    ],
)
def test_a_file_that_is_no_coco_file_is_one_clear_error(
    tmp_path: Path, content: object, message: str
) -> None:
    path = write_coco(tmp_path, content)
    with pytest.raises(AnnotationError, match=message) as refused:
        read_coco(path)
    assert {one.rule for one in lint(path).defects} >= {refused.value.rule}
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_ten_levels_more_than_needed_do_no_harm(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(10):
        deep = {"deeper": [deep]}
    content = coco_content((), [coco_object(attributes=deep, segmentation=deep)])
    assert len(read_coco(write_coco(tmp_path, content)).samples[0].annotations) == 1


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(1_000_000_001)  # sparse: a gigabyte that takes no room
    with pytest.raises(AnnotationError, match="over the limit of 1,000"):
        read_coco(path)
    with pytest.raises(AnnotationError, match="No such file"):
        read_json(tmp_path / "none.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(AnnotationError, match="not a regular file"):
        read_json(tmp_path / "pipe.json")


def test_images_are_looked_for_in_the_usual_places(tmp_path: Path) -> None:
    content = coco_content([coco_image(1, "1.jpg")], [coco_object()])
    flat = tmp_path / "flat"
    write_image(flat / "1.jpg")
    (flat / "_annotations.coco.json").write_text(json.dumps(content))
    assert read_coco(flat / "_annotations.coco.json").samples[0].path == flat / "1.jpg"
    elsewhere = write_image(tmp_path / "elsewhere" / "1.jpg")
    lonely = tmp_path / "lonely.json"
    lonely.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"'1\.jpg' may mean 'elsewhere/1\.jpg', 'flat/1\.jpg'"):
        read_coco(lonely)
    gone = tmp_path / "gone.json"
    gone.write_text(json.dumps(coco_content([coco_image(1, "gone.jpg")])))
    with pytest.raises(DatasetError, match=r"none of its first images \(such as .gone\.jpg.\) is"):
        read_coco(gone)
    assert read_coco(lonely, elsewhere.parent).samples[0].path == elsewhere
    with pytest.raises(DatasetError, match="no such folder"):
        read_coco(lonely, tmp_path / "nowhere")
