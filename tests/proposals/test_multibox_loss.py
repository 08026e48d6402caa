"""MultiBox's matching and loss, against numbers worked out by hand and all matchings tried."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detector.proposals.multibox.loss import LossSettings, assign, match, multibox_loss, residuals
from detector.proposals.multibox.priors import Priors

# Two priors, the left and the right half, both of deviation 0.1.
HALVES = Priors(
    np.array([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]), np.full((2, 4), 0.1), ()
)  # fmt: skip


def cheapest(cost: np.ndarray) -> float:
    """The slow version: every way to give each object a prediction of its own."""
    objects, predictions = cost.shape
    return min(
        sum(cost[j, i] for j, i in enumerate(chosen))
        for chosen in itertools.permutations(range(predictions), objects)
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shape", [(1, 5), (2, 7), (3, 6)])
def test_the_matching_is_the_cheapest_of_all(seed, shape):
    cost = np.random.default_rng(seed).normal(size=shape).round(1)
    objects, predictions = assign(cost)
    assert sorted(objects) == list(range(shape[0]))
    assert len(set(predictions)) == shape[0]
    assert cost[objects, predictions].sum() == pytest.approx(cheapest(cost))


def test_few_objects_among_many_predictions_are_matched_as_by_the_whole_table():
    from scipy.optimize import linear_sum_assignment

    cost = np.random.default_rng(0).normal(size=(9, 1420))
    cost[1] = cost[0]  # two identical boxes
    rows, columns = linear_sum_assignment(cost)
    ours = cost[assign(cost)].sum()
    assert ours == pytest.approx(cost[rows, columns].sum())
    assert len(set(assign(cost)[1])) == 9


@pytest.mark.parametrize(("shape", "matched"), [((0, 4), 0), ((5, 2), 2), ((3, 3), 3), ((2, 0), 0)])
def test_no_objects_and_more_objects_than_predictions_are_matched_as_far_as_they_go(shape, matched):
    objects, predictions = assign(np.random.default_rng(0).random(shape))
    assert len(objects) == len(predictions) == matched
    assert len(set(predictions)) == matched


def test_residuals_count_in_deviations():
    assert residuals(np.array([[0.1, 0.0, 0.5, 0.8]]), HALVES)[0, 0].tolist() == pytest.approx(
        [1, 0, 0, -2], abs=1e-5
    )


def test_confidence_may_outweigh_distance_and_priors_never_look_at_it():
    left = np.array([[0.0, 0.0, 0.5, 1.0]])
    sure_of_right = np.array([0.0, 200.0])  # the right half is 5 deviations off on two sides
    by_cost = match(np.zeros((2, 4)), sure_of_right, left, HALVES, LossSettings(alpha=1.0))
    assert by_cost[0].tolist() == [1]
    assert by_cost[1][0].tolist() == pytest.approx([-5, 0, -5, 0], abs=1e-5)
    by_prior = match(
        np.zeros((2, 4)), sure_of_right, left, HALVES, LossSettings(alpha=1.0, match="priors")
    )
    assert by_prior[0].tolist() == [0]


def losses(boxes, complete=True, alpha=2.0, logits=(0.0, 0.0)):
    settings = LossSettings(alpha=alpha)
    found = multibox_loss(
        torch.zeros(1, 2, 4), torch.tensor([logits]), [np.array(boxes).reshape(-1, 4)],
        torch.tensor([complete]), HALVES, settings,
    )  # fmt: skip
    return [float(value) for value in found]


def test_the_loss_by_hand():
    # One object, one deviation right of the left half on one side: 2 * 1/2 * 1; two coins.
    assert losses([[0.1, 0.0, 0.5, 1.0]]) == pytest.approx([1.0, 2 * math.log(2), 1], rel=1e-5)


def test_an_image_without_boxes_teaches_silence():
    assert losses([]) == pytest.approx([0.0, 2 * math.log(2), 0])


def test_a_partly_annotated_image_blames_nobody_for_boxes_that_were_not_drawn():
    assert losses([[0.0, 0.0, 0.5, 1.0]], complete=False) == pytest.approx([0, math.log(2), 1])
    assert losses([], complete=False) == pytest.approx([0, 0, 0])


def test_identical_boxes_and_more_boxes_than_predictions_have_a_finite_loss():
    found = losses([[0.0, 0.0, 0.5, 1.0]] * 5)
    assert found[2] == 2
    assert np.isfinite(found).all()


def test_gradients_reach_only_matched_locations_and_every_logit():
    location = torch.zeros(1, 2, 4, requires_grad=True)
    logits = torch.zeros(1, 2, requires_grad=True)
    found = multibox_loss(
        location, logits, [np.array([[0.1, 0.0, 0.5, 1.0]])], torch.tensor([True]), HALVES,
        LossSettings(alpha=2.0),
    )  # fmt: skip
    (found.location + found.confidence).sum().backward()
    assert location.grad.tolist() == [[[pytest.approx(-2, rel=1e-5), 0, 0, 0], [0, 0, 0, 0]]]
    assert logits.grad.tolist() == [[-0.5, 0.5]]


def plain_loss(location, logits, boxes, complete, priors, settings):
    """The slow version: every term of a view in turn."""
    place, confidence = [], []
    for view, own in enumerate(boxes):
        columns, wanted = match(
            location[view].detach().numpy(), logits[view].detach().numpy(), own, priors, settings
        )
        is_object = torch.zeros_like(logits[view])
        is_object[columns] = 1
        each = F.binary_cross_entropy_with_logits(logits[view], is_object, reduction="none")
        confidence.append((each * (is_object.bool() | complete[view])).sum())
        squares = (location[view][columns] - torch.from_numpy(wanted.astype(np.float32))) ** 2
        place.append(settings.alpha * (squares.sum(1) / 2).sum())
    return torch.stack(place), torch.stack(confidence)


def test_loss_and_gradients_are_the_plain_ones_bit_for_bit():
    settings, complete = LossSettings(alpha=2.5), torch.tensor([True, False, True])
    boxes = [np.array([[0.1, 0.0, 0.6, 0.9], [0.5, 0.1, 0.9, 1.0]]), np.array([[0.4, 0, 1, 1]]),
             np.zeros((0, 4))]  # fmt: skip
    results = []
    for loss in (multibox_loss, plain_loss):
        torch.manual_seed(0)
        location = torch.randn(3, 2, 4, requires_grad=True)
        logits = torch.randn(3, 2, requires_grad=True)
        found = loss(location, logits, boxes, complete, HALVES, settings)
        (found[0] + found[1]).sum().backward()
        results.append([found[0], found[1], location.grad, logits.grad])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("matching", ["predictions", "priors"])
@pytest.mark.parametrize("objects", [0, 1, 2, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("what", ["location", "logits"])
def test_a_prediction_that_is_not_finite_makes_a_loss_of_nan_of_its_view_alone(
    what, bad, objects, matching
):
    location, logits = torch.zeros(2, 2, 4), torch.zeros(2, 2)
    (location[0, 1] if what == "location" else logits[0])[1] = bad
    boxes = np.array([[0.0, 0.0, 0.5, 1.0], [0.5, 0, 1, 1], [0, 0, 1, 1]])[:objects]
    found = multibox_loss(
        location, logits, [boxes, boxes], torch.tensor([True, True]), HALVES,
        LossSettings(match=matching),
    )  # fmt: skip
    total = found.location + found.confidence
    assert not torch.isfinite(total[0])
    assert torch.isfinite(total[1])


def test_a_prediction_too_far_for_any_number_is_matched_last():
    location = torch.zeros(1, 2, 4)
    location[0, 0] = 1e30  # its square is beyond float32
    boxes = [np.array([[0.0, 0.0, 0.5, 1.0]])]
    found = multibox_loss(
        location, torch.zeros(1, 2), boxes, torch.tensor([True]), HALVES, LossSettings(alpha=2.0)
    )
    assert found.location.item() == pytest.approx(50)  # two sides of the right half, 5 deviations
