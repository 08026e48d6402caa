"""`data check --weights`: the whole way on a small random detector, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_detector import save_detector

from detector.cli.checking.data import read_labelled
from detector.cli.checking.labels import remarks_on
from detector.detection.bundle import read_manifest
from detector.evaluation.scoring import regions

Command = Callable[..., tuple[Any, str, str]]


def write_image(root: Path, name: str, seed: int, *objects: tuple[str, str]) -> None:
    """An image of noise with objects, (class, "xmin ymin xmax ymax"), in VOC's layout."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), dtype=np.uint8)
    pixels = pixels.repeat(10, 0).repeat(10, 1)
    Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.png")
    corners = ("xmin", "ymin", "xmax", "ymax")
    text = "".join(
        f"<object><name>{label}</name><bndbox>"
        + "".join(f"<{c}>{v}</{c}>" for c, v in zip(corners, box.split(), strict=True))
        + "</bndbox></object>"
        for label, box in objects
    )
    size = "<size><width>100</width><height>80</height></size>"
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{text}</annotation>")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two images with a cat, a dog and a unicorn; one of them stands in val as well, as a copy."""
    root = tmp_path / "voc"
    write_image(root, "a", 0, ("cat", "11 21 60 70"), ("unicorn", "1 1 30 30"))
    write_image(root, "b", 1, ("dog", "31 11 90 60"))
    write_image(root, "copy", 0, ("cat", "11 21 60 70"))
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Main/val.txt").write_text("copy\n")
    (root / "ImageSets/Main/trainval.txt").write_text("a\nb\ncopy\n")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("detector") / "bundle")


@pytest.fixture
def run(command: Command, tmp_path: Path, voc: Path, bundle: Path) -> Command:
    def call(*words: object, data: Path = voc) -> tuple[Any, str, str]:
        return command(
            "data check", data, "--weights", bundle, "--quiet", "--out", tmp_path / "out", *words
        )

    return call


def test_suspects_of_all_splits_are_listed_written_and_shown(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, errors = run("--most", 2)
    assert code == 0
    assert "does not know 1 class (unicorn): 1 label not checked" in errors
    assert len(said.splitlines()) == 3
    assert said.splitlines()[0].startswith("  1 ")
    out = tmp_path / "out"
    content = json.loads((out / "wrong_labels.json").read_text())
    labels = content["labels"]
    assert [row["rank"] for row in labels] == list(range(1, len(labels) + 1))
    assert sorted((row["image"], row["class"]) for row in labels if row["class"]) == [
        ("a", "cat"), ("b", "dog"), ("copy", "cat"),
    ]  # fmt: skip
    (twin,) = (row for row in labels if row["kind"] == "two splits")
    assert (twin["suspicion"], {twin["image"], *twin["suggestion"].split()[:1]}) == (
        1, {"a", "copy"},
    )  # fmt: skip
    page = (out / "wrong_labels.html").read_text()
    assert page.count("data:image/jpeg") == min(len(labels), 100)
    assert (out / "wrong_labels.csv").read_text().count("\n") == len(labels) + 1

    def network(*_: object) -> None:
        raise AssertionError("the scores are there")

    monkeypatch.setattr(regions, "read_image", network)
    again = run("--most", 2)
    assert again == (0, said, errors)


def test_a_corrected_label_is_scored_anew(run: Command, voc: Path, tmp_path: Path) -> None:
    def labels() -> list[dict[str, Any]]:
        assert run("--split", "train")[0] == 0
        content = json.loads((tmp_path / "out" / "wrong_labels.json").read_text())
        return [row for row in content["labels"] if row["class"] == "dog"]

    assert labels()[0]["box"] == [30, 10, 90, 60]
    write_image(voc, "b", 1, ("dog", "11 11 40 60"))
    assert [row["box"] for row in labels()] == [[10, 10, 40, 60]]


def test_an_unreadable_image_costs_only_itself(run: Command, voc: Path) -> None:
    path = voc / "JPEGImages" / "b.png"
    path.write_bytes(path.read_bytes()[:200])
    code, said, errors = run("--split", "train")
    assert (code, "b.png" in errors) == (1, True)
    assert " a: " in said
    (voc / "JPEGImages" / "a.png").write_bytes(path.read_bytes())
    code, _, errors = run("--split", "train")
    assert (code, "none of its images could be read" in errors) == (3, True)


def test_a_bundle_that_knows_none_of_the_classes_says_so(run: Command, tmp_path: Path) -> None:
    root = tmp_path / "blood"
    write_image(root, "a", 0, ("platelet", "11 21 60 70"))
    code, _, errors = run(data=root)
    assert code == 3
    assert "none of its classes (platelet) is among cat, dog" in errors


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--weights", "nowhere"], "nowhere"),
        (["--fast"], "--fast: changes nothing with --weights"),
        (["--json"], "--json: changes nothing with --weights"),
        (["--split", "test"], "it has: train, trainval, val"),
        (["--set", "pictures=-1"], "pictures"),
    ],
)
def test_mistakes_are_explained(run: Command, words: list[str], why: str) -> None:
    code, _, errors = run(*words)
    assert code in (2, 3)
    assert why in errors
    assert len(errors.splitlines()) <= 3


def test_options_of_the_detector_need_one(command: Command, voc: Path) -> None:
    for words in (["--split", "train"], ["--device", "cpu"], ["--set", "threads=1"]):
        code, _, errors = command("data check", voc, *words)
        name = "--set" if words[0] == "--device" else words[0]  # a setting, said as an option
        assert (code, name in errors, "without --weights" in errors) == (2, True, True)


def test_a_split_that_others_make_up_adds_no_image_twice(voc: Path) -> None:
    labelled = read_labelled(voc, None, ("cat", "dog"))
    ids = [sample.image_id for sample in labelled.dataset.samples]
    assert dict(zip(ids, labelled.splits, strict=True)) == {
        "a": "train", "b": "train", "copy": "val",
    }  # fmt: skip
    assert labelled.unknown["a"].tolist() == [[0, 0, 30, 30]]


def test_names_of_coco_are_those_of_voc_to_a_bundle_of_vocs(tmp_path: Path) -> None:
    write_image(tmp_path / "voc", "a", 0, ("couch", "11 21 60 70"))
    labelled = read_labelled(tmp_path / "voc", None, ("cat", "sofa"))
    assert labelled.names == ("cat", "couch")
    assert labelled.dataset.samples[0].annotations.labels.tolist() == [1]


def test_a_bundle_that_learnt_from_the_images_says_so(voc: Path, bundle: Path) -> None:
    labelled, manifest = read_labelled(voc, "train", ("cat", "dog")), read_manifest(bundle)
    assert remarks_on(manifest, labelled) == []
    known = manifest.provenance.model_copy(
        update={"pictures": regions.picture_hashes(labelled.dataset)}
    )
    (remark,) = remarks_on(manifest.model_copy(update={"provenance": known}), labelled)
    assert "learnt from at least 2 of these 2 images" in remark
