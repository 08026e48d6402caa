"""`evaluate detections`: what it prints, writes, refuses and keeps."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_heads import class_head
from PIL import Image
from small_detector import save_detector

from detector import evaluate, load_detector
from detector.datasets import VOC_CLASSES
from detector.detection.bundle import complete_card
from detector.errors import EvaluationError

CAT, DOG = VOC_CLASSES.index("cat"), VOC_CLASSES.index("dog")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four images with one cat each, at 11..30, 21..40 in VOC's numbers."""
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abcd":
        pixels = np.full((80, 100, 3), 128, np.uint8)
        pixels[20:40, 10:30] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        (root / "Annotations" / f"{name}.xml").write_text(
            "<annotation><folder>VOC2012</folder><size><width>100</width><height>80</height></size><object>"
            "<name>cat</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax>"
            "</bndbox></object></annotation>"
        )
    (root / "ImageSets/Main/val.txt").write_text("a\nb\nc\nd\n")
    return root


Run = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def run(command: Run, voc: Path) -> Run:
    def call(*options: object, data: Path = voc, **settings: object) -> tuple[Any, str, str]:
        changes = [word for item in settings.items() for word in ("--set", "{}={}".format(*item))]
        out = ("--out", voc.parent / "out")
        return command("evaluate detections", "--data", data, *options, *changes, *out)

    return call


def detections(folder: Path, name: str, images: str, label: str = "cat") -> Path:
    rows = [
        {"image_id": one, "category_name": label, "bbox": [10, 20, 20, 20], "score": 0.9}
        for one in images
    ]
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("protocol", ["voc07", "voc12", "ilsvrc", "coco"])
def test_saved_detections_are_judged(run: Run, tmp_path: Path, protocol: str) -> None:
    path = detections(tmp_path, "a.json", "abcd")
    rounds = () if protocol == "coco" else ("--set", "rounds=20")
    code, said, _ = run("--detections", path, "--protocol", protocol, *rounds)
    assert code == 0
    assert f"mAP 100.0 ({protocol})" in said
    assert said.endswith("out/: evaluation.json, precision_recall.png\n")
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["mean_ap"] == pytest.approx(1.0)
    assert content["per_class"][CAT]["positives"] == 4
    assert content["per_class"][DOG]["ap"] is None
    with Image.open(tmp_path / "out" / "precision_recall.png") as picture:
        assert picture.format == "PNG"


def test_a_subset_is_judged_on_its_own_images(run: Run, tmp_path: Path) -> None:
    path = detections(tmp_path, "a.json", "ac")
    assert "mAP 50.0" in run("--detections", path, rounds=0)[1]
    assert "mAP 100.0" in run("--detections", path, rounds=0, images=1)[1]  # image a


def test_a_report_is_one_page_with_its_command(run: Run, tmp_path: Path) -> None:
    path = detections(tmp_path, "a.json", "abc")
    code, said, _ = run("--detections", path, "--report", rounds=20, operating=0.5)
    assert code == 0
    assert said.endswith(f"report {tmp_path / 'out' / 'report.html'}\n")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg") == 1  # of four images, d has an error
    assert "<code>inception-rcnn evaluate detections" in page
    content = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert (content["threshold"], content["misses"]["unseen"]) == (0.5, 1)
    assert content["confusion"][CAT][CAT] == 3


def test_evaluation_json_says_what_was_judged_and_how(run: Run, tmp_path: Path) -> None:
    path = detections(tmp_path, "a.json", "abc")
    said = run("--detections", path, rounds=40, seed=3)[1]
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    low, high = content["interval"]["low"], content["interval"]["high"]
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f}" in said
    assert content["interval"]["estimate"] == content["mean_ap"]
    assert (content["rounds"], content["seed"], content["images"]) == (40, 3, 4)
    assert (content["detections"], content["data"]) == (str(path), "voc/val")
    assert content["command"].startswith("inception-rcnn evaluate detections")
    run("--detections", path, rounds=0)
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (content["interval"], content["rounds"], content["seed"]) == (None, 0, None)


