"""The linter finds each kind of defect, and nothing in what is sound."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import (
    coco_content,
    coco_image,
    coco_object,
    voc_object,
    voc_xml,
    write_coco,
    write_image,
    write_voc,
    write_yolo,
)
from PIL import Image

from detector.datasets import read_dataset
from detector.datasets.check import RULES, lint
from detector.errors import AnnotationError, DatasetError


def write_noise(path: Path, seed: int, size: tuple[int, int] = (100, 80), turn: int = 1) -> Path:
    """An image whose pixels no other seed has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def defects(path: Path, **how: Any) -> set[tuple[str, str, str]]:
    """(file, id, rule) of every defect."""
    return {(one.file, one.id, one.rule) for one in lint(path, **how).defects}


def notes(path: Path, **how: Any) -> set[tuple[str, str]]:
    report = lint(path, **how)
    return {(one.id, one.rule) for one in report.findings if one not in report.defects}


def voc(root: Path, *objects: str, **change: Any) -> Path:
    """Two images: `a` with the objects, `b` that is sound."""
    texts = {"a": voc_xml(*(objects or [voc_object()]), **change), "b": voc_xml(voc_object())}
    write_voc(root, texts)
    for seed, stem in enumerate(texts):
        write_noise(root / "JPEGImages" / f"{stem}.jpg", seed)
    return root


def coco(root: Path, content: Any) -> Path:
    path = write_coco(root, content)
    for seed, name in enumerate(("1.jpg", "2.jpg")):
        write_noise(root / "train" / name, seed)
    return path


def yolo(root: Path, text: str, names: object = ("car", "cat")) -> Path:
    """Two images: `a` with the lines, `b` that is sound."""
    path = write_yolo(root, {"a": text, "b": "1 0.5 0.5 0.2 0.5"}, names)
    for seed, stem in enumerate("ab"):
        write_noise(root / "images" / "train" / f"{stem}.jpg", seed)
    return path


def test_sound_data_sets_have_no_defect(tmp_path: Path) -> None:
    second = coco_object(2, bbox=[1, 2, 30, 40], image_id=2)
    content = coco_content([coco_image(), coco_image(2, "2.jpg")], [coco_object(), second])
    assert defects(voc(tmp_path / "voc")) == set()
    assert defects(coco(tmp_path / "coco", content)) == set()
    assert defects(yolo(tmp_path / "yolo", "0 0.5 0.5 0.2 0.5\n")) == set()


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ((91, 21, 103, 40), "beyond-edge"),
        ((11, 21, 11.5, 40), "tiny"),
        ((1, 1, 100, 80), "whole-image"),
        ((1, 10, 80, 12), "extreme-aspect"),
    ],
)
def test_boxes_worth_a_look(tmp_path: Path, box: tuple[float, ...], rule: str) -> None:
    """In 100 x 80 pixels: 3 over the edge, 1.5 wide, all of it, 80 by 3."""
    root = voc(tmp_path, voc_object(box=box))
    assert ("object 1", rule) in notes(root)
    assert defects(root) == set()


@pytest.mark.parametrize(
    ("objects", "found"),
    [
        ([voc_object(), voc_object()], ("object 2", "duplicate")),
        ([voc_object(difficult=2)], ("object 1", "bad-flag")),
        ([voc_object("kat", (i, 1, 50, 50)) for i in (1, 2)], None),
    ],
)  # fmt: skip
def test_objects_of_voc(tmp_path: Path, objects: list[str], found: tuple[str, str] | None) -> None:
    """Two of three objects called kat: then that is the name of a class."""
    root = voc(tmp_path, *objects)
    assert defects(root) == ({("Annotations/a.xml", *found)} if found else set())


def test_a_name_outside_the_class_list(tmp_path: Path) -> None:
    """Told by --classes, or because nine of ten names are VOC's."""
    many = [voc_object("dog", (i, 1, 50, 50)) for i in range(1, 10)]
    kit = "<folder>VOC2012</folder>"
    root = voc(tmp_path, kit, *many, voc_object("kat", (20, 1, 50, 50)))
    (root / "Annotations/b.xml").write_text(voc_xml(kit, voc_object()))
    wrong = ("Annotations/a.xml", "object 10", "unknown-class")
    assert defects(root) == {wrong}
    assert defects(root, classes=["dog", "cat", "kat"]) == set()


