"""The choices of the shortest training, by device, start, data and budget."""

from pathlib import Path
from typing import Any

import pytest
import torch

from detector.models import build_model
from detector.training.regions.auto_settings import _recorded
from detector.training.regions.costs import Costs
from detector.training.regions.recipe import SettingsTree, put_recipe
from detector.training.regions.time_budget import (
    MIN_STEPS,
    TrainingPlan,
    Workload,
    plan_training,
    steps_for,
)

# Hundredths of a second, as two quiet cores need them: 50 regions a second through the trunk.
COSTS = Costs(search=0.3, map=0.02, scoring=0.02, step=1.0, regions=300)


def chosen(device: str, architecture: str, tree: dict[str, Any] | None = None) -> SettingsTree:
    wanted = SettingsTree(tree or {})
    put_recipe(wanted, build_model(architecture, 2), torch.device(device))
    return wanted


@pytest.mark.parametrize(
    ("device", "architecture", "tree", "expected"),
    [
        ("cpu", "googlenet", {}, {"bank.after": "4e", "box_loss.weight": 1.0, "member.freeze": []}),
        ("mps", "googlenet", {}, {"bank.after": "4e"}),
        # A GPU trains the whole network, and its first layers stay as following_start says.
        ("cuda", "googlenet", {}, {"bank": None, "box_loss.weight": 1.0, "member.freeze": None}),
        # No layers to cut at, and none of ours to learn boxes with.
        ("cpu", "inception_v3", {}, {"bank": None, "box_loss.weight": 1.0}),
        ("cpu", "nin", {}, {"bank": None, "box_loss": None, "optimiser.method": "adamw"}),
        # What the user sets stays, and with it what belongs to it.
        ("cpu", "googlenet", {"bank": None}, {"bank": None}),
        ("cuda", "googlenet", {"bank": {"after": "4c"}}, {"bank.after": "4c"}),
        ("cpu", "googlenet", {"optimiser": {"rate": 0.01}},
         {"optimiser.rate": 0.01, "optimiser.method": None, "optimiser.warmup": 20}),
        ("cpu", "googlenet", {"heads": {"regression": True}}, {"box_loss": None}),
        ("cpu", "googlenet", {"proposals": {"engine": "opencv"}}, {"proposals.options": None}),
        ("cpu", "googlenet", {"thresholds": {"voting_iou": 0.4}}, {"thresholds.voting": None}),
    ],
)  # fmt: skip
def test_settings_by_device_and_network(device, architecture, tree, expected):
    wanted = chosen(device, architecture, tree)
    assert {name: wanted.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("work", "budget", "images", "maps", "steps"),
    [
        # 131 * 3 + 131 * 24 maps; 100 + 8 sqrt(131) steps.
        (Workload(131, 131), None, 131, 3537, 190),
        (Workload(292, 3900), None, 292, 18708, 600),
        (Workload(5000, 20000), None, 5000, 50000, 1230),  # 1 an object, 6 an image
        # 558 seconds less 39 of searches, 71 of maps and 78 of 13 held-out images, at 1.09 a step
        # with its validations.
        (Workload(131, 131), 600, 131, 3537, 339),
        # More time than is of use.
        (Workload(131, 131), 7200, 131, 3537, 570),
        (Workload(131, 131, bank=False), 600, 131, 0, 404),
    ],
)
def test_lengths_by_data_and_budget(work, budget, images, maps, steps):
    made = plan_training(work, COSTS, budget)
    assert (made.images, made.maps) == (images, maps)
    assert made.steps == pytest.approx(steps, rel=0.05)


@pytest.mark.parametrize("budget", [180, 300, 600, 1800])
@pytest.mark.parametrize("work", [Workload(131, 131), Workload(292, 3900), Workload(5000, 20000)])
def test_a_plan_keeps_its_budget(work: Workload, budget: float):
    made = plan_training(work, COSTS, budget)
    assert made.seconds <= budget
    assert made.steps >= MIN_STEPS
    assert made.images <= work.images


def test_a_budget_too_short_for_everything_leaves_the_least():
    made = plan_training(Workload(5000, 20000), COSTS, 5)
    assert isinstance(made, TrainingPlan)
    assert (made.steps, made.held) == (MIN_STEPS, 5)
    assert made.images == 25  # of which a fifth may be held out
    assert plan_training(Workload(1, 1), COSTS, 5).images == 1


def test_more_objects_are_more_steps():
    assert [steps_for(n) for n in (0, 100, 10_000, 10**8)] == [100, 180, 900, 2000]


def test_a_begun_run_keeps_its_choices_for_the_same_data_alone(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "data: [{path: mine, split: train, images: 40}]\n"
        "optimiser: {steps: 77, rate: 0.0002}\nbank: {after: 4e}\nlicence: somebody's\n"
    )
    tree = {"data": [{"path": "mine", "split": "train"}]}
    assert _recorded(path, tree) == {
        "optimiser.rate": 0.0002, "bank": {"after": "4e"}, "optimiser.steps": 77
    }  # fmt: skip
    assert tree["data"][0]["images"] == 40
    assert _recorded(path, {"data": [{"path": "other", "split": "train"}]}) == {}
    assert _recorded(tmp_path / "none.yaml", tree) == {}