def test_an_earlier_report_does_not_stay_beside_newer_numbers(run: Run, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "out" / "notes.txt"
    run("--detections", detections(tmp_path, "a.json", "ab"), "--report", rounds=0)
    mine.write_text("mine")
    written = {"evaluation.json", "precision_recall.png"}
    report = {"diagnosis.json", "report.html", "worst_1.jpg", "worst_2.jpg"}
    assert {one.name for one in out.iterdir()} == written | report | {"notes.txt"}
    run("--detections", detections(tmp_path, "b.json", "a"), rounds=0)
    assert {one.name for one in out.iterdir()} == written | {"notes.txt"}


def test_a_report_takes_boxes_without_area_and_far_away(run: Run, tmp_path: Path) -> None:
    rows = json.loads(detections(tmp_path, "a.json", "abc").read_text())
    for box in (
        [99, 20, 0, 9],
        [5, 5, 0, 0],
        [9e8, 9e8, 1e-6, 3],
        [-50, -50, 10, 0],
        [500, 500, 9, 9],
    ):
        rows += [{**rows[0], "bbox": box, "score": 0.95}, {**rows[0], "image_id": "d", "bbox": box}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    options = ("--detections", tmp_path / "a.json", "--set", "rounds=20", "--report")
    code, _, err = run(*options)
    assert (code, err) == (0, "")
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["per_class"][CAT]["detections"] == 13
    assert run("--compare", tmp_path / "a.json", tmp_path / "a.json", rounds=20)[0] == 0


def test_two_files_are_compared_in_pairs(run: Run, tmp_path: Path) -> None:
    one, two = detections(tmp_path, "1.json", "ab"), detections(tmp_path, "2.json", "abcd")
    code, said, _ = run("--compare", one, two, rounds=50)
    assert code == 0
    assert "difference     50.0" in said
    assert said.endswith(f"{tmp_path / 'out'}/: comparison.json\n")
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["first"]["estimate"] == pytest.approx(0.5)
    assert content["second"]["low"] == content["second"]["high"] == pytest.approx(1.0)
    assert content["difference"]["estimate"] == pytest.approx(0.5)


def test_what_was_left_out_is_said(run: Run, voc: Path, tmp_path: Path) -> None:
    (voc / "JPEGImages/d.jpg").unlink()
    path = detections(tmp_path, "a.json", "abc")
    code, said, err = run("--detections", path, rounds=0)
    assert (code, "mAP 100.0" in said) == (0, True)
    assert err.startswith("left out: 1 x missing-image; for example Annotations/d.xml")
    assert run("--detections", path, strict="true")[0] == 3


def test_detections_that_the_set_lacks_are_one_line_and_counted(
    run: Run, voc: Path, tmp_path: Path
) -> None:
    (voc / "JPEGImages/d.jpg").unlink()  # listed, and left out
    rows = json.loads(detections(tmp_path, "a.json", "abcdz").read_text())
    rows += [
        {**rows[0], "category_name": "zebra"},
        {**rows[0], "bbox": [99, 20, 0, 9], "score": 0.1},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    code, said, err = run("--detections", tmp_path / "a.json", rounds=0)
    assert (code, "mAP 100.0" in said) == (0, True)
    assert err.splitlines()[1:] == [
        f"not judged: {tmp_path / 'a.json'}: 1 detection is of an image that voc/val lists but"
        " leaves out (missing-image): 'd'; 1 detection is of an image that voc/val does not have"
        " or leaves out: 'z'; 1 detection is of a class that voc/val does not have: 'zebra'"
    ]
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["extras"]["detections_of_other_images"] == 2
    assert content["extras"]["detections_of_other_classes"] == 1
    assert content["per_class"][CAT]["detections"] == 4  # the one without area is a false alarm


def test_the_option_that_maps_classes_is_named_unless_it_is_given(run: Run, tmp_path: Path) -> None:
    boxes = {"bbox": [10, 20, 20, 20], "area": 400, "iscrowd": 0}
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, **boxes}],
        "categories": [{"id": 1, "name": "couch"}],
    }
    coco = tmp_path / "coco"
    coco.mkdir()
    Image.new("RGB", (100, 80)).save(coco / "a.jpg")
    (coco / "instances_val.json").write_text(json.dumps(content))
    path = detections(tmp_path, "a.json", "a", "sofa")
    code, _, err = run("--detections", path, "--set", "rounds=0", data=coco)
    assert (code, "--classes voc maps" in err) == (3, True)
    rounds = ("--set", "rounds=0", "--classes", "voc")
    assert "mAP 100.0" in run("--detections", path, *rounds, data=coco)[1]
    path = detections(tmp_path, "b.json", "a", "zebra")
    code, _, err = run("--detections", path, *rounds, data=coco)
    assert (code, "--classes" in err) == (3, False)