def _bytes(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content) and None


def _remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def _append(name: str, text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).write_text((root / name).read_text() + text)

    return change


def _pipe(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return change


def _loop(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to(root / name)

    return change


def _cut(name: str) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / name, 3000)


def _copy(name: str, to: str) -> Callable[[Path], None]:
    return lambda root: (root / to).write_bytes((root / name).read_bytes()) and None


XML, JPG, LIST = "Annotations/a.xml", "JPEGImages/a.jpg", "ImageSets/Main/train.txt"
DEEP = b"<annotation>" + b"<a>" * 30 + b"</a>" * 30 + b"</annotation>"
BOMB = b'<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotation>&y;</annotation>'


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_bytes(XML, b""), (XML, "a", "empty-file")),
        (_bytes(XML, b"<annotation>"), (XML, "a", "unreadable")),
        (_bytes(XML, b"<a>\xff\xfe</a>"), (XML, "a", "not-utf8")),
        (_bytes(XML, BOMB), (XML, "a", "entities")),
        (_bytes(XML, DEEP), (XML, "a", "too-deep")),
        (_pipe(XML), (XML, "a", "not-a-file")),
        (_loop(XML), (XML, "a", "not-a-file")),
        (_bytes(JPG, b""), (JPG, "a", "empty-file")),
        (_bytes(JPG, b"text, renamed"), (JPG, "a", "unreadable-image")),
        (_cut(JPG), (JPG, "a", "truncated-image")),
        (_copy("JPEGImages/b.jpg", JPG), ("JPEGImages/b.jpg", "b", "same-image")),
        (_remove(JPG), (XML, "a", "missing-image")),
        (_copy(JPG, "JPEGImages/c.jpg"), ("JPEGImages/c.jpg", "c", "unlabelled-image")),
        (_copy(JPG, "JPEGImages/a.png"), ("JPEGImages/a.png", "a", "duplicate-image")),
        (_append(LIST, "c\n"), (LIST, "c", "missing-annotation")),
        (_append(LIST, "a\n"), (LIST, "a", "duplicate-image")),
        (_append(LIST, "../../etc/passwd\n"), (LIST, "../../etc/passwd", "unsafe-path")),
        (_bytes(LIST, b""), (LIST, "train", "empty-file")),
        (_bytes("ImageSets/Main/val.txt", b"b\n"), ("Annotations/b.xml", "b", "two-splits")),
    ],
)
def test_files_of_voc(
    tmp_path: Path, change: Callable[[Path], None], found: tuple[str, str, str]
) -> None:
    voc(tmp_path)
    change(tmp_path)
    assert defects(tmp_path) == {found}


def test_trainval_is_the_union_of_two_splits_and_no_leak(tmp_path: Path) -> None:
    voc(tmp_path)
    for split, ids in (("train", "a\n"), ("val", "b\n"), ("trainval", "a\nb\n")):
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(ids)
    assert defects(tmp_path) == set()


def test_the_same_pixels_in_two_splits_are_a_leak(tmp_path: Path) -> None:
    voc(tmp_path)
    for split, ids in (("train", "a\n"), ("val", "b\n")):
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(ids)
    _copy("JPEGImages/b.jpg", JPG)(tmp_path)
    assert defects(tmp_path) == {("JPEGImages/b.jpg", "b", "leak")}


def test_sizes_against_the_pixels(tmp_path: Path) -> None:
    """Orientation 6 turns a raw 80 x 100 into the 100 x 80 that is annotated, and back."""
    voc(tmp_path, width=101)
    assert defects(tmp_path) == {(XML, "a", "wrong-size")}
    assert defects(tmp_path, fast=True) == set()
    voc(tmp_path)
    write_noise(tmp_path / JPG, 0, (80, 100), turn=6)
    assert defects(tmp_path) == set()
    write_noise(tmp_path / JPG, 0, (100, 80), turn=6)
    assert defects(tmp_path) == {(XML, "a", "raw-frame")}


def test_corners_written_as_sizes_are_told_once(tmp_path: Path) -> None:
    """(x, y, w, h) of 20 x 10 pixels: xmax < xmin for most of them."""
    boxes = [(x, 40, 20, 10) for x in (10, 30, 50, 70)]
    root = voc(tmp_path, *(voc_object(box=box) for box in boxes))
    (root / "Annotations" / "b.xml").write_text(voc_xml(voc_object(box=(60, 30, 20, 10))))
    assert defects(root) == {(XML, "all boxes", "swapped")}


