"""YOLO folders as people have them: nested, moved, of Windows or CVAT, without a data.yaml."""

import os
from pathlib import Path

import pytest
from dataset_files import write_image, write_yolo

from detector.datasets import join, read_dataset, read_yolo
from detector.datasets.check import lint
from detector.datasets.formats.recognise import detect_format
from detector.errors import AnnotationError, DatasetError

BOX = "0 0.5 0.5 0.2 0.5"


def put(root: Path, image: str, labels: str | None = None, text: str = BOX) -> None:
    """An image and its label file, of which no two sets of pixels are alike."""
    number = len([*root.rglob("*.jpg"), *root.rglob("*.JPG"), *root.rglob("*.png")])
    write_image(root / image, 100 + number)
    if labels is not None:
        (root / labels).parent.mkdir(parents=True, exist_ok=True)
        (root / labels).write_text(text)


def settings(root: Path, text: str, names: str = "[cup]") -> Path:
    root.mkdir(exist_ok=True)
    path = root / "data.yaml"
    path.write_text(f"{text}\nnames: {names}\n")
    return path


def objects_by_id(path: Path, split: str | None = "train") -> dict[str, int]:
    return {one.image_id: len(one.annotations) for one in read_dataset(path, split).samples}


def defects(path: Path) -> set[tuple[str, str]]:
    return {(one.file, one.rule) for one in lint(path).defects}


def test_folders_below_a_split_are_its_own(tmp_path: Path) -> None:
    put(tmp_path, "images/train/top.jpg", "labels/train/top.txt")
    put(tmp_path, "images/train/mon/a.jpg", "labels/train/mon/a.txt")
    put(tmp_path, "images/train/mon/late/b.JPG", "labels/train/mon/late/b.txt")
    put(tmp_path, "images/train/tue/a.png", "labels/train/tue/a.txt")
    put(tmp_path, "images/train/.trash/c.jpg")
    (tmp_path / "images/train/mon/again").symlink_to(tmp_path / "images/train")
    path = settings(tmp_path, "train: images/train")
    assert objects_by_id(path) == {
        "top": 1, "images/train/mon/a": 1, "b": 1, "images/train/tue/a": 1,
    }  # fmt: skip
    assert defects(path) == set()
    assert lint(path).images == 4


def test_the_same_name_in_two_folders_is_two_images(tmp_path: Path) -> None:
    for camera in ("cam1", "cam2"):
        for frame in (1, 2):
            put(tmp_path, f"{camera}/images/{frame}.jpg", f"{camera}/labels/{frame}.txt")
    path = settings(tmp_path, "train: [cam1/images, cam2/images]")
    assert objects_by_id(path) == {f"cam{c}/images/{f}": 1 for c in (1, 2) for f in (1, 2)}
    assert defects(path) == set()
    twice = join([read_yolo(path), read_yolo(path)])
    assert len(twice) == 8


def test_a_folder_within_another_of_the_split_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "labels/a.txt")
    put(tmp_path, "images/more/b.jpg", "labels/more/b.txt")
    path = settings(tmp_path, "train: [images, images/more]")
    assert objects_by_id(path) == {"a": 1, "b": 1}
    assert defects(path) == {("images/more/b.jpg", "duplicate-image")}


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("second/images/a.jpg", "second/images/a.txt"),  # beside, though the folder is `images`
        ("images/train/images/a.jpg", "labels/train/images/a.txt"),  # the first of two
        ("images/train/images/a.jpg", "images/train/labels/a.txt"),  # the last of two
        ("Images/train/a.jpg", "Labels/train/a.txt"),
        ("images/train/a.jpg", "Labels/train/a.txt"),
        ("images/train/a.JPEG", "labels/train/a.txt"),
        ("images/train/a.jpg", "labels/train/a.TXT"),
        ("images/train/a.b.c.jpg", "labels/train/a.b.c.txt"),
        ("images/train/ a  b .jpg", "labels/train/ a  b .txt"),
        ("images/train/caf\u00e9.jpg", "labels/train/cafe\u0301.txt"),
        ("images/train/cafe\u0301.jpg", "labels/train/caf\u00e9.txt"),
    ],
)
def test_the_label_file_of_an_image(tmp_path: Path, image: str, labels: str) -> None:
    put(tmp_path, image, labels)
    path = settings(tmp_path, f"train: {image.split('/')[0]}")
    assert list(objects_by_id(path).values()) == [1]
    assert defects(path) == set()


