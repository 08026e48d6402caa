"""What the page shows of a photograph follows from one pass of the networks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.crops.warp import crop_batch
from detector.demo.look import LONGEST, Look, look_again, looks_at
from detector.detection.load import load_detector
from detector.images.decoding import read_image
from detector.structures import FILL_MEAN


@pytest.fixture
def image(voc: Path) -> np.ndarray:
    return read_image(voc / "JPEGImages" / "0.png")


@pytest.fixture(params=[60, 0], ids=["at once", "the best regions first"])
def look(request: pytest.FixtureRequest, bundle: Path, image: np.ndarray) -> Look:
    seconds: float = request.param
    return list(looks_at(load_detector(bundle, threshold=0.2), image, seconds))[-1]


@pytest.mark.parametrize(
    ("threshold", "overlap", "regions"),
    [(0.2, 0.3, 315), (0.35, 0.3, 315), (0.2, 0.7, 60), (1, 0, 1)],
)
def test_sliders_give_what_the_detector_gives_with_these_settings(
    bundle: Path, look: Look, image: np.ndarray, threshold: float, overlap: float, regions: int
) -> None:
    settings = {"nms_threshold": overlap, "max_proposals": regions}
    expected = load_detector(bundle, threshold=threshold, settings=settings)(image)
    found = look.detections(threshold, overlap, regions)
    for name in ("boxes", "scores", "labels"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


def test_every_region_above_the_threshold_is_found_or_suppressed(look: Look) -> None:
    found, suppressed = look.detections(0.2, 0.3, 100), look.suppressed(0.2, 0.3, 100)
    above = look.scored.scores[:100, :-1] >= 0.2
    assert len(suppressed) > 0
    assert len(found) + len(suppressed) == above.sum()
    for label in (0, 1):
        scores = np.concatenate([part.scores[part.labels == label] for part in (found, suppressed)])
        assert sorted(scores) == sorted(look.scored.scores[:100, label][above[:, label]])


def test_a_click_chooses_the_region_around_it_that_looks_most_like_an_object(look: Look) -> None:
    region = look.region_at(30, 20, len(look))
    assert region is not None
    boxes, best = look.scored.proposals.boxes, look.scored.scores[:, :-1].max(1)
    around = [i for i, (x1, y1, x2, y2) in enumerate(boxes) if x1 <= 30 < x2 and y1 <= 20 < y2]
    assert region in around
    assert best[region] == best[around].max()
    assert look.region_at(-1, 20, len(look)) is None


def test_scores_of_a_region_are_its_best_classes_and_background(look: Look) -> None:
    named = look.classes_of(5)
    assert set(named) == {"cat", "dog", "background"}
    assert sum(named.values()) == pytest.approx(1)
    assert named["dog"] == look.scored.scores[5, 1]


def test_the_crop_is_what_the_network_sees(look: Look) -> None:
    crop = crop_batch(look.image, look.scored.proposals.boxes[7:8], 32)[0].permute(1, 2, 0)
    seen = 255 * (crop.numpy() + FILL_MEAN)
    assert np.abs(look.crop_of(7) - seen).max() <= 2


def test_another_detector_judges_the_same_regions(voc: Path, bundle: Path, look: Look) -> None:
    other = load_detector(bundle, threshold=0.2, precision="float32")
    again = look_again(look, other)
    assert again.scored.proposals is look.scored.proposals
    assert again.detector is other


def pictures_of(look: Look) -> list[Image.Image]:
    # So high that the names of the detections leave some of a small picture.
    threshold = float(look.scored.scores[:, :-1].max()) - 0.005
    found, suppressed = look.detections(threshold, 0.1, 315), look.suppressed(threshold, 0.1, 315)
    return [
        look.draw_detections(found), look.draw_suppressed(found, suppressed),
        look.draw_proposals(50), look.draw_region(0),
    ]  # fmt: skip


def test_each_view_has_a_picture_and_leaves_the_photograph(look: Look, image: np.ndarray) -> None:
    before = image.tobytes()
    assert len({picture.tobytes() for picture in pictures_of(look)} | {before}) == 5
    assert look.image.tobytes() == before


def test_pictures_are_no_larger_than_a_page(bundle: Path) -> None:
    image = np.full((90, 3 * LONGEST, 3), 120, np.uint8)
    detector = load_detector(bundle, settings={"max_proposals": 50})
    look = next(looks_at(detector, image, 60))
    assert {picture.size for picture in pictures_of(look)} == {(LONGEST, 30)}
