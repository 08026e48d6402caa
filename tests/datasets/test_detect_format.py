"""The format of a data set is told from its files, and an error tells what was looked for."""

import json
import shutil
from pathlib import Path

import pytest
from dataset_files import (
    coco_content,
    coco_object,
    voc_object,
    voc_xml,
    write_coco,
    write_ilsvrc,
    write_image,
    write_voc,
    write_yolo,
)

from detector.datasets import read_dataset
from detector.datasets.check import lint
from detector.datasets.formats.recognise import detect_format
from detector.errors import AnnotationError, DatasetError


def test_each_format_is_recognised_in_its_folder(tmp_path: Path) -> None:
    voc = write_voc(tmp_path / "voc", {"a": voc_xml(voc_object())})
    coco = write_coco(tmp_path / "coco", coco_content((), [coco_object()]))
    yolo = write_yolo(tmp_path / "yolo", {"a": "0 0.5 0.5 0.2 0.5"})
    write_ilsvrc(tmp_path / "ilsvrc" / "ILSVRC", {"v1": []}, None, {"train": {"v1": 1}})
    names = ["voc", "coco", "yolo", "ilsvrc"]
    found = [detect_format(tmp_path / name) for name in names]
    assert [one.format for one in found] == names
    assert [one.splits for one in found] == [
        ("train",),
        ("instances_train",),
        ("train",),
        ("train", "val", "val1", "val2"),
    ]
    assert len(read_dataset(tmp_path / "ilsvrc", "val")) == 1
    for path in (voc, tmp_path / "coco", coco, tmp_path / "yolo", yolo):
        assert len(read_dataset(path)) == 1
        assert len(read_dataset(path, "train")) == 1


def test_one_data_set_inside_a_devkit_is_found(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOCdevkit" / "VOC2012", {"a": voc_xml(voc_object())})
    assert len(read_dataset(tmp_path, "train")) == 1
    assert len(read_dataset(tmp_path / "VOCdevkit")) == 1
    write_voc(tmp_path / "VOCdevkit" / "VOC2007", {"a": voc_xml(voc_object())})
    with pytest.raises(DatasetError, match=r"several data sets \(.*VOC2007, .*VOC2012\)"):
        read_dataset(tmp_path)


def test_of_several_splits_one_has_to_be_named(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object())}, "train")
    write_voc(root, {"b": voc_xml(voc_object())}, "val")
    with pytest.raises(DatasetError, match="name a split; it has: train, val"):
        read_dataset(root)
    with pytest.raises(DatasetError, match="no single split 'test'; it has: train, val"):
        read_dataset(root, "test")
    assert [one.image_id for one in read_dataset(root, "val").samples] == ["b"]


@pytest.mark.parametrize("split", ["train2017", "train", "instances_train2017"])
def test_a_coco_file_is_found_by_any_name_of_its_split(tmp_path: Path, split: str) -> None:
    content = coco_content((), [coco_object()])
    write_coco(tmp_path, content, "instances_train2017.json")
    write_coco(tmp_path, content, "instances_val2017.json")
    write_coco(tmp_path, content, "captions_train2017.json")
    assert detect_format(tmp_path).splits == ("instances_train2017", "instances_val2017")
    assert read_dataset(tmp_path, split, images_root=tmp_path / "train").name.endswith("train2017")
    with pytest.raises(DatasetError, match="name a split"):
        read_dataset(tmp_path)


def test_roboflows_coco_export_has_its_folders_as_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        write_image(tmp_path / split / "1.jpg")
        content = json.dumps(coco_content((), [coco_object()]))
        (tmp_path / split / "_annotations.coco.json").write_text(content)
    assert detect_format(tmp_path).splits == ("train", "valid")
    assert read_dataset(tmp_path, "val").name == "valid"
    with pytest.raises(DatasetError, match="name a split; it has: train, valid"):
        read_dataset(tmp_path)
    rules = {one.rule for one in lint(tmp_path).defects}
    assert "leak" in rules
    assert "same-image" not in rules


