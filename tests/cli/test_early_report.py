"""What train_regions.py says before training, and what it and evaluate.py refuse at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_regions import train, write_config, write_squares

from detector.cli.evaluating.running import check_classes
from detector.datasets import VOC_CLASSES, Dataset, Sample, read_dataset
from detector.errors import EvaluationError
from detector.evaluation import evaluate
from detector.structures import Annotations, Proposals
from detector.training.regions.report import report
from detector.training.regions.settings import RegionTrainingConfig

Corners = Sequence[Sequence[float]]


def said(
    objects: Corners, proposed: Corners, size: tuple[int, int] = (100, 100), **settings: Any
) -> str:
    """The report on one image."""
    dataset = Dataset(
        "toy", ("ant",), (Sample("a", Path("a"), size, Annotations(objects, [0] * len(objects))),)
    )
    chosen = RegionTrainingConfig.model_validate({"data": [{"path": "x"}], **settings})
    proposals = {"a": Proposals(np.array(proposed, np.float32), size)}
    return "\n".join(report(dataset, proposals, {}, chosen))


OBJECTS = [[0, 0, 12, 12], [40, 40, 90, 90]]
PROPOSED = [[0, 0, 100, 100], [40, 40, 90, 80], [0, 0, 20, 20]]


def test_annotated_boxes_do_not_count_themselves_as_proposals():
    text = said(OBJECTS, PROPOSED)
    assert "reach 1 of 2 objects at IoU 0.5 (3 proposals an image)" in text
    assert "min_box_side=1 (a proposal has no side under 20; 1 object too small" in text
    assert "superpixel_scale=1" in text


def test_a_limit_of_proposals_is_named_where_it_is_what_stands_in_the_way():
    text = said(OBJECTS, PROPOSED, sampling={"max_proposals": 1})
    assert "reach 0 of 2 objects" in text
    assert "sampling.max_proposals over 1 (all reach 1)" in text


def test_objects_that_are_reached_need_no_cure():
    text = said([[40, 40, 90, 90]], PROPOSED)
    assert "reach 1 of 1 object" in text
    assert "--set" not in text


def test_settings_that_are_set_already_are_no_cure():
    options = {"min_box_side": 1, "superpixel_scale": 1}
    text = said(OBJECTS, [[0, 0, 100, 100]], proposals={"options": options})
    assert "reach 0 of 2" in text
    assert "--set" not in text


def test_small_things_in_a_large_image_need_a_larger_one():
    text = said([[0, 0, 30, 30]], [[0, 0, 2000, 1000]], size=(1000, 2000))
    assert "longest_side=1000 (images are searched at 500)" in text


def test_images_without_a_proposal_are_told():
    text = said([[0, 0, 16, 16]], [[0, 0, 16, 16]], size=(16, 16))
    assert "reach 1 of 1 object" in text
    assert "1 image without a proposal but the whole image" in text
    assert "no side under 20; 1 image too small" in text


def test_turned_images_whose_labels_tell_no_frame_are_told(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 8
    for name, how in (("a", {"exif": exif}), ("b", {})):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.new("RGB", (60, 50), 90).save(tmp_path / "images" / f"{name}.jpg", **how)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.9 0.9\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [ant]\n")
    dataset = read_dataset(tmp_path / "data.yaml", "train")
    whole = {s.image_id: Proposals([[0, 0, *s.size[::-1]]], s.size) for s in dataset.samples}
    settings = RegionTrainingConfig.model_validate({"data": [{"path": "x"}]})
    text = "\n".join(report(dataset, whole, {}, settings))
    assert "1 of 2 images with objects are turned by EXIF" in text


def without_objects(root: Path) -> Path:
    """Squares, all of them difficult."""
    config = write_config(write_squares(root / "squares"))
    for path in (root / "squares" / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    return config


def test_images_of_over_8_bits_that_keep_few_levels_are_told_with_the_cure(tmp_path: Path):
    ramp = np.linspace(0, 4095, 100 * 100).reshape(100, 100).astype(np.uint16)
    for name, values in (("dark0", ramp), ("dark1", ramp), ("full", ramp * 16)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    Image.fromarray((ramp // 16).astype(np.uint8)).save(tmp_path / "plain.png")
    names = ("dark0.png", "dark1.png", "full.png", "plain.png", "gone.png")
    samples = tuple(
        Sample(name, tmp_path / name, (100, 100), Annotations([[0, 0, 50, 50]], [0]))
        for name in names
    )
    proposals = {one: Proposals(np.array(PROPOSED, np.float32), (100, 100)) for one in names}
    chosen = RegionTrainingConfig.model_validate({"data": [{"path": "x"}]})
    lines = list(report(Dataset("toy", ("ant",), samples), proposals, {}, chosen))
    (line,) = (one for one in lines if "levels" in one)
    assert line.startswith("  warning: 2 of 3 images of over 8 bits keep few levels, such as dark0")
    assert line.endswith("stretch it to 8 bits first: (value - lowest) / (highest - lowest) * 255")


def test_a_training_says_at_once_why_no_object_counts(tmp_path: Path, capsys):
    config = without_objects(tmp_path)
    assert train(config, tmp_path / "out") == 3
    assert "all 6 objects are difficult (difficult 1): set 0" in capsys.readouterr().err
    assert not (tmp_path / "squares" / "proposals.sqlite").exists()


@pytest.mark.parametrize("protocol", ["voc07", "voc12", "ilsvrc", "coco"])
def test_an_evaluation_says_why_no_object_counts(tmp_path: Path, protocol: Any):
    boxes = [[0, 0, 5, 5], [6, 6, 9, 9]]
    for flags, why in (
        ({"crowd": [True, True]}, r"all 2 objects are crowds \(iscrowd 1\): set 0"),
        ({"crowd": [True, False], "difficult": [False, True]}, "all 2 objects are difficult or"),
    ):
        sample = Sample("a", Path("a"), (20, 20), Annotations(boxes, [0, 0], **flags))
        with pytest.raises(EvaluationError, match=why):
            evaluate(Dataset("toy", ("ant",), (sample,)), {}, protocol)


@pytest.mark.parametrize(
    ("weights", "data", "cure"),
    [
        (("cat", "dog", "fox"), ("cat", "dog"), "not in both: fox); --classes weights"),
        (("dog", "cat"), ("cat", "dog"), "another order); --classes weights"),
        (VOC_CLASSES, ("airplane", "cat"), "--classes voc"),
        (("mug",), ("cat",), "no name is in both"),
    ],
)
def test_lists_of_classes_that_differ_name_the_option_that_judges_them(
    weights: tuple[str, ...], data: tuple[str, ...], cure: str
):
    dataset = Dataset("toy", data, (Sample("a", Path("a"), (9, 9), Annotations.empty()),))
    check_classes(dataset.classes, dataset)
    with pytest.raises(EvaluationError) as error:
        check_classes(weights, dataset)
    assert cure in str(error.value)


def test_what_yolo_leaves_out_is_one_line_a_rule_however_many_files(tmp_path: Path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(13):
        Image.new("RGB", (40, 30)).save(images / f"{number:02}.png")
        text = "0 0.5 0.5 0.2 0.5\n" + "7 0.5 0.5 0.2 0.5\n" * (number < 11)
        if number < 12:
            (images / f"{number:02}.txt").write_text(text)
    (images / "00.png").write_text("")
    path = tmp_path / "data.yaml"
    path.write_text("train: images\nnames: [cup]\n")
    dataset = read_dataset(path)
    assert dataset.dropped_by_file() == [
        "1 x empty-file in images/00.png",
        "10 x unknown-class in 10 files, such as images/01.txt: line 2: class 7 is not within 0 to"
        " 0 (unknown-class)",
    ]
    chosen = RegionTrainingConfig.model_validate({"data": [{"path": "x"}]})
    proposals = {
        one.image_id: Proposals(np.array([[0, 0, 40, 30]], np.float32), (30, 40))
        for one in dataset.samples
    }
    lines = list(report(dataset, proposals, {}, chosen))
    assert "  note: 1 image has no label file: taken as empty" in lines
    assert sum("left out" in line for line in lines) == 2
