"""Loss, schedule, averages, distortions: each by numbers one can do by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detector.errors import SettingsError, TrainingError
from detector.structures import FILL_MEAN
from detector.training.augment import AugmentSettings, distort
from detector.training.engine.averaging import WeightAverage
from detector.training.engine.optimisers import DescentSettings, rate_by_step
from detector.training.engine.state import freeze
from detector.training.regions.loss import distillation_loss, region_loss


def test_with_one_possible_class_the_loss_is_the_cross_entropy(rng):
    logits = torch.from_numpy(rng.normal(size=(6, 4)))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    allowed_classes = F.one_hot(labels, 4).bool()
    cross_entropy = F.cross_entropy(logits.float(), labels, reduction="none")
    assert torch.allclose(region_loss(logits, allowed_classes), cross_entropy)
    smooth = F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=0.1)
    assert torch.allclose(region_loss(logits, allowed_classes, label_smoothing=0.1), smooth)


def test_with_several_possible_classes_their_sum_must_be_likely():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    allowed_classes = torch.tensor([[True, False, False, True]])
    assert region_loss(logits, allowed_classes).item() == pytest.approx(-math.log(0.5))


def test_a_region_of_which_nothing_is_known_teaches_nothing():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = region_loss(logits, torch.ones(3, 5, dtype=torch.bool)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_distilling_from_oneself_costs_nothing():
    logits = torch.randn(4, 7)
    assert distillation_loss(logits, logits, 2.0).abs().max() < 1e-6
    assert (distillation_loss(logits, torch.randn(4, 7)) > 0).all()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distilling_is_the_divergence_of_softened_distributions_times_t_squared(temperature):
    ours, theirs = torch.randn(4, 7), torch.randn(4, 7)
    soft = [(one / temperature).log_softmax(1) for one in (ours, theirs)]
    wanted = F.kl_div(*soft, log_target=True, reduction="none").sum(1) * temperature**2
    assert torch.allclose(distillation_loss(ours, theirs, temperature), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "options", "expected"),
    [
        (0, {"warmup": 9}, 0.1),
        (9, {"warmup": 9}, 1.0),
        (50, {}, 0.5),
        (100, {}, 0.0),
        (49, {"schedule": "step"}, 1.0),
        (50, {"schedule": "step"}, 0.1),
        (99, {"schedule": "constant"}, 1.0),
    ],
)
def test_rates(step, options, expected):
    settings = DescentSettings(rate=1.0, **options)
    assert rate_by_step(settings, 100)(step) == pytest.approx(expected)


def test_the_average_follows_the_weights_and_ends_near_them():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average.update(model, 0)  # the decay begins at 1 / 10
    assert average.values["weight"].item() == pytest.approx(0.9)
    for step in range(1, 200):
        average.update(model, step)
    assert average.state_dict(model)["weight"].item() == pytest.approx(1.0)


def test_the_average_holds_what_a_saved_model_holds_and_nothing_else():
    model = nn.BatchNorm1d(2)
    model.register_buffer("table", torch.zeros(3), persistent=False)
    assert WeightAverage(model, 0.9).state_dict(model).keys() == model.state_dict().keys()


def test_no_distortion_is_no_change(rng):
    crops = torch.rand(2, 3, 8, 8) - torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    still = AugmentSettings(brightness=0, contrast=0, saturation=0, colour_shift=0)
    assert torch.allclose(distort(crops, still, rng), crops, atol=1e-6)


def test_distortions_stay_in_range_and_replay(rng):
    crops = torch.rand(5, 3, 8, 8) - torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    one = distort(crops, AugmentSettings(), np.random.default_rng(3))
    assert torch.equal(one, distort(crops, AugmentSettings(), np.random.default_rng(3)))
    pixels = one + torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert not torch.allclose(one, crops, atol=0.01)


def test_brightness_multiplies(rng):
    grey = torch.full((1, 3, 4, 4), 0.4) - torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    only = AugmentSettings(brightness=0.5, contrast=0, saturation=0, colour_shift=0)
    replay = np.random.default_rng(1)
    replay.uniform(0, 0, (1, 3, 1, 1))  # the shift of the channels is drawn first
    factor = replay.uniform(0.5, 1.5)
    out = distort(grey, only, np.random.default_rng(1)) + torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    assert out.mean().item() == pytest.approx(0.4 * factor, abs=1e-5)


def test_each_property_moves_by_its_own_factor_around_grey_level_and_zero():
    """Red, then black: grey is 0.299 and 0 (BT.601), and the level of the whole crop 0.1495."""
    mean = torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    crop = torch.zeros(1, 3, 1, 2)
    crop[0, 0, 0, 0] = 1
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "colour_shift": 0}

    def seen(seed: int, **moved: float) -> torch.Tensor:
        settings = AugmentSettings.model_validate(still | moved)
        return (distort(crop - mean, settings, np.random.default_rng(seed)) + mean)[0, :, 0]

    factors = []
    for seed in range(20):
        red, black = seen(seed, contrast=0.5).unbind(1)
        factor = 1 - black[0].item() / 0.1495  # black goes towards the level, and is cut off at 0
        assert black.tolist() == pytest.approx([max(0.0, (1 - factor) * 0.1495)] * 3, abs=1e-5)
        if factor < 1:
            assert red[0].item() == pytest.approx(factor + (1 - factor) * 0.1495, abs=1e-5)
            factors.append(factor)
    assert 0.5 <= min(factors) < 0.65
    factors = []
    for seed in range(20):
        red, black = seen(seed, saturation=0.5).unbind(1)
        factor = 1 - red[1].item() / 0.299
        assert black.tolist() == pytest.approx([0.0] * 3, abs=1e-6)
        if factor < 1:
            wanted = [factor + (1 - factor) * 0.299] + [(1 - factor) * 0.299] * 2
            assert red.tolist() == pytest.approx(wanted, abs=1e-5)
            factors.append(factor)
    assert 0.5 <= min(factors) < 0.65
    green = torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1)
    blue = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    only = AugmentSettings.model_validate(still | {"saturation": 0.99})
    for colour, weight in ((green, 0.587), (blue, 0.114)):
        for seed in range(20):
            found = distort(colour - mean, only, np.random.default_rng(seed)) + mean
            others, own = found.flatten()[0].item(), found.max().item()
            if others:  # the factor is below one
                assert (1 - own) / (1 - weight) == pytest.approx(others / weight, abs=1e-4)


def test_the_shift_moves_each_channel_by_itself():
    mean = torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    only = AugmentSettings(brightness=0, contrast=0, saturation=0, colour_shift=0.04)
    crops = torch.full((200, 3, 1, 1), 0.5) - mean
    moved = (distort(crops, only, np.random.default_rng(0)) - crops).flatten(1)
    assert -0.04 <= moved.min() < -0.035
    assert 0.035 < moved.max() <= 0.04
    assert moved.std(1).min() > 1e-3


def test_frozen_layers_and_statistics_stay_fixed():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    freeze(net, ["0."])
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True, True, True]
    assert (net.training, net[1].training) == (True, False)
    with pytest.raises(SettingsError, match="begins with 'conv9'"):
        freeze(net, ["conv9"])


def test_bad_steps_are_skipped_recorded_and_then_stop_the_run(tmp_path: Path):
    from detector.training.engine.state import TrainingState
    from detector.training.regions.sampling import RegionBatch
    from detector.training.regions.settings import OptimiserConfig

    net = nn.Sequential()
    net.add_module("classifier", nn.Linear(2, 2))
    run = TrainingState(net, OptimiserConfig(max_bad_steps=2), "print", 9)
    batch = RegionBatch(
        np.array([3]),
        np.array([[0.0, 0, 5, 5]]),
        np.array([0]),
        np.ones((1, 2), bool),
        np.array([False]),
        np.array([0]),
    )
    run.skip(7, batch.replay(), tmp_path / "not-finite-0000007.json", 1)
    assert '"image": [3]' in (tmp_path / "not-finite-0000007.json").read_text()
    with pytest.raises(TrainingError, match="2 times in a row"):
        run.skip(8, batch.replay(), tmp_path / "8.json", 2)


def test_processes_that_would_go_on_at_different_steps_are_refused(tmp_path: Path, monkeypatch):
    """One of them sees another folder: each would wait for the other, or train another network."""
    from detector.training.engine.context import RunContext
    from detector.training.engine.distributed import Group
    from detector.training.engine.loop import TrainingLoop
    from detector.training.engine.state import TrainingState
    from detector.training.regions.settings import OptimiserConfig

    how, context = OptimiserConfig(), RunContext(tmp_path, tmp_path, torch.device("cpu"), 1, True)
    run = TrainingState(nn.Linear(2, 2), how, "print", 3)
    monkeypatch.setattr(Group, "agree", lambda _, number, *__: number != 0)
    with pytest.raises(TrainingError, match="different steps, this one at 0"):
        TrainingLoop(run, context)


@pytest.mark.parametrize("method", ["sgd", "adamw"])
def test_either_descent_resumes_to_the_same_bits_and_hurries_the_last_layer(
    method: str, tmp_path: Path
):
    from detector.training.engine.state import TrainingState
    from detector.training.regions.settings import OptimiserConfig

    how = OptimiserConfig(method=method, steps=6, rate=0.01, head_factor=5, warmup=0)

    def started() -> TrainingState:
        torch.manual_seed(0)
        net = nn.Sequential()
        net.add_module("body", nn.Linear(3, 3))
        net.add_module("classifier", nn.Linear(3, 2))
        return TrainingState(net, how, "print", how.steps)

    def go(run: TrainingState, first: int, last: int) -> None:
        for step in range(first, last):
            run.set_rate(step)
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            run.network(x).square().sum().backward()
            run.update(step)

    whole, parts = started(), started()
    go(whole, 0, 6)
    go(parts, 0, 3)
    parts.save(tmp_path, 3)
    resumed = started()
    assert resumed.resume(tmp_path) == 3
    go(resumed, 3, 6)
    for one, other in zip(whole.averaged().values(), resumed.averaged().values(), strict=True):
        assert torch.equal(one, other)
    body, head = (group["lr"] for group in whole.optimizer.param_groups)
    assert head == pytest.approx(5 * body)
