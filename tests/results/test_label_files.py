"""Label files of detections: read back to the same boxes, and never written over others'."""

import json
import os
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.datasets import Dataset, Sample, read_dataset
from detector.datasets.check import lint
from detector.errors import EvaluationError
from detector.results.label_files import FORMATS
from detector.results.results import write_results
from detector.structures import Annotations, Detections

CLASSES = ("cat", "tv or monitor", "Käse & <Brot>", "true")


def pictures(folder: Path, *names: str, width: int = 100, height: int = 80) -> Dataset:
    """A data set of pictures without objects; their sizes are not told."""
    samples = tuple(
        Sample(name, write_image(folder / name, width, height), None, Annotations.empty())
        for name in names
    )
    return Dataset("toy", CLASSES, samples)


def named_boxes(dataset: Dataset) -> dict[str, list[tuple[str, list[float]]]]:
    return {
        sample.path.name: sorted(
            (dataset.classes[label], np.round(box, 3).tolist())
            for box, label in zip(
                sample.annotations.boxes.astype(float), sample.annotations.labels, strict=True
            )
        )
        for sample in dataset.samples
    }


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    """Up to five different boxes in hundredths of a pixel, in a picture of 100 x 80."""
    x = st.tuples(st.integers(0, 9999), st.integers(1, 10000)).map(sorted)
    y = st.tuples(st.integers(0, 7999), st.integers(1, 8000)).map(sorted)
    # Read as shares, a box in the first pixel is refused.
    box = st.tuples(x, y).filter(lambda b: b[0][0] < b[0][1] > 200 and b[1][0] < b[1][1])
    rows = draw(
        st.lists(
            st.tuples(box, st.integers(0, 3), st.integers(0, 10**6)), max_size=5,
            unique_by=lambda row: repr(row[0]),
        )
    )  # fmt: skip
    corners = [[x[0], y[0], x[1], y[1]] for (x, y), _, _ in rows]
    boxes = np.array(corners, np.float64).reshape(-1, 4) / 100
    scores, labels = (np.array([row[i] for row in rows]) for i in (2, 1))
    return Detections(boxes, scores / 10**6, labels.astype(int))


LETTERS = st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc", "Zl", "Zp"])
NAMES = st.text(LETTERS, min_size=1, max_size=12).map("{}.png".format)


@settings(max_examples=40, deadline=None)
@given(boxes=detections(), name=NAMES, format=st.sampled_from(FORMATS))
def test_what_is_written_is_read_back_to_the_same_boxes(
    boxes: Detections, name: str, format: str
) -> None:
    """Beside a picture with a cat, so that there is always an object, and one without anything."""
    cat = Detections([[10, 20, 30, 40]], [0.5], [0])
    with tempfile.TemporaryDirectory() as folder:
        dataset = pictures(Path(folder) / "photos", f"x{name}", "with a cat.png", "sub/empty.png")
        results = {f"x{name}": boxes, "with a cat.png": cat}
        out = Path(folder) / "out" / format
        assert write_results(out, dataset, results, format) == []
        back = read_dataset(out)
        files, wanted_files = (
            {sample.path.resolve() for sample in part.samples} for part in (back, dataset)
        )
        assert files == wanted_files
        assert back.dropped == ()
        read = named_boxes(back)
    expected = sorted(
        (CLASSES[label], np.round(box, 3).tolist())
        for box, label in zip(boxes.boxes.astype(float), boxes.labels, strict=True)
    )
    assert [label for label, _ in read[f"x{name}"]] == [label for label, _ in expected]
    for (_, box), (_, wanted) in zip(read[f"x{name}"], expected, strict=True):
        assert box == pytest.approx(wanted, abs=0.011)  # VOC's boxes of one pixel get a hundredth
    assert read["with a cat.png"] == [("cat", [10, 20, 30, 40])]
    assert read["empty.png"] == []


@pytest.mark.parametrize("format", FORMATS)
def test_the_linter_finds_no_defect_in_what_is_written(tmp_path: Path, format: str) -> None:
    dataset = pictures(tmp_path / "photos", "a.jpg", "süb/b c.jpg")
    boxes = Detections([[10, 20, 30, 40], [0.25, 0, 100, 80]], [0.9, 0.5], [1, 2])
    write_results(tmp_path / format, dataset, {"a.jpg": boxes}, format)
    assert lint(tmp_path / format, fast=True).defects == []
    assert lint(tmp_path / format, fast=True).images == 2