def test_labels_of_another_image_are_not_taken(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "labels/A.txt")
    put(tmp_path, "images/01.jpg", "labels/1.txt")
    path = settings(tmp_path, "train: images")
    assert objects_by_id(path) == {"01": 0, "a": 0}
    assert read_yolo(path).notes() == ["2 images have no label file: taken as empty"]
    assert read_yolo(path).dropped_by_rule() == {"missing-image": 2}
    assert defects(path) == {
        ("images/a.jpg", "unlabelled-image"),
        ("images/01.jpg", "unlabelled-image"),
        ("labels/A.txt", "missing-image"),
        ("labels/1.txt", "missing-image"),
    }


LISTED = ["images/val/a.jpg", "./images/val/b.jpg", "images\\val\\c.jpg", ".\\images\\val\\d.jpg"]
MOVED = [
    "/somebody/set/images/val/a.jpg", "C:\\Users\\me\\set\\images\\val\\b.jpg",
    "../set/images/val/c.jpg", "data/images/val/d.jpg",
]  # fmt: skip


@pytest.mark.parametrize("listed", [LISTED, MOVED, "whole"])
def test_a_list_of_images(tmp_path: Path, listed: list[str] | str) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        for name in "abcd":
            put(root, f"images/{split}/{name}.jpg", f"labels/{split}/{name}.txt")
    if listed == "whole":
        listed = [str(root / "images" / "val" / f"{name}.jpg") for name in "abcd"]
    (root / "val.txt").write_text("\ufeff" + "\r\n".join(listed) + "\r\n\r\n", encoding="utf-8")
    path = settings(root, "val: val.txt")
    dataset = read_yolo(path, "val")
    assert [one.path for one in dataset.samples] == [root / f"images/val/{n}.jpg" for n in "abcd"]
    assert [one.image_id for one in dataset.samples] == list("abcd")
    assert dataset.dropped == ()
    assert defects(path) == set()


def test_what_a_list_cannot_mean_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "set"
    put(root, "images/train/a.jpg", "labels/train/a.txt")
    put(root, "images/val/a.jpg", "labels/val/a.txt")
    put(root, "images/val/b.jpg", "labels/val/b.txt")
    write_image(tmp_path / "other" / "b.jpg")
    lines = ["a.jpg", "images/val/b.jpg", "images/val/b.jpg", "images/val/z.jpg", "/etc/passwd",
             str(tmp_path / "other" / "b.jpg"), "../other/b.jpg"]  # fmt: skip
    (root / "val.txt").write_text("\n".join(lines))
    path = settings(root, "val: val.txt")
    dataset = read_yolo(path, "val")
    assert [one.path.name for one in dataset.samples] == ["b.jpg"]
    rules = {(one.id, one.rule) for one in dataset.dropped}
    assert rules == {
        ("line 1", "ambiguous-name"), ("b", "duplicate-image"), ("line 4", "missing-image"),
        ("line 5", "unsafe-path"), ("line 6", "unsafe-path"), ("line 7", "unsafe-path"),
    }  # fmt: skip
    assert {(one.id, one.rule) for one in lint(path).defects} == rules


@pytest.mark.parametrize(
    "text",
    [
        "train: images\\train\nval: .\\images\\val",
        "train: ../images/train\nval: ../images/val",  # Roboflow
        "train: ../../images/train\nval: ../../images/val",
        "train: /somebody/set/images/train\nval: /somebody/set/images/val",
        "train: C:\\set\\images\\train\nval: D:/set/images/val",
        "path: /somebody/set\ntrain: images/train\nval: images/val",
        "path: C:\\set\ntrain: images/train\nval: images/val",
        "path: ..\ntrain: images/train\nval: images/val",  # which is there, and is not the set
        "path: .\ntrain: images/train\nvalid: images/val",
        "train: [images/train]\nvalidation: [images/val]",
    ],
)
def test_the_folders_of_a_split(tmp_path: Path, text: str) -> None:
    root = tmp_path / "set"
    put(root, "images/train/a.jpg", "labels/train/a.txt")
    put(root, "images/val/b.jpg", "labels/val/b.txt")
    path = settings(root, text)
    assert objects_by_id(path, "train") == {"a": 1}
    assert objects_by_id(path, "val") == {"b": 1}
    assert defects(path) == set()


