"""Halves of a data set: by hand, against all possible halves, and as balanced as R-CNN's."""

from itertools import combinations

import numpy as np
import pytest

from detector.datasets.balanced_split import balanced_halves, imbalance, stratified_parts
from detector.errors import DatasetError, SettingsError
from detector.structures import Array


def test_imbalance_by_hand() -> None:
    counts = np.array([[3, 1, 0], [1, 1, 0]])  # 3 against 1, 1 against 1, none at all
    assert imbalance(counts, np.array([True, False])).tolist() == pytest.approx(
        [0.5, 0.0, np.nan], nan_ok=True
    )


def best_possible(counts: Array) -> float:
    n = len(counts)
    masks = (np.isin(np.arange(n), half) for half in combinations(range(n), n // 2))
    return min(float(np.nanmax(imbalance(counts, mask))) for mask in masks)


@pytest.mark.parametrize("seed", range(8))
def test_small_sets_are_halved_as_well_as_can_be(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 3, (10, 4))
    halves = balanced_halves(counts, seed=0, candidates=8)
    assert halves.first.sum() == 5
    assert halves.largest == pytest.approx(best_possible(counts))


def counts_of_many_classes(images: int, classes: int, fewest: int, most: int) -> Array:
    """Objects of classes from `fewest` to `most`, in equal ratios, strewn over the images."""
    rng = np.random.default_rng(0)
    counts = np.zeros((images, classes), np.int64)
    for label, objects in enumerate(np.geomspace(fewest, most, classes).astype(int)):
        np.add.at(counts, (rng.integers(0, images, objects), label), 1)
    return counts


def test_many_classes_of_very_different_size_come_out_balanced() -> None:
    counts = counts_of_many_classes(1500, 60, 31, 1500)
    halves = balanced_halves(counts, candidates=1)
    assert halves.first.sum() == 750
    assert halves.largest <= 0.11  # what R-CNN reports for 20,121 images and 200 classes
    assert halves.median <= 0.04
    assert halves.largest < float(imbalance(counts, np.arange(1500) % 2 == 0).max())


@pytest.mark.slow
def test_halves_of_ilsvrcs_size_are_as_balanced_as_can_be() -> None:
    halves = balanced_halves(counts_of_many_classes(20_121, 200, 31, 2_000))
    assert halves.largest <= 1 / 31  # the rarest class has 31 objects: 15 and 16
    assert halves.median <= 0.01


def test_the_halves_are_a_function_of_the_seed() -> None:
    counts = np.random.default_rng(1).integers(0, 2, (40, 5))
    same = [balanced_halves(counts, seed=3).first.tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != balanced_halves(counts, seed=4).first.tolist()


def test_what_cannot_be_halved_is_refused() -> None:
    with pytest.raises(DatasetError, match="two images"):
        balanced_halves(np.ones((1, 2), int))
    with pytest.raises(DatasetError, match="objects"):
        balanced_halves(np.zeros((4, 2), int))
    with pytest.raises(SettingsError, match="candidates is 0"):
        balanced_halves(np.ones((4, 2), int), candidates=0)


def test_parts_get_their_share_of_every_class_and_of_the_images() -> None:
    counts = counts_of_many_classes(1000, 20, 30, 1000)
    part = stratified_parts(counts, (0.8, 0.2))
    assert 180 <= (part == 1).sum() <= 220
    share = counts[part == 1].sum(0) / counts.sum(0)
    assert 0.15 <= share.min() <= share.max() <= 0.25
    folds = stratified_parts(counts, [1] * 5, seed=3)
    assert np.abs(np.bincount(folds) - 200).max() <= 20
    assert min(counts[folds == fold].sum(0).min() for fold in range(5)) >= 4  # of 30, six would be
    assert (stratified_parts(counts, [1] * 5, seed=3) == folds).all()
    assert (stratified_parts(counts, [1] * 5, seed=4) != folds).any()


def test_groups_stay_together_and_no_part_is_empty() -> None:
    counts = counts_of_many_classes(60, 3, 10, 40)
    groups = np.arange(60) // 4
    part = stratified_parts(counts, (0.75, 0.25), groups)
    assert all(len(set(part[groups == one])) == 1 for one in range(15))
    assert 12 <= (part == 1).sum() <= 20
    for images in (2, 3):
        one_each = stratified_parts(np.ones((images, 1), int), (0.9, 0.1))
        assert sorted(set(one_each.tolist())) == [0, 1]
    with pytest.raises(DatasetError, match="4 images in 1 groups of near-duplicates"):
        stratified_parts(np.ones((4, 1), int), (0.8, 0.2), np.zeros(4, int))
