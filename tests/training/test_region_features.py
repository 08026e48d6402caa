"""Features on disk: the detector's own, kept once, and recognised by their boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detector.crops.warp import crop_batch
from detector.detection.detector import Detector
from detector.detection.ensemble import Ensemble, Member
from detector.structures import Proposals
from detector.training.heads.features import FeatureStore, cached_features, describe_regions


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


def test_features_are_computed_once_and_the_same_from_the_disk(detector, picture, tmp_path):
    store = FeatureStore(tmp_path / "features", {"members": ["a"]})
    (first,) = cached_features(store, detector, picture, BOXES)
    asked = Corners.asked
    (again,) = cached_features(store, detector, picture, BOXES)
    assert Corners.asked == asked
    assert again.tobytes() == first.tobytes()
    (exact,) = describe_regions(detector, np.asarray(Image.open(picture)), BOXES)
    assert first == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("damage", ["boxes", "empty", "half", "text", "flag"])
def test_other_boxes_and_damaged_files_count_as_missing(detector, picture, tmp_path, damage):
    store = FeatureStore(tmp_path / "features", {})
    cached_features(store, detector, picture, BOXES)
    (path,) = store.folder.iterdir()
    data = path.read_bytes()
    boxes = BOXES[:2] if damage == "boxes" else BOXES
    spoilt = {"empty": b"", "half": data[: len(data) // 2], "text": b"PK features"}
    flags = data.index(b"PK\x01\x02") + 8  # of the first entry: it says to be encrypted
    spoilt["flag"] = data[:flags] + b"\x01" + data[flags + 1 :]
    path.write_bytes(spoilt.get(damage, data))
    assert store.get(path.stem, boxes) is None
    assert len(cached_features(store, detector, picture, boxes)[0]) == len(boxes)


def test_other_settings_are_another_folder(tmp_path):
    assert FeatureStore(tmp_path, {"a": 1}).folder != FeatureStore(tmp_path, {"a": 2}).folder