@pytest.mark.parametrize("place", ["../val/images", "/somebody/val/images", "images/vall", "data"])
def test_a_folder_of_all_splits_is_not_taken_for_one(tmp_path: Path, place: str) -> None:
    put(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    path = settings(tmp_path, f"train: images/train\nval: {place}")
    with pytest.raises(DatasetError, match="which is not there"):
        read_yolo(path, "val")
    assert ("data.yaml", "missing-split") in defects(path)


def cvat(root: Path, names: str = "cup\nmug\n", train: str | None = None) -> Path:
    """As CVAT exports "YOLO 1.1": paths begin with data/, a folder that nobody has."""
    put(root, "obj_train_data/a.jpg", "obj_train_data/a.txt")
    put(root, "obj_train_data/shelf/b.png", "obj_train_data/shelf/b.txt", f"{BOX}\n1 {BOX[2:]}")
    (root / "obj.names").write_text(names)
    (root / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    listed = "data/obj_train_data/a.jpg\ndata/obj_train_data/shelf/b.png\n"
    (root / "train.txt").write_text(listed if train is None else train)
    return root


def test_cvats_yolo_is_read(tmp_path: Path) -> None:
    root = cvat(tmp_path)
    for path in (root, root / "obj.data"):
        assert detect_format(path).splits == ("train",)
        assert objects_by_id(path, None) == {"a": 1, "b": 2}
        assert read_dataset(path).classes == ("cup", "mug")
        assert lint(path).images == 2
        assert defects(path) == set()


def test_darknets_valid_is_val(tmp_path: Path) -> None:
    root = cvat(tmp_path)
    with (root / "obj.data").open("a") as file:
        file.write("valid=data/valid.txt\n")
    (root / "valid.txt").write_text("data/obj_train_data/a.jpg\n")
    (root / "train.txt").write_text("data/obj_train_data/shelf/b.png\n")
    assert detect_format(root).splits == ("train", "val")
    assert objects_by_id(root, "val") == {"a": 1}


def test_cvats_export_without_its_images_says_so(tmp_path: Path) -> None:
    root = cvat(tmp_path)
    (root / "obj_train_data/a.jpg").unlink()
    (root / "obj_train_data/shelf/b.png").unlink()
    with pytest.raises(DatasetError, match=r"no usable image \(2 x missing-image\)"):
        read_dataset(root)
    (root / "obj.names").unlink()
    with pytest.raises(AnnotationError, match=r"obj\.data: names must tell the file"):
        read_dataset(root / "obj.data")


@pytest.mark.parametrize(
    ("image", "labels", "classes", "splits"),
    [
        ("images/a.jpg", "labels/a.txt", "classes.txt", ("train",)),  # Label Studio
        ("a.jpg", "a.txt", "classes.txt", ("train",)),  # LabelImg
        ("images/a.jpg", "labels/a.txt", "labels/classes.txt", ("train",)),
        ("images/train/a.jpg", "labels/train/a.txt", "classes.txt", ("train",)),
    ],
)
def test_a_list_of_class_names_stands_for_data_yaml(
    tmp_path: Path, image: str, labels: str, classes: str, splits: tuple[str, ...]
) -> None:
    put(tmp_path, image, labels)
    (tmp_path / classes).write_text("cup\nmug with a handle\n\n")
    assert detect_format(tmp_path).splits == splits
    assert objects_by_id(tmp_path, None) == {"a": 1}
    assert read_dataset(tmp_path).classes == ("cup", "mug with a handle")
    assert defects(tmp_path) == set()


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("[on, off]", ("on", "off")),
        ("{0: yes, 1: no}", ("yes", "no")),
        ("{'1': b, '0': a}", ("a", "b")),
        ("[1, 2]", ("1", "2")),
        ("[007, 2024-01-01]", ("007", "2024-01-01")),
        ("['null', 'true']", ("null", "true")),
        ("[\u72d7, caf\u00e9]", ("\u72d7", "caf\u00e9")),
    ],
)
def test_names_are_as_they_are_written(
    tmp_path: Path, names: str, classes: tuple[str, ...]
) -> None:
    path = write_yolo(tmp_path, {"a": f"{BOX}\n1 0.2 0.2 0.1 0.1"})
    path.write_text(f"train: images/train\nnames: {names}\n", encoding="utf-8")
    assert read_dataset(path).classes == lint(path).classes == classes


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("[cup, null]", "class 1 is nothing (null); put its name in quotes"),
        ("[cup, ]\n- x", None),
        ("{0: cup, 1: }", "class 1 is nothing (null)"),
        ("[true, false]", "class 0 is true; put its name in quotes"),
        ("[cup, 0.5]", "class 1 is 0.5; put its name in quotes"),
        ("[cup, '  ']", "class 1 is '  '"),
        ("[cup, [mug]]", "class 1 is ['mug']"),
        ("{0: cup, '0': mug}", "map 0, 1, 2, ... to them without a gap"),
        ("{1: cup, 2: mug}", "map 0, 1, 2, ... to them without a gap"),
        ("{cup: 0, mug: 1}", "map 0, 1, 2, ... to them without a gap"),
        ("cup", "names must list the classes"),
    ],
)
def test_what_is_no_name_is_told_by_its_number(tmp_path: Path, names: str, why: str | None) -> None:
    path = write_yolo(tmp_path, {"a": BOX})
    path.write_text(f"train: images/train\nnames: {names}\n")
    with pytest.raises(AnnotationError) as refused:
        read_dataset(path)
    assert str(refused.value).startswith(f"{path}: ")
    if why is not None:
        assert why in str(refused.value)
        assert [one.why for one in lint(path).findings if one.id == "names"] == [
            str(refused.value).removeprefix(f"{path}: ")
        ]


