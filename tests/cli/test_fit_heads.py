"""tools/fit_heads.py from the command line: what it writes, leaves alone, and refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

import detector.detection.load
from detector.cli import fit_heads
from detector.cli.app import run_tool
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    load_bundle,
    read_manifest,
    save_bundle,
)
from detector.detection.load import load_detector
from detector.errors import SettingsError
from detector.images.decoding import read_image
from detector.models import ARCHITECTURES
from detector.structures import Array, Proposals
from detector.training.heads.new_class import fit_class

COLOURS = {"cat": (220, 40, 40), "dog": (40, 60, 220), "mug": (40, 220, 60)}


class Colours(nn.Module):
    """The features are the colours of the nine parts of a crop."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(27, num_outputs)

    def features(self, crops: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(crops, 3).flatten(1).float()

    def forward(self, crops: Tensor) -> Tensor:
        return self.classifier(self.features(crops))


class Grid:
    """Proposes squares of 18 pixels, three apart."""

    class _Step(BaseModel):
        step: int = 3

    settings = _Step()

    def __call__(self, image: Array) -> Proposals:
        height, width = image.shape[:2]
        x, y = np.meshgrid(np.arange(0, width - 17, 3), np.arange(0, height - 17, 3))
        corner = np.stack([x.ravel(), y.ravel()], 1)
        return Proposals(np.concatenate([corner, corner + 18], 1), (height, width))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "colours", Colours)
    monkeypatch.setattr(detector.detection.load, "build_engine", lambda engine, options: Grid())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """An untrained network that names two classes."""
    torch.manual_seed(0)
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(MemberManifest(architecture="colours", input_size=32),),
        provenance=Provenance(training_data="none", licence="CC0"),
    )
    save_bundle(tmp_path / "bundle", manifest, [Colours(3).state_dict()])
    return tmp_path / "bundle"