def test_more_than_a_hundred_of_a_class_are_said_and_may_count(run: Run, tmp_path: Path) -> None:
    rows = json.loads(detections(tmp_path, "a.json", "abcd").read_text())
    rows += [{**rows[0], "score": 0.95 - i / 1000} for i in range(100)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    options = ("--detections", tmp_path / "a.json", "--protocol", "coco")
    code, said, err = run(*options)
    assert code == 0
    assert "1 of 4 images: more than 100 objects or detections" in err
    assert "--set max_dets=" in err
    assert "AR100 " in said
    assert run(*options, max_dets=50)[2].endswith("the 50 best detections count\n")
    code, said, err = run(*options, max_dets=101)
    assert (code, err, "AR101 " in said, "beyond" in said) == (0, "", True, False)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--detections {a} --set max_dets=9", 2, "--set max_dets: changes nothing without"),
        ("--detections {a} --protocol coco --set max_dets=0", 2, "max_dets: Input should be"),
        ("--compare {a} {a} --set max_dets=9", 2, "--set max_dets: changes nothing"),
        ("--detections {a} --protocol voc10", 2, "voc07, voc12, ilsvrc, coco"),
        ("--detections {a} --compare {a} {a}", 2, "only one of"),
        ("--detections {a} --split test", 3, "it has: val"),
        ("--detections {a} --set images=0", 2, "images: Input"),
        ("--detections {a} --classes imagenet", 2, "own, voc or weights"),
        ("--detections nowhere.json", 3, "nowhere.json: No such file"),
        ("--detections {zebra}", 3, "class lists must match"),
        ("--detections {other}", 3, "of an image that voc/val does not have: 'z'"),
        ("--compare {a} {a} --protocol coco", 2, "voc07, voc12, ilsvrc"),
        ("--compare {a} {a} --set rounds=0", 2, "--set rounds=1"),
        ("--compare {a} {a} --report", 2, "--report: changes nothing with --compare"),
        ("--compare {a} {a} --set coco_engine=fast", 2, "--set coco_engine: changes nothing"),
        ("--compare {a}", 2, "a.json is only one"),
        ("--compare {a} {a} --set nms_threshold=0.5 --set cache=c", 2, "--set cache: changes"),
        ("--detections {a} --set svm=false", 2, "changes nothing with --detections"),
        ("--detections {a} --set threads=1", 2, "--set threads: changes nothing"),
        ("--detections {a} --set coco_engine=fast", 2, "--protocol coco"),
        ("--detections {a} --protocol coco --set rounds=9", 2, "--set rounds: changes"),
        ("--detections {a} --protocol coco --set seed=9", 2, "has no interval"),
        ("--detections {a} --set rounds=0 --set seed=9", 2, "nothing with rounds=0"),
        ("--set proposals=a.sqlite --set cache=b.sqlite", 2, "--set cache: changes nothing"),
        ("--detections {a} --set operating=0.5", 2, "--set operating: changes"),
        ("--weights nowhere", 3, "nowhere"),
        ("--set ensemble=none", 2, "ensemble"),
        ("--set proposals=nowhere.sqlite", 3, "nowhere.sqlite"),
        ("--device abacus", 2, "device abacus"),
    ],
)
def test_mistakes_end_in_at_most_three_lines_and_write_nothing(
    run: Run, tmp_path: Path, options: str, code: int, words: str
) -> None:
    files = {
        "a": detections(tmp_path, "a.json", "abcd"),
        "zebra": detections(tmp_path, "b.json", "a", "zebra"),
        "other": detections(tmp_path, "c.json", "z"),
    }
    found, said, err = run(*options.format(**files).split())
    assert (found, said) == (code, "")
    assert words in err
    assert len(err.splitlines()) <= 3
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("bundle"), VOC_CLASSES)


