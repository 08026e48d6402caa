"""Top-k errors, the crops of section 7, and what is kept between runs."""

import numpy as np
import pytest

from detector.errors import EvaluationError
from detector.evaluation.classification import Row, hits, table
from detector.evaluation.scoring.probability_cache import ProbabilityCache
from detector.evaluation.views import SHORT_SIDES, views
from detector.structures import FILL_MEAN


def test_hits_are_labels_among_the_k_best():
    scores = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    labels = np.array([0, 1, 2])
    assert hits(scores, labels, 1).tolist() == [True, False, False]
    assert hits(scores, labels, 2).tolist() == [True, True, False]
    assert hits(scores, labels, 5).all()


def test_a_classifier_that_says_the_same_of_all_is_never_right():
    assert not hits(np.full((3, 10), 0.1), np.array([0, 4, 9]), 5).any()


def test_a_score_that_is_no_number_is_never_right():
    assert hits(np.array([[np.nan, np.nan], [0.5, np.nan]]), np.array([1, 0]), 5).tolist() == [
        False,
        True,
    ]


def ramp(height: int, width: int) -> np.ndarray:
    """A pixel's red is its row, its green its column."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, 0 * x], -1).astype(np.uint8)


def pixels_of(crops: np.ndarray) -> np.ndarray:
    """(N, S, S, 3) uint8 from centred crops."""
    return ((crops.transpose(0, 2, 3, 1) + np.array(FILL_MEAN)) * 255).round().astype(int)


def test_one_crop_is_the_centre():
    made = views(ramp(40, 60), 1, 32, short_side=280)  # 40 of 32, as 280 of 224
    assert made.shape == (1, 3, 32, 32)
    seen = pixels_of(made)[0]
    assert seen[0, 0].tolist() == [4, 14, 0]
    assert seen[31, 31].tolist() == [35, 45, 0]


def test_the_shorter_side_is_made_256_unless_told_otherwise():
    image = ramp(100, 120)
    assert np.array_equal(views(image, 10, 32), views(image, 10, 32, short_side=256))
    assert not np.array_equal(views(image, 10, 32), views(image, 10, 32, short_side=288))


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (1, 1)])
@pytest.mark.parametrize("crops", [1, 10])
def test_a_strip_is_looked_at_without_filling_the_memory(shape, crops):
    made = views(np.full((*shape, 3), 200, np.uint8), crops, 32)
    assert made.shape == (crops, 3, 32, 32)
    assert (pixels_of(made) == 200).all()


def test_a_fine_pattern_is_averaged_when_it_shrinks_and_kept_smooth_when_it_grows():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    seen = pixels_of(views(checks, 1, 32, short_side=224))  # each pixel is the mean of four
    assert set(np.unique(seen)) <= {127, 128}
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 200
    seen = pixels_of(views(edge, 1, 32, short_side=224))[0, 16, :, 0]
    assert len(np.unique(seen)) > 2, "cubic: more than the two values that were there"


def test_ten_crops_are_corners_and_centre_of_the_central_square_and_mirrors():
    seen = pixels_of(views(ramp(40, 60), 10, 32, short_side=280))
    corners = [tuple(crop[0, 0, :2]) for crop in seen[:5]]
    assert corners == [(0, 10), (0, 18), (8, 10), (8, 18), (4, 14)]
    assert np.array_equal(seen[5:], seen[:5, :, ::-1])


def test_the_144_crops_are_4_scales_3_squares_6_crops_and_mirrors():
    assert SHORT_SIDES == (256, 288, 320, 352)
    made = views(ramp(100, 200), 144, 32)
    assert made.shape == (144, 3, 32, 32)
    assert np.array_equal(made[72:], made[:72, :, :, ::-1])
    seen = pixels_of(made)
    whole = seen[5:72:6, :, :, :2].reshape(4, 3, 32, 32, 2)  # the resized square of each
    assert np.abs(whole.mean((2, 3))[:, :, 0] - 49.5).max() < 1
    assert np.abs(whole.mean((2, 3))[:, :, 1] - [49.5, 99.5, 149.5]).max() < 1.5
    spread = [np.ptp(seen[6 * 3 * scale, :, :, 0]) for scale in range(4)]
    assert spread == sorted(spread, reverse=True), "a larger scale sees less in 32 pixels"


def test_a_square_image_gives_the_same_three_squares():
    made = views(ramp(64, 64), 144, 32)[:18].reshape(3, 6, 3, 32, 32)
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_any_image_has_all_its_crops(size):
    assert views(np.zeros((*size, 3), np.uint8), 144, 32).shape == (144, 3, 32, 32)


def test_the_table_has_the_papers_shape():
    lines = table([Row(1, 1, 0.3, 0.1007, 9), Row(7, 144, 0.2, 0.0667, 9)])
    assert lines[1].split() == ["1", "1", "1", "10.07", "%", "base", "30.00", "%"]
    assert lines[2].split() == ["7", "144", "1008", "6.67", "%", "-3.40", "%", "20.00", "%"]


def test_probabilities_are_kept_for_the_same_question_only(tmp_path):
    kept = ProbabilityCache(tmp_path, "weights, 10 crops", (3, 2))
    kept.put(np.array([1]), np.array([[0.25, 0.75]]))
    again = ProbabilityCache(tmp_path, "weights, 10 crops", (3, 2))
    assert again.missing().tolist() == [0, 2]
    assert again.rows[1].tolist() == [0.25, 0.75]
    assert len(ProbabilityCache(tmp_path, "weights, 1 crop", (3, 2)).missing()) == 3


def test_a_damaged_file_of_probabilities_is_named(tmp_path):
    path = ProbabilityCache(tmp_path, "x", (3, 2)).path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EvaluationError, match=r"probabilities-\w+\.npy: cannot be used"):
        ProbabilityCache(tmp_path, "x", (3, 2))


@pytest.mark.parametrize("rows", [np.zeros((3, 2)), np.zeros((2, 2), np.float32)], ids=str)
def test_probabilities_of_another_type_or_shape_are_damage(tmp_path, rows):
    np.save(ProbabilityCache(tmp_path, "x", (3, 2)).path, rows)
    with pytest.raises(EvaluationError, match=r"probabilities-\w+\.npy: damaged; delete it"):
        ProbabilityCache(tmp_path, "x", (3, 2))