@pytest.mark.parametrize("format", FORMATS)
def test_boxes_are_of_the_upright_picture(tmp_path: Path, format: str) -> None:
    path = write_image(tmp_path / "photos" / "a.jpg", 100, 80, orientation=6)
    samples = (Sample("a", path, None, Annotations.empty()),)
    results = {"a": Detections([[10, 20, 70, 95]], [0.5], [0])}  # upright it is 80 wide, 100 high
    write_results(tmp_path / "out", Dataset("toy", ("cat",), samples), results, format)
    assert named_boxes(read_dataset(tmp_path / "out"))["a.jpg"] == [("cat", [10, 20, 70, 95])]


def test_the_files_say_what_the_tools_expect(tmp_path: Path) -> None:
    dataset = pictures(tmp_path / "photos", "Café #1.jpg")
    results = {"Café #1.jpg": Detections([[10, 20, 30, 40]], [0.75], [1])}
    for format in FORMATS:
        write_results(tmp_path / format, dataset, results, format)

    assert (tmp_path / "yolo" / "labels" / "Café #1.txt").read_text().split() == [
        "1", "0.20000000", "0.37500000", "0.20000000", "0.25000000",
    ]  # fmt: skip
    assert (tmp_path / "yolo" / "labels" / "classes.txt").read_text().splitlines() == [*CLASSES]
    xml = ET.parse(tmp_path / "voc-xml" / "Annotations" / "Café #1.xml")
    assert [node.text for node in xml.findall("object/bndbox/*")] == [
        "11.00", "21.00", "30.00", "40.00",
    ]  # fmt: skip
    shape = json.loads((tmp_path / "labelme" / "Café #1.json").read_text())["shapes"][0]
    assert shape["points"] == [[10, 20], [30, 40]]
    (task,) = json.loads((tmp_path / "label-studio" / "tasks.json").read_text())
    assert task["data"] == {"image": "/data/local-files/?d=photos/Caf%C3%A9%20%231.jpg"}
    (prediction,) = task["predictions"]
    assert (prediction["score"], prediction["model_version"][:14]) == (0.75, "inception-rcnn")
    (region,) = prediction["result"]
    value = {"x": 10, "y": 25, "width": 20, "height": 25, "rotation": 0}
    assert region["value"] == {**value, "rectanglelabels": ["tv or monitor"]}
    assert (region["original_width"], region["original_height"], region["score"]) == (100, 80, 0.75)
    image = ET.parse(tmp_path / "cvat" / "annotations.xml").find("image")
    assert image is not None
    assert image.attrib == {"id": "0", "name": "Café #1.jpg", "width": "100", "height": "80"}
    assert image[0].attrib["xbr"] == "30.00"
    coco = json.loads((tmp_path / "coco-instances" / "annotations.json").read_text())
    assert coco["annotations"][0]["bbox"] == [10, 20, 20, 20]


def test_corrected_labels_are_not_written_over(tmp_path: Path) -> None:
    dataset = pictures(tmp_path / "photos", "a.jpg")
    out = tmp_path / "out"
    out.mkdir()  # empty
    write_results(out, dataset, {}, "labelme")
    corrected = out / "a.json"
    corrected.write_text("mine")
    with pytest.raises(EvaluationError, match="perhaps with corrected labels; move it, or choose"):
        write_results(out, dataset, {}, "labelme")
    assert corrected.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch, format: str) -> None:
    dataset = pictures(tmp_path / "photos", "a.jpg")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "symlink", lambda *a, **k: None)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        write_results(tmp_path / "out", dataset, {}, format)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_pictures_that_no_file_can_name_are_said(tmp_path: Path) -> None:
    dataset = pictures(tmp_path / "photos", "a.jpg", "a.png", "b\n.jpg")
    (tmp_path / "photos" / "c.jpg").write_bytes(b"no picture")
    broken = Sample("c", tmp_path / "photos" / "c.jpg", None, Annotations.empty())
    dataset = Dataset("toy", CLASSES, (*dataset.samples, broken))
    assert [said.partition(": ")[0] for said in write_results(
        tmp_path / "yolo", dataset, {}, "yolo"
    )] == ["a.png", "b\n.jpg", "c.jpg"]  # fmt: skip
    said = write_results(tmp_path / "cvat", dataset, {}, "cvat")
    assert len(said) == 2  # one file names a.jpg and a.png
    assert "no label file can hold its name (unusable-name)" in said[0]
