"""Features on disk: the detector's own, kept once, and recognised by their boxes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detector.crops.warp import crop_batch
from detector.datasets import Sample
from detector.detection.detector import Detector
from detector.detection.ensemble import Ensemble, Member
from detector.structures import Annotations, Proposals
from detector.training.heads.data_features import DataFeatures, describe_regions


class Corners(nn.Module):
    """Features: the mean of the left and of the right half of a crop."""

    asked = 0

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(2, 2)

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        Corners.asked += len(crops)
        left, right = crops.mean((1, 2)).chunk(2, 1)
        return torch.stack([left.mean(1), right.mean(1)], 1)


BOXES = np.array([[0, 0, 20, 20], [20, 0, 40, 30], [5, 5, 25, 15]], np.float32)


@pytest.fixture
def detector() -> Detector:
    ensemble = Ensemble([Member(Corners(), 16)], batch_size=4, workers=1)
    return Detector(lambda image: Proposals(BOXES, image.shape[:2]), ensemble, ["a"], chunk=2)


@pytest.fixture
def picture(tmp_path: Path, rng: np.random.Generator) -> Path:
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_features_are_those_of_the_crops_and_mirrored_ones_swap_sides(detector, picture):
    image = np.asarray(Image.open(picture))
    crops = crop_batch(image, BOXES, 16)
    expected = Corners().features(crops).numpy()
    (found,) = describe_regions(detector, image, BOXES)
    assert found == pytest.approx(expected, abs=1e-6)
    (mirrored,) = describe_regions(detector, image, BOXES, np.array([False, True, False]))
    assert mirrored[1] == pytest.approx(expected[1, ::-1], abs=1e-6)
    assert (mirrored[[0, 2]] == found[[0, 2]]).all()
    assert describe_regions(detector, image, BOXES[:0])[0].shape == (0, 2)


def kept(detector: Detector, picture: Path, folder: Path, *, networks=("a",), boxes=BOXES):
    """(boxes, features) of the one image of a data set without objects."""
    sample = Sample("p", picture, None, Annotations.empty())
    pairs = [(sample, Proposals(boxes, (30, 40)))]
    (found,) = DataFeatures(pairs, detector, folder, networks, "float32", True).images(0, "")
    return found.boxes, found.features


def test_features_are_computed_once_and_the_same_from_the_disk(detector, picture, tmp_path):
    _, first = kept(detector, picture, tmp_path / "features")
    asked = Corners.asked
    boxes, again = kept(detector, picture, tmp_path / "features")
    assert Corners.asked == asked
    assert again.tobytes() == first.tobytes()
    assert boxes.tobytes() == BOXES.tobytes()
    (exact,) = describe_regions(detector, np.asarray(Image.open(picture)), BOXES)
    assert first == pytest.approx(exact, rel=1e-3)


def test_other_networks_boxes_and_pictures_have_other_features(detector, picture, tmp_path):
    folder = tmp_path / "features"
    kept(detector, picture, folder)
    assert len(kept(detector, picture, folder, boxes=BOXES[:2])[1]) == 2
    kept(detector, picture, folder, networks=("b",))
    _, before = kept(detector, picture, folder)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(picture)
    assert (kept(detector, picture, folder)[1] < before).any()
    assert len(list(folder.iterdir())) == 4


def test_features_that_are_gone_or_cut_are_computed_again(detector, picture, tmp_path):
    _, before = kept(detector, picture, tmp_path / "features")
    (path,) = (tmp_path / "features").glob("*/maps.f16")
    for damage in (path.unlink, lambda: path.write_bytes(b"x")):
        damage()
        assert kept(detector, picture, tmp_path / "features")[1].tobytes() == before.tobytes()
