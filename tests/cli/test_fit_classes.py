"""inception-rcnn fit: classes are added, refined and removed, and the others stay."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from coloured_squares import COLOURS, annotation, exit_code_of, middle
from PIL import Image

from detector.cli import fit_classes as command
from detector.cli.app import run_tool
from detector.datasets import read_dataset
from detector.detection.bundle import load_bundle, read_manifest
from detector.detection.load import load_detector
from detector.errors import SettingsError
from detector.heads.few_shot import OneClassSettings
from detector.images.decoding import read_image
from detector.training.heads.class_regions import describe, examples_of_class, plan_regions
from detector.training.heads.data_features import proposals_of
from detector.training.heads.fit_classes import fit, fit_classes

CROPS = ("--set", "crops=400")

exit_code = partial(exit_code_of, command)


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
    said = capsys.readouterr().out
    chosen = {"split": "train", "bundle": bundle, "device": "cpu", "threads": 1}
    report = fit_classes(voc, again, add=["mug"], boxes=5, crops=400, seed=3, **chosen)
    assert capsys.readouterr() == ("", "")
    assert report.bundle == again
    assert said.startswith(f"{report.classes[0]}\n")
    files = {one.name: one.read_bytes() for one in out.iterdir()}
    assert {one.name: one.read_bytes() for one in again.iterdir()} == files
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is written to a folder"):
        fit_classes(voc, tmp_path / "file", add=["mug"], **chosen)
    with pytest.raises(SettingsError, match="has this class already"):
        fit_classes(voc, tmp_path / "more", add=["cat"], **chosen)


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


@pytest.mark.parametrize("there", ["", "leaf.png"])
def test_photographs_that_are_not_there_are_told_before_the_work(
    voc, bundle, tmp_path, capsys, monkeypatch, there
):

    monkeypatch.setattr("detector.training.heads.class_learner.proposals_of", never)
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


def test_an_image_that_proves_no_absence_gives_no_background(voc, bundle):
    """Mugs may stand unboxed in it; R-CNN took none from ILSVRC's train, either."""
    dataset, detector = read_dataset(voc, "train").with_classes(("mug",)), load_detector(bundle)
    settings = OneClassSettings(crops=1000)

    def background(samples):
        """How many regions of each image are."""
        pairs = proposals_of(replace(dataset, samples=samples), detector, None, True)
        plans = plan_regions(pairs, 1, settings, np.random.default_rng(0))
        images = [describe(detector, plan) for plan in plans]
        examples = examples_of_class(images, 0, settings, np.random.default_rng(0))
        assert set(examples.positives.image) == set(range(6))
        both = examples.first.joined(examples.second)
        return np.bincount(both.image, minlength=6).tolist()

    for nothing in (dataset.with_positives_only(True), dataset.partial(())):
        assert background(nothing.samples) == [0] * 6
        none, *some = background((*nothing.samples[:1], *dataset.samples[1:]))
        assert none == 0
        assert min(some) > 50


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
    assert "5 boxes of mug in 1 image: at least two images" in told
    assert "5 to 100 (--set boxes)" in " ".join(told.split())


def test_several_classes_are_learnt_together(voc, bundle, tmp_path):
    """Cats, which the bundle has, are learnt again under another name: they look alike."""
    lions = renamed(voc, tmp_path / "lions", "cat", "lion")
    out = tmp_path / "new"
    given = ("--add", "mug", "--add", "lion", "--split", "train", "--out", out)
    assert exit_code(lions, bundle, *given) == 0
    assert read_manifest(out).classes == ("cat", "dog", "mug", "lion")
    detect = load_detector(out, settings={"score_threshold": 0.5, "max_detections": 10_000})
    for number in range(6):
        image = read_image(voc / "JPEGImages" / f"{number}.png")
        found = detect(image)
        for label, colour in ((2, "mug"), (3, "cat")):
            assert middle(image, found[found.labels == label].boxes[0]) == COLOURS[colour]


