"""One class from a few boxes: which regions it learns from, and what the head then says."""

import numpy as np
import pytest

from detector import boxes as box_ops
from detector.errors import TrainingError
from detector.heads.class_examples import ClassExamples, Described
from detector.heads.few_shot import (
    OneClassSettings,
    background_order,
    choose_positives,
    fit_one_class,
    moved_boxes,
    shifted_boxes,
)
from detector.structures import Annotations

SETTINGS = OneClassSettings()
OBJECT = np.array([20.0, 20, 60, 60])
PROPOSALS = np.array(
    [
        [22, 20, 60, 60],  # fits: IoU 0.95
        [20, 20, 60, 45],  # in between: 0.63, not used
        [20, 20, 40, 30],  # a part: 0.125
        [70, 70, 90, 90],  # elsewhere
        [0, 0, 15, 15],
        [20, 20, 30, 40],  # a part: 0.125
    ],
    np.float32,
)


def test_positives_are_the_object_its_mirror_image_and_what_fits_it(rng):
    truth = Annotations([OBJECT], [0])
    found = choose_positives(truth, PROPOSALS, (100, 100), SETTINGS, rng)
    assert found.boxes[:2].tolist() == [OBJECT.tolist()] * 2
    assert found.mirrored[:2].tolist() == [False, True]
    assert found.boxes[-1].tolist() == PROPOSALS[0].tolist()
    assert len(found.boxes) == 2 + SETTINGS.shifted + 1
    assert found.deltas[:2].tolist() == [[0] * 4] * 2
    # From the proposal 1 pixel to the left: of a flipped crop to the right.
    dx = -1 / 38 * (-1 if found.mirrored[-1] else 1)
    assert found.deltas[-1].tolist() == pytest.approx([dx, 0, np.log(40 / 38), 0])
    assert (box_ops.iou(found.boxes, OBJECT[None]) >= 0.7).all()


def test_difficult_objects_and_crowds_are_no_positives_and_no_background(rng):
    truth = Annotations([OBJECT, [70, 70, 90, 90]], [0, 0], [True, False], [False, True])
    assert len(choose_positives(truth, PROPOSALS, (100, 100), SETTINGS, rng).boxes) == 0
    assert sorted(background_order(truth, PROPOSALS, SETTINGS, rng)) == [2, 4, 5]


def test_background_takes_turns_near_and_far(rng):
    order = background_order(Annotations([OBJECT], [0]), PROPOSALS, SETTINGS, rng).tolist()
    assert {order[0], order[2]} == {2, 5}
    assert {order[1], order[3]} == {3, 4}


def test_a_region_is_near_from_its_least_overlap_on(rng):
    """A quarter of the object is near where near_iou is 0.25, and not where it is any larger."""
    proposals = np.array([[20, 20, 40, 40], [70, 70, 90, 90]], np.float32)
    truth = Annotations([OBJECT], [0])
    for least, first in ((0.25, 0), (0.26, None)):
        settings = OneClassSettings(near_iou=least)
        orders = {
            background_order(truth, proposals, settings, np.random.default_rng(seed))[0]
            for seed in range(20)
        }
        assert orders == ({first} if first is not None else {0, 1})


def test_without_an_object_everything_is_background(rng):
    assert sorted(background_order(Annotations.empty(), PROPOSALS, SETTINGS, rng)) == list(range(6))


def test_shifted_boxes_stay_close_and_inside(rng):
    for box in (OBJECT, np.array([0.0, 0, 100, 50])):
        found = shifted_boxes(box, (50, 100) if box[0] == 0 else (100, 100), SETTINGS, rng)
        assert len(found) == SETTINGS.shifted
        assert (box_ops.iou(found, box[None]) >= SETTINGS.positive_iou).all()
        assert found.min() >= 0
        assert found.max() <= 100


def _described(rng, centre, count, images=6):
    rows = rng.normal(centre, 1, (count, 8)).astype(np.float32)
    return Described(rows, np.arange(count) % images)


def _examples(positives, first, second):
    """Regions that lie on their objects."""
    return ClassExamples(np.zeros((len(positives), 4)), positives, first, second)


