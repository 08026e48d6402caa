"""What annotations say of a region: an object's, background, or neither; all agree."""

from pathlib import Path

import numpy as np
import pytest

from detector.datasets import Dataset, Sample
from detector.heads.few_shot import OneClassSettings, background_order
from detector.heads.region_features import DescribedImage
from detector.matching import BACKGROUND, IGNORE, match_to_objects, set_aside
from detector.structures import Annotations, Proposals
from detector.training.heads.temperature import LEFT_OUT, region_labels
from detector.training.regions.sampling import SamplingSettings, assign
from detector.training.regions.size_counts import prior_of

SIZE = (100, 100)
TRUTH = Annotations(
    [[0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 90, 90]],
    [0, 0, 0],
    difficult=[False, True, False],
    crowd=[False, False, True],
)
REGIONS = np.array(
    [
        [0, 0, 10, 9],  # the difficult one's box, and 0.9 of the real one
        [50, 50, 60, 60],  # inside the crowd, a 25th of it
        [35, 40, 45, 50],  # half inside
        [34, 40, 44, 50],  # 0.4 inside
        [10, 80, 20, 90],  # nowhere
    ],
    np.float32,
)


def test_an_objects_region_stays_its_own_and_what_is_in_a_crowd_is_nobodys():
    which, best = match_to_objects(REGIONS, TRUTH, 0.5)
    assert which.tolist() == [0, IGNORE, IGNORE, BACKGROUND, BACKGROUND]
    assert best == pytest.approx([0.9, 0, 0, 0, 0])
    assert set_aside(REGIONS, TRUTH, 0.5).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("iou", "expected"),
    [(0.3, [True, True, True]), (0.5, [True, True, False]), (0.7, [False, True, False])],
)
def test_a_difficult_object_sets_aside_from_the_same_overlap_on_and_a_crowd_from_half(
    iou: float, expected: list[bool]
):
    """IoU 0.6 with the difficult one; half and 0.4 inside the crowd."""
    regions = np.array([[0, 0, 10, 5.4], [35, 40, 45, 50], [34, 40, 44, 50]])
    assert set_aside(regions, TRUTH, iou).tolist() == expected


def test_nothing_is_known_without_objects_and_of_no_regions():
    assert match_to_objects(REGIONS, Annotations.empty(), 0.5)[0].tolist() == [BACKGROUND] * 5
    which, best = match_to_objects(REGIONS[:0], TRUTH, 0.5)
    assert len(which) == len(best) == 0


def test_all_that_learn_from_regions_agree():
    sample = Sample("a", Path("a.jpg"), SIZE, TRUTH)
    found = Proposals(REGIONS, SIZE)
    assert region_labels(sample, REGIONS, 3).tolist() == [0, LEFT_OUT, LEFT_OUT, 3, 3]

    _, which, _ = assign(TRUTH, found, SamplingSettings())
    assert which.tolist() == [0, 0, -1, -1]  # the object's own box first

    image = DescribedImage(REGIONS, REGIONS, TRUTH)
    assert image.is_object(0, 0.5).tolist() == [True, False, False, False, False]
    assert image.is_background(0, 0.3).tolist() == [False, False, False, False, True]

    order = background_order(TRUTH, REGIONS, OneClassSettings(), np.random.default_rng(0))
    assert order.tolist() == [4]


def test_the_prior_of_sizes_counts_no_region_of_a_crowd():
    """What is left: one object (of 10 x 9), and three regions of 10 x 10 with nothing in them."""
    regions = REGIONS[[0, 3, 4, 4, 1, 2]]
    sample = Sample("a", Path("a.jpg"), SIZE, TRUTH)
    dataset = Dataset("toy", ("cat",), (sample,))
    how = SamplingSettings(positives_per_batch=32, background_per_batch=32)
    prior = prior_of(dataset, {"a": Proposals(regions, SIZE)}, how, None)
    assert prior is not None
    largest = prior.log_odds[-1]  # of three, and two pseudo-regions of a quarter
    assert largest == pytest.approx(np.log((2 / 4) / (3 + 2 - 2 / 4)), abs=1e-3)
