"""COCO's JSON as other programs write it: each variant is read as it is meant, or counted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import coco_content, coco_image, coco_object, write_coco, write_image
from pycocotools import mask as masks

from detector.datasets import Dataset, read_coco, read_dataset
from detector.datasets.check import lint
from detector.datasets.formats.coco_boxes import box_of
from detector.datasets.image_names import ImageNames
from detector.errors import AnnotationError, DatasetError

SQUARE = [[10, 20, 30, 20, 30, 40, 10, 40]]
BOX = [10, 20, 30, 40]  # of coco_object()'s bbox and of SQUARE, as two corners


def read(root: Path, content: Any, name: str = "instances_train.json") -> Dataset:
    return read_coco(write_coco(root, content, name))


def boxes(dataset: Dataset) -> list[list[float]]:
    return [box for one in dataset.samples for box in one.annotations.boxes.tolist()]


def defects(root: Path) -> dict[str, int]:
    return Counter(one.rule for one in lint(root, fast=True).defects)


def notes(root: Path) -> set[str]:
    report = lint(root, fast=True)
    return {one.rule for one in report.findings} - {one.rule for one in report.defects}


@pytest.mark.parametrize("bbox", ["left out", None, [], {}, [0, 0, 0, 0], [10, 20, 0, 20]])
@pytest.mark.parametrize(
    "outline",
    [
        SQUARE,
        SQUARE[0],  # one polygon without its list
        [[10, 20, 30, 20, 30, 30], [10, 25, 30, 40, 12, 38]],  # of two parts
        [[10.0, 20.0, 30.0, 40.0]],  # two corners
    ],
)
def test_an_outline_without_a_box_gives_its_box(tmp_path: Path, bbox: Any, outline: Any) -> None:
    row = coco_object(bbox=bbox, segmentation=outline)
    if bbox == "left out":
        del row["bbox"]
    assert boxes(read(tmp_path, coco_content((), [row]))) == [BOX]
    assert defects(tmp_path) == {}


@pytest.mark.parametrize("seed", range(20))
def test_the_box_of_a_mask_is_pycocotools_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((33, 47), np.uint8)
    y, x = sorted(rng.integers(0, 34, 2)), sorted(rng.integers(0, 48, 2))
    mask[y[0] : y[1] + 1, x[0] : x[1] + 1] = (
        rng.random((33, 47))[y[0] : y[1] + 1, x[0] : x[1] + 1] < 0.5
    )
    mask[0, 0] = seed % 2  # a mask that begins with what it covers
    mask[5, 6] = 1
    packed = masks.encode(np.asfortranarray(mask))
    column = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], column]))) if column.any() else []
    counts = np.diff(np.concatenate([[0], edges, [len(column)]])).astype(int).tolist()
    expected = masks.toBbox(packed).tolist()
    text = {"size": [33, 47], "counts": packed["counts"].decode()}
    plain = {"size": [33, 47], "counts": counts}
    assert box_of({"segmentation": text}) == expected
    assert box_of({"segmentation": plain}) == expected


@pytest.mark.parametrize(
    "outline",
    [
        None, [], [[]], [[1]], [[1, 2]], [[1, 2, 3]], [["a", "b"]], [[1, 2, None, 4]], "10,20",
        {}, {"size": [4, 4]}, {"size": [4], "counts": [16]}, {"size": [0, 0], "counts": []},
        {"size": [4, 4], "counts": [16]}, {"size": [4, 4], "counts": [4, 4]},
        {"size": [4, 4], "counts": [-4, 20]}, {"size": [4, 4], "counts": "\ud800"},
        {"size": [4, 4], "counts": "oooooooooooooooooo"}, {"size": [4, 4], "counts": "a" * 9},
        {"size": [2**40, 2**40], "counts": [2**39, 2**39]},
    ],
)  # fmt: skip
def test_what_is_no_outline_leaves_the_object_out(tmp_path: Path, outline: Any) -> None:
    rows = [coco_object(1, bbox=[], segmentation=outline), coco_object(2)]
    dataset = read(tmp_path, coco_content((), rows))
    assert boxes(dataset) == [BOX]
    assert dataset.dropped_by_rule() == {"missing-field": 1} == defects(tmp_path)
    assert dataset.samples[0].positives_only  # the object lies somewhere


@pytest.mark.parametrize("flag", [1, True, 1.0, "1", "true"])
@pytest.mark.parametrize("name", ["ignore", "difficult"])
def test_an_ignored_object_neither_counts_nor_is_background(
    tmp_path: Path, name: str, flag: Any
) -> None:
    ignored = coco_object(2, bbox=[50, 20, 30, 30], **{name: flag})
    (sample,) = read(tmp_path, coco_content((), [coco_object(), ignored])).samples
    assert sample.annotations.real.tolist() == [True, False]
    assert not sample.positives_only


@pytest.mark.parametrize("flag", [0, False, None, 0.0, "0", "", [], {}])
def test_a_flag_that_is_not_set_changes_nothing(tmp_path: Path, flag: Any) -> None:
    row = coco_object(ignore=flag, difficult=flag, iscrowd=flag)
    (sample,) = read(tmp_path, coco_content((), [row])).samples
    assert sample.annotations.real.tolist() == [True]


@pytest.mark.parametrize("ids", [(0, 0, 0), (None, None, None), (5, 5, 6), ("a", "a", "b")])
def test_ids_of_annotations_do_not_matter(tmp_path: Path, ids: tuple[Any, ...]) -> None:
    rows = [coco_object(one, bbox=[10 * i, 20, 9, 9]) for i, one in enumerate(ids)]
    dataset = read(tmp_path, coco_content((), rows))
    assert len(boxes(dataset)) == 3
    assert dataset.dropped == ()
    assert defects(tmp_path) == {}
    assert "annotation-ids" in notes(tmp_path)


@pytest.mark.parametrize("kind", [int, float, str, lambda one: f"{one:03d}"])
def test_ids_may_be_numbers_of_any_kind_or_text(tmp_path: Path, kind: Any) -> None:
    images = [coco_image(1, "1.jpg"), coco_image(2, "2.jpg")]
    rows = [{**coco_object(kind(i)), "image_id": kind(i), "category_id": str(17)} for i in (1, 2)]
    dataset = read(tmp_path, coco_content(images, rows))
    assert [(one.image_id, len(one.annotations)) for one in dataset.samples] == [("1", 1), ("2", 1)]
    assert defects(tmp_path) == {}
    swapped = [coco_image(kind(1), "1.jpg"), coco_image(kind(2), "2.jpg")]
    rows = [{**coco_object(i), "image_id": i, "category_id": 17.0} for i in (1, 2)]
    dataset = read(tmp_path, coco_content(swapped, rows))
    assert [len(one.annotations) for one in dataset.samples] == [1, 1]
    assert defects(tmp_path) == {}


@pytest.mark.parametrize("image_id", ["1.jpg", "1", "train/1.jpg", "train\\1.jpg"])
def test_an_annotation_may_name_its_images_file(tmp_path: Path, image_id: str) -> None:
    images = [coco_image("a", "1.jpg"), coco_image("b", "2.jpg")]
    dataset = read(tmp_path, coco_content(images, [coco_object(image_id=image_id)]))
    assert [len(one.annotations) for one in dataset.samples] == [1, 0]


def test_an_object_of_no_image_may_be_that_of_any_image_without_objects(tmp_path: Path) -> None:
    images = [coco_image(1, "1.jpg"), coco_image(2, "2.jpg")]
    lost = coco_object(2, image_id=99)
    dataset = read(tmp_path, coco_content(images, [coco_object(), lost]))
    assert [one.positives_only for one in dataset.samples] == [False, True]


def test_images_that_share_an_id_cannot_be_told_apart(tmp_path: Path) -> None:
    images = [coco_image(0, "1.jpg"), coco_image(0, "2.jpg"), coco_image(1, "3.jpg")]
    write_image(tmp_path / "train" / "3.jpg")
    rows = [coco_object(1, image_id=0), coco_object(2, image_id=1)]
    dataset = read(tmp_path, coco_content(images, rows))
    assert [one.path.name for one in dataset.samples] == ["3.jpg"]
    assert dataset.dropped_by_rule() == {"duplicate-id": 2} == defects(tmp_path)
    with pytest.raises(DatasetError, match="2 x duplicate-id"):
        read(tmp_path, coco_content(images[:2], rows))


def test_an_image_that_is_listed_twice_keeps_the_objects_of_both(tmp_path: Path) -> None:
    """Some converters write one image entry an object."""
    images = [coco_image(1, "1.jpg"), coco_image(2, "1.jpg"), coco_image(1, "1.jpg")]
    rows = [coco_object(1, image_id=1), coco_object(2, image_id=2, bbox=[50, 20, 30, 30])]
    dataset = read(tmp_path, coco_content(images, rows))
    assert boxes(dataset) == [BOX, [50, 20, 80, 50]]
    assert dataset.dropped_by_rule() == {"duplicate-image": 2} == defects(tmp_path)


def mapping(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """As LIVECell writes them: by id."""
    return {str(row.pop("id")): row for row in rows}


@pytest.mark.parametrize("parts", [["annotations"], ["images", "annotations", "categories"]])
def test_parts_may_be_mappings_by_id(tmp_path: Path, parts: list[str]) -> None:
    content = coco_content((), [coco_object(11), coco_object(12, bbox=[50, 20, 30, 30])])
    for part in parts:
        content[part] = mapping(content[part])
    dataset = read(tmp_path, content)
    assert len(boxes(dataset)) == 2
    assert dataset.classes == ("car", "cat")
    assert lint(tmp_path, fast=True).findings == [
        one for one in lint(tmp_path, fast=True).findings if one.rule == "unused-class"
    ]


def category(one: Any, name: str, parent: Any = None) -> dict[str, Any]:
    return {"id": one, "name": name, "supercategory": parent}


@pytest.mark.parametrize(
    ("categories", "used", "classes"),
    [
        ([category(0, "plate", "none"), category(1, "plate", "plate")], [1], ("plate",)),
        ([category(0, "plate", "none"), category(1, "plate", "plate")], [], ("plate",)),
        ([category(0, "plate", "plate"), category(1, "plate", "plate")], [1], ("plate",)),
        ([category(0, "cells", "none"), category(1, "red", "cells")], [1], ("red",)),
        ([category(0, "cells", "none"), category(1, "red", "cells")], [0, 1], ("cells", "red")),
        ([category(1, "person", "person"), category(2, "car", "vehicle")], [2], ("person", "car")),
        ([category(1, "a", "b"), category(2, "b", "a")], [], ("b",)),
        ([category(0, "cells"), category(1, "red", "cells"), category(2, "cells", "x")],
         [1, 2], ("red", "cells")),
    ],
)  # fmt: skip
def test_a_supercategory_without_annotations_is_no_class(
    tmp_path: Path, categories: list[Any], used: list[int], classes: tuple[str, ...]
) -> None:
    rows = [coco_object(i, category_id=one, bbox=[9 * i, 9, 9, 9]) for i, one in enumerate(used)]
    dataset = read(tmp_path, {**coco_content((), rows), "categories": categories})
    assert dataset.classes == classes
    assert len(boxes(dataset)) == len(used)
    assert defects(tmp_path) == {}
    assert lint(tmp_path, fast=True).classes == classes


def test_two_classes_of_one_name_are_refused_with_the_cure(tmp_path: Path) -> None:
    rows = [coco_object(1, category_id=1), coco_object(2, category_id=2, bbox=[1, 1, 9, 9])]
    content = {**coco_content((), rows), "categories": [category(1, "cat"), category(2, "cat ")]}
    with pytest.raises(AnnotationError, match="ids 1, 2 are all called 'cat'; rename or join them"):
        read(tmp_path, content)
    assert "duplicate-class" in defects(tmp_path)


LABEL_STUDIO = ["..\\..\\media\\upload\\4\\{}", "images/1/{}", "/data/upload/4/{}", "upload/0/{}"]


@pytest.mark.parametrize("pattern", [*LABEL_STUDIO, "C:\\Users\\me\\{}", "./{}", "/data/{} "])
def test_folders_of_the_machine_that_labelled_are_forgotten(tmp_path: Path, pattern: str) -> None:
    names = ["one.png", "two.png"]
    for name in names:
        write_image(tmp_path / "images" / name)
    images = [coco_image(i, pattern.format(name)) for i, name in enumerate(names)]
    content = coco_content(images, [coco_object(1, image_id=1)])
    (tmp_path / "result.json").write_text(json.dumps(content))
    dataset = read_dataset(tmp_path)
    assert [(one.path.name, len(one.annotations)) for one in dataset.samples] == [
        ("one.png", 0),
        ("two.png", 1),
    ]
    assert lint(tmp_path, fast=True).images == 2
    assert defects(tmp_path) == {}


def test_a_name_that_several_images_end_with_is_left_out(tmp_path: Path) -> None:
    for place in ("images/a/x.jpg", "images/b/x.jpg", "images/y.jpg"):
        write_image(tmp_path / place)
    images = [coco_image(1, "../x.jpg"), coco_image(2, "y.jpg")]
    (tmp_path / "result.json").write_text(json.dumps(coco_content(images, [coco_object()])))
    dataset = read_dataset(tmp_path)
    assert [one.path.name for one in dataset.samples] == ["y.jpg"]
    assert dataset.dropped_by_rule() == {"ambiguous-name": 1} == defects(tmp_path)


def test_the_id_of_an_image_whose_name_is_ambiguous_means_no_other(tmp_path: Path) -> None:
    for place in ("images/a/x.jpg", "images/b/x.jpg", "images/7.jpg"):
        write_image(tmp_path / place)
    images = [coco_image(7, "x.jpg"), coco_image(9, "7.jpg")]
    (tmp_path / "result.json").write_text(json.dumps(coco_content(images, [])))
    dataset = read_dataset(tmp_path)
    assert [one.image_id for one in dataset.samples] == ["9"]
    assert dataset.left_out() == {"7": "ambiguous-name"}
    names = ImageNames.of(dataset)
    assert (names.find_id(7), names.find_id(9), names.find("7.jpg")) == (None, "9", "9")


def test_masks_exported_as_crowds_are_worth_a_note(tmp_path: Path) -> None:
    """CVAT writes iscrowd 1 for each thing that was brushed."""
    mask = {"size": [80, 100], "counts": [20, 20, 7960]}
    rows = [coco_object(i, bbox=[10 * i, 20, 9, 9], iscrowd=1, segmentation=mask) for i in range(5)]
    read(tmp_path, coco_content((), rows))
    (found,) = [one for one in lint(tmp_path, fast=True).findings if one.rule == "nothing-counts"]
    assert (found.id, found.why) == ("all objects", "all 5 objects are crowds (iscrowd 1)")
    rows = [{**row, "iscrowd": int(i == 0)} for i, row in enumerate(rows)]
    read(tmp_path, coco_content((), rows))
    assert "nothing-counts" not in notes(tmp_path)


HALF = "\ud83d"


def test_names_that_are_not_unicode_are_refused_where_they_are_read(tmp_path: Path) -> None:
    content = coco_content((), [coco_object()])
    content["categories"][0]["name"] = f"cat{HALF}"
    with pytest.raises(AnnotationError, match=r"categories\[0\]: .*half a character") as refused:
        read(tmp_path, content)
    assert refused.value.rule == "unusable-name"
    str(refused.value).encode()
    assert "unusable-name" in defects(tmp_path)


@pytest.mark.parametrize("change", [{"file_name": f"{HALF}.jpg"}, {"id": HALF}])
def test_an_image_whose_name_is_not_unicode_is_left_out(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    images = [coco_image(), {**coco_image(2, "2.jpg"), **change}]
    dataset = read(tmp_path, coco_content(images, [coco_object(), coco_object(HALF, bbox=[])]))
    assert [one.image_id for one in dataset.samples] == ["1"]
    assert dataset.dropped_by_rule()["unusable-name"] == 1 == defects(tmp_path)["unusable-name"]
    "".join(map(str, dataset.dropped)).encode()
    json.dumps(lint(tmp_path, fast=True).describe(), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" cat ", "cat"), ("black\ncat", "black cat"), ("a\t\x1b[31mb", "a [31mb"),
        ("Ka\u0308se", "K\u00e4se"), ("猫", "猫"), ("x" * 150, "x" * 150),
    ],
)  # fmt: skip
def test_class_names_have_one_spelling(tmp_path: Path, written: str, kept: str) -> None:
    content = coco_content((), [coco_object()])
    content["categories"][0]["name"] = written
    assert kept in read(tmp_path, content).classes
    assert kept in lint(tmp_path, fast=True).classes


@pytest.mark.parametrize("name", ["", "  ", "\n", "x" * 300, "猫" * 80])
def test_class_names_that_no_result_can_bear_are_refused(tmp_path: Path, name: str) -> None:
    content = coco_content((), [coco_object()])
    content["categories"][0]["name"] = name
    with pytest.raises(AnnotationError, match=r"categories\[0\]"):
        read(tmp_path, content)
    assert defects(tmp_path)


@pytest.mark.parametrize(
    ("used", "said"),
    [
        ([16, 17], "every category_id is one too low: 16 to 17"),
        ([18, 19], "every category_id is one too high: 18 to 19"),
        ([15, 17, 18], None),  # one that there is not, among others that may be right
        ([16, 17, 18], None),
        ([16], None),  # all are left out and counted; none is taken for another
    ],
)
def test_shifted_categories_are_refused(tmp_path: Path, used: list[int], said: str | None) -> None:
    rows = [coco_object(n, category_id=one, bbox=[n, 2, 30, 40]) for n, one in enumerate(used)]
    content = coco_content((), rows) | {
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    }
    if said is None:
        assert read(tmp_path, content).dropped_by_rule() == {"unknown-class": 1}
        return
    with pytest.raises(AnnotationError, match=f"{said}; use the ids of its categories, 17 to 18"):
        read(tmp_path, content)
    assert defects(tmp_path)["shifted-classes"] == 1


def test_an_annotation_without_category_shifts_nothing(tmp_path: Path) -> None:
    content = coco_content((), [coco_object(), coco_object(2, category_id=None, bbox=[1, 2, 9, 9])])
    content["categories"] = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    assert read(tmp_path, content).dropped_by_rule() == {"unknown-class": 1} == defects(tmp_path)


def test_boxes_in_shares_of_the_image_are_no_pixels(tmp_path: Path) -> None:
    shares = [[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 0.5], [0.5, 0.5, 0.5, 0.5]]
    rows = [coco_object(n, bbox=box) for n, box in enumerate(shares)]
    dataset = read(tmp_path, coco_content((), [*rows, coco_object(9, bbox=[0.5, 0.5, 2, 0.5])]))
    assert boxes(dataset) == [[0.5, 0.5, 2.5, 1]]
    assert dataset.samples[0].positives_only
    assert dataset.dropped_by_rule() == {"normalised": 3} == defects(tmp_path)


def test_a_name_in_two_folders_is_said_to_be_ambiguous(tmp_path: Path) -> None:
    path = write_coco(tmp_path, coco_content([coco_image(5, "a.jpg")]))
    for folder in ("x", "y"):
        write_image(tmp_path / "images" / folder / "a.jpg")
    with pytest.raises(DatasetError, match=r"'a\.jpg' may mean 'x/a\.jpg', 'y/a\.jpg'"):
        read_coco(path)
    assert defects(tmp_path) == {"ambiguous-name": 1}


@pytest.mark.parametrize("folder", ["{}", "images/{}"])
def test_the_folder_of_the_split_comes_before_that_of_all_images(
    tmp_path: Path, folder: str
) -> None:
    content = json.dumps(coco_content([coco_image(5, "a.jpg")]))
    for split in ("train", "val"):
        write_image(tmp_path / folder.format(split) / "a.jpg")
        (tmp_path / f"{split}.json").write_text(content)
    write_image(tmp_path / "images" / "a.jpg")
    for split in ("train", "val"):
        (sample,) = read_dataset(tmp_path, split).samples
        assert sample.path == tmp_path / folder.format(split) / "a.jpg"
