"""What is held out is chosen by names and leaves enough of every class, or it is nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.datasets import Dataset, Sample
from detector.structures import Annotations
from detector.training.regions.held_out import held_out


def dataset_of(labels: list[list[int]], **of_objects: bool) -> Dataset:
    """An image for each list of classes, of two."""
    samples = []
    for number, own in enumerate(labels):
        boxes = np.tile([1.0, 1.0, 9.0, 9.0], (len(own), 1))
        truth = Annotations(boxes, np.array(own, np.int64))
        if of_objects:
            truth = replace(truth, difficult=np.ones(len(own), bool))
        samples.append(Sample(f"{number:03d}", Path(f"{number:03d}.jpg"), (9, 9), truth))
    return Dataset("toy", ("cat", "dog"), tuple(samples))


def ids(found: Dataset | None) -> set[str]:
    assert found is not None
    return {sample.image_id for sample in found.samples}


def test_a_share_is_chosen_by_names_alone():
    whole = dataset_of([[0, 1]] * 100)
    found = ids(held_out(whole, 0.1))
    assert len(found) == 10
    turned = replace(whole, samples=whole.samples[::-1])
    assert ids(held_out(turned, 0.1)) == found
    fewer = whole.subset([s.image_id for s in whole.samples if s.image_id != "050"])
    assert len(ids(held_out(fewer, 0.1)) & found) >= 9


def test_a_rare_class_stays_to_be_learnt_from():
    rare = [[0, 0]] * 96 + [[0, 1]] * 4
    found = held_out(dataset_of(rare), 0.5)
    assert found is not None
    labels = np.concatenate([sample.annotations.labels for sample in found.samples])
    assert 1 not in labels
    assert len(labels) <= 0.2 * 196


@pytest.mark.parametrize(
    "whole",
    [
        dataset_of([[0, 1]] * 40),  # four images
        dataset_of([[0]] * 60),  # six objects
        dataset_of([[0, 1]] * 100, difficult=True),  # which do not count
        dataset_of([[0, 1]] * 100).partial(["cat"]),  # background is not known
    ],
)
def test_too_few_are_none(whole: Dataset):
    assert held_out(whole, 0.1) is None
