"""CVAT's auto-annotation, driven by cvat-sdk's own driver and cvat-cli's own command line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_detector import save_detector

cvataa = pytest.importorskip("cvat_sdk.auto_annotation")
cli = pytest.importorskip("cvat_cli.__main__")

from cvat_cli._internal.common import FunctionLoader  # noqa: E402
from cvat_sdk import models  # noqa: E402

from detector import load_detector  # noqa: E402
from detector.errors import SettingsError  # noqa: E402
from detector.labelling.cvat import CvatFunction  # noqa: E402

MODULE = "detector.labelling.cvat"
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("bundle"))


def loaded(bundle: Path, **parameters: Any) -> Any:
    given = {"weights": str(bundle), "threads": 1, **parameters}
    return FunctionLoader(MODULE, None, given).load()


class Cvat:
    """A server with a task of pictures; `uploaded` are the shapes that it receives."""

    def __init__(self, labels: dict[str, int], pictures: dict[str, Image.Image]) -> None:
        self.labels = [
            models.Label._from_openapi_data(name=name, id=number, type="rectangle", sublabels=[],
                                            attributes=[])
            for name, number in labels.items()
        ]  # fmt: skip
        self.samples = [
            SimpleNamespace(frame_name=name, frame_index=number,
                            media=SimpleNamespace(load_image=lambda picture=picture: picture))
            for number, (name, picture) in enumerate(pictures.items())
        ]  # fmt: skip
        self.uploaded: list[Any] = []
        self.logger = SimpleNamespace(info=lambda *text: None)
        self.tasks = SimpleNamespace(api=SimpleNamespace(partial_update_annotations=self.create))
        self.api_client = SimpleNamespace(default_headers={"User-Agent": "sdk"})

    def __enter__(self) -> Cvat:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check_server_version(self, *, fail_if_unsupported: bool) -> None:
        assert not fail_if_unsupported

    def create(self, action: str, task: int, patched_labeled_data_request: Any) -> None:
        self.uploaded = patched_labeled_data_request.shapes


def run_cli(monkeypatch: pytest.MonkeyPatch, cvat: Cvat, *arguments: str) -> int:
    monkeypatch.setattr("cvat_sdk.auto_annotation.driver.TaskDataset", lambda *_, **__: cvat)
    client = "cvat_cli._internal.common.make_client_from_cli"
    monkeypatch.setattr(client, lambda *_, **__: cvat)
    return cli.main(["task", "auto-annotate", "7", "--function-module", MODULE,
                     "-p", "threads=int:1", *arguments])  # fmt: skip


def test_the_spec_has_the_classes_of_the_bundle(bundle: Path):
    spec = loaded(bundle).spec
    assert isinstance(spec, cvataa.DetectionFunctionSpec)
    assert [(label.name, label.id, label.type) for label in spec.labels] == [
        ("cat", 0, "rectangle"), ("dog", 1, "rectangle"),
    ]  # fmt: skip


def test_cvat_cli_uploads_what_the_detector_finds(monkeypatch, bundle: Path):
    """Labels by CVAT's own ids, frames by number, boxes and scores as the detector gives them."""
    cvat = Cvat({"dog": 70, "cat": 60}, {"a.png": NOISE.rotate(180), "b.png": NOISE})
    assert run_cli(monkeypatch, cvat, "-p", f"weights=str:{bundle}") == 0
    found = load_detector(bundle)(NOISE)
    of_b = [shape for shape in cvat.uploaded if shape.frame == 1]
    assert len(found) == len(of_b) > 1
    for (box, score, label), shape in zip(found, of_b, strict=True):
        assert shape.label_id == [60, 70][label]
        assert (shape.points, shape.source) == (box.tolist(), "auto")
        assert shape.score == pytest.approx(score)


def test_only_the_labels_that_are_asked_for(monkeypatch, bundle: Path):
    """Else cvat-cli refuses a function with a label that the task lacks."""
    task = {"dog": 70}, {"a.png": NOISE}
    with pytest.raises(cvataa.BadFunctionError, match="'cat' is not in dataset"):
        run_cli(monkeypatch, Cvat(*task), "-p", f"weights=str:{bundle}")
    cvat = Cvat(*task)
    asked = ("-p", f"weights=str:{bundle}", "-p", "labels=str:dog")
    assert run_cli(monkeypatch, cvat, *asked) == 0
    assert {shape.label_id for shape in cvat.uploaded} == {70}


def test_the_threshold_of_the_command_line_counts(monkeypatch, bundle: Path):
    scores = load_detector(bundle)(NOISE).scores
    middle = float(np.median(scores))
    cvat = Cvat({"dog": 70, "cat": 60}, {"a.png": NOISE})
    run_cli(monkeypatch, cvat, "-p", f"weights=str:{bundle}", "--conf-threshold", str(middle))
    assert len(cvat.uploaded) == (scores >= np.float32(middle)).sum() < len(scores)


def test_a_picture_that_cannot_be_used_costs_no_other(monkeypatch, bundle: Path, capsys):
    cvat = Cvat({"dog": 70, "cat": 60}, {"a.png": Image.new("RGB", (9000, 9000)), "b.png": NOISE})
    assert run_cli(monkeypatch, cvat, "-p", f"weights=str:{bundle}") == 0
    assert {shape.frame for shape in cvat.uploaded} == {1}
    assert "error: a.png: the picture: 9000x9000 is over the limit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"labels": "dog,mug"}, "labels: the bundle has no class mug; it has cat, dog; teach it"),
        ({"labels": " , "}, "labels: empty"),
        ({"weights": "nowhere"}, "nowhere: no bundle.json in it"),
        ({"wieghts": "w"}, "unexpected keyword argument 'wieghts'; -p takes weights, labels"),
    ],
)
def test_a_fault_is_a_sentence(bundle: Path, parameters: dict[str, str], said: str):
    with pytest.raises(SystemExit, match=said) as leaving:
        loaded(bundle, **parameters)
    assert "\n" not in str(leaving.value)


def test_in_python_a_fault_is_an_error(bundle: Path):
    with pytest.raises(SettingsError, match="no class mug"):
        CvatFunction(str(bundle), "mug")


def test_a_damaged_bundle_is_a_sentence(tmp_path: Path):
    bundle = save_detector(tmp_path)
    (file,) = bundle.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SystemExit, match=r"safetensors"):
        loaded(bundle)