FILE = "instances_train.json"


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([coco_object(), coco_object()], {("1", "duplicate")}),
        ([{"id": 3}], {("3", "missing-field")}),
        ([7], {("annotations[0]", "missing-field")}),
        ([coco_object(iscrowd=2)], {("1", "crowd")}),
        ([coco_object(iscrowd=1, segmentation=[[1, 2, 3, 4, 5, 6]])], {("1", "crowd")}),
        ([coco_object(extra=[[[[[[[[[[1]]]]]]]]]])], {("1", "too-deep")}),
        (
            [coco_object(i, bbox=[x, 40, x + 20, 60]) for i, x in enumerate((10, 40, 60, 75))],
            {("all boxes", "swapped")},
        ),
    ],
)
def test_annotations_of_coco(tmp_path: Path, rows: list[Any], found: set[tuple[str, str]]) -> None:
    assert defects(coco(tmp_path, coco_content((), rows))) == {(FILE, *one) for one in found}


def test_a_json_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = coco(tmp_path, coco_content())
    os.truncate(path, 2_000_000_000)  # no block of it is on the disk
    assert defects(path) == {(FILE, "instances_train", "too-large")}


def test_categories_counted_from_0_in_the_annotations(tmp_path: Path) -> None:
    """The categories are 17 and 18; the annotations say 16 and 17."""
    content = coco_content((), [coco_object(), coco_object(2, category_id=16, bbox=[1, 2, 9, 9])])
    content["categories"] = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    found = {(id, rule) for _, id, rule in defects(coco(tmp_path, content))}
    assert found == {("category_id", "shifted-classes"), ("2", "unknown-class")}


def test_categories_that_share_an_id(tmp_path: Path) -> None:
    content = coco_content((), [coco_object()])
    content["categories"] = [{"id": 17, "name": "cat"}, {"id": 17, "name": "dog"}]
    found = {(id, rule) for _, id, rule in defects(coco(tmp_path, content))}
    assert found == {("categories[1]", "duplicate-class")}


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("7 0.5 0.5 0.2 0.2", "unknown-class"),
        ("0 50 40 20 20", "not-normalised"),
        ("0 0.5 0.5 0 0.2", "degenerate"),
        ("0 0.5 0.5 -0.2 0.2", "negative"),
        ("0 nan 0.5 0.2 0.2", "not-finite"),
        ("0 0.7 1e30 inf 0.2", "not-finite"),
    ],
)
def test_lines_of_yolo_where_no_image_is_opened(tmp_path: Path, line: str, rule: str) -> None:
    path = yolo(tmp_path, line)
    assert defects(path, fast=True) == {("labels/train/a.txt", "line 1", rule)}


def test_classes_of_yolo_counted_from_1(tmp_path: Path) -> None:
    path = yolo(tmp_path, "2 0.5 0.5 0.2 0.2")
    found = {(id, rule) for _, id, rule in defects(path)}
    assert ("class numbers", "shifted-classes") in found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train: images/train\nval: images/val\nnames: [car, cat]", ("val", "missing-split")),
        ("train: images/train\nnames: [car, cat, car]", ("names", "duplicate-class")),
        ("train: images/train\nnames: {0: car, 2: cat}", ("names", "missing-field")),
        ("train: images/train\nnames: [car, cat]\nnc: 3", ("nc", "different-classes")),
        ("names: [car, cat]", ("data", "missing-field")),
        ("names: [car", ("data", "unreadable")),
        ("", ("data", "empty-file")),
    ],
)
def test_the_yaml_of_yolo(tmp_path: Path, text: str, found: tuple[str, str]) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    path.write_text(text)
    assert defects(path) == {("data.yaml", *found)}


def test_labels_and_images_of_yolo_that_lack_each_other(tmp_path: Path) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    (tmp_path / "labels" / "train" / "b.txt").rename(tmp_path / "labels" / "train" / "c.txt")
    assert defects(path) == {
        ("images/train/b.jpg", "b", "unlabelled-image"),
        ("labels/train/c.txt", "c", "missing-image"),
    }