def test_a_folder_whose_data_yaml_is_broken_says_why(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    settings(tmp_path, "train: images/train\ntrain: images/val")
    with pytest.raises(AnnotationError, match="'train' is given twice"):
        read_dataset(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nnc: 1\n")
    with pytest.raises(AnnotationError, match=r"data\.yaml: names must list the classes"):
        read_dataset(tmp_path)


def test_labels_in_a_folder_without_images_are_written_down(tmp_path: Path) -> None:
    put(tmp_path, "images/train/mon/a.jpg", "labels/train/mon/a.txt")
    put(tmp_path, "images/train/top.jpg", "labels/train/top.txt")
    for lost in ("labels/train/tue/b.txt", "labels/train/mon/late/c.txt"):
        (tmp_path / lost).parent.mkdir()
        (tmp_path / lost).write_text(BOX)
    path = settings(tmp_path, "train: images/train")
    found = {(f"labels/train/{one}.txt", "missing-image") for one in ("tue/b", "mon/late/c")}
    assert defects(path) == found
    assert {(one.file, one.rule) for one in read_yolo(path).dropped} == found


def test_a_split_without_an_image_is_a_defect(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    (tmp_path / "val.txt").write_text("\n")
    path = settings(tmp_path, "train: images/train\nval: val.txt")
    assert defects(path) == {("data.yaml", "missing-split")}
    with pytest.raises(DatasetError, match=r"no usable image \(none listed\)"):
        read_yolo(path, "val")


def test_what_somebody_wrote_is_cut_in_what_is_said(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg", "labels/train/a.txt", f"{'9' * 5000} 0.5 0.5 0.2 0.5")
    (tmp_path / "train.txt").write_text("images/train/a.jpg\n" + "x" * 10**6)
    path = settings(tmp_path, "train: train.txt")
    assert all(len(str(one)) < 500 for one in read_yolo(path).dropped)
    assert len(read_yolo(path).dropped) == 2
    assert all(len(one.why) <= 300 for one in lint(path).findings)
    with pytest.raises(AnnotationError) as refused:
        read_yolo(path, strict=True)
    assert len(str(refused.value)) < 700
    path = settings(tmp_path, "train: images/train", "[" + "n" * 100_000 + "]")
    with pytest.raises(AnnotationError) as long:
        read_yolo(path)
    assert len(str(long.value)) < 500
    assert all(len(one.why) <= 300 for one in lint(path).findings)


def test_two_pictures_of_one_name_in_two_splits_are_two(tmp_path: Path) -> None:
    """test is not train and val together, though their files have the same names."""
    for name, folder in (("a", "train"), ("b", "val"), ("a", "test"), ("b", "test")):
        put(tmp_path, f"images/{folder}/{name}.jpg", f"labels/{folder}/{name}.txt")
    (tmp_path / "both.txt").write_text("images/train/a.jpg\nimages/test/b.jpg\n")
    path = settings(tmp_path, "train: both.txt\nval: images/val\ntest: images/test")
    assert {rule for _, rule in defects(path)} == {"two-splits"}


def test_a_folder_that_nobody_may_read_is_no_endless_walk(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "labels/a.txt")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "images" / "pipe.jpg")
    (tmp_path / "images" / "folder.jpg").mkdir()
    path = settings(tmp_path, "train: images")
    assert objects_by_id(path) == {"a": 1}
    found = {("images/pipe.jpg", "not-a-file"), ("images/folder.jpg", "not-a-file")}
    assert defects(path) == found
    assert {(one.file, one.rule) for one in read_yolo(path).dropped} == found


def test_a_list_that_lies_elsewhere_names_what_is_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "store", "images/a.jpg", "labels/a.txt")
    (tmp_path / "store" / "all.txt").write_text(f"images/a.jpg\n{tmp_path}/secret.jpg\n")
    write_image(tmp_path / "secret.jpg")
    path = settings(tmp_path / "project", f"train: {tmp_path}/store/all.txt")
    assert objects_by_id(path) == {"a": 1}
    assert read_yolo(path).dropped_by_rule() == {"unsafe-path": 1}


def test_a_path_with_dots_in_it_is_the_same_folder(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    path = settings(tmp_path, "train: [images/train, images/../images/train]")
    assert objects_by_id(path) == {"a": 1}


@pytest.mark.parametrize("name", ["x" * 201, "\u732b" * 70])
def test_a_class_name_that_no_file_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    path = write_yolo(tmp_path, {"a": BOX}, names=("cup", name))
    with pytest.raises(AnnotationError, match=r"class 1: the name .* has over 200 bytes"):
        read_yolo(path)
    assert "unusable-name" in {one.rule for one in lint(path, fast=True).findings}


def test_class_names_have_one_spelling(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": BOX}, names=("Ka\u0308se", " big  cup\n"))
    assert read_yolo(path).classes == ("K\u00e4se", "big cup")


@pytest.mark.parametrize(
    ("image", "labels"), [("x.jpg", "x.jpg.txt"), ("X.jpg", "x.txt"), ("0001.jpg", "1.txt")]
)
def test_labels_of_no_image_may_be_of_one_that_has_none(
    tmp_path: Path, image: str, labels: str
) -> None:
    put(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    put(tmp_path, f"images/train/{image}")
    path = settings(tmp_path, "train: images/train")
    assert not any(one.positives_only for one in read_yolo(path).samples)
    (tmp_path / "labels/train" / labels).write_text(BOX)
    found = {one.path.name: one.positives_only for one in read_yolo(path).samples}
    assert found == {"a.jpg": False, image: True}


def test_folders_of_splits_are_told_whatever_their_capitals(tmp_path: Path) -> None:
    for split in ("Train", "Val"):
        put(tmp_path, f"images/{split}/a.jpg", f"labels/{split}/a.txt")
    (tmp_path / "classes.txt").write_text("cup\n")
    assert detect_format(tmp_path).splits == ("train", "val")
    assert read_dataset(tmp_path, "val").samples[0].path.parent.name == "Val"
