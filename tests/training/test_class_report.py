"""The verdict on a new class is of what the detector will find."""

import numpy as np
import pytest
from class_heads import class_head
from coloured_squares import bundle, small_parts  # noqa: F401 fixtures

from detector.datasets import Sample
from detector.detection.load import load_detector
from detector.heads.class_examples import ClassExamples, Described
from detector.heads.few_shot import FittedClass
from detector.heads.linear import LinearScores
from detector.structures import Annotations, Proposals
from detector.training.heads.class_regions import DescribedRegions, RegionPlan
from detector.training.heads.class_report import report_on


@pytest.mark.parametrize(("right", "expected"), [(0.5, 1.0), (0.0, 0.0)])
def test_detections_are_judged_where_the_class_moves_them(bundle, tmp_path, right, expected):  # noqa: F811
    """Each image has one region, half of whose side lies to the left of the object."""
    one = np.ones(1, np.float32)
    head = class_head(LinearScores(np.ones((1, 27), np.float32), 0 * one, one, 0 * one), right)
    images = []
    for number in range(2):
        truth = Annotations([[10, 0, 30, 20]], [0])
        sample = Sample(f"{number}", tmp_path / f"{number}.png", (60, 80), truth)
        proposals = Proposals([[0, 0, 20, 20]], (60, 80))
        mirrored, labels, deltas = np.zeros(1, bool), np.zeros(1, np.int64), np.zeros((1, 4))
        chosen = np.arange(1)
        plan = RegionPlan(
            sample, proposals, truth.boxes, mirrored, labels, deltas, chosen, whole=True
        )
        features = np.ones((1, 27), np.float32)
        images.append(DescribedRegions(plan, features, features))
    none = Described(np.zeros((0, 27)), np.zeros(0, np.int64))
    fitted = FittedClass(head, (head, head), ClassExamples(np.zeros((0, 4)), none, none, none))
    report = report_on(images, ["mug"], 0, [fitted], load_detector(bundle))
    assert report.average_precision is not None
    assert report.average_precision.estimate == expected
