"""Engines give torch's scores, the fastest is chosen once, and one that fails is replaced."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_bundles import save_ensemble
from test_bundle_export import crops, needs

from detector.detection import engine_choice
from detector.detection.engine_choice import Engines
from detector.detection.ensemble import Ensemble
from detector.detection.load import load_detector
from detector.errors import DetectorWarning, SettingsError
from detector.images.decoding import read_image
from detector.models.inference import engines, int8, operators
from detector.models.inference.engines import FORMAT_OF
from detector.models.inference.prepare import fastest_precision

PHOTOGRAPHS = Path(__file__).parents[2] / "../shared/data/voc2012_sample/JPEGImages"
every_engine = pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=needs(format)) for name, format in FORMAT_OF.items()]
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return save_ensemble(tmp_path_factory.mktemp("bundle") / "three")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def _installed(monkeypatch) -> Iterator[None]:
    """As if they all were."""
    monkeypatch.setattr(engines, "find_spec", lambda name: name)


def ensemble(bundle: Path, **options: object) -> Ensemble:
    return load_detector(bundle, members=None, precision="float32", **options).ensemble


@every_engine
def test_an_engine_gives_the_scores_of_torch_in_any_company(bundle, folder, engine):
    plain = ensemble(bundle, batch_size=4)
    run = ensemble(bundle, batch_size=4, threads=2, engine=engine, engine_folder=folder)
    assert run.arithmetic.startswith(f"float32, {engine} ")
    given = {spec: crops(7, spec.size) for spec in plain.crop_specs}
    together = run.forward(given)
    for mine, theirs in zip(together, plain.forward(given), strict=True):
        for part, expected in zip(mine, theirs, strict=True):
            torch.testing.assert_close(part, expected, atol=1e-4, rtol=1e-4)
    order = [6, 2, 0]
    few = run.forward({spec: one[order] for spec, one in given.items()})
    for mine, all_of_them in zip(few, together, strict=True):
        for part, whole in zip(mine, all_of_them, strict=True):
            assert torch.equal(part, whole[order])
    for group in run.groups:  # as when memory runs out
        group.batches.batch_size = 2
    torch.testing.assert_close(run.forward(given)[0].logits, together[0].logits)
    # A second process finds the networks.
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = ensemble(bundle, batch_size=4, engine=engine, engine_folder=folder)
    assert torch.equal(again.forward(given)[0].logits, together[0].logits)
    assert files == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(("gain", "chosen"), [(1.05, "torch"), (1.2, "openvino")])
def test_auto_is_measured_once_and_must_win_clearly(bundle, tmp_path, monkeypatch, gain, chosen):
    built: list[str] = []

    def build(self: Engines, engine: str, _folder: Path) -> Ensemble:
        built.append(engine)
        return self._ensemble("float32", engine_name=engine)

    monkeypatch.setattr(Engines, "_by", build)
    monkeypatch.setattr(
        engine_choice, "seconds_of", lambda *_: {"torch": gain, "openvino": 1.0, "onnxruntime": 3}
    )
    first = ensemble(bundle, engine="auto", engine_folder=tmp_path)
    assert built == ["openvino", "onnxruntime"]
    (kept,) = tmp_path.rglob("*.json")
    assert json.loads(kept.read_text())["engine"] == chosen
    monkeypatch.setattr(engine_choice, "seconds_of", None)  # is not called again
    second = ensemble(bundle, engine="auto", engine_folder=tmp_path)
    assert first.engine_name == second.engine_name == ("" if chosen == "torch" else chosen)
    monkeypatch.setattr(engine_choice, "seconds_of", lambda *_: {"torch": 1})
    kept.write_text("[")
    assert ensemble(bundle, engine="auto", engine_folder=tmp_path).engine_name == ""


@pytest.mark.usefixtures("_installed")
def test_an_engine_that_fails_is_replaced_by_torch(bundle, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("no such operator\nfor many reasons")

    monkeypatch.setattr(engine_choice, "export_network", fail)
    text = "engine openvino failed, and torch runs the networks: no such operator$"
    with pytest.warns(DetectorWarning, match=text):
        found = ensemble(bundle, engine="openvino", engine_folder=tmp_path)
    given = {spec: crops(2, spec.size) for spec in found.crop_specs}
    assert found.arithmetic == "float32"
    assert torch.equal(found(given), ensemble(bundle)(given))


def test_without_other_engines_auto_is_torch_and_keeps_nothing(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    assert ensemble(bundle, engine="auto", engine_folder=tmp_path).engine_name == ""
    assert not list(tmp_path.iterdir())
    with pytest.raises(SettingsError, match=r'openvino is missing; pip install "inception-rcnn\['):
        load_detector(bundle, engine="openvino")


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("engine", "options", "text"),
    [
        ("tensorrt", {}, "'tensorrt' is not one of auto, torch, openvino, onnxruntime"),
        ("openvino", {"precision": "int8"}, "int8 .*engine torch"),
        ("onnxruntime", {"precision": "bfloat16"}, "float32 only"),
        ("openvino", {"device": torch.device("meta")}, "for a CPU, not for meta"),
    ],
)
def test_what_does_not_go_together_is_refused(bundle, engine, options, text):
    with pytest.raises(SettingsError, match=text):
        load_detector(bundle, engine=engine, **options)


def test_only_bundles_of_late_keep_their_networks(tmp_path: Path):
    folders = [
        engine_choice._folder_of(tmp_path, {"bundle": number})
        for number in range(engine_choice.MAX_BUNDLES + 2)
    ]
    assert [path.exists() for path in folders] == [False] * 2 + [True] * engine_choice.MAX_BUNDLES


def test_a_torch_without_the_fused_convolutions_is_slower_and_says_so_once(bundle, monkeypatch):
    given = {spec: crops(2, spec.size) for spec in ensemble(bundle).crop_specs}
    expected = ensemble(bundle)(given)
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", _lacking)
    operators._warn_of_slower.cache_clear()
    with pytest.warns(DetectorWarning, match="lacks the fused convolutions") as warned:
        found = ensemble(bundle)(given)
    assert len(warned) == 1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_processor_without_bfloat16_is_no_reason_for_another_torch(bundle, monkeypatch):
    monkeypatch.setattr(
        operators, "_probe_fused_convolution", lambda dtype: dtype != torch.bfloat16
    )
    operators._warn_of_slower.cache_clear()
    load_detector(bundle, precision="bfloat16")  # warnings are errors here


@pytest.mark.skipif(not int8.runs_in_8_bits("cpu"), reason="no exact 8-bit products here")
def test_a_torch_without_8_bit_convolutions_takes_the_fastest_it_has(bundle, monkeypatch):
    monkeypatch.setattr(torch.ops.onednn, "qconv_pointwise", _lacking)
    with pytest.warns(DetectorWarning, match="lacks the 8-bit convolutions"):
        detector = load_detector(bundle, precision="int8")
    assert detector.ensemble.precision == fastest_precision("cpu")


def _lacking(*_: object) -> None:
    raise RuntimeError("unknown arguments")


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="needs the shared photographs")
@every_engine
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_detections_in_50_photographs_are_those_of_torch(folder, engine, precision):
    if precision == "bfloat16" and engine == "onnxruntime":
        pytest.skip("float32 only")
    # Torch's own bfloat16 differs as much from its float32.
    tolerance = {"float32": 1e-4, "bfloat16": 0.025}[precision]
    options = {"threads": 2, "settings": {"max_proposals": 40}}
    plain = load_detector(**options, precision="float32")
    other = load_detector(**options, precision=precision, engine=engine, engine_folder=folder)
    for path in sorted(PHOTOGRAPHS.iterdir())[:50]:
        image = read_image(path)
        proposals = plain.propose(image)
        mine, theirs = (detector.predict(image, proposals) for detector in (other, plain))
        np.testing.assert_allclose(mine.scores, theirs.scores, atol=tolerance, rtol=0)
        found, expected = (
            detector.suppress(scored.boxes, scored.scores)
            for detector, scored in ((other, mine), (plain, theirs))
        )
        assert found.labels.tolist() == expected.labels.tolist(), path
        np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance)
        if precision == "float32":  # else the mean of other regions may be a detection's box
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
