"""Red cats, blue dogs and green mugs on grey, and a network whose features are colours."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

import detector.detection.load
from detector.cli.app import run_tool
from detector.detection.bundle import BundleManifest, MemberManifest, Provenance, save_bundle
from detector.models import ARCHITECTURES, build_model
from detector.structures import Array, Proposals

NARROW = {"width": 0.25}  # of the published widths
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


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "colours", Colours)
    monkeypatch.setattr(detector.detection.load, "build_engine", lambda engine, options: Grid())


@pytest.fixture
def bundle(tmp_path: Path, small_parts: None) -> Path:
    """An untrained network that names two classes."""
    torch.manual_seed(0)
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(MemberManifest(architecture="colours", input_size=32),),
        provenance=Provenance(training_data="none", licence="CC0"),
    )
    save_bundle(tmp_path / "bundle", manifest, [Colours(3).state_dict()])
    return tmp_path / "bundle"


@pytest.fixture
def googlenet(tmp_path: Path, small_parts: None) -> Path:
    """A narrow network with Inception modules, untrained."""
    model = build_model("googlenet", 3, generator=torch.Generator().manual_seed(0), **NARROW)
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(MemberManifest(architecture="googlenet", options=NARROW, input_size=64),),
        provenance=Provenance(training_data="none", licence="CC0"),
    )
    save_bundle(tmp_path / "googlenet", manifest, [model.state_dict()])
    return tmp_path / "googlenet"


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


@pytest.fixture(scope="session")
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


def middle(image: Array, box: Array) -> tuple[int, ...]:
    """The colour in the middle of a box."""
    x, y = ((box[:2] + box[2:]) / 2).astype(int)
    return tuple(image[y, x].tolist())


def exit_code_of(command: ModuleType, voc: Path, bundle: Path, *options: object) -> int:
    """The exit code of a command of `fit` on these images."""
    given = ["--data", voc, "--weights", bundle, "--device", "cpu", "--threads", 1, *options]
    with pytest.raises(SystemExit) as end:
        run_tool(command.main, [str(one) for one in given] + ["--quiet"])
    return int(end.value.code or 0)
