"""Lessons of the page: boxes drawn on photographs, and the detector that comes of them."""

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coloured_squares import COLOURS, middle
from PIL import Image

from detector.datasets import read_dataset
from detector.demo.lessons import LONGEST, Drawn, Lessons, Machine, open_photograph
from detector.detection.bundle import read_manifest
from detector.detection.load import load_detector
from detector.errors import ImageError, SettingsError
from detector.images.decoding import read_image


@pytest.fixture
def lessons(bundle: Path) -> Iterator[Lessons]:
    made = Lessons(Machine(bundle, "cpu", 1))
    yield made
    made.close()


@pytest.fixture
def mugs(voc: Path) -> list[Drawn]:
    return drawn_of(voc, "mug")


def drawn_of(voc: Path, name: str) -> list[Drawn]:
    dataset = read_dataset(voc, "train")
    label = dataset.classes.index(name)
    photographs = []
    for sample in dataset.samples:
        truth = sample.annotations
        boxes = truth.boxes[truth.labels == label].tolist()
        photographs.append(replace(open_photograph(sample.path), boxes=tuple(map(tuple, boxes))))
    return photographs


def test_boxes_are_those_of_the_photograph_however_small_it_is_shown(tmp_path: Path) -> None:
    Image.new("RGB", (2500, 1000)).save(tmp_path / "large.png")
    drawn = open_photograph(tmp_path / "large.png")
    assert drawn.shown.shape == (400, LONGEST, 3)
    shown = [{"xmin": 10, "ymin": 20, "xmax": 110, "ymax": 220, "label": "", "color": (0, 0, 0)}]
    drawn = drawn.with_shown_boxes(shown)
    assert drawn.boxes == ((25, 50, 275, 550),)
    assert drawn.shown_boxes == [{"xmin": 10, "ymin": 20, "xmax": 110, "ymax": 220}]


def test_a_class_is_taught_found_and_taught_anew(
    voc: Path, bundle: Path, lessons: Lessons, mugs: list[Drawn]
) -> None:
    report = lessons.learn(" mug ", mugs)
    assert (report.name, report.boxes, report.images) == ("mug", 6, 6)
    assert read_manifest(lessons.bundle).classes == ("cat", "dog", "mug")
    first, path = lessons.bundle, voc / "JPEGImages" / "0.png"
    picture, caption = lessons.found(path)
    assert caption == "1 mug in 0.png"
    assert picture.size == (80, 60)
    assert (np.asarray(picture) != read_image(path)).any()
    # Another class beside it; then the first one from fewer photographs, in its place.
    lessons.learn("jug", drawn_of(voc, "dog"))
    assert lessons.found(path)[1] in ("1 mug, 1 jug in 0.png", "1 jug, 1 mug in 0.png")
    report = lessons.learn("mug", mugs[:5])
    assert report.boxes == 5
    assert read_manifest(lessons.bundle).classes == ("cat", "dog", "jug", "mug")
    assert first != lessons.bundle
    assert read_manifest(bundle).classes == ("cat", "dog")


def test_the_archive_is_a_bundle(
    voc: Path, lessons: Lessons, mugs: list[Drawn], tmp_path: Path
) -> None:
    lessons.learn("mug", mugs)
    with zipfile.ZipFile(lessons.archive()) as archive:
        archive.extractall(tmp_path / "taken")
    detect = load_detector(tmp_path / "taken", device="cpu", threads=1)
    image = read_image(voc / "JPEGImages" / "1.png")
    found = detect(image).filter(classes="mug")
    assert middle(image, found.boxes[0]) == COLOURS["mug"]


def test_too_little_changes_nothing_and_is_said(
    bundle: Path, lessons: Lessons, mugs: list[Drawn]
) -> None:
    too_few = "3 boxes on 3 photographs so far; at least 5 on 2 photographs are needed"
    for name, photographs, sentence in [
        ("", mugs, "give the new class a name"),
        ("mug", [], "0 boxes on 0 photographs so far; at least 5 on 2 photographs are needed"),
        ("mug", mugs[:3], too_few),
        ("cat", mugs, "the bundle has this class already, in its networks"),
        ("a\nmug", mugs, "1 to 100 printable characters"),
    ]:
        with pytest.raises(SettingsError, match=sentence):
            lessons.learn(name, photographs)
    assert lessons.bundle == bundle
    assert lessons.thresholds == {}
    with pytest.raises(SettingsError, match="nothing has been learnt yet"):
        lessons.found(mugs[0].path)


def test_what_was_learnt_ends_with_the_visit(lessons: Lessons, mugs: list[Drawn]) -> None:
    lessons.learn("mug", mugs)
    folder = lessons.bundle.parent
    lessons.close()
    assert not folder.exists()


def test_a_file_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"text\.jpg"):
        open_photograph(tmp_path / "text.jpg")