def test_notes_on_classes(tmp_path: Path) -> None:
    """101 cars and 1 cat; nothing called Cat or bus."""
    lines = [f"0 0.5 0.5 0.{200 + i} 0.2" for i in range(101)]
    found = notes(yolo(tmp_path, "\n".join(lines), ("car", "cat", "bus", "Cat")))
    assert found == {
        ("car", "imbalance"),
        ("bus", "unused-class"),
        ("Cat", "unused-class"),
        ("cat", "similar-names"),
    }
    path = yolo(tmp_path, "\n".join(lines[:100]), ("car", "cat"))
    assert notes(path) == set()


def left_out(path: Path) -> set[tuple[str, str, str]]:
    """(file, id, rule) of what a training leaves out."""
    return {(one.file, one.id, one.rule) for one in read_dataset(path).dropped}


def test_what_is_left_out_of_yolo_the_linter_finds_under_the_same_name(tmp_path: Path) -> None:
    bad = [
        "0 nan 0.5 0.2 0.2", "9 0.5 0.5 0.2 0.2", "0 0.5 0.5 0 0", "word", "0 0.4 0.4 0.1 0.1",
        "0 0.4 0.4 0.1 0.1", "0 3.5 0.5 0.2 0.2", "0 1 1 0.5 0.5", "0 0.5 0.5 -0.1 0.1",
        "0 0.5 0.5 1e-30 0.1",
    ]  # fmt: skip
    path = yolo(tmp_path, "\n".join(bad))
    write_noise(tmp_path / "images" / "more" / "a.jpg", 7)
    for seed, name in enumerate("cdef"):
        write_noise(tmp_path / "images" / "more" / f"{name}.jpg", 8 + seed)
        (tmp_path / "labels" / "more").mkdir(exist_ok=True)
        (tmp_path / "labels" / "more" / f"{name}.txt").write_bytes(b"\xff" if name == "c" else b"")
    _bytes("images/more/d.jpg", b"text")(tmp_path)
    _bytes("images/more/e.jpg", b"")(tmp_path)
    os.truncate(tmp_path / "labels" / "more" / "f.txt", 16_000_001)
    (tmp_path / "labels" / "more" / "z.txt").write_text("")
    text = path.read_text()
    path.write_text(text.replace("images/train", "[images/train, images/more]", 1))
    found = left_out(path)
    assert len(found) == 9 + 5
    # An image without labels is taken as empty: the linter's alone.
    assert found == {one for one in defects(path) if one[2] != "unlabelled-image"}


def test_what_is_left_out_of_voc_and_coco_the_linter_finds_under_the_same_name(
    tmp_path: Path,
) -> None:
    boxes = [(11, 21, 11, 40), (30, 21, 11, 40), ("nan", 2, 30, 4), (111, 21, 130, 40)]
    objects = [voc_object(), voc_object(), voc_object(""), *(voc_object(box=b) for b in boxes)]
    root = voc(tmp_path / "voc", *objects, "<object><name>cat</name></object>")
    for seed, (stem, data) in enumerate(
        {"c": b"", "d": b"<a", "e": b"<a>\xff</a>", "f": BOMB, "g": voc_xml().encode()}.items()
    ):
        (root / "Annotations" / f"{stem}.xml").write_bytes(data)
        write_noise(root / "JPEGImages" / f"{stem}.jpg", 9 + seed)
    write_noise(root / "JPEGImages" / "g.jpg", 20, (80, 100), turn=6)
    (root / "Annotations" / "g.xml").write_text(voc_xml(width=80, height=100))
    _append(LIST, "c\nd\ne\nf\ng\n")(root)
    found = left_out(root)
    assert {rule for _, _, rule in found} == {
        "duplicate", "missing-field", "degenerate", "negative", "not-finite", "outside",
        "empty-file", "unreadable", "not-utf8", "entities", "raw-frame",
    }  # fmt: skip
    assert found == defects(root)
    rows = [
        coco_object(), coco_object(), coco_object(2), coco_object(3, image_id=7),
        coco_object(4, category_id=99), coco_object(5, bbox=[10, 20, -5, 20]),
        coco_object(6, bbox=[10, 20, 1e-12, 20]), coco_object(7, bbox=[10, 20, 30]),
    ]  # fmt: skip
    images = [coco_image(), coco_image(2, "2.jpg"), coco_image(2, "3.jpg"), coco_image(3, "1.jpg")]
    images += [coco_image(4, "../4.jpg"), coco_image(5, "5.jpg"), coco_image(6, "folder")]
    path = coco(tmp_path / "coco", coco_content(images, rows))
    (tmp_path / "coco" / "train" / "folder").mkdir()
    found = left_out(path)
    assert len(found) == 7 + 5
    assert found == defects(path)


