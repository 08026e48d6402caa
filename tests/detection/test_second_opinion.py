"""Another detector's boxes, judged by a classifier that knows white from black."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.detection.aggregate import RegionScores
from detector.detection.detector import Detector
from detector.detection.ensemble import Ensemble, Member
from detector.detection.second_opinion import SecondOpinion, check_foreign, fuse_scores
from detector.detection.settings import DetectionSettings
from detector.errors import DetectorError
from detector.structures import Array, Detections, Proposals


class Brightness(nn.Module):
    """White regions are surely class 0, black ones surely class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 3)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor([[40.0], [-40.0], [0.0]]))
            self.classifier.bias.copy_(torch.tensor([0.0, 0.0, 0.0]))

    def forward(self, crops: Tensor) -> Tensor:
        return self.classifier(crops.mean((1, 2, 3))[:, None])


def _no_proposals(image: Array) -> Proposals:
    raise AssertionError("boxes are given, so that nothing is to be proposed")


@pytest.fixture
def detector() -> Detector:
    ensemble = Ensemble([Member(Brightness(), 16, context=0.0)], batch_size=4)
    settings = DetectionSettings(score_threshold=0.3, max_proposals=1)
    return Detector(_no_proposals, ensemble, ["aeroplane", "dark"], settings)


def _image() -> Array:
    """White on the left, black on the right: 40 x 30."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[:, :20] = 255
    return image


LEFT, RIGHT = [0, 0, 20, 30], [20, 0, 40, 30]


@pytest.mark.parametrize(
    ("detector", "region", "weight", "fused"),
    [
        (0.5, 0.02, 0.5, 0.1),  # the root of 0.01
        (0.5, 0.02, 0.0, 0.5),
        (0.5, 0.02, 1.0, 0.02),
        (0.1, 0.8, 2 / 3, 0.4),  # the cube root of 0.1 x 0.8 x 0.8
        (0.7, np.nan, 0.5, 0.7),  # a class that we do not know
        (0.0, 0.5, 0.5, 0.0),
    ],
)
def test_scores_are_fused_by_a_weighted_geometric_mean(detector, region, weight, fused) -> None:
    assert fuse_scores(np.array([detector]), np.array([region]), weight) == pytest.approx([fused])


def test_what_is_right_stays_and_a_false_alarm_goes(detector: Detector) -> None:
    """Two white boxes and one black, all called aeroplane by the other detector, of which it was
    surest where it was wrong.
    """
    detections = Detections([LEFT, RIGHT, [0, 0, 20, 20]], [0.64, 0.9, 0.36], [0, 0, 0])
    fused = SecondOpinion(detector, ["airplane"])(_image(), detections)
    assert fused.boxes.tolist() == [LEFT, [0, 0, 20, 20]]
    assert fused.scores == pytest.approx([0.8, 0.6], abs=1e-3)
    assert fused.score_detector == pytest.approx([0.64, 0.36])
    assert fused.score_region == pytest.approx([1, 1], abs=1e-3)
    assert fused.classes == ("airplane",)


def test_a_class_that_is_not_known_keeps_its_score_and_box(detector: Detector) -> None:
    detections = Detections([RIGHT, LEFT], [0.5, 0.5], [1, 0])
    opinion = SecondOpinion(detector, ["aeroplane", "zebra"])
    assert opinion.unknown == ["zebra"]
    fused = opinion(_image(), detections)
    assert fused.labels.tolist() == [0, 1]
    assert fused.scores[1] == 0.5
    assert np.isnan(fused.score_region[1])
    first, second = fused.to_coco(7, "a.jpg", [3, 9])
    assert (first["category_id"], first["score_region"]) == (3, 1.0)
    assert second == {
        "image_id": 7, "file_name": "a.jpg", "category_id": 9, "category_name": "zebra",
        "bbox": [20, 0, 20, 30], "score": 0.5, "score_detector": 0.5, "score_region": None,
    }  # fmt: skip


def test_one_box_of_two_classes_is_classified_once(detector: Detector) -> None:
    detections = Detections([LEFT, LEFT, RIGHT], [0.5, 0.5, 0.5], [0, 1, 1])
    opinion = SecondOpinion(detector, ["aeroplane", "dark"])
    assert len(opinion.regions(detections, (30, 40))) == 2
    fused = opinion(_image(), detections)
    assert [(box.tolist(), label) for box, _, label in fused] == [(LEFT, 0), (RIGHT, 1)]


def test_boxes_outside_the_image_are_clipped_or_left_out(detector: Detector) -> None:
    detections = Detections(
        [[-9, -9, 20, 30], [50, 0, 60, 9], [0, 40, 9, 50]], [0.9] * 3, [0, 0, 0]
    )
    opinion = SecondOpinion(detector, ["aeroplane"])
    assert opinion.outside(detections, (30, 40)) == 2
    assert opinion(_image(), detections).boxes.tolist() == [LEFT]
    assert len(opinion(_image(), detections[1:])) == 0
    assert len(opinion(_image(), Detections.empty())) == 0


def test_boxes_move_where_classes_move_their_regions(detector: Detector) -> None:
    """Scores by hand: aeroplanes move by 5 pixels, dark things by none; a zebra is not ours."""
    detections = Detections([LEFT, LEFT], [0.81, 0.5], [0, 1])
    boxes = np.float32([[[5, 0, 25, 30], LEFT]])
    scored = RegionScores(Proposals([LEFT], (30, 40)), np.float32([[0.49, 0.5, 0.01]]), boxes)
    fused = SecondOpinion(detector, ["aeroplane", "zebra"]).fuse(scored, detections)
    assert fused.boxes.tolist() == [[5, 0, 25, 30], LEFT]
    assert fused.scores == pytest.approx([0.63, 0.5])  # 0.9 x 0.7


def test_scores_of_other_boxes_are_refused(detector: Detector) -> None:
    scored = RegionScores(
        Proposals([RIGHT], (30, 40)), np.zeros((1, 3), np.float32), np.float32([RIGHT])
    )
    with pytest.raises(DetectorError, match="there twice"):
        SecondOpinion(detector, ["aeroplane"]).fuse(scored, Detections([LEFT], [0.5], [0]))


def test_classes_of_another_world_are_refused(detector: Detector) -> None:
    with pytest.raises(DetectorError, match=r"none of the classes .*zebra.*aeroplane, dark"):
        SecondOpinion(detector, ["zebra"])


@pytest.mark.parametrize(
    ("detections", "said"),
    [
        (Detections([LEFT], [3.5], [0]), r"b.json: scores from 3.5 to 3.5; .* from 0 to 1"),
        (Detections([[0.1, 0.1, 0.5, 0.9]], [0.5], [0]), "shares of the image"),
        (Detections.empty(), "no detections"),
    ],
)
def test_what_is_no_probability_or_no_pixel_is_refused(detections: Detections, said: str) -> None:
    with pytest.raises(DetectorError, match=said):
        check_foreign("b.json", {"a": detections})


def test_any_limit_on_proposals_is_none_on_boxes(detector: Detector) -> None:
    detections = Detections([LEFT, RIGHT], [0.9, 0.9], [0, 1])
    tiled = replace(
        detector, budget=1e-9,
        settings=detector.settings.model_copy(update={"tile": 64, "max_proposals": 1}),
    )  # fmt: skip
    opinion = SecondOpinion(tiled, ["aeroplane", "dark"])
    assert len(opinion(_image(), detections)) == 2
    assert opinion.detector.budget is None
