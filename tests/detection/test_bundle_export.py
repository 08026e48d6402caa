"""An exported file gives what the networks give, and says what it holds."""

import json
from pathlib import Path

import pytest
import torch
from exported_bundles import save_ensemble

from detector.detection import export as exporting
from detector.detection.aggregate import class_scores, mean_deltas
from detector.detection.bundle import load_bundle
from detector.detection.ensemble import CropSpec, Ensemble
from detector.detection.export import export_bundle, path_of
from detector.detection.load import members_of
from detector.errors import DetectorError, SettingsError
from detector.models.inference import engines
from detector.models.inference.engines import FORMATS, is_installed, open_network


def needs(format: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not is_installed(format), reason=f"{' and '.join(FORMATS[format].packages)} not installed"
    )


every_format = pytest.mark.parametrize("format", [pytest.param(f, marks=needs(f)) for f in FORMATS])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return save_ensemble(tmp_path_factory.mktemp("bundle") / "three")


def crops(count: int, side: int) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1)) / 4


@every_format
def test_the_file_of_an_ensemble_gives_mean_scores_and_deltas(bundle, format, tmp_path: Path):
    path = tmp_path / path_of(bundle, format)
    assert export_bundle(bundle, format, path)
    loaded = load_bundle(bundle)
    ensemble = Ensemble(members_of(loaded, loaded.manifest.heads))
    given = {spec: crops(5, spec.size) for spec in ensemble.crop_specs}
    outputs = ensemble.forward(given)
    network = open_network(path)
    scores, deltas = network(given[CropSpec(48)], given[CropSpec(64)])
    expected = class_scores(outputs, ensemble.temperatures)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(deltas, mean_deltas(outputs, 3), atol=1e-4, rtol=1e-4)
    about = network.about
    assert json.loads(about["classes"]) == ["cat", "dog", "mug"]
    assert {name: one["shape"] for name, one in json.loads(about["inputs"]).items()} == {
        "crops_0": ["N", 3, 48, 48],
        "crops_1": ["N", 3, 64, 64],
    }
    assert list(json.loads(about["outputs"])) == ["scores", "deltas"]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert not export_bundle(bundle, format, path)  # the same again
    with pytest.raises(SettingsError, match="something else"):
        export_bundle(bundle, format, path, member=0)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}


@every_format
def test_the_file_of_a_member_gives_all_its_heads(bundle, format, tmp_path: Path):
    path = tmp_path / f"first{FORMATS[format].suffix}"
    export_bundle(bundle, format, path, member=0)
    loaded = load_bundle(bundle, 1)
    (expected,) = Ensemble(members_of(loaded, loaded.manifest.heads)).forward(
        {CropSpec(64): crops(5, 64)}
    )
    network = open_network(path)
    assert list(json.loads(network.about["outputs"])) == list(expected._fields)
    for mine, theirs in zip(network(crops(5, 64)), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@every_format
def test_a_file_that_computes_other_values_is_not_written(bundle, format, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_difference", lambda *_: float("nan"))
    path = tmp_path / f"first{FORMATS[format].suffix}"
    with pytest.raises(DetectorError, match="nothing was written"):
        export_bundle(bundle, format, path, member=0)
    assert not list(tmp_path.iterdir())


def test_files_of_others_stay(bundle, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(exporting, "check_installed", lambda _: None)
    for name in ("a.onnx", "b.bin"):
        (tmp_path / name).write_text("mine")
    for format, name in (("onnx", "a.onnx"), ("openvino", "b.xml")):
        with pytest.raises(SettingsError, match=f"{name} .*something else"):
            export_bundle(bundle, format, tmp_path / name)


@pytest.mark.parametrize(
    ("format", "name", "member", "text"),
    [
        ("onnx", "a.xml", None, "a file of onnx ends in .onnx"),
        ("caffe", "a.onnx", None, "'caffe' is not one of openvino, onnx"),
        ("onnx", "a.onnx", 3, "member 3 is not one of 0 to 2"),
    ],
)
def test_what_cannot_be_is_refused(bundle, tmp_path, monkeypatch, format, name, member, text):
    monkeypatch.setattr(exporting, "check_installed", lambda _: None)
    with pytest.raises(SettingsError, match=text):
        export_bundle(bundle, format, tmp_path / name, member=member)


def test_a_missing_package_is_named_with_its_cure(bundle, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(SettingsError, match=r"onnx is missing; pip install .inception-rcnn\[onnx"):
        export_bundle(bundle, "onnx", tmp_path / "a.onnx")