def test_a_data_set_in_the_current_folder_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "valid" / "1.jpg")
    content = json.dumps(coco_content((), [coco_object()]))
    (tmp_path / "valid" / "_annotations.coco.json").write_text(content)
    (tmp_path / "valid" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "valid")
    assert detect_format(".").splits == ("valid",)
    assert [read_dataset(one).name for one in (".", "_annotations.coco.json")] == ["valid"] * 2
    monkeypatch.chdir("below")
    assert read_dataset("..").name == "valid"


def test_roboflows_yolo_export_says_one_step_up_and_means_beside(tmp_path: Path) -> None:
    root = tmp_path / "export"
    for split in ("train", "valid"):
        write_image(root / split / "images" / f"{split}.jpg")
        (root / split / "labels").mkdir()
        (root / split / "labels" / f"{split}.txt").write_text("0 0.5 0.5 0.2 0.5")
    text = "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n"
    (root / "data.yaml").write_text(text)
    assert [one.image_id for one in read_dataset(root, "val").samples] == ["valid"]
    assert {one.rule for one in lint(root, fast=True).findings} == set()
    write_image(tmp_path / "valid" / "images" / "above.jpg")  # what the words say comes first
    assert [one.image_id for one in read_dataset(root, "val").samples] == ["above"]


@pytest.mark.parametrize(("home", "pictures"), [("annotations", "images"), (".", ".")])
def test_vocs_xml_is_found_where_labelling_tools_put_it(
    tmp_path: Path, home: str, pictures: str
) -> None:
    for folder in (home, pictures):
        (tmp_path / folder).mkdir(exist_ok=True)
    for name, text in (("a", voc_xml(voc_object("mug"))), ("b", voc_xml(voc_object("mug")))):
        (tmp_path / home / f"{name}.xml").write_text(text)
    write_image(tmp_path / pictures / "a.JPG")
    found = read_dataset(tmp_path)
    assert (found.classes, [one.image_id for one in found.samples]) == (("mug",), ["a"])
    file = "b.xml" if home == "." else "annotations/b.xml"
    assert [(one.file, one.rule) for one in found.dropped] == [(file, "missing-image")]
    linted = lint(tmp_path)
    assert [(one.file, one.rule) for one in linted.defects] == [(file, "missing-image")]
    write_image(tmp_path / pictures / "c.jpg")
    assert {one.rule for one in lint(tmp_path).findings} >= {"unlabelled-image"}


def test_where_capitals_do_not_count_the_images_tell_the_layout(tmp_path: Path) -> None:
    for folder in ("annotations", "images"):
        (tmp_path / folder).mkdir()
    (tmp_path / "annotations" / "a.xml").write_text(voc_xml(voc_object()))
    write_image(tmp_path / "images" / "a.jpg")
    if not (tmp_path / "Annotations").exists():
        (tmp_path / "Annotations").symlink_to("annotations")
    assert [one.image_id for one in read_dataset(tmp_path).samples] == ["a"]
    assert lint(tmp_path).defects == []


def test_a_stray_xml_file_does_not_move_vocs_annotations(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(), "b": voc_xml()}, None)
    (root / "project.xml").write_text("<project/>")
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(DatasetError, match="2 x missing-image"):
        read_dataset(root)