def test_a_class_learns_where_its_objects_lie_in_their_regions(rng):
    """The first feature says how far to the right the object is, in both scales of features."""
    objects, background = _described(rng, [3] + [0] * 7, 300), _described(rng, [0] * 8, 300)
    deltas = np.zeros((300, 4))
    deltas[:, 0] = 0.1 * objects.features[:, 0]
    for scale in (1, 64):
        parts = (Described(one.features * scale, one.image) for one in (objects, background))
        positives, first = parts
        examples = ClassExamples(deltas, positives, first, first)
        head = fit_one_class(examples, OneClassSettings(ridge=0.01)).head
        probe = scale * np.array([[2.0] + [0] * 7, [4.0] + [0] * 7])
        moved = moved_boxes(head, np.array([[10, 10, 30, 30]] * 2), probe, (100, 100))
        assert moved.shape == (2, 1, 4)
        assert moved[:, 0] == pytest.approx(np.array([[14, 10, 34, 30], [18, 10, 38, 30]]), abs=0.1)


def test_the_head_tells_objects_from_background(rng):
    objects, background = np.array([3.0] + [0] * 7), np.zeros(8)
    parts = [_described(rng, objects, 60)] + [_described(rng, background, 300) for _ in range(2)]
    head = fit_one_class(_examples(*parts), SETTINGS).head
    assert head.weight.shape == (1, 8)
    assert head.slope[0] > 0
    hits = _probability(head, _described(rng, objects, 500).features) > 0.5
    misses = _probability(head, _described(rng, background, 500).features) > 0.5
    assert hits.mean() > 0.6
    assert misses.mean() < 0.05


def _probability(head, features):
    return 1 / (1 + np.exp(-(head.margins(features) * head.slope + head.offset)))


def test_features_of_another_scale_give_the_same_scores(rng):
    parts = [_described(rng, [3] + [0] * 7, 60)] + [_described(rng, [0] * 8, 200) for _ in "ab"]
    large = [Described(part.features * 64, part.image) for part in parts]
    probe = _described(rng, [1] * 8, 50).features
    one, other = (fit_one_class(_examples(*given), SETTINGS).head for given in (parts, large))
    assert _probability(other, probe * 64) == pytest.approx(_probability(one, probe), abs=1e-4)


def test_without_background_there_is_nothing_to_learn(rng):
    none = Described(np.zeros((0, 8), np.float32), np.zeros(0, int))
    with pytest.raises(TrainingError, match=r"no proposal is background.*--background"):
        fit_one_class(_examples(_described(rng, np.ones(8), 10), none, none), SETTINGS)


@pytest.mark.parametrize(
    ("objects", "background"),
    [([0], [0]), ([0], [0, 1, 2]), ([1, 4], [0, 1, 2]), ([0, 1], [2]), ([0], [1])],
)
def test_images_that_cannot_be_left_out_calibrate_nothing(rng, objects, background):
    """Three folds: images 1 and 4 are left out together."""
    positives, first = (
        Described(_described(rng, np.ones(8), 12).features, np.resize(images, 12))
        for images in (objects, background)
    )
    with pytest.raises(TrainingError, match="in too few images"):
        fit_one_class(_examples(positives, first, first), SETTINGS)


def test_images_are_numbered_as_they_are_stacked():
    found = Described.stacked([np.zeros((2, 3)), np.zeros((0, 3)), np.ones((1, 3))])
    assert found.image.tolist() == [0, 0, 2]
    assert found.features.sum() == 3


def test_a_fold_has_not_seen_its_images_and_only_background_near_the_margin_is_kept(rng):
    positives = _described(rng, [3] + [0] * 7, 60)
    near, far = _described(rng, [0] * 8, 60), _described(rng, [-9] + [0] * 7, 300)
    fitted = fit_one_class(_examples(positives, near, far), SETTINGS)
    assert len(fitted.folds) == SETTINGS.folds
    training, left_out = _examples(positives, near, far).fold(1, 3)
    assert set(left_out.positives.image) == {1, 4}
    assert set(training.positives.image) == {0, 2, 3, 5}
    assert len(fitted.examples.positives) == 60
    assert 0 < len(fitted.examples.first) < 100