def test_more_boxes_refine_a_class_and_only_that_one(voc, bundle, tmp_path, capsys):
    out, again = tmp_path / "new", tmp_path / "again"
    given = ("--split", "train", *CROPS)
    assert exit_code(voc, bundle, "--add", "mug", "--set", "boxes=5", *given, "--out", out) == 0
    other = renamed(voc, tmp_path / "jugs", "mug", "jug")
    assert exit_code(other, out, "--add", "jug", *given, "--out", out) == 0
    before = read_manifest(out)
    assert exit_code(voc, out, "--refine", "mug", *given, "--out", again) == 0
    assert "mug: 11 boxes in 11 images" in capsys.readouterr().out
    after = read_manifest(again)
    assert after.classes == ("cat", "dog", "mug", "jug")
    assert after.heads[0].sha256 != before.heads[0].sha256
    assert after.heads[1].sha256 == before.heads[1].sha256
    # Into the same folder: the files of the earlier fit are gone.
    assert exit_code(voc, again, "--refine", "mug", *given, "--out", again) == 0
    names = {one.name for one in again.iterdir()} - {"bundle.json", "README.md", ".lock"}
    assert names == {entry.file for entry in read_manifest(again).files}


def test_photographs_of_false_alarms_alone_refine_a_class(voc, bundle, tmp_path):
    """Green things that are no mugs; no new box is needed."""
    (tmp_path / "leaves").mkdir()
    for number in range(8):
        pixels = np.full((60, 80, 3), (45, 210, 65 + number), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "leaves" / f"{number}.png")
    out = tmp_path / "new"
    assert exit_code(voc, bundle, "--add", "mug", "--split", "train", "--out", out) == 0
    leaf = read_image(tmp_path / "leaves/1.png")

    def alarm() -> float:
        detect = load_detector(out)
        return float(detect.predict(leaf, detect.propose(leaf)).scores[:, 2].max())

    before = alarm()
    options = ["--background", tmp_path / "leaves", "--weights", out, "--out", out, "--quiet"]
    with pytest.raises(SystemExit) as end:
        run_tool(command.main, ["--refine", "mug", *map(str, options)])
    assert end.value.code == 0
    assert alarm() < 0.5 < before


def test_a_removed_class_is_gone_and_the_bundle_is_as_before(voc, bundle, tmp_path):
    out, less = tmp_path / "new", tmp_path / "less"
    assert exit_code(voc, bundle, "--add", "mug", "--split", "train", *CROPS, "--out", out) == 0
    with pytest.raises(SystemExit) as end:
        run_tool(command.main, ["--remove", "mug", "--weights", str(out), "--out", str(less)])
    assert end.value.code == 0
    text = (less / "bundle.json").read_bytes()
    assert text == (bundle / "bundle.json").read_bytes()
    assert {one.name for one in less.iterdir()} - {".lock"} == {
        one.name for one in bundle.iterdir()
    } | {"README.md"}


def test_pixels_boxes_and_names_are_enough(voc, bundle, tmp_path):
    """From Python: arrays, Pillow pictures and paths alike."""
    dataset = read_dataset(voc, "train")
    paths = [sample.path for sample in dataset.samples]
    images = [read_image(paths[0]), Image.open(paths[1]), *paths[2:]]
    boxes = [sample.annotations.boxes for sample in dataset.samples]
    labels = [[dataset.classes[i] for i in one.annotations.labels] for one in dataset.samples]
    report = fit(images, boxes, labels, tmp_path / "a", bundle=bundle, device="cpu", crops=400)
    assert [one.name for one in report.classes] == ["mug"]  # the bundle has cats and dogs
    assert report.classes[0].boxes == 6
    again = fit(
        images, boxes, labels, tmp_path / "b", bundle=report.bundle, device="cpu", crops=400
    )
    assert again.classes[0].boxes == 12  # refined: the bundle has mugs by now
    with pytest.raises(SettingsError, match="6 images, 5 arrays of boxes"):
        fit(images, boxes[1:], labels, tmp_path / "c", bundle=bundle)
    wrong = [np.array([[0, 0, 500, 1]]), *boxes[1:]]
    with pytest.raises(SettingsError, match=r"image 0: 1 boxes and 3 labels"):
        fit(images, wrong, labels, tmp_path / "c", bundle=bundle)
    flat = [np.array([[90, 0, 95, 10]]), *boxes[1:]]
    with pytest.raises(SettingsError, match=r"image 0: box \[90.0, .* inside its 80x60 pixels"):
        fit(images, flat, [["mug"], *labels[1:]], tmp_path / "c", bundle=bundle)
    assert not (tmp_path / "c").exists()


