"""Reading VOC's layout: coordinates, splits, class names, real sets, and every defect."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from dataset_files import voc_object, voc_xml, write_image, write_voc

from detector.boxes import voc_from_xyxy
from detector.datasets import VOC_CLASSES, read_voc
from detector.datasets.check import lint
from detector.errors import AnnotationError, DatasetError


def test_inclusive_corners_become_exclusive_ends(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object("dog", (1, 1, 100, 80), 1))})
    dataset = read_voc(root, "train", VOC_CLASSES)
    sample = dataset.samples[0]
    assert sample.annotations.boxes.tolist() == [[0, 0, 100, 80]]  # the whole image
    assert sample.annotations.labels.tolist() == [VOC_CLASSES.index("dog")]
    assert sample.annotations.difficult.tolist() == [True]
    assert voc_from_xyxy(sample.annotations.boxes).tolist() == [[1, 1, 100, 80]]
    assert (sample.image_id, sample.size, sample.path) == (
        "a",
        (80, 100),
        root / "JPEGImages/a.jpg",
    )
    assert dataset.classes == VOC_CLASSES
    assert dataset.dropped == ()


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    head = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    person = voc_object("person").replace("</object>", head + "</object>")
    dataset = read_voc(write_voc(tmp_path, {"a": voc_xml(person)}), "train")
    assert dataset.samples[0].annotations.boxes.tolist() == [[10, 20, 30, 40]]


def test_other_names_make_their_own_sorted_class_list(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"b": voc_xml(voc_object("worm"))}, "val")
    write_voc(root, {"a": voc_xml(voc_object("cat"), voc_object("ant", (1, 1, 9, 9)))}, "train")
    # The list is that of the folder, so that train and val agree.
    for split in ("train", "val"):
        assert read_voc(root, split).classes == ("ant", "cat", "worm")
    only = read_voc(root, "train", classes=("ant",))
    assert only.dropped_by_rule() == {"unknown-class": 1}


def test_a_broken_file_of_another_split_does_not_hide_the_names(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"b": "<broken"}, "val")
    write_voc(root, {"a": voc_xml(voc_object("worm"))}, "train")
    assert read_voc(root, "train").classes == ("worm",)


def test_without_image_lists_every_annotation_counts(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"b": voc_xml(voc_object()), "a": voc_xml()}, split=None)
    assert [one.image_id for one in read_voc(root).samples] == ["a", "b"]


def test_an_unknown_split_lists_the_known_ones(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object())})
    (root / "ImageSets/Main/cat_train.txt").write_text("a 1\n")  # VOC's lists of single classes
    with pytest.raises(DatasetError, match=r"no split 'val' in ImageSets/Main; it has: train$"):
        read_voc(root, "val")
    with pytest.raises(DatasetError, match="no folder Annotations"):
        read_voc(tmp_path / "nowhere", "train")


@pytest.mark.parametrize(
    ("name", "split", "images", "objects", "difficult"),
    [
        ("voc2012_sample", "train", 646, 1402, 101),
        ("voc2012_sample", "val", 195, 434, 30),
        ("voc2012_animals", "train", 871, 2575, 298),
        ("voc_more", "train", 2927, 7732, 1286),
    ],
)
def test_real_sets_are_read_whole(
    shared_data: Path, name: str, split: str, images: int, objects: int, difficult: int
) -> None:
    dataset = read_voc(shared_data / name, split)
    truths = [one.annotations for one in dataset.samples]
    assert len(dataset) == images
    assert sum(map(len, truths)) == objects
    assert sum(int(truth.difficult.sum()) for truth in truths) == difficult
    assert dataset.classes == VOC_CLASSES
    assert dataset.dropped == ()


def test_the_two_published_defects_of_bccd_are_found(shared_data: Path) -> None:
    found = [read_voc(shared_data / "bccd", split) for split in ("trainval", "test")]
    assert sum(len(one) for one in found) == 364
    assert sum(len(s.annotations) for one in found for s in one.samples) == 4888 - 2
    dropped = [record for one in found for record in one.dropped]
    assert {(one.file[-9:-4], one.rule) for one in dropped} == {
        ("00338", "degenerate"),
        ("00343", "degenerate"),
    }
    assert found[0].classes == ("Platelets", "RBC", "WBC")


BAD_OBJECTS = [
    (voc_object(box=(30, 30, 20, 40)), "negative"),
    (voc_object(box=(30, 30, 30, 40)), "degenerate"),  # a line
    (voc_object(box=(30, 40, 40, 30)), "negative"),
    (voc_object(box=(1, 1, "nan", 9)), "not-finite"),
    (voc_object(box=(1, 1, "inf", 9)), "not-finite"),
    (voc_object(box=(1, 1, "", 9)), "not-finite"),
    (voc_object(box=(1, 1, "twelve", 9)), "not-finite"),
    (voc_object(box=(1, 1, "1e40", 9)), "not-finite"),
    (voc_object(box=(101, 1, 120, 9)), "outside"),
    (voc_object(box=(-500, -500, -400, -400)), "outside"),
    (voc_object(box=(91, 1, 120, 9)), "outside"),  # a third inside
    (voc_object(name="zebra"), "unknown-class"),
    (voc_object(name=""), "missing-field"),
    ("<object><name>cat</name></object>", "missing-field"),  # no box at all
]


@pytest.mark.parametrize(("bad", "rule"), BAD_OBJECTS)
def test_a_defective_object_is_left_out_and_written_down(
    tmp_path: Path, bad: str, rule: str
) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object(), bad)})
    dataset = read_voc(root, "train", classes=VOC_CLASSES)
    assert dataset.samples[0].annotations.boxes.tolist() == [[10, 20, 30, 40]]
    (dropped,) = dataset.dropped
    assert (dropped.file, dropped.id, dropped.rule) == ("Annotations/a.xml", "object 2", rule)
    assert lint(root, classes=VOC_CLASSES, fast=True).defects == [dropped]
    with pytest.raises(AnnotationError, match=re.escape(str(root / "Annotations/a.xml"))):
        read_voc(root, "train", classes=VOC_CLASSES, strict=True)


def test_a_box_that_sticks_out_a_little_is_kept_as_written(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object(box=(91, 1, 105, 80)))})
    assert read_voc(root, "train").samples[0].annotations.boxes.tolist() == [[90, 0, 105, 80]]


def test_the_same_object_twice_counts_once(tmp_path: Path) -> None:
    twice = voc_xml(voc_object(), voc_object(), voc_object("dog"))  # the dog is another object
    dataset = read_voc(write_voc(tmp_path, {"a": twice}), "train")
    assert len(dataset.samples[0].annotations) == 2
    assert dataset.dropped_by_rule() == {"duplicate": 1}


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("nan", "inf"), (-5, 80)])
def test_a_size_that_is_left_out_does_no_harm(tmp_path: Path, size: tuple[object, object]) -> None:
    xml = voc_xml(voc_object(), width=size[0], height=size[1])
    dataset = read_voc(write_voc(tmp_path, {"a": xml}), "train")
    assert dataset.samples[0].size is None
    assert len(dataset.samples[0].annotations) == 1


def test_a_wrong_size_means_boxes_of_another_image(tmp_path: Path) -> None:
    good, bad = voc_xml(voc_object()), voc_xml(voc_object(), width=80, height=100)
    root = write_voc(tmp_path, {"a": good, "b": bad})
    dataset = read_voc(root, "train")
    assert [one.image_id for one in dataset.samples] == ["a"]
    assert dataset.dropped_by_rule() == {"wrong-size": 1}
    assert "said to be 80x100 pixels, but is 100x80" in str(dataset.dropped[0])


def test_a_turned_image_has_its_upright_size(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object(), width=80, height=100)})
    write_image(root / "JPEGImages/a.jpg", orientation=6)
    assert read_voc(root, "train").samples[0].size == (100, 80)


def test_files_that_are_missing_or_listed_twice(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(), "b": voc_xml()})
    (root / "JPEGImages/b.jpg").unlink()
    (root / "ImageSets/Main/train.txt").write_text("a\nb\nc\na\n../../x\n/etc/passwd\n")
    dataset = read_voc(root, "train")
    assert [one.image_id for one in dataset.samples] == ["a"]
    assert dataset.dropped_by_rule() == {
        "duplicate-image": 1,
        "missing-annotation": 1,
        "missing-image": 1,
        "unsafe-path": 2,
    }


def test_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": "<annotation>"})
    with pytest.raises(DatasetError, match=r"no usable image \(1 x unreadable\); for example"):
        read_voc(root, "train")


def _entity(i: int) -> str:
    tenfold = 10 * f"&x{i - 1};"
    return f'<!ENTITY x{i} "{tenfold}">'


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x0 "xxxxxxxxxx">'
    + "".join(_entity(i) for i in range(1, 9))
    + "]><annotation>&x8;</annotation>"
)


@pytest.mark.parametrize(
    ("content", "why", "rule"),
    [
        (BOMB.encode(), "declares a document type", "entities"),
        (
            b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
            "declares a document type",
            "entities",
        ),
        (BOMB.encode("utf-16"), "not UTF-8", "not-utf8"),
        (b"", "has 0 bytes", "empty-file"),
        (b"\xff\xfe\xfd", "not UTF-8", "not-utf8"),
        (b"<annotation><object></annotation>", "not well-formed", "unreadable"),
        (b'<?xml version="1.0" encoding="no-such"?><annotation/>', "not well-formed", "unreadable"),
        (b" " * 16_000_001, "16.0 MB is over the limit", "too-large"),
    ],
)
def test_hostile_or_broken_xml_is_left_out(
    tmp_path: Path, content: bytes, why: str, rule: str
) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object()), "b": ""})
    (root / "Annotations/b.xml").write_bytes(content)
    dataset = read_voc(root, "train")
    assert [one.image_id for one in dataset.samples] == ["a"]
    assert dataset.dropped_by_rule() == {rule: 1}
    assert why in dataset.dropped[0].why


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(), "b": "", "c": voc_xml()})
    (root / "Annotations/b.xml").unlink()
    os.mkfifo(root / "Annotations/b.xml")
    (root / "JPEGImages/c.jpg").unlink()
    os.mkfifo(root / "JPEGImages/c.jpg")
    dataset = read_voc(root, "train")
    assert [one.image_id for one in dataset.samples] == ["a"]
    assert dataset.dropped_by_rule() == {"missing-image": 1, "not-a-file": 1}
    assert "not a regular file" in dataset.dropped[0].why


def test_a_loop_of_links_is_no_image(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(), "b": voc_xml()})
    (root / "JPEGImages/b.jpg").unlink()
    (root / "JPEGImages/b.jpg").symlink_to(root / "JPEGImages/b.jpg")
    assert read_voc(root, "train").dropped_by_rule() == {"missing-image": 1}


def test_very_deep_xml_is_harmless(tmp_path: Path) -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    xml = voc_xml(voc_object()).replace("</annotation>", deep + "</annotation>")
    dataset = read_voc(write_voc(tmp_path, {"a": xml}), "train")
    assert len(dataset.samples[0].annotations) == 1


def test_the_users_files_are_never_written(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object(), voc_object()), "b": "<broken"})
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()}
    read_voc(root, "train")
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()}
    assert before == after


def test_numbers_with_fractions_are_kept(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object(box=(1.5, 2.25, 30, 40)))})
    assert np.allclose(read_voc(root, "train").samples[0].annotations.boxes, [[0.5, 1.25, 30, 40]])
