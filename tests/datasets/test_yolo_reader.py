"""Reading YOLO's layout: coordinates, outlines, the published set, and every defect."""

import re
from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_image, write_yolo

from detector.datasets import read_yolo
from detector.datasets.check import lint
from detector.errors import AnnotationError, DatasetError

LINE = "1 0.5 0.5 0.2 0.5"  # of 100 x 80 pixels: centre (50, 40), 20 wide and 40 high


def test_normalised_centres_become_pixels(tmp_path: Path) -> None:
    dataset = read_yolo(write_yolo(tmp_path, {"a": f"{LINE}\n\n0 0.25 0.25 0.5 0.5\n"}))
    (sample,) = dataset.samples
    assert sample.annotations.boxes.tolist() == [[40, 20, 60, 60], [0, 0, 50, 40]]
    assert sample.annotations.labels.tolist() == [1, 0]
    assert (sample.image_id, sample.size, dataset.classes) == ("a", (80, 100), ("car", "cat"))


def test_the_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE})
    write_image(tmp_path / "images/train/a.jpg", orientation=6)  # seen as 80 wide and 100 high
    assert read_yolo(path).samples[0].annotations.boxes.tolist() == [[32, 25, 48, 75]]


def test_an_outline_gives_its_box(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.1 0.5 0.5 0.25 0.9 0.75"})
    assert read_yolo(path).samples[0].annotations.boxes == pytest.approx(
        np.array([[10, 20, 90, 60]])
    )


def test_an_image_without_labels_has_no_objects(tmp_path: Path) -> None:
    dataset = read_yolo(write_yolo(tmp_path, {"a": LINE, "b": None, "c": ""}))
    assert [len(one.annotations) for one in dataset.samples] == [1, 0, 0]
    assert dataset.dropped == ()


def test_labels_without_an_image_are_written_down(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE, "b": LINE})
    (tmp_path / "images/train/b.jpg").unlink()
    (dropped,) = read_yolo(path).dropped
    assert (dropped.file, dropped.rule) == ("labels/train/b.txt", "missing-image")


def test_the_published_defects_of_coco128_are_found(shared_data: Path) -> None:
    dataset = read_yolo(shared_data / "coco128_yolo" / "data.yaml")
    assert (len(dataset), len(dataset.classes)) == (128, 80)
    assert sum(len(one.annotations) for one in dataset.samples) == 929
    assert dataset.dropped_by_rule() == {"missing-image": 2}
    assert sum(len(one.annotations) == 0 for one in dataset.samples) == 2


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("0 0.5 0.5 0 0.5", "degenerate"),
        ("0 0.5 0.5 -0.2 0.5", "negative"),
        ("0 nan 0.5 0.2 0.5", "not-finite"),
        ("0 inf 0.5 0.2 0.5", "not-finite"),
        ("0 1e30 0.5 0.2 0.5", "not-finite"),
        ("0 1.5 0.5 0.2 0.5", "not-normalised"),
        ("0 1 1 0.2 0.5", "outside"),
        ("0 50 40 20 40", "not-normalised"),  # pixels where fractions belong
        ("3 0.5 0.5 0.2 0.5", "unknown-class"),
        ("-1 0.5 0.5 0.2 0.5", "unknown-class"),
        ("0.5 0.5 0.5 0.2 0.5", "unknown-class"),
        ("nan 0.5 0.5 0.2 0.5", "unknown-class"),
        ("0 0.5 0.5 0.2", "missing-field"),
        ("0 0.5 0.5 0.2 0.5 -0.9", "missing-field"),
        ("0 0.5 0.5 0.2 0.5 0.9 0.5", "degenerate"),  # three points on a line
        ("0 10 10 40 10 40 40", "not-normalised"),  # an outline in pixels
        ("0, 0.5, 0.5, 0.2, 0.5", "missing-field"),
        ("0 0,5 0,5 0,2 0,5", "missing-field"),
        ("car 0.5 0.5 0.2 0.5", "missing-field"),
        ("0 a b c d", "missing-field"),
        ("0", "missing-field"),
        (LINE, "duplicate"),
    ],
)
def test_a_defective_line_is_left_out_and_written_down(
    tmp_path: Path, line: str, rule: str
) -> None:
    path = write_yolo(tmp_path, {"a": f"{LINE}\n{line}\n"})
    dataset = read_yolo(path)
    assert dataset.samples[0].annotations.boxes.tolist() == [[40, 20, 60, 60]]
    (dropped,) = dataset.dropped
    assert (dropped.file, dropped.id, dropped.rule) == ("labels/train/a.txt", "line 2", rule)
    assert lint(path).defects == [dropped]
    with pytest.raises(AnnotationError, match=re.escape("labels/train/a.txt: line 2: ")):
        read_yolo(path, strict=True)