def test_names_by_number_are_in_the_order_of_a_training(tmp_path: Path) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    path.write_text("train: images/train\nnames: {1: cat, 0: car}")
    assert lint(path).classes == read_dataset(path).classes == ("car", "cat")


def test_one_word_for_names_is_no_class_for_each_letter(tmp_path: Path) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    path.write_text("train: images/train\nnames: person")
    assert lint(path).classes == ()


@pytest.mark.parametrize("names", ["[car, '']", "[car, [cat]]", "[car, null]", "{0: car, 1: 0.5}"])
def test_names_that_a_training_refuses_are_a_defect(tmp_path: Path, names: str) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    path.write_text(f"train: images/train\nnames: {names}")
    with pytest.raises(AnnotationError, match="names must list"):
        read_dataset(path)
    assert ("data.yaml", "names", "missing-field") in defects(path)


@pytest.mark.parametrize("format", [None, "yolo"])
def test_of_several_yaml_files_the_linter_takes_that_of_a_training(
    tmp_path: Path, format: str | None
) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    (tmp_path / "a.yaml").write_text("learning_rate: 0.1")
    assert lint(path.parent, format).images == len(read_dataset(path.parent).samples) == 2


def test_of_two_images_of_one_name_the_linter_takes_that_of_a_training(tmp_path: Path) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    write_noise(tmp_path / "images" / "train" / "a.bmp", 5)
    assert len(read_dataset(path).samples) == lint(path).images == 2
    assert defects(path) == {("images/train/a.bmp", "a", "duplicate-image")}


def test_nothing_of_the_data_set_is_written(tmp_path: Path) -> None:
    voc(tmp_path, voc_object(box=(5, 5, 5, 5)))
    before = {one: one.stat() for one in tmp_path.rglob("*")}
    content = {one: one.read_bytes() for one in before if one.is_file()}
    lint(tmp_path)
    assert {one: one.stat().st_mtime_ns for one in tmp_path.rglob("*")} == {
        one: stat.st_mtime_ns for one, stat in before.items()
    }
    assert content == {one: one.read_bytes() for one in content}


def test_every_rule_has_a_cure_and_there_are_thirty_or_more() -> None:
    assert len(RULES) >= 30
    assert all(rule.meaning and rule.cure for rule in RULES.values())


def test_the_manual_holds_the_table() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "trust.md").read_text()
    for name, rule in RULES.items():
        assert f"| `{name}` | {rule.level} | {rule.meaning} | {rule.cure} |" in manual


@pytest.mark.parametrize("format", [None, "yolo", "parquet"])
def test_a_folder_that_is_no_data_set(tmp_path: Path, format: str | None) -> None:
    write_image(tmp_path / "a.jpg")
    with pytest.raises(DatasetError):
        lint(tmp_path, format)


def test_progress_is_told_from_outside(tmp_path: Path) -> None:
    told = []
    lint(voc(tmp_path), watch=lambda items, label: told.append(label) or items)
    assert told == ["read annotations", "look at images"]


def test_a_report_as_json(tmp_path: Path) -> None:
    report = json.loads(json.dumps(lint(voc(tmp_path, voc_object(box=(5, 5, 5, 5)))).describe()))
    assert (report["format"], report["images"], report["objects"]) == ("voc", 2, 2)
    assert (report["defects"], report["counts"]["degenerate"]) == (1, 1)
    assert report["findings"][0] == {
        "file": XML,
        "id": "object 1",
        "rule": "degenerate",
        "level": "defect",
        "why": "box (5, 5, 5, 5) has no area",
        "cure": RULES["degenerate"].cure,
    }