def test_images_that_a_bundle_learnt_from_are_said_to_flatter_before_the_work(
    run: Run, bundle: Path, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the pictures' content, wherever they lie and whatever they are called."""
    from detector.cli.evaluating import running
    from detector.datasets import read_dataset
    from detector.detection.bundle import read_manifest
    from detector.evaluation.scoring.regions import picture_hashes

    manifest = read_manifest(bundle)
    learnt = picture_hashes(read_dataset(voc, "val").subset(["b", "d"]))
    assert len(learnt) == 2
    (voc / "JPEGImages" / "d.jpg").rename(voc / "JPEGImages" / "x.jpg")
    (voc / "JPEGImages" / "a.jpg").rename(voc / "JPEGImages" / "d.jpg")
    (voc / "JPEGImages" / "x.jpg").rename(voc / "JPEGImages" / "a.jpg")

    def bundle_of(*pictures: str) -> None:
        origin = manifest.provenance.model_copy(update={"pictures": pictures})
        told = manifest.model_copy(update={"provenance": origin})
        monkeypatch.setattr(running, "read_manifest", lambda _: told)

    def no_work(*_: object, **__: object) -> None:
        raise EvaluationError("the work begins")

    monkeypatch.setattr(running, "load", no_work)
    bundle_of(*learnt)
    (voc / "JPEGImages" / "c.jpg").write_bytes(b"gone")  # is told later, in its turn
    _, _, err = run("--weights", bundle)
    assert err == (
        "warning: voc/val: the weights learnt from at least 2 of these 4 images, so that their"
        " scores flatter; use others\nerror: the work begins\n"
    )
    for others in ((), ("0" * 16,)):
        bundle_of(*others)
        assert run("--weights", bundle)[2] == "error: the work begins\n"


def test_a_bundle_is_run_kept_and_not_run_again(
    run: Run, command: Run, bundle: Path, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "--weights",
        bundle,
        "--set",
        "rounds=0",
        "--device",
        "cpu",
        "--set",
        "threads=1",
        "--quiet",
    )
    voc.parent.joinpath("out").mkdir()
    (voc.parent / "out" / "run.json").write_text("{}")  # of tools/detect.py
    code, said, err = run(*options)
    assert (code, err) == (0, "")
    assert not (voc.parent / "out" / "run.json").exists()  # its detections are not there any more
    assert "proposal recall 100.0" in said
    assert "oracle class map 100.0" in said
    out = voc.parent / "out"
    first = (out / "detections.json").read_bytes()
    assert {row["image_id"] for row in json.loads(first)} == set("abcd")
    assert json.loads((out / "evaluation.json").read_text())["extras"]["proposal_recall"] == 1.0
    assert len(list((out / "regions").rglob("*.npz"))) == 4

    from detector.detection.forward import RegionBatches

    def refuse(*_: object) -> None:
        raise AssertionError("the scores are on disk")

    monkeypatch.setattr(RegionBatches, "_classify_chunk", refuse)
    assert run(*options)[0] == 0
    assert (out / "detections.json").read_bytes() == first
    # The proposals of the cache, as a file of their own, give the same detections.
    monkeypatch.undo()
    assert run(*options, "--set", f"proposals={out / 'proposals.sqlite'}")[0] == 0
    assert (out / "detections.json").read_bytes() == first
    # Those that were made otherwise are used, and it is said.
    other = out / "other.sqlite"
    search = ("--engine", "opencv", "--longest-side", 100, "--seed", 3, "--quiet")
    command("propose run", voc / "JPEGImages", "--out", other, *search)
    code, _, err = run(*options, "--set", f"proposals={other}")
    expected = f"warning: {other} holds proposals of seed=3, but the weights' own have seed=0\n"
    assert (code, err) == (0, expected)
    # The report knows the regions.
    assert run(*options, "--report")[0] == 0
    assert "Recall against proposals" in (out / "report.html").read_text()
    content = json.loads((out / "diagnosis.json").read_text())
    assert content["misses_with_regions"]
    assert content["misses"]["unseen"] == 0
    # In Python it is the same evaluation.
    settings = {"score_threshold": 0.01, "nms_threshold": 0.3, "max_detections": 300}
    detect = load_detector(bundle, settings=settings)
    found = evaluate(voc, detect, split="val", rounds=0)
    saved = json.loads((out / "evaluation.json").read_text())
    mine = json.loads(found.to_json())
    assert {name: saved[name] for name in ("mean_ap", "per_class")} == {
        name: mine[name] for name in ("mean_ap", "per_class")
    }
    # The bundle's card takes it, as long as the bundle is the one that was evaluated.
    assert complete_card(bundle, out)[:2] == ["README.md", "card_precision_recall.png"]
    assert "on the\n4 images of voc/val, with 1 of 1 members" in (bundle / "README.md").read_text()
    # The saved detections give the same numbers by themselves.
    mean_ap = [line for line in said.splitlines() if line.startswith("mAP")]
    again = run("--detections", out / "detections.json", rounds=0)[1]
    assert [line for line in again.splitlines() if line.startswith("mAP")] == mean_ap


def test_an_interrupted_run_keeps_what_is_done_and_goes_on(
    run: Run, bundle: Path, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detector.detection.forward import RegionBatches

    options = (
        "--weights",
        bundle,
        "--set",
        "rounds=0",
        "--device",
        "cpu",
        "--set",
        "threads=1",
        "--quiet",
    )
    regions = voc.parent / "out" / "regions"
    classify = RegionBatches._classify_chunk

    def interrupted(self: RegionBatches, *arguments: Any) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(RegionBatches, "_classify_chunk", classify)
        return classify(self, *arguments)

    monkeypatch.setattr(RegionBatches, "_classify_chunk", interrupted)
    code, said, err = run(*options)
    assert (code, said) == (130, "")
    assert err.startswith("stopping after the images under way")
    done = {path.name: path.stat().st_mtime_ns for path in regions.rglob("*.npz")}
    assert done
    assert not (voc.parent / "out" / "detections.json").exists()
    assert run(*options)[0] == 0
    after = {path.name: path.stat().st_mtime_ns for path in regions.rglob("*.npz")}
    assert len(after) == 4
    assert {name: after[name] for name in done} == done  # what was done was not done again


def test_an_image_that_cannot_be_read_is_named_and_the_rest_go_on(
    run: Run, bundle: Path, voc: Path
) -> None:
    broken = voc / "JPEGImages" / "b.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    code, said, err = run("--weights", bundle, "--set", "rounds=0", "--device", "cpu", "--quiet")
    assert code == 1
    assert "images with detections 3" in said
    assert str(broken) in err


def test_weights_with_other_classes_are_refused(run: Run, bundle: Path, voc: Path) -> None:
    for path in (voc / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("cat", "worm"))
    code, _, err = run("--weights", bundle, "--device", "cpu")
    assert code == 3
    assert "1 class, the weights 20" in err
    assert not (voc.parent / "out" / "detections.json").exists()


def test_heads_are_used_when_asked_for_and_kept_apart(
    run: Run, bundle: Path, voc: Path, tmp_path: Path
) -> None:
    """A head for mugs, SVMs that answer 0.5 to everything, and a regression that moves nothing."""
    from detector.detection.bundle import save_heads
    from detector.heads import BoxRegression, HeadManifest, LinearScores

    def scores(rows: int) -> LinearScores:
        zeros = np.zeros(rows, np.float32)
        return LinearScores(np.zeros((rows, 1024), np.float32), zeros, zeros + 1, zeros)

    still = BoxRegression(np.zeros((80, 1024), np.float32), np.zeros(80, np.float32))
    with_mugs = tmp_path / "mugs"
    save_heads(bundle, with_mugs, [(HeadManifest(kind="class", name="mug"), class_head(scores(1)))])
    common = ("--set", "rounds=0", "--device", "cpu", "--set", "threads=1", "--quiet")
    assert "--classes weights" in run("--weights", with_mugs, *common)[2]
    code, said, _ = run("--weights", with_mugs, "--classes", "weights", *common)
    assert code == 0
    assert "mug" in said

    assert "no svm head" in run("--weights", bundle, "--set", "svm=true", *common)[2]
    whole = tmp_path / "whole"
    heads = [(HeadManifest(kind="svm"), scores(20)), (HeadManifest(kind="regression"), still)]
    save_heads(bundle, whole, heads)
    out = voc.parent / "out"
    for settings in ({"svm": "true"}, {"svm": "true", "regression": "true"}):
        assert run("--weights", whole, *common, **settings)[0] == 0
        rows = json.loads((out / "detections.json").read_text())
        assert {row["score"] for row in rows} == {0.5}
    # The network's logits, of one network in three bundles; mugs, SVMs, regression.
    assert len(list((out / "regions").iterdir())) == 4
