"""tools/fit_temperature.py: another bundle, fitted, said and kept; and what it refuses."""

import re
from pathlib import Path

import pytest
import torch
from small_classifiers import exit_code, tool
from toy_regions import write_squares

from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    read_manifest,
    save_bundle,
)
from detector.detection.size_prior import SizePrior
from detector.models import build_model

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def manifest(classes: tuple[str, ...] = ("green", "red")) -> BundleManifest:
    options: dict[str, bool | int | float | str] = {"width": 0.125}
    member = MemberManifest(architecture="googlenet", options=options, input_size=32)
    return BundleManifest(
        classes=classes,
        members=(member, member),
        proposals={"engine": "selective-search", "options": {"max_boxes": 30}},
        prior=SizePrior(sides=(0.1, 0.9), log_odds=(-0.5, 0.2)),
        provenance=Provenance(training_data="none", licence="CC0-1.0"),
    )


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four images, and two networks that know only that background is common; the second is
    thirty times as sure of it.
    """
    root = tmp_path_factory.mktemp("temperature")
    states = []
    for seed, gain in ((0, 1.0), (1, 30.0)):
        generator = torch.Generator().manual_seed(seed)
        state = build_model("googlenet", 3, generator=generator, width=0.125).state_dict()
        state["classifier.weight"].mul_(0.01 * gain)
        state["classifier.bias"] = torch.tensor([0.0, 0.0, 1.5]) * gain
        states.append(state)
    save_bundle(root / "bundle", manifest(), states, "float32")
    return write_squares(root / "toy", images=4), root / "bundle"


def fit(data: Path, bundle: Path, out: Path, *more: object) -> int:
    words = ["--data", data, "--split", "train", "--weights", bundle, "--out", out]
    how = ["--device", "cpu", "--precision", "float32", "--threads", 1, "--quiet"]
    return exit_code(tool("fit_temperature").main, *words, *how, *more)


def test_another_bundle_is_written_and_goes_on_from_what_is_kept(
    toy, tmp_path: Path, capsys, monkeypatch
):
    data, bundle = toy
    before = (bundle / "bundle.json").read_bytes()
    assert fit(data, bundle, tmp_path / "new") == 0
    said = capsys.readouterr().out
    assert (bundle / "bundle.json").read_bytes() == before
    written = read_manifest(tmp_path / "new")
    assert all(0.01 < member.temperature < 100 for member in written.members)
    one, two = (member.temperature for member in written.members)
    assert two == pytest.approx(30 * one, rel=0.1)
    assert written.provenance.recipe["temperature"]["data"] == "4 images of toy/train"
    assert "these images have tuned it" in said
    for place, member in enumerate(written.members):
        assert re.search(rf"network {place} +1 +{member.temperature:.4g} *\n", said)
    losses = re.search(r"log likelihood of a region +(\S+) +(\S+)", said)
    assert losses
    assert float(losses[2]) < float(losses[1])

    from detector.detection.forward import RegionBatches

    def never(*_: object) -> None:
        raise AssertionError("a region was judged again")

    monkeypatch.setattr(RegionBatches, "_classify_chunk", never)
    kept = tmp_path / "new.regions"
    assert fit(data, tmp_path / "new", tmp_path / "again", "--cache", kept) == 0
    assert read_manifest(tmp_path / "again").members == written.members


def test_the_folder_one_is_in_may_become_the_bundle(toy, tmp_path: Path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert fit(*toy, Path()) == 0
    assert len(read_manifest(tmp_path / "here").members) == 2
    assert (tmp_path / "here.regions" / "proposals.sqlite").is_file()


def test_images_that_cannot_be_read_are_named_and_the_rest_are_used(toy, tmp_path: Path, capsys):
    data = write_squares(tmp_path / "toy", images=4)
    (data / "JPEGImages" / "000002.jpg").write_bytes(b"not a photograph")
    assert fit(data, toy[1], tmp_path / "new") == 0
    assert "000002.jpg" in capsys.readouterr().err
    about = read_manifest(tmp_path / "new").provenance.recipe["temperature"]
    assert about["data"] == "3 images of toy/train"
    assert fit(data, toy[1], tmp_path / "new", "--strict") == 1


def test_what_cannot_be_fitted_is_one_sentence(toy, tmp_path: Path, capsys):
    data, bundle = toy
    before = (bundle / "bundle.json").read_bytes()
    assert fit(data, bundle, bundle) == 3
    assert "name another" in capsys.readouterr().err
    assert (bundle / "bundle.json").read_bytes() == before

    other = write_squares(tmp_path / "toy", names=("green", "blue"), images=2)
    assert fit(other, bundle, tmp_path / "new") == 3
    assert "1 classes of the bundle are not annotated in it (red)" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