def test_xml_beside_another_format_is_not_vocs(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.5"})
    (tmp_path / "project.xml").write_text("<project/>")
    assert detect_format(tmp_path).format == "yolo"


def test_hidden_files_of_a_mac_do_not_disturb(tmp_path: Path) -> None:
    voc = write_voc(tmp_path / "voc", {"a": voc_xml(voc_object())})
    coco = write_coco(tmp_path / "coco", coco_content((), [coco_object()])).parent.parent
    yolo = write_yolo(tmp_path / "yolo", {"a": "0 0.5 0.5 0.2 0.5"}).parent
    roots = (voc, coco, yolo)
    before = [lint(root, fast=True).describe() for root in roots]
    for path in list(tmp_path.rglob("*.*")):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert [read_dataset(root).dropped for root in roots] == [(), (), ()]
    assert [lint(root, fast=True).describe() for root in roots] == before
    shutil.rmtree(voc / "ImageSets")
    assert [one.image_id for one in read_dataset(voc).samples] == ["a"]


def test_json_that_lists_no_images_is_no_coco(tmp_path: Path) -> None:
    (tmp_path / "photo.json").write_text('{"_via_settings": {}}')
    with pytest.raises(DatasetError, match=r"recognised; photo\.json is VIA's JSON: export"):
        read_dataset(tmp_path)
    write_image(tmp_path / "1.jpg")
    (tmp_path / "mine.json").write_text(json.dumps(coco_content((), [coco_object()])))
    assert len(read_dataset(tmp_path)) == 1
    (tmp_path / "mine.json").write_text('{"images": [{"id": 1, "file_n')
    with pytest.raises(AnnotationError, match=r"mine\.json: not JSON"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_json_in_wide_characters_is_recognised(tmp_path: Path, encoding: str) -> None:
    write_image(tmp_path / "1.jpg")
    content = json.dumps(coco_content((), [coco_object()]))
    (tmp_path / "mine.json").write_text(content, encoding=encoding)
    (tmp_path / "photo.json").write_text('{"imagePath": "photo.jpg"}', encoding=encoding)
    assert len(read_dataset(tmp_path)) == 1


def test_a_data_set_without_splits_says_so(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object())}, None)
    with pytest.raises(DatasetError, match="has no splits, so no 'train'; leave it out, or make"):
        read_dataset(root, "train")


def test_other_yaml_files_do_not_disturb(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.5"})
    (tmp_path / "a.yaml").write_text("{")
    (tmp_path / "b.yaml").write_text("seed: 1")
    assert detect_format(tmp_path).path == tmp_path / "data.yaml"


def test_options_reach_the_reader(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object("worm"), voc_object("ant"))})
    assert read_dataset(root, classes=("worm", "ant")).classes == ("worm", "ant")
    with pytest.raises(AnnotationError, match="unknown-class"):
        read_dataset(root, classes=("worm",), strict=True)


def test_what_is_no_data_set_tells_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"VOC.*COCO.*YOLO.*ILSVRC DET.*it holds nothing$"):
        read_dataset(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DatasetError) as refused:
        read_dataset(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: no data set recognised; looked for Annotations/*.xml, "
        "annotations/*.xml, or *.xml beside images (VOC); "
        "annotations/*.json, *.json or */_annotations.coco.json with images and annotations "
        "(COCO); *.yaml or *.yml with names, obj.data, or classes.txt (YOLO); "
        "ImageSets/DET and Annotations/DET (ILSVRC DET); "
        "*.json or *.xml of LabelMe, Label Studio or CVAT; it holds pictures/"
    )
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DatasetError, match=r"expected COCO's \.json"):
        read_dataset(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("name", "text", "cure"),
    [
        ("via.json", '{"_via_settings": {}, "_via_img_metadata": {}}', "VIA's.*as COCO"),
        ("via.json", '{"a.jpg1": {"regions": [{"shape_attributes": {}}]}}', "VIA's.*as COCO"),
        ("x-export.json", '{"name": "x", "assets": {"1": {"asset": {}}}}', "VoTT's.*Pascal VOC"),
        ("default.json", '{"info": {}, "items": [{"annotations": []}]}', "Datumaro's.*as COCO"),
        ("m.json", '[{"annotations": [{"coordinates": {"x": 1, "width": 2}}]}]', "CreateML's"),
        ("t.csv", "filename;xmin;ymin\na.jpg;1,5;2", "a table"),
        ("t.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n", "a table"),
        ("t.csv", "a.jpg,1,2,3,4,cat\n", "a table"),
        ("t.csv", "image;label;x;y;w;h\na.jpg;cat;1;2;3;4\n", "a table"),
    ],
)
def test_formats_that_are_not_read_name_the_cure(
    tmp_path: Path, name: str, text: str, cure: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    write_image(path.parent / "a.jpg")
    with pytest.raises(DatasetError, match=f"{name} is {cure}"):
        read_dataset(tmp_path)
    if name.endswith(".json") and text[0] == "{":
        with pytest.raises(AnnotationError, match=f"no list 'images'; is {cure}"):
            read_dataset(path)