def annotation(file: str, objects: list[tuple[str, int, int]]) -> str:
    """VOC's XML of objects of 18 pixels, each by its name and left-top corner."""
    text = (
        f"<annotation><filename>{file}</filename><size><width>80</width><height>60</height></size>"
    )
    for name, x, y in objects:
        text += (
            f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + 18}</xmax><ymax>{y + 18}</ymax></bndbox></object>"
        )
    return text + "</annotation>"


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of 80 x 60 with a red cat, a blue dog and a green mug on grey noise."""
    root = tmp_path_factory.mktemp("voc")
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(110, 140, (60, 80, 3), np.uint8)
        objects = []
        for place, (name, colour) in enumerate(COLOURS.items()):
            x, y = 4 + 26 * place + int(rng.integers(0, 4)), 5 + int(rng.integers(0, 30))
            pixels[y : y + 18, x : x + 18] = colour
            objects.append((name, x, y))
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{number}.png")
        text = annotation(f"{number}.png", objects)
        (root / "Annotations" / f"{number}.xml").write_text(text)
    (root / "ImageSets/Main/train.txt").write_text("\n".join(map(str, range(6))))
    (root / "ImageSets/Main/one.txt").write_text("0\n")
    return root


CROPS = ("--set", "crops=400")


def exit_code(voc: Path, bundle: Path, *options: object) -> int:
    given = ["--data", voc, "--weights", bundle, "--device", "cpu", "--threads", 1, *options]
    with pytest.raises(SystemExit) as end:
        run_tool(fit_heads.main, [str(one) for one in given] + ["--quiet"])
    return int(end.value.code or 0)


def test_a_class_is_added_and_the_others_are_found_bit_for_bit_the_same(voc, bundle, tmp_path):
    out = tmp_path / "new"
    assert exit_code(voc, bundle, "--add", "mug", "--split", "train", "--out", out) == 0
    assert read_manifest(out).classes == ("cat", "dog", "mug")
    settings = {"score_threshold": 0.01, "max_detections": 10_000}
    before, after = (load_detector(one, settings=settings) for one in (bundle, out))
    for number in range(6):
        image = read_image(voc / "JPEGImages" / f"{number}.png")
        old, new = before(image), after(image)
        kept = new[new.labels < 2]
        for name in ("boxes", "scores", "labels"):
            assert getattr(kept, name).tobytes() == getattr(old, name).tobytes()
        assert middle(image, new[new.labels == 2].boxes[0]) == COLOURS["mug"]
    # One class more on top; the first one's head is as it was.
    first = load_bundle(out).heads[0]
    other = renamed(voc, tmp_path / "jugs", "mug", "jug")
    assert exit_code(other, out, "--add", "jug", "--split", "train", "--out", out) == 0
    assert read_manifest(out).classes == ("cat", "dog", "mug", "jug")
    assert (load_bundle(out).heads[0].weight == first.weight).all()


def test_a_program_adds_a_class_as_the_command_does_and_nothing_is_printed(
    voc: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "new", tmp_path / "again"
    options = ("--split", "train", "--set", "boxes=5", *CROPS, "--set", "seed=3")
    assert exit_code(voc, bundle, "--add", "mug", *options, "--out", out) == 0
    capsys.readouterr()
    made = fit_class(
        "mug", str(voc), str(again), split="train", boxes=5, crops=400, seed=3,
        bundle=bundle, device="cpu", threads=1,
    )  # fmt: skip
    assert (made, capsys.readouterr()) == (again, ("", ""))
    files = {one.name: one.read_bytes() for one in out.iterdir()}
    assert {one.name: one.read_bytes() for one in again.iterdir()} == files
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is written to a folder"):
        fit_class("mug", voc, tmp_path / "file", split="train", bundle=bundle)
    with pytest.raises(SettingsError, match="has this class already"):
        fit_class("cat", voc, tmp_path / "more", split="train", bundle=bundle)


def renamed(voc: Path, folder: Path, old: str, new: str) -> Path:
    """The same data set with another name for a class."""
    (folder / "Annotations").mkdir(parents=True)
    for part in ("ImageSets", "JPEGImages"):
        (folder / part).symlink_to(voc / part)
    for path in (voc / "Annotations").glob("*.xml"):
        text = path.read_text().replace(f"<name>{old}<", f"<name>{new}<")
        (folder / "Annotations" / path.name).write_text(text)
    return folder


def test_the_same_seed_learns_the_same_head(voc, bundle, tmp_path):
    for name in "ab":
        where = ("--split", "train", "--out", tmp_path / name, *CROPS)
        assert exit_code(voc, bundle, "--add", "mug", *where) == 0
    one, other = (read_manifest(tmp_path / name).heads[0].sha256 for name in "ab")
    assert one == other


def test_svms_and_regression_of_all_classes_are_optional_in_the_new_bundle(voc, bundle, tmp_path):
    out = tmp_path / "new"
    assert exit_code(voc, bundle, "--split", "train", "--out", out) == 0
    manifest = read_manifest(out)
    assert [head.kind for head in manifest.heads] == ["svm", "regression"]
    assert manifest.classes == ("cat", "dog")
    image = read_image(voc / "JPEGImages/0.png")
    detect = {
        options: load_detector(out, settings=dict.fromkeys(options, True))
        for options in ((), ("svm",), ("svm", "regression"))
    }
    plain = load_detector(bundle)
    regions = plain.propose(image)
    found, before = (one.predict(image, regions).scores for one in (detect[()], plain))
    assert (found == before).all()
    both = detect["svm", "regression"].predict(image, regions)
    assert (both.scores == detect["svm",].predict(image, regions).scores).all()
    for label, name in enumerate(("cat", "dog")):
        best = both.boxes[both.scores[:, label].argmax(), label]
        assert middle(image, best) == COLOURS[name]
    with pytest.raises(SettingsError, match="no svm head"):
        load_detector(bundle, settings={"svm": True})


def test_photographs_without_the_class_make_it_more_modest(voc, bundle, tmp_path):
    """Green things that are no mugs, in pictures of their own."""
    (tmp_path / "leaves").mkdir()
    for number in range(8):
        pixels = np.full((60, 80, 3), (45, 210, 65 + number), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "leaves" / f"{number}.png")
    leaf = read_image(tmp_path / "leaves/1.png")
    best = []
    for name, more in (("plain", ()), ("modest", ("--background", tmp_path / "leaves"))):
        where = ("--split", "train", "--out", tmp_path / name)
        assert exit_code(voc, bundle, "--add", "mug", *where, *more) == 0
        detect = load_detector(tmp_path / name)
        best.append(detect.predict(leaf, detect.propose(leaf)).scores[:, 2].max())
    assert best[1] < 0.5 < best[0]
    assert "12 images" in read_manifest(tmp_path / "modest").heads[0].recipe["data"]


@pytest.mark.parametrize("there", ["", "leaf.png"])
def test_photographs_that_are_not_there_are_told_before_the_work(
    voc, bundle, tmp_path, capsys, monkeypatch, there
):

    monkeypatch.setattr("detector.training.heads.new_class.proposals_of", never)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (80, 60)).save("leaf.png")
    (tmp_path / "empty").mkdir()
    for missing, why in (("leef.png", "no such file"), ("empty", "no images in")):
        given = [word for name in (there, missing) if name for word in ("--background", name)]
        where = ("--split", "train", "--out", tmp_path / "new")
        assert exit_code(voc, bundle, "--add", "mug", *where, *given) == 3
        said = capsys.readouterr().err
        assert missing in said
        assert why in said


def never(*_: object) -> None:
    raise AssertionError("the work began")


def test_an_image_that_proves_no_absence_gives_no_background(voc, bundle, monkeypatch):
    """Mugs may stand unboxed in it; R-CNN took none from ILSVRC's train, either."""
    from detector.datasets import read_dataset
    from detector.training.heads import data_features, new_class

    dataset, detector = read_dataset(voc, "train").with_classes(("mug",)), load_detector(bundle)
    monkeypatch.setattr(new_class, "fit_one_class", lambda *parts: parts[:3])

    def background(samples):
        """How many regions of each image are."""
        samples = data_features.proposals_of(
            replace(dataset, samples=samples), detector, None, True
        )
        objects, *parts = new_class.learn_class("mug", samples, detector, 1000, 0, {}, True)[1]
        assert set(objects.image) == set(range(6))
        return sum(np.bincount(part.image, minlength=6) for part in parts).tolist()

    for nothing in (dataset.with_positives_only(True), dataset.partial(())):
        assert background(nothing.samples) == [0] * 6
        none, *some = background((*nothing.samples[:1], *dataset.samples[1:]))
        assert none == 0
        assert min(some) > 150  # what it would have given comes from the others


