"""Windows of a large image: where they lie, which boxes they hand on, and what a detector makes of
them.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.detection.detector import Detector
from detector.detection.ensemble import Ensemble, Member
from detector.detection.forward import Job
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.proposals.tiles import Tiled, whole_here, windows
from detector.structures import Array, Proposals


@pytest.mark.parametrize(
    ("size", "starts"),
    [
        ((100, 100), ([], [])),  # as large as a window: it is the image
        ((100, 180), ([0], [0, 80])),  # 20 pixels are in both
        ((100, 181), ([0], [0, 40, 81])),  # two would share less than a fifth
        ((60, 150), ([0], [0, 50])),
        ((260, 100), ([0, 80, 160], [0])),
    ],
)
def test_windows_cover_the_image_and_share_a_fifth(size, starts) -> None:
    views = windows(size, 100, 0.2)
    height, width = min(100, size[0]), min(100, size[1])
    assert views.tolist() == [[x, y, x + width, y + height] for y in starts[0] for x in starts[1]]
    if len(views):
        assert views[-1, 2:].tolist() == [size[1], size[0]]


def test_windows_without_overlap_share_nothing() -> None:
    assert windows((100, 200), 100, 0.0)[:, 0].tolist() == [0, 100]


@pytest.mark.parametrize(
    ("box", "stays"),
    [
        ([10, 10, 50, 50], True),
        ([0, 0, 50, 100], True),  # ends at the image's own borders
        ([85, 10, 100, 50], False),  # cut on the right, and the second window has it from 80 on
        ([60, 10, 100, 50], True),  # cut on the right; the second window cuts it on the left
        ([80, 10, 100, 50], True),  # the second one may cut it, too
        ([85, 10, 99, 50], True),  # ends a pixel before the edge
        ([0, 0, 100, 100], False),  # the window
    ],
)
def test_a_box_that_an_inner_edge_cuts_goes_where_a_neighbour_has_it_whole(box, stays) -> None:
    views = np.array([[0, 0, 100, 100], [80, 0, 180, 100]])
    assert whole_here(np.float32([box]), views, 0, (100, 180)).tolist() == [stays]


def _squares(image: Array) -> Proposals:
    """The bounding boxes of columns of white pixels: an engine that sees no gap under 4 pixels, and
    nothing at all in images of more than 100.
    """
    height, width = image.shape[:2]
    if width > 100:
        return Proposals([[0, 0, width, height]], (height, width))
    white = np.flatnonzero(image[:, :, 0].any(0))
    groups = np.split(white, np.flatnonzero(np.diff(white) > 4) + 1) if len(white) else []
    boxes = [[group[0], 0, group[-1] + 1, height] for group in groups]
    return Proposals([*boxes, [0, 0, width, height]], (height, width))


def _photograph() -> Array:
    image = np.zeros((40, 180, 3), np.uint8)
    for start, end in ((10, 20), (90, 98), (150, 170)):  # the second one is in both windows
        image[:, start:end] = 255
    return image


def test_regions_of_windows_come_back_where_they_are_in_the_image() -> None:
    regions = Tiled(_squares, 100, 0.2)(_photograph())
    assert regions.size == (40, 180)
    # The best of the image, the left window and the right one; then the second of each.
    assert regions.boxes[:, [0, 2]].tolist() == [[0, 180], [10, 20], [90, 98], [150, 170]]


def test_each_window_has_its_own_best_regions() -> None:
    regions = Tiled(_squares, 100, 0.2, max_proposals=1)(_photograph())
    assert regions.boxes[:, [0, 2]].tolist() == [[0, 180], [10, 20], [90, 98]]


def test_an_image_of_one_window_is_proposed_as_it_is() -> None:
    image = _photograph()[:, :90]
    assert (Tiled(_squares, 100, 0.2)(image).boxes == _squares(image).boxes).all()


class Brightness(nn.Module):
    """White is class 0, everything else background."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 2)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor([[20.0], [-20.0]]))
            self.classifier.bias.zero_()

    def forward(self, crops: Tensor) -> Tensor:
        return self.classifier(crops.mean((1, 2, 3))[:, None])


def _detector(**settings: object) -> Detector:
    ensemble = Ensemble([Member(Brightness(), 16, context=0.0)], batch_size=4)
    return Detector(
        _squares, ensemble, ["white"], DetectionSettings(score_threshold=0.9, **settings)
    )


def test_a_detector_finds_in_windows_what_it_misses_in_the_whole() -> None:
    whole, image = _detector(max_proposals=3), _photograph()
    assert len(whole(image)) == 0
    tiled = replace(whole, settings=whole.settings.model_copy(update={"tile": 100}))
    regions = tiled(image)
    assert sorted(regions.boxes[:, [0, 2]].tolist()) == [[10, 20], [90, 98], [150, 170]]
    assert len(tiled.propose(image)) == 4  # three of each, not three in all
    # One value in the stream, whatever stands beside it.
    (_, middle, _) = tiled.stream([Job(image[:, :50]), Job(image), Job(image[:, 60:])])
    assert (tiled.detections(middle).boxes == regions.boxes).all()
    assert (tiled.detections(middle).scores == regions.scores).all()


def test_a_region_that_fits_into_a_window_has_the_odds_of_its_size_in_one() -> None:
    """A tenth of a window's side, and a hundredth of the image's; a box of half the image is no
    part of a window.
    """
    prior = SizePrior(sides=(0.01, 0.1, 1.0), log_odds=(-4.0, -2.0, 0.0))
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 500, 500]])
    assert prior(boxes, (1000, 1000)) == pytest.approx([-4, 2 * np.log10(0.5)])
    assert prior(boxes, (1000, 1000), 100) == pytest.approx([-2, 2 * np.log10(0.5)])
    assert prior(boxes[:1], (50, 200), 100) == pytest.approx([2 * np.log10(100 / 5000) / 2])
