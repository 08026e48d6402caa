"""Recipes, optimisers, loss and loss scale of the classifier's training."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from detector.errors import SettingsError
from detector.settings import load_config, validate
from detector.training.classifier.recipes import RECIPES, with_recipe
from detector.training.classifier.settings import ClassifierTrainingConfig, OptimiserSettings
from detector.training.classifier.step import classifier_loss
from detector.training.engine.loss_scale import LossScale
from detector.training.engine.optimisers import build_optimiser, clip_gradients, rate_by_step
from detector.training.engine.state import TrainingState

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def resolved(*changes: str, **tree) -> ClassifierTrainingConfig:
    given = {**tree, **load_config(None, changes)}
    return validate(ClassifierTrainingConfig, with_recipe(given), "test")


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_has_a_config_that_says_the_same(name):
    path = CONFIGS / f"imagenet_{name}.yaml"
    tree = yaml.safe_load(path.read_text())
    settings = validate(ClassifierTrainingConfig, with_recipe(tree), str(path))
    assert settings.model_copy(update={"data": RECIPES[name].data}) == RECIPES[name]
    assert path.read_text().startswith("#")


def test_the_short_run_for_a_cpu_is_a_valid_config():
    tree = yaml.safe_load((CONFIGS / "tiny_imagenet.yaml").read_text())
    settings = validate(ClassifierTrainingConfig, with_recipe(tree), "tiny")
    assert (settings.recipe, settings.network.architecture) == ("modern", "bn_googlenet")
    assert settings.optimiser.schedule == "cosine"


def test_every_number_of_a_recipe_can_be_changed_and_the_others_stay():
    settings = resolved("optimiser.rate=0.5", "network.options.dropout=0.1", recipe="googlenet")
    assert settings.optimiser.rate == 0.5
    assert settings.optimiser.decay_every == 8
    assert settings.network.options == {"auxiliary": True, "dropout": 0.1}


def test_the_recipes_own_architecture_named_again_keeps_the_recipes_network():
    for name in ("googlenet", "v3"):
        plain = resolved(recipe=name).network
        tree = {"recipe": name, "network": {"architecture": plain.architecture}}
        assert validate(ClassifierTrainingConfig, with_recipe(tree), "test").network == plain
    with pytest.raises(SettingsError, match="not known"):
        with_recipe({"recipe": ["v3"]})


def test_another_architecture_does_not_inherit_the_recipes_network():
    settings = resolved("network.architecture=bn_googlenet", recipe="caffe")
    assert (settings.network.options, settings.network.pixel_scale) == ({}, 1)
    assert settings.optimiser.schedule == "poly"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["recipe=secret"], "known are googlenet, caffe, v3, modern"),
        (["optimiser.speed=1"], r"unknown setting optimiser\.speed; .*known: method, rate"),
        (["network.options.auxiliary=true", "network.input_size=64"], "input_size of 224"),
        (["optimiser.method=lion"], r"optimiser\.method"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes, message):
    with pytest.raises(SettingsError, match=message):
        resolved(*changes)


@pytest.mark.parametrize(
    ("recipe", "epoch", "factor"),
    [
        ("googlenet", 7.9, 1.0), ("googlenet", 8, 0.96), ("googlenet", 17, 0.96**2),
        ("caffe", 0, 1.0), ("caffe", 45, 0.5), ("v3", 1.9, 1.0), ("v3", 4, 0.94**2),
        ("modern", 5, 1.0), ("modern", 52.5, 0.5),
    ],
)  # fmt: skip
def test_rates_follow_the_papers(recipe, epoch, factor):
    settings = RECIPES[recipe].optimiser
    rate = rate_by_step(settings, round(settings.epochs * 100), 100)
    assert rate(round(epoch * 100)) == pytest.approx(settings.rate * factor, rel=1e-6)


def test_an_unreadable_image_adds_nothing_to_the_loss():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = classifier_loss((logits, logits), torch.tensor([-1, 2]), label_smoothing=0.1)
    loss.sum().backward()
    assert loss[0] == 0
    assert logits.grad is not None
    assert not logits.grad[0].any()
    assert logits.grad[1].any()


def test_kernels_decay_and_vectors_only_where_asked():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    without = build_optimiser(net, OptimiserSettings(weight_decay=0.1, decay_vectors=False))
    assert [g["weight_decay"] for g in without.param_groups] == [0.1, 0.0]
    assert [len(g["params"]) for g in without.param_groups] == [1, 3]
    both = build_optimiser(net, OptimiserSettings(weight_decay=0.1))
    assert [(g["weight_decay"], len(g["params"])) for g in both.param_groups] == [(0.1, 4)]


def test_one_step_of_rmsprop_by_hand():
    """Square average 0.1 x 2^2; step 0.045 x 2 / (sqrt(0.4) + 1)."""
    net = nn.Linear(1, 1, bias=False)
    settings = RECIPES["v3"].optimiser.model_copy(update={"weight_decay": 0.0})
    optimiser = build_optimiser(net, settings)
    with torch.no_grad():
        net.weight.fill_(1.0)
    net.weight.grad = torch.full((1, 1), 2.0)
    optimiser.step()
    assert net.weight.item() == pytest.approx(1 - 0.09 / (math.sqrt(0.4) + 1), rel=1e-5)


def test_clipping_keeps_the_direction():
    net = nn.Linear(2, 1, bias=False)
    net.weight.grad = torch.tensor([[3.0, 4.0]])
    clip_gradients([net.weight], 5.0, 10.0)
    assert net.weight.grad.tolist() == [[3.0, 4.0]]
    clip_gradients([net.weight], 5.0, 2.0)
    assert net.weight.grad.tolist() == [[pytest.approx(1.2), pytest.approx(1.6)]]


@pytest.mark.parametrize("method", ["sgd", "nesterov", "rmsprop", "adamw"])
def test_every_optimiser_resumes_to_the_same_bits(method, tmp_path):
    settings = OptimiserSettings(method=method, rate=0.05, momentum=0.9)

    def run() -> TrainingState:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
        return TrainingState(net, settings, "print", 10)

    def go(state: TrainingState, first: int, last: int) -> None:
        for step in range(first, last):
            state.set_rate(step)
            crops = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(step))
            state.network(crops).square().sum().backward()
            state.update(step)

    straight, cut = run(), run()
    go(straight, 0, 6)
    go(cut, 0, 3)
    cut.save(tmp_path, 3)
    resumed = run()
    assert resumed.resume(tmp_path) == 3
    go(resumed, 3, 6)
    for name, value in straight.averaged().items():
        assert torch.equal(resumed.averaged()[name], value), name
    for one, other in zip(straight.trainable, resumed.trainable, strict=True):
        assert torch.equal(one, other)


def test_the_loss_scale_halves_at_overflow_grows_when_calm_and_comes_back():
    scale = LossScale(enabled=True)
    assert scale.factor == 2**16
    assert scale.overflowed()
    assert scale.factor == 2**15
    for _ in range(2000):
        scale.succeeded()
    assert scale.factor == 2**16
    for _ in range(16):
        assert scale.overflowed()
    assert not scale.overflowed(), "at 1 nothing more can be done"
    again = LossScale(enabled=True)
    again.load(scale.state())
    assert (again.factor, again.good_steps) == (1, 0)


def test_without_float16_nothing_is_scaled():
    scale = LossScale(enabled=False)
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    scale.unscale([weight])
    assert (scale.factor, weight.grad.item(), scale.overflowed()) == (1, 1, False)