def test_an_image_that_cannot_be_read_is_named_and_the_rest_go_on(voc, bundle, tmp_path, capsys):
    broken = renamed(voc, tmp_path / "broken", "mug", "mug")
    (broken / "JPEGImages").unlink()
    (broken / "JPEGImages").mkdir()
    for path in (voc / "JPEGImages").iterdir():
        content = b"no image" if path.stem == "2" else path.read_bytes()
        (broken / "JPEGImages" / path.name).write_bytes(content)
    out = tmp_path / "new"
    assert exit_code(broken, bundle, "--add", "mug", "--split", "train", "--out", out) == 0
    assert "2.png" in capsys.readouterr().err
    assert read_manifest(out).heads[0].recipe["boxes"] == 5


def middle(image: Array, box: Array) -> tuple[int, ...]:
    """The colour in the middle of a box."""
    x, y = ((box[:2] + box[2:]) / 2).astype(int)
    return tuple(image[y, x].tolist())


def test_features_are_kept_and_the_heads_come_out_the_same(voc, bundle, tmp_path):
    out, kind = tmp_path / "new", ("--split", "train", "--set", "images=4", "--set", "svm=false")
    assert exit_code(voc, bundle, *kind, "--out", out) == 0
    stored = sorted((tmp_path / "new.features").glob("*/maps.f16"))
    assert len(stored) == 1
    before = {path: path.stat().st_mtime_ns for path in stored}
    first = read_manifest(out)
    assert not first.thresholds.regression
    assert exit_code(voc, bundle, *kind, "--out", out, "--enable") == 0
    assert {path: path.stat().st_mtime_ns for path in stored} == before
    again = read_manifest(out)
    assert [head.sha256 for head in again.heads] == [first.heads[0].sha256]
    assert again.thresholds.regression
    assert not again.thresholds.svm
    assert load_detector(out).settings.regression
    assert not load_detector(out, settings={"regression": False}).settings.regression


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--add", "cat", "--split", "train"], 2, "has this class already"),
        (["--add", "jug", "--split", "train"], 3, "no class 'jug'; it has"),
        (["--add", " ", "--split", "train"], 2, "1 to 100 printable characters"),
        (["--add", "a\nb", "--split", "train"], 2, "1 to 100 printable characters"),
        (["--add", "m" * 101, "--split", "train"], 2, "1 to 100 printable characters"),
        (["--add", "mug", "--split", "one"], 3, "1 boxes of mug"),
        (["--add", "mug"], 3, "name a split"),
        (
            ["--split", "train", "--set", "svm=false", "--set", "regression=false"],
            2,
            "nothing to fit",
        ),
        (["--split", "train", "--set", "ensemble=two"], 2, "ensemble"),
        (
            ["--split", "train", "--set", "boxes=9", "--set", "crops=300"],
            2,
            "--set boxes, --set crops: changes",
        ),
        (["--split", "train", "--background", "leaves"], 2, "--background: changes nothing with"),
        (
            ["--split", "train", "--set", "data_root=x"],
            2,
            "data_root: changes nothing without --ba",
        ),
        (["--add", "mug", "--set", "regression=false"], 2, "--set regression: changes nothing"),
        (["--add", "mug", "--set", "svm=true"], 2, "--set svm: changes nothing with --add; leave"),
        (
            ["--add", "mug", "--set", "images=3", "--enable"],
            2,
            "--enable/--no-enable, --set images: chan",
        ),
        (["--add", "mug", "--set", "ensemble=all", "--set", "cache=x"], 2, "--set cache: changes"),
    ],
)
def test_mistakes_end_in_at_most_three_lines_and_write_no_bundle(
    voc, bundle, tmp_path, capsys, options, code, words
):
    assert exit_code(voc, bundle, *options, "--out", tmp_path / "new") == code
    said = capsys.readouterr().err
    assert words in " ".join(said.split())
    assert len(said.splitlines()) <= 3
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("gone", ["absent", "difficult"])
def test_missing_classes_are_told_before_any_feature_is_made(
    voc, bundle, tmp_path, capsys, monkeypatch, gone
):
    from detector.training.heads import fitting

    shutil.copytree(voc, tmp_path / "voc")
    for path in (tmp_path / "voc" / "Annotations").iterdir():
        change = {
            "absent": ("<name>dog</name>", "<name>wolf</name>"),
            "difficult": ("<name>dog</name>", "<name>dog</name><difficult>1</difficult>"),
        }[gone]
        path.write_text(path.read_text().replace(*change))

    def no_network(*_: object) -> None:
        raise AssertionError("the network is not needed to see it")

    monkeypatch.setattr(fitting, "load", no_network)
    where = ("--split", "train", "--out", tmp_path / "new")
    assert exit_code(tmp_path / "voc", bundle, *where) == 3
    assert "no objects of dog (1 of 2 classes)" in capsys.readouterr().err
    assert not (tmp_path / "new.features").exists()
    exit_code(
        tmp_path / "voc", bundle, *where, "--set", "svm=false"
    )  # regression does not need every class
    assert "the network is not needed" in capsys.readouterr().err  # it came as far as that