def test_a_label_file_that_is_not_text_is_left_out(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE, "b": LINE})
    for data, why in ((b"\xff\xfe\x00", "byte 0 is not UTF-8"), (b"0 0.5 0\0.5", "zero bytes")):
        (tmp_path / "labels/train/b.txt").write_bytes(data)
        dataset = read_yolo(path)
        assert [one.image_id for one in dataset.samples] == ["a"]  # nobody knows what b shows
        (dropped,) = dataset.dropped
        assert (dropped.file, dropped.id, dropped.rule) == ("labels/train/b.txt", "b", "not-utf8")
        assert why in dropped.why


def test_a_file_that_is_no_image_is_left_out(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE, "b": LINE})
    (tmp_path / "images/train/b.jpg").write_text("not an image")
    dataset = read_yolo(path)
    assert [one.image_id for one in dataset.samples] == ["a"]
    assert dataset.dropped_by_rule() == {"unreadable-image": 1}


def test_a_list_of_images_may_stand_for_a_folder(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE, "b": LINE})
    listed = "./images/train/b.jpg\nimages/train/z.jpg\n../secret.jpg\n/etc/passwd\n"
    (tmp_path / "train.txt").write_text(listed)
    path.write_text(path.read_text().replace("train: images/train", "train: train.txt"))
    dataset = read_yolo(path)
    assert [one.image_id for one in dataset.samples] == ["b"]
    assert dataset.dropped_by_rule() == {"missing-image": 1, "unsafe-path": 2}


def test_labels_beside_the_images_are_found_and_other_texts_ignored(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {})
    write_image(tmp_path / "flat" / "a.jpg")
    (tmp_path / "flat" / "a.txt").write_text(LINE)
    (tmp_path / "flat" / "readme.txt").write_text("hello")
    path.write_text(path.read_text().replace("images/train", "flat"))
    dataset = read_yolo(path)
    assert len(dataset.samples[0].annotations) == 1
    assert dataset.dropped == ()


def test_a_split_may_name_several_folders(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE})
    write_image(tmp_path / "images/more/b.jpg")
    write_image(tmp_path / "images/more/a.jpg")
    path.write_text(path.read_text().replace("images/train", "[images/train, images/more]"))
    dataset = read_yolo(path)
    assert [one.image_id for one in dataset.samples] == ["images/train/a", "images/more/a", "b"]
    assert [len(one.annotations) for one in dataset.samples] == [1, 0, 0]
    assert dataset.dropped == ()


def test_a_label_file_over_the_limit_is_left_out(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE, "b": LINE})
    with (tmp_path / "labels/train/a.txt").open("r+b") as file:
        file.truncate(16_000_001)  # sparse
    dataset = read_yolo(path)
    assert [one.image_id for one in dataset.samples] == ["b"]
    assert dataset.dropped_by_rule() == {"too-large": 1}


def test_a_data_yaml_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"none\.yaml: No such file"):
        read_yolo(tmp_path / "none.yaml")


def test_names_may_be_a_mapping_and_the_authors_own_folder_is_forgiven(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": LINE})
    path.write_text("path: /home/author/data\ntrain: images/train\nnames: {1: cat, 0: car}\n")
    dataset = read_yolo(path)
    assert dataset.classes == ("car", "cat")
    assert dataset.samples[0].annotations.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("names: [a]", DatasetError, "no split 'train'; it has: none"),
        ("names: [a]\ntrain: nowhere", DatasetError, "nowhere, which is not there"),
        (f"names: [a]\ntrain: {'x' * 5000}", DatasetError, "which is not there"),
        (f"names: [a]\ntrain: a\npath: {'x' * 5000}", DatasetError, "which is not there"),
        ('names: [a]\ntrain: "a\\0b"', DatasetError, "which is not there"),
        ('names: [a]\ntrain: a\npath: "a\\0b"', DatasetError, "which is not there"),
        ("train: images/train", AnnotationError, "names must list the classes"),
        ("train: x\nnames: {1: a, 2: b}", AnnotationError, "names must list the classes"),
        ("train: x\nnames: []", AnnotationError, "names must list the classes"),
        ("train: x\nnames: [[a]]", AnnotationError, "names must list the classes"),
        ("train: x\nnames: [a, a]", DatasetError, "nowhere|not there"),
        ("[1, 2]", AnnotationError, "expected a mapping"),
        ("{", AnnotationError, "not readable YAML"),
        ("a: !!python/object/apply:os.system [x]", AnnotationError, "not readable YAML"),
        ("[" * 20_000, AnnotationError, "not readable YAML"),
        ("x" * 1_000_001, AnnotationError, "1.0 MB is over the limit"),
    ],
)
def test_a_data_yaml_that_cannot_be_used_is_one_clear_error(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message) as refused:
        read_yolo(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)
