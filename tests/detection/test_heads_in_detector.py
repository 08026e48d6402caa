"""Heads in the detector: one pass, columns in their places, boxes moved class by class, and the
same bits as without them wherever they have no say.
"""

import numpy as np
import pytest
import torch
from class_heads import class_head
from torch import Tensor, nn

from detector.detection.detector import Detector
from detector.detection.ensemble import CropSpec, Ensemble, Member
from detector.detection.settings import DetectionSettings
from detector.detection.suppression import suppress
from detector.errors import SettingsError
from detector.heads import BoxRegression, Heads, LinearScores
from detector.structures import Array, Proposals


class Colours(nn.Module):
    """The features are a crop's mean red, green and blue; class 0 likes red, class 1 green."""

    passes = 0

    def __init__(self, gain: float = 8.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 3)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor([[gain, 0, 0], [0, gain, 0], [0, 0, 0]]))
            self.classifier.bias.zero_()

    def features(self, crops: Tensor) -> Tensor:
        Colours.passes += len(crops)
        return crops.mean((2, 3))

    def forward(self, crops: Tensor) -> Tensor:
        return self.classifier(self.features(crops))


def _scores(*rows: list[float]) -> LinearScores:
    weight = np.array(rows, np.float32)
    return LinearScores(weight, *(np.full(len(rows), value, np.float32) for value in (0, 2, -1)))


SPEC = CropSpec(16)
# It moves every region down by half its height.
BLUE = class_head(_scores([0, 0, 4]), 0, 0.5)
SVM = _scores([4, 0, 0], [0, 4, 0])
# Class 0 moves every region by a quarter of its width to the right, class 1 doubles its height.
MOVES = BoxRegression(
    np.zeros((8, 3), np.float32), np.array([0.25, 0, 0, 0, 0, 0, 0, np.log(2)], np.float32)
)


def _propose(image: Array) -> Proposals:
    height, width = image.shape[:2]
    corner = np.stack(np.meshgrid(np.arange(0, 60, 10), np.arange(0, 60, 10)), -1).reshape(-1, 2)
    return Proposals(np.concatenate([corner, corner + 20], 1), (height, width))


def _ensemble(*heads: Heads) -> Ensemble:
    members = [Member(Colours(8 - 3 * i), 16, heads=one) for i, one in enumerate(heads)]
    return Ensemble(members, batch_size=4, workers=1)


def _detector(heads: Heads, **settings: object) -> Detector:
    ensemble = _ensemble(heads)
    names = ["red", "green", "blue"][: ensemble.num_outputs - 1]
    options = DetectionSettings(score_threshold=0.2, **settings)
    return Detector(_propose, ensemble, names, options, chunk=5)


@pytest.fixture
def image(rng: np.random.Generator) -> Array:
    blocks = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return blocks.repeat(20, 0).repeat(20, 1)


@pytest.fixture
def crops(rng: np.random.Generator) -> dict[CropSpec, Tensor]:
    return {SPEC: torch.from_numpy(rng.uniform(-0.5, 0.5, (11, 3, 16, 16)).astype(np.float32))}


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def test_an_added_class_is_a_column_before_background_and_disturbs_none(crops):
    plain = _ensemble(Heads())(crops)
    found = _ensemble(Heads(added=(BLUE,)))(crops)
    assert found.shape == (11, 4)
    assert torch.equal(found[:, [0, 1, 3]], plain)
    blue = crops[SPEC].mean((2, 3))[:, 2].numpy()
    assert found[:, 2].numpy() == pytest.approx(_sigmoid(2 * 4 * blue - 1), abs=1e-6)


def test_svms_take_the_place_of_the_softmax_and_background_is_the_rest(crops):
    found = _ensemble(Heads(svm=SVM, added=(BLUE,)))(crops).numpy()
    colour = crops[SPEC].mean((2, 3)).numpy()
    assert found[:, :3] == pytest.approx(_sigmoid(8 * colour - 1), abs=1e-6)
    assert found[:, 3] == pytest.approx(1 - found[:, :2].max(1))