def test_one_image_that_can_be_read_is_not_enough(voc, bundle, tmp_path, capsys):
    """Scores would be NaN."""
    broken = renamed(voc, tmp_path / "broken", "mug", "mug")
    (broken / "JPEGImages").unlink()
    (broken / "JPEGImages").mkdir()
    for path in (voc / "JPEGImages").iterdir():
        content = path.read_bytes() if path.stem == "2" else b"no image"
        (broken / "JPEGImages" / path.name).write_bytes(content)
    where = ("--split", "train", "--out", tmp_path / "new")
    assert exit_code(broken, bundle, "--add", "mug", *where) == 3
    assert "in too few images" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_boxes_all_in_one_image_are_refused(voc, bundle, tmp_path, capsys):
    """Five mugs, but one picture: there is none to calibrate scores on."""
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / "voc" / part).mkdir(parents=True)
    (tmp_path / "voc/JPEGImages/0.png").symlink_to(voc / "JPEGImages/0.png")
    mugs = [("mug", x, 20) for x in (0, 10, 20, 30, 40)]
    (tmp_path / "voc/Annotations/0.xml").write_text(annotation("0.png", mugs))
    assert exit_code(tmp_path / "voc", bundle, "--add", "mug", "--out", tmp_path / "new") == 3
    told = capsys.readouterr().err
    assert "5 boxes of mug in 1 images: at least two images" in told
    assert "5 to 100 (--set boxes)" in " ".join(told.split())