PUBLISHED = {
    "bccd": {
        ("Annotations/BloodImage_00338.xml", "object 13", "degenerate"),
        ("Annotations/BloodImage_00343.xml", "object 4", "degenerate"),
    },
    "coco128_yolo": {
        ("images/train2017/000000000250.jpg", "000000000250", "unlabelled-image"),
        ("images/train2017/000000000508.jpg", "000000000508", "unlabelled-image"),
        ("labels/train2017/000000000656.txt", "000000000656", "missing-image"),
        ("labels/train2017/000000000659.txt", "000000000659", "missing-image"),
        ("data.yaml", "val", "missing-split"),
    },
    "coco_tiny": set(),
    "voc2012_sample": set(),
    "voc2012_animals": set(),
    "voc_more": set(),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_sets_have_their_published_defects_only(
    shared_data: Path, name: str
) -> None:
    assert defects(shared_data / name, fast=True) == PUBLISHED[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_their_pixels_have_no_defect_either(shared_data: Path, name: str) -> None:
    assert defects(shared_data / name) == PUBLISHED[name]


def named(path: Path, rule: str) -> list[str]:
    """Why, for each finding of the rule."""
    return [one.why for one in lint(path).findings if one.rule == rule]


def test_objects_of_which_none_counts_are_noted(tmp_path: Path) -> None:
    one = coco(tmp_path / "crowds", coco_content([], [coco_object(i, iscrowd=1) for i in (1, 2)]))
    entries = json.loads(one.read_text())
    entries["annotations"][1]["bbox"] = [30, 30, 40, 40]
    one.write_text(json.dumps(entries))
    assert named(one, "nothing-counts") == ["all 2 objects are crowds (iscrowd 1)"]
    # One class of two: the other counts.
    mixed = voc(tmp_path / "voc", voc_object("dog", difficult=1), voc_object("cat"))
    assert named(mixed, "nothing-counts") == ["all 1 objects of it are difficult"]


@pytest.mark.parametrize(
    ("size", "box", "said"),
    [
        ((100, 80), "0.5 0.5 0.12 0.15", "12 x 12 pixels"),  # 144 of 400: no half
        ((2000, 1000), "0.5 0.5 0.02 0.05", "40 x 50 pixels"),  # 10 x 12.5 where it is searched
        ((100, 80), "0.5 0.5 0.15 0.2", None),  # 240 of 16 x 20's 320
        ((2000, 1000), "0.5 0.5 0.04 0.06", None),
        ((16, 16), "0.5 0.5 1 1", "only the whole image is proposed"),
    ],
)
def test_what_no_proposal_can_reach_is_noted(
    tmp_path: Path, size: tuple[int, int], box: str, said: str | None
) -> None:
    path = yolo(tmp_path, f"0 {box}\n")
    write_noise(tmp_path / "images" / "train" / "a.jpg", 5, size)
    found = named(path, "below-proposals")
    assert [said in why for why in found] == [True] * (said is not None)


def test_the_least_proposal_is_that_of_selective_search() -> None:
    from detector.datasets.check.boxes import LONGEST_SIDE, MIN_BOX_SIDE
    from detector.proposals.selective_search import SelectiveSearchSettings

    search = SelectiveSearchSettings()
    assert (search.min_box_side, search.longest_side) == (MIN_BOX_SIDE, LONGEST_SIDE)


@pytest.mark.parametrize(("turn", "told"), [(1, False), (3, True), (6, True)])
def test_turned_images_whose_labels_tell_no_frame_are_noted(
    tmp_path: Path, turn: int, told: bool
) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.3 0.5\n")
    write_noise(tmp_path / "images" / "train" / "a.jpg", 0, turn=turn)
    found = named(path, "unknown-frame")
    assert ["1 of 2 images" in why for why in found] == [True] * told


def test_a_declared_size_tells_the_frame_of_a_quarter_turn_only(tmp_path: Path) -> None:
    sizes = {6: (80, 100), 3: (100, 80)}
    for turn, (width, height) in sizes.items():
        root = voc(tmp_path / str(turn), width=width, height=height)
        write_noise(root / "JPEGImages" / "a.jpg", 0, turn=turn)
        assert len(named(root, "unknown-frame")) == (turn == 3)
        assert defects(root) == set()


def test_what_the_decoder_warns_of_is_noted(tmp_path: Path) -> None:
    path = yolo(tmp_path, "0 0.5 0.5 0.3 0.5\n")
    (tmp_path / "images" / "train" / "a.jpg").unlink()
    ramp = np.linspace(5000, 6000, 8000).astype(np.uint16).reshape(80, 100)
    Image.fromarray(ramp).save(tmp_path / "images" / "train" / "a.png")
    (why,) = named(path, "image-warning")
    assert "of 256 levels" in why