def test_means_are_over_the_members_that_have_the_head(crops):
    other = LinearScores(SVM.weight * 3, SVM.bias, SVM.slope, SVM.offset)
    two = _ensemble(Heads(svm=SVM, added=(BLUE,)), Heads(svm=other))(crops).numpy()
    colour = crops[SPEC].mean((2, 3)).numpy()
    expected = (_sigmoid(8 * colour - 1) + _sigmoid(24 * colour - 1)) / 2
    assert two[:, :2] == pytest.approx(expected[:, :2], abs=1e-6)
    assert two[:, 2] == pytest.approx(_sigmoid(8 * colour - 1)[:, 2], abs=1e-6)


def test_the_trunk_runs_once_whatever_the_heads(crops):
    for heads in (Heads(), Heads(svm=SVM, regression=MOVES, added=(BLUE, BLUE))):
        ensemble = _ensemble(heads)
        before = Colours.passes
        ensemble(crops)
        assert Colours.passes - before == 12  # 11 crops in 3 padded batches of 4


def test_members_must_agree_on_their_heads():
    with pytest.raises(SettingsError, match="member 1 has no svm head"):
        _ensemble(Heads(svm=SVM), Heads())
    with pytest.raises(SettingsError, match=r"number of added classes: \[1, 2\]"):
        _ensemble(Heads(added=(BLUE,)), Heads(added=(BLUE, BLUE)))


def test_each_class_finds_its_own_boxes(image):
    detect = _detector(Heads(regression=MOVES, added=(BLUE,)))
    regions = _propose(image)
    judged = detect.predict(image, regions)
    assert judged.boxes.shape == (36, 3, 4)
    first = regions.boxes[0]  # 0, 0, 20, 20
    assert first.tolist() == [0, 0, 20, 20]
    assert judged.boxes[0].tolist() == [[5, 0, 25, 20], [0, 0, 20, 30], [0, 10, 20, 30]]


def test_regression_changes_boxes_but_no_score(image):
    plain, moving = _detector(Heads()), _detector(Heads(regression=MOVES))
    regions = _propose(image)
    still, moved = (one.predict(image, regions).scores for one in (plain, moving))
    assert (still == moved).all()


@pytest.mark.parametrize("voting", [None, 0.5])
def test_old_classes_are_found_bit_for_bit_the_same_beside_a_new_one(image, voting):
    plain = _detector(Heads(), voting_iou=voting)(image)
    found = _detector(Heads(added=(BLUE,)), voting_iou=voting)(image)
    old = found[found.labels < 2]
    assert len(found) > len(old) > 0
    for name in ("boxes", "scores", "labels"):
        assert getattr(old, name).tobytes() == getattr(plain, name).tobytes()


def test_company_and_batches_do_not_change_a_bit(rng):
    heads = Heads(svm=SVM, regression=MOVES, added=(BLUE,))
    detect = _detector(heads)
    images = [rng.integers(0, 256, (80, 80 + 7 * i, 3), np.uint8) for i in range(4)]
    for one, found in zip(images, detect.detect_many(images), strict=True):
        alone = detect(one)
        assert found.boxes.tobytes() == alone.boxes.tobytes()
        assert found.scores.tobytes() == alone.scores.tobytes()


def test_no_regions_are_no_detections_with_heads_too(image):
    detect = _detector(Heads(regression=MOVES))
    assert len(detect.score(image, Proposals([], (80, 80)))) == 0


def test_suppression_and_voting_use_each_classs_own_boxes():
    """Class 0 puts both regions on one place, class 1 leaves them apart."""
    boxes = np.array(
        [[[0, 0, 10, 10], [0, 0, 10, 10]], [[0, 0, 10, 9], [50, 50, 60, 60]]], np.float32
    )
    scores = np.array([[0.9, 0.8, 0], [0.6, 0.7, 0]], np.float32)
    found = suppress(boxes, scores, DetectionSettings(score_threshold=0.5, voting_iou=0.5))
    assert found.labels.tolist() == [0, 1, 1]
    # Voted: (0.9 * 10 + 0.6 * 9) / 1.5 high.
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 10, 9.6])
    assert found.boxes[1:].tolist() == [[0, 0, 10, 10], [50, 50, 60, 60]]
