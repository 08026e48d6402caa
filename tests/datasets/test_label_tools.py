"""Readers of LabelMe's, Label Studio's and CVAT's files: shapes by hand, and what is left out."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.datasets import Dataset, detect_format, read_dataset
from detector.datasets.check import lint
from detector.errors import AnnotationError, DatasetError, DetectorError

FRAME = {"imagePath": "a.jpg", "imageHeight": 80, "imageWidth": 100}


def shape(label: Any = "cat", points: Any = ((10, 20), (30, 40)), **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": "rectangle", **more}


def labelme(root: Path, *shapes: Any, name: str = "a.json", **change: Any) -> Path:
    write_image(root / "a.jpg")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps({"shapes": shapes, **FRAME, **change}))
    return root


def region(value: Any = None, kind: str = "rectanglelabels", **more: Any) -> dict[str, Any]:
    box = {"x": 10, "y": 25, "width": 20, "height": 25, kind: ["cat"], **(value or {})}
    return {"type": kind, "original_width": 100, "original_height": 80, "value": box, **more}


def task(*results: Any, image: Any = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"data": {"image": image}, "annotations": [{"result": list(results)}], **more}


def label_studio(root: Path, *tasks: Any) -> Path:
    write_image(root / "a.jpg")
    (root / "tasks.json").write_text(json.dumps(tasks))
    return root


def cvat(root: Path, inside: str, labels: str = "", frame: str = 'width="100" height="80"') -> Path:
    write_image(root / "a.jpg")
    known = "".join(f"<label><name>{name}</name></label>" for name in labels.split())
    (root / "annotations.xml").write_text(
        f"<annotations><version>1.1</version><meta><task><labels>{known}</labels></task></meta>"
        f'<image id="0" name="a.jpg" {frame}>{inside}</image></annotations>'
    )
    return root


CVAT_BOX = '<box label="cat" occluded="1" xtl="10" ytl="20" xbr="30" ybr="40"/>'
MAKERS = {
    "labelme": lambda root: labelme(root, shape()),
    "label-studio": lambda root: label_studio(root, task(region())),
    "cvat": lambda root: cvat(root, CVAT_BOX),
}


def only_box(dataset: Dataset) -> list[float]:
    (sample,) = dataset.samples
    (box,) = sample.annotations.boxes.tolist()
    return [round(side, 4) for side in box]


def defects(path: Path) -> dict[str, int]:
    return {name: n for name, rule, n in lint(path).by_rule() if rule.level == "defect"}


@pytest.mark.parametrize("tool", MAKERS)
def test_a_folder_and_its_file_are_recognised_and_read(tmp_path: Path, tool: str) -> None:
    root = MAKERS[tool](tmp_path / "mine")
    (file,) = (path for path in root.iterdir() if path.suffix != ".jpg")
    for path in (root, file):
        assert detect_format(path).format == tool
        dataset = read_dataset(path)
        assert only_box(dataset) == [10, 20, 30, 40]
        assert dataset.classes == ("cat",)
        assert dataset.samples[0].image_id == "a"
        assert lint(path).format == tool
        assert defects(path) == {}
    assert read_dataset(root).name == "mine"


def test_pictures_without_shapes_are_empty_and_complete(tmp_path: Path) -> None:
    root = labelme(tmp_path, shape())
    write_image(root / "b.jpg")
    labelme(root, name="b.json", imagePath="b.jpg")
    dataset = read_dataset(root)
    assert [len(sample.annotations) for sample in dataset.samples] == [1, 0]
    assert not any(sample.positives_only for sample in dataset.samples)
    (root / "a.json").unlink()
    with pytest.raises(DatasetError, match="no picture in it has a labelled shape; label some"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("points", "kind", "box"),
    [
        ([[30, 40], [10, 20]], "rectangle", [10, 20, 30, 40]),  # drawn from below
        ([[10, 20], [30, 20], [30, 40], [10, 40]], "rectangle", [10, 20, 30, 40]),
        ([[10, 30], [20, 20], [30, 30], [20, 40]], "polygon", [10, 20, 30, 40]),
        ([[10, 30], [20, 20], [30, 30], [20, 40]], "oriented_rectangle", [10, 20, 30, 40]),
        ([[10, 20], [29, 39]], "mask", [10, 20, 30, 40]),  # from the first pixel to the last
    ],
)
def test_labelmes_shapes_become_their_bounding_boxes(
    tmp_path: Path, points: Any, kind: str, box: list[float]
) -> None:
    assert only_box(read_dataset(labelme(tmp_path, shape("cat", points, shape_type=kind)))) == box


def test_labelmes_files_may_lie_beside_the_folder_of_images(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    content = {"shapes": [shape()], **FRAME}
    for name in ("../images/a.jpg", "..\\images\\a.jpg", "C:\\me\\images\\a.jpg"):
        (tmp_path / "labels" / "a.json").write_text(json.dumps({**content, "imagePath": name}))
        for root in (tmp_path, tmp_path / "labels"):
            (sample,) = read_dataset(root).samples
            assert sample.path.resolve() == tmp_path / "images" / "a.jpg"


def test_labelmes_folders_may_be_splits_of_one_class_list(tmp_path: Path) -> None:
    for split, name in (("train", "cat"), ("val", "ant")):
        labelme(tmp_path / split, shape(name))
    assert detect_format(tmp_path).splits == ("train", "val")
    for split in ("train", "val"):
        dataset = read_dataset(tmp_path, split)
        assert (len(dataset), dataset.classes) == (1, ("ant", "cat"))
        assert dataset.samples[0].image_id == f"{split}/a"
    assert lint(tmp_path, fast=True).images == 2


def test_a_damaged_file_costs_its_own_picture(tmp_path: Path) -> None:
    root = labelme(tmp_path, shape())
    (root / "b.json").write_text('{"shapes": [')
    (root / "c.json").write_text('{"shape_type": 1}')
    dataset = read_dataset(root)
    assert len(dataset) == 1
    assert dataset.dropped_by_rule() == {"unreadable": 2} == defects(root)
    assert {record.file for record in dataset.dropped} == {"b.json", "c.json"}
    with pytest.raises(AnnotationError, match=r"b\.json: b: not JSON"):
        read_dataset(root, strict=True)


def test_percents_become_pixels_of_each_side(tmp_path: Path) -> None:
    points = {"points": [[10, 25], [30, 25], [20, 50]], "polygonlabels": ["cat"]}
    outline = region(kind="polygonlabels") | {"value": points}
    for row in (region(), outline):
        assert only_box(read_dataset(label_studio(tmp_path, task(row)))) == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("degrees", "box"),
    [
        (0, [40, 40, 60, 50]),
        (90, [30, 40, 40, 60]),  # clockwise around the upper left corner: it hangs down
        (-90, [40, 20, 50, 40]),
        (180, [20, 30, 40, 40]),
        (45, [40 - 50**0.5, 40, 40 + 200**0.5, 40 + 450**0.5]),
    ],
)
def test_a_turned_rectangle_becomes_the_box_around_it(
    tmp_path: Path, degrees: float, box: list[float]
) -> None:
    """20 by 10 pixels from (40, 40), turned by Label Studio."""
    value = {"x": 40, "y": 50, "width": 20, "height": 12.5, "rotation": degrees}
    dataset = read_dataset(label_studio(tmp_path, task(region(value))))
    assert only_box(dataset) == pytest.approx(box, abs=1e-4)


def test_cvat_turns_around_the_centre(tmp_path: Path) -> None:
    box = '<box label="cat" xtl="40" ytl="40" xbr="60" ybr="50" rotation="90.0"/>'
    assert only_box(read_dataset(cvat(tmp_path, box))) == [45, 35, 55, 55]


@pytest.mark.parametrize(
    "inside",
    [
        '<polygon label="cat" points="10.0,30;20,20.00;30,30;20,40"/>',
        '<mask label="cat" rle="1" left="10" top="20" width="20" height="20"/>',
    ],
)
def test_cvats_outlines_become_their_bounding_boxes(tmp_path: Path, inside: str) -> None:
    assert only_box(read_dataset(cvat(tmp_path, inside))) == [10, 20, 30, 40]


def test_cvat_declares_the_classes_in_its_order(tmp_path: Path) -> None:
    dataset = read_dataset(cvat(tmp_path, CVAT_BOX, "worm cat ant"))
    assert dataset.classes == ("worm", "cat", "ant")
    assert dataset.samples[0].annotations.labels.tolist() == [1]
    assert dataset.samples[0].annotations.real.all()  # occluded is not difficult


def test_cvats_subsets_are_splits(tmp_path: Path) -> None:
    root = cvat(tmp_path, CVAT_BOX, "cat dog", 'width="100" height="80" subset="Train"')
    write_image(root / "b.jpg")
    path = root / "annotations.xml"
    other = '<image id="1" name="b.jpg" subset="Validation" width="100" height="80"/>'
    path.write_text(path.read_text().replace("</annotations>", other + "</annotations>"))
    assert detect_format(root).splits == ("Train", "Validation")
    assert [sample.image_id for sample in read_dataset(root, "Validation").samples] == ["b"]
    with pytest.raises(DatasetError, match="name a split; it has: Train, Validation"):
        read_dataset(root)


@pytest.mark.parametrize(
    "make",
    [
        lambda root, yes: labelme(root, shape(flags={"difficult": yes})),
        lambda root, yes: labelme(root, shape(difficult=yes)),
        lambda root, yes: cvat(
            root,
            CVAT_BOX.replace("/>", f'><attribute name="Difficult">{str(yes).lower()}</attribute>')
            + "</box>",
        ),
    ],
)
def test_what_is_marked_as_difficult_is_set_aside(tmp_path: Path, make: Any) -> None:
    for yes in (True, False):
        (sample,) = read_dataset(make(tmp_path, yes)).samples
        assert sample.annotations.difficult.tolist() == [yes]


LEFT_OUT = [
    (lambda root: labelme(root, shape(), shape(shape_type="circle")), "other-shape"),
    (lambda root: labelme(root, shape(), shape(shape_type="point")), "other-shape"),
    (lambda root: labelme(root, shape(), shape(None)), "missing-field"),
    (lambda root: labelme(root, shape(), shape("")), "missing-field"),
    (lambda root: labelme(root, shape(), shape("x" * 300)), "unusable-name"),
    (lambda root: labelme(root, shape(), shape(points=[[1, 2]])), "missing-field"),
    (lambda root: labelme(root, shape(), shape(points=[[1, 2], ["3", 4]])), "missing-field"),
    (lambda root: labelme(root, shape(), shape(points=[[1, 2], [3, 10**400]])), "not-finite"),
    (lambda root: labelme(root, shape(), shape(points=[[1, float("nan")], [3, 4]])), "not-finite"),
    (lambda root: labelme(root, shape(), shape(points=[[5, 5], [5, 5]])), "degenerate"),
    (lambda root: labelme(root, shape(), shape(points=[[500, 5], [600, 9]])), "outside"),
    (lambda root: labelme(root, shape(), 7), "missing-field"),
    (lambda root: labelme(root, shape(), shape()), "duplicate"),
    (lambda root: label_studio(root, task(region(), region({}, "brushlabels") | {
        "value": {"format": "rle", "brushlabels": ["cat"]}})), "other-shape"),
    (lambda root: label_studio(root, task(region(), region(image_rotation=90))), "other-shape"),
    (lambda root: label_studio(root, task(region(), region(original_width=0))), "missing-field"),
    (lambda root: label_studio(root, task(region(), region({"rectanglelabels": ["a", "b"]}))),
     "missing-field"),
    (lambda root: label_studio(root, task(region(), region({"x": "1"}))), "missing-field"),
    (lambda root: label_studio(root, task(region(), region({"rotation": 10**400}))), "not-finite"),
    (lambda root: cvat(root, CVAT_BOX + '<ellipse label="cat" cx="5" cy="5" rx="3" ry="2"/>'),
     "other-shape"),
    (lambda root: cvat(root, CVAT_BOX + '<box label="cat" xtl="x"/>'), "not-finite"),
    (lambda root: cvat(root, CVAT_BOX + '<box xtl="1" ytl="1" xbr="9" ybr="9"/>'), "missing-field"),
    (lambda root: cvat(root, CVAT_BOX + '<polygon label="cat" points="1,2;3"/>'), "missing-field"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "rule"), LEFT_OUT)
def test_what_is_no_object_is_left_out_and_counted(tmp_path: Path, make: Any, rule: str) -> None:
    dataset = read_dataset(make(tmp_path))
    assert only_box(dataset) == [10, 20, 30, 40]
    assert dataset.dropped_by_rule() == {rule: 1}
    assert defects(tmp_path) == {rule: 1}
    # The object lies somewhere, so that nothing there is known to be background.
    assert dataset.samples[0].positives_only == (rule != "duplicate")
    assert dataset.dropped[0].id == "a shape 2"


def test_what_is_said_of_a_whole_picture_is_no_shape(tmp_path: Path) -> None:
    of_picture = [{"type": "choices", "value": {"choices": ["dark"]}}, {"type": "relation"}]
    for root in (
        label_studio(tmp_path / "studio", task(region(), *of_picture)),
        cvat(tmp_path / "cvat", CVAT_BOX + '<tag label="dark"/>'),
    ):
        assert read_dataset(root).dropped == ()


def test_of_several_annotations_the_last_submitted_or_the_true_one_counts(tmp_path: Path) -> None:
    def result(x: float, **more: Any) -> dict[str, Any]:
        return {"result": [region({"x": x})], **more}

    first, last = result(50, updated_at="2026-01-01"), result(10, updated_at="2026-02-01")
    true = result(10, ground_truth=True, updated_at="2025-01-01")
    skipped = result(70, was_cancelled=True, updated_at="2027-01-01")
    for rows in ([last, first], [first, last, skipped], [true, first]):
        root = label_studio(tmp_path, {**task(), "annotations": rows})
        assert only_box(read_dataset(root)) == [10, 20, 30, 40]


def test_predictions_count_only_where_nobody_has_labelled(tmp_path: Path) -> None:
    write_image(tmp_path / "b.jpg")
    guessed = {"predictions": [{"result": [region()]}], "annotations": []}
    unlabelled = {**task(image="b.jpg"), **guessed}
    assert only_box(read_dataset(label_studio(tmp_path, unlabelled))) == [10, 20, 30, 40]
    dataset = read_dataset(label_studio(tmp_path, task(region()), unlabelled))
    assert [sample.path.name for sample in dataset.samples] == ["a.jpg"]
    assert dataset.dropped_by_rule() == {"missing-annotation": 1}


@pytest.mark.parametrize(
    "address",
    [
        "/data/local-files/?d=photos/Caf%C3%A9%20%231.jpg", "/data/upload/7/1a2b3c4d-Café #1.jpg",
        "https://host/x/Caf%C3%A9%20%231.jpg", "s3://bucket/Caf%C3%A9%20%231.jpg",
    ],
)  # fmt: skip
def test_addresses_of_label_studio_find_the_picture(tmp_path: Path, address: str) -> None:
    path = write_image(tmp_path / "Café #1.jpg")
    for data in ({"image": address}, {"photo": address, "text": "words"}):
        root = label_studio(tmp_path, {**task(region()), "data": data})
        assert [sample.path for sample in read_dataset(root).samples] == [path]


def test_several_files_of_tasks_are_splits(tmp_path: Path) -> None:
    root = label_studio(tmp_path, task(region()))
    (root / "tasks.json").rename(root / "train.json")
    label_studio(root, task(region({"rectanglelabels": ["dog"]})))
    assert detect_format(root).splits == ("tasks", "train")
    assert read_dataset(root, "train").classes == ("cat",)
    assert read_dataset(root, "tasks").classes == ("dog",)


@pytest.mark.parametrize("tool", MAKERS)
def test_the_size_of_the_raw_frame_is_refused(tmp_path: Path, tool: str) -> None:
    """100 x 80 is what the file says; upright, the picture has 80 x 100."""
    root = MAKERS[tool](tmp_path)
    write_image(root / "a.jpg", 100, 80, orientation=6)
    with pytest.raises(DatasetError, match="1 x raw-frame"):
        read_dataset(root)
    assert defects(root) == {"raw-frame": 1}
    write_image(root / "a.jpg", 80, 100, orientation=6)
    assert only_box(read_dataset(root)) == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"shapes": [], "imagePath": ', "not JSON"),
        ("a.json", '{"shapes": 1, "imagePath": "a.jpg"}', "no LabelMe JSON: needs a list"),
        ("a.json", '{"shapes": [], "imagePath": 1}', "no LabelMe JSON: needs a list"),
        ("a.json", '{"shapes": ' + "[" * 100_000 + ' "imagePath"', "nested too deeply"),
        ("t.json", '[{"from_name": "x"', "not JSON"),
        ("t.json", '[{"image": "a.jpg", "label": [{"rectanglelabels": []}]}]', "not as JSON-MIN"),
        ("t.json", '[{"data": {"image": 1}, "annotations": []}]', "its data name no image"),
        ("x.xml", "<annotations><track/></annotations>", "of a video; export it as CVAT for"),
        ("x.xml", "<annotations><image></annotations>", "not well-formed XML"),
        ("x.xml", "<!DOCTYPE x><annotations><image/></annotations>", "document type"),
        ("x.xml", "<annotations><meta/></annotations>", "no usable image"),
        ("x.xml", "<annotation><folder/></annotation>", "a labelling tool's file"),
    ],
)
def test_a_file_that_is_none_is_one_clear_sentence(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    write_image(tmp_path / "a.jpg")
    (tmp_path / name).write_text(text)
    with pytest.raises(DetectorError, match=message) as refused:
        read_dataset(tmp_path / name)
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-1000, 1000), st.just(10**400), st.floats(),
        st.text(max_size=8), st.sampled_from(["a.jpg", "cat", "rectangle", "rectanglelabels"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)  # fmt: skip


def _changed(value: Any, draw: Any) -> Any:
    """The value with another somewhere in it."""
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(
        value, list) else []  # fmt: skip
    if not inner or draw(st.integers(0, 5)) == 0:
        return draw(VALUES)
    key = draw(st.sampled_from(inner))
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = _changed(value[key], draw)
    return copy


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_value_anywhere_in_a_tools_json(tmp_path: Path, data: st.DataObject) -> None:
    write_image(tmp_path / "a.jpg")
    good: Any = data.draw(
        st.sampled_from(
            [
                {"shapes": [shape(flags={"difficult": True})], **FRAME},
                [task(region({"rotation": 10}), region()), task(region())],
            ]
        )
    )
    for _ in range(data.draw(st.integers(1, 3))):
        good = _changed(good, data.draw)
    (tmp_path / "x.json").write_text(json.dumps(good))
    with contextlib.suppress(DetectorError):
        dataset = read_dataset(tmp_path / "x.json")
        for sample in dataset.samples:
            boxes = sample.annotations.boxes
            assert np.isfinite(boxes).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
    with contextlib.suppress(DetectorError):
        lint(tmp_path / "x.json", fast=True)
