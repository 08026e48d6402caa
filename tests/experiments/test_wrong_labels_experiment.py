"""Mistakes put into labels are those that are said, and found where the list points at them."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detector.boxes import iou
from detector.datasets import Dataset, Sample
from detector.evaluation.wrong_labels.suspects import Suspect
from detector.structures import Annotations

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "wrong_labels.py"
EXPERIMENT = SimpleNamespace(**runpy.run_path(str(SCRIPT)))
Mistake = EXPERIMENT.Mistake
BOXES = [[0, 0, 40, 40], [50, 0, 90, 40]]


@pytest.fixture
def clean() -> Dataset:
    """Twenty images of two objects and one that is difficult."""
    truth = Annotations([*BOXES, [0, 50, 20, 70]], [0, 1, 2], [False, False, True])
    samples = [Sample(f"{n}", Path(f"{n}.png"), (100, 100), truth) for n in range(20)]
    return Dataset("clean", ("cat", "dog", "cow"), tuple(samples))


def test_a_fifth_of_forty_labels_is_two_mistakes_of_each_kind(clean: Dataset) -> None:
    wrong, mistakes = EXPERIMENT.corrupt(clean, 0.2, np.random.default_rng(0))
    assert sorted(one.kind for one in mistakes) == sorted(2 * EXPERIMENT.KINDS)
    samples = {sample.image_id: sample.annotations for sample in wrong.samples}
    for one in mistakes:
        truth = samples[one.image_id]
        overlap = iou(truth.boxes, one.box[None])[:, 0]
        there = bool(((overlap == 1) & (truth.labels == one.label)).any())
        assert there == (one.kind != "dropped")
        nearest = iou(np.array(BOXES), one.box[None]).max()
        assert {"shifted": 0.1 <= nearest <= 0.5, "spurious": nearest < 0.1}.get(
            one.kind, nearest == 1
        )
    assert sum(map(len, samples.values())) == 60 - 2 + 2
    assert sum(int(truth.difficult.sum()) for truth in samples.values()) == 20
    again = EXPERIMENT.corrupt(clean, 0.2, np.random.default_rng(0))[1]
    assert [one.box.tolist() for one in again] == [one.box.tolist() for one in mistakes]


def test_a_list_is_right_where_it_points_at_the_label_or_at_the_dropped_object() -> None:
    """An IoU of 36 * 40 / 1,600 = 0.9 with the dropped cat."""
    names, box = ("cat", "dog"), np.array(BOXES[0], float)
    dropped, swapped = Mistake("a", "dropped", box, 0), Mistake("a", "swapped", box, 1)
    seen = np.array([0, 0, 36, 40.0])
    overlooked = Suspect("a", Path("a"), "overlooked", 0.9, None, seen, "cat")
    label = Suspect("a", Path("a"), "spurious", 0.5, "dog", box, "nothing", row=0)
    found = EXPERIMENT.found_in
    assert found([overlooked, label], [dropped, swapped], names, 1).tolist() == [True, False]
    assert found([overlooked, label], [dropped, swapped], names, 2).tolist() == [True, True]
    assert not found([label], [Mistake("b", "swapped", box, 1)], names, 1).any()
    assert not found([overlooked], [Mistake("a", "dropped", box, 1)], names, 1).any()