def test_a_report_says_how_well_it_works_on_images_left_out(voc, bundle, tmp_path, capsys):
    out = tmp_path / "new"
    assert exit_code(voc, bundle, "--add", "mug", "--split", "train", "--out", out) == 0
    said = capsys.readouterr().out
    recipe = read_manifest(out).heads[0].recipe
    ap = {name: f"{100 * value:.0f}" for name, value in recipe["average_precision"].items()}
    words = f"AP {ap['estimate']} ({ap['low']} to {ap['high']}) on images left out in turn"
    assert said.startswith(f"mug: 6 boxes in 6 images; {words}; best threshold 0.")
    assert recipe["average_precision"]["estimate"] > 0.5  # regions on a mug all look alike
    assert recipe["reached"] == 1
    assert 0 < recipe["threshold"] < 1


def test_classes_that_look_alike_are_told(voc, bundle, tmp_path, capsys):
    """Boxes of cups where the mugs are."""
    cups = tmp_path / "cups"
    (cups / "Annotations").mkdir(parents=True)
    for part in ("ImageSets", "JPEGImages"):
        (cups / part).symlink_to(voc / part)
    for path in (voc / "Annotations").glob("*.xml"):
        text = path.read_text()
        mug = text[text.index("<object><name>mug") :].removesuffix("</annotation>")
        text = text.replace("</annotation>", mug.replace("mug", "cup") + "</annotation>")
        (cups / "Annotations" / path.name).write_text(text)
    given = ("--add", "mug", "--add", "cup", "--split", "train", "--out", tmp_path / "new")
    assert exit_code(cups, bundle, *given) == 0
    said = capsys.readouterr().err
    assert "mug and cup have the same box in 6 places" in said


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 2, "give --add, --refine or --remove"),
        (["--add", "cat", "--split", "train"], 2, "has this class already, in its networks"),
        (["--add", "jug", "--split", "train"], 3, "no class 'jug'; it has"),
        (["--add", " ", "--split", "train"], 2, "1 to 100 printable characters"),
        (["--add", "a\nb", "--split", "train"], 2, "1 to 100 printable characters"),
        (["--add", "m" * 101, "--split", "train"], 2, "1 to 100 printable characters"),
        (["--add", "mug", "--add", "mug"], 2, "mug: named twice"),
        (["--add", "mug", "--split", "one"], 3, "1 box of mug"),
        (["--add", "mug"], 3, "name a split"),
        (["--refine", "mug"], 2, "no such added class; the bundle has none"),
        (["--remove", "cat"], 2, "--data: changes nothing with --remove alone"),
        (["--refine", "cat"], 2, "a class of the networks themselves"),
        (["--add", "mug", "--budget", "soon"], 2, "such as 90s, 10m or 2h"),
        (["--add", "mug", "--set", "svm=true"], 2, "unknown setting svm"),
    ],
)
def test_mistakes_end_in_at_most_three_lines_and_write_no_bundle(
    voc, bundle, tmp_path, capsys, options, code, words
):
    assert exit_code(voc, bundle, *options, "--out", tmp_path / "new") == code
    said = capsys.readouterr().err
    assert words in " ".join(said.split())
    assert len(said.splitlines()) <= 3
    assert not (tmp_path / "new" / "bundle.json").exists()


def test_damaged_examples_are_refused_and_the_bundle_stays(voc, bundle, tmp_path, capsys):
    out = tmp_path / "new"
    given = ("--split", "train", *CROPS)
    assert exit_code(voc, bundle, "--add", "mug", *given, "--out", out) == 0
    (stored,) = out.glob("examples-*")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    before = {one.name: one.read_bytes() for one in out.iterdir()}
    assert load_detector(out).classes == ("cat", "dog", "mug")  # which needs no examples
    assert exit_code(voc, out, "--refine", "mug", *given, "--out", out) == 3
    assert stored.name in capsys.readouterr().err
    assert {one.name: one.read_bytes() for one in out.iterdir()} == before


def test_small_objects_lower_the_least_side_of_proposals(tmp_path):
    """Nine pixels in a photograph of 500: proposals from seven on."""
    from types import SimpleNamespace

    from detector.training.heads.class_learner import min_side

    truth = SimpleNamespace(boxes=np.array([[0, 0, 9, 40.0]]), real=np.array([True]))
    pairs = [(SimpleNamespace(annotations=truth), SimpleNamespace(size=(300, 500)))]
    settings = SimpleNamespace(min_box_side=20, longest_side=500)
    assert min_side(pairs, settings) == 7
    pairs[0][1].size = (300, 1000)  # half as large in the search: 4.5 pixels
    assert min_side(pairs, settings) == 4
    truth.boxes = np.array([[0, 0, 90, 40.0]])
    assert min_side(pairs, settings) is None
    assert min_side(pairs, SimpleNamespace()) is None  # an engine without such a limit
