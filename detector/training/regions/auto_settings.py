"""Settings of a region training that the user has not set: chosen by the device and the start
(recipe.py), the size of the data, measured times (costs.py) and a budget (time_budget.py).
"""

import copy
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from detector.datasets import Dataset
from detector.datasets.sources import DataSource, build_dataset
from detector.detection.load import SHIPPED
from detector.errors import SettingsError
from detector.files import write_atomically
from detector.models import build_model
from detector.progress.bar import duration
from detector.progress.messages import pluralise, say
from detector.safe_yaml import dump_yaml
from detector.settings import load_config, validate
from detector.training.engine.context import RunContext
from detector.training.engine.network import MemberConfig, following_start
from detector.training.engine.run_folder import CONFIG
from detector.training.regions.costs import (
    IMAGES,
    TOLERANCE,
    Costs,
    measure_costs,
    time_steps,
    try_searches,
)
from detector.training.regions.data import RegionData, load_regions
from detector.training.regions.member import build_member
from detector.training.regions.recipe import FINE_TUNING, LEARNED_RANKING, SettingsTree, put_recipe
from detector.training.regions.sampling import need_objects
from detector.training.regions.settings import RegionTrainingConfig
from detector.training.regions.time_budget import (
    AIM,
    HELD_OUT,
    PATIENCE,
    VALIDATIONS,
    TrainingPlan,
    Workload,
    bounded_steps,
    plan_training,
    validation_interval,
)
from detector.training.regions.watching import REGIONS

FEW_PROPOSALS = 300
# All that may be chosen, and is read from a run that has begun.
CHOSEN = (
    *(name for group in FINE_TUNING for name in group), *LEARNED_RANKING,
    "proposals.options.superpixel_scale", "member.weights", "member.freeze", "bank", "box_loss",
    "held_out", "optimiser.steps", "optimiser.validate_every", "optimiser.patience",
    "optimiser.threads",
)  # fmt: skip


class AutoSettings(NamedTuple):
    """Settings to train with, and the data where they are loaded (and reported) already."""

    settings: RegionTrainingConfig
    data: RegionData | None = None


def choose_settings(
    tree: Mapping[str, Any], context: RunContext, budget: float | None = None, members: int = 1
) -> RegionTrainingConfig:
    """Complete the settings in `tree` (those that it has stay as they are) for this machine and
    these data, and say what was chosen and for how long it will take.

    What was chosen is written into `context.out`, and read from there when the run is resumed.

    budget   seconds of the whole training, from now; proposals and maps are then made here
    members  networks to be trained
    """
    return choose_with_data(tree, context, budget, members).settings


def choose_with_data(
    tree: Mapping[str, Any], context: RunContext, budget: float | None = None, members: int = 1
) -> AutoSettings:
    """Choose as `choose_settings` does, and return the data, too, if they had to be loaded."""
    began = time.monotonic()
    by_user = copy.deepcopy(dict(tree))
    recorded = _recorded(context.out / CONFIG, by_user)
    wanted, user = SettingsTree(copy.deepcopy(by_user)), SettingsTree(by_user)
    for name, value in recorded.items():
        wanted.put({name: value})
    if "optimiser.steps" in recorded:
        return AutoSettings(_validated(wanted, context))
    if recorded:  # ended while maps were made: those belong to what was chosen then
        user = SettingsTree(copy.deepcopy(wanted.tree))
    wanted.put({"held_out": HELD_OUT})
    network = _started_network(wanted, context)
    if network is not None:
        put_recipe(wanted, network, context.device)
    settings = _validated(wanted, context)
    dataset = build_dataset(settings.data, settings.classes, context.data_root)
    need_objects(dataset)
    settings, costs = _choose_by_measuring(wanted, user, dataset, network is not None, context)
    work = _workload(settings, dataset, members)
    spent = time.monotonic() - began
    plan = plan_training(work, costs, budget and max(budget - spent, 1))
    if recorded:
        plan = plan._replace(images=len(dataset))
    _put_plan(wanted, user, plan, len(dataset), context)
    settings = _validated(wanted, context)
    if context.group.is_main and not context.quiet:
        for line in _describe(settings, plan, work, costs, context, budget):
            say(line)
    data = None
    if budget is not None and not user.has("optimiser.steps"):
        _record(settings, context, final=False)
        data = load_regions(settings, context)
        left = AIM * budget - plan.scoring - (time.monotonic() - began)
        steps = _steps_in_budget(left, settings, data, work, context, began)
        _put_steps(wanted, user, steps)
        settings = _validated(wanted, context)
    _record(settings, context, final=True)
    return AutoSettings(settings, data)


def _validated(wanted: SettingsTree, context: RunContext) -> RegionTrainingConfig:
    settings = validate(RegionTrainingConfig, wanted.tree, "options")
    member = following_start(settings.member, context.data_root)
    return settings.model_copy(update={"member": member})


def _recorded(path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """The choices of a run that has begun on the same data, by name; {} without one."""
    try:
        before = SettingsTree(load_config(path)) if path.exists() else SettingsTree({})
    except SettingsError:  # the run's own reading of it says what is wrong
        return {}
    data, data_before = tree.get("data"), before.get("data")
    if _named(data) != _named(data_before) or not data_before:
        return {}
    for source, source_before in zip(tree["data"], data_before, strict=True):
        source.setdefault("images", source_before.get("images"))
    return {name: before.get(name) for name in CHOSEN if before.has(name)}


def _named(data: Any) -> list[tuple[Any, Any]]:
    sources = data if isinstance(data, list | tuple) else []
    return [(one.get("path"), one.get("split")) for one in sources if isinstance(one, dict)]


def _record(settings: RegionTrainingConfig, context: RunContext, *, final: bool) -> None:
    """Write the settings, without the steps until these are chosen. A folder with a checkpoint says
    itself whether it goes on with them.
    """
    out = context.out
    if not context.group.is_main or [*out.glob("checkpoint*"), *out.glob("member-*/checkpoint*")]:
        return
    tree = settings.model_dump(mode="json", by_alias=True)
    if not final:
        for name in ("steps", "validate_every", "patience"):
            del tree["optimiser"][name]
    write_atomically(out / CONFIG, dump_yaml(tree))


def _started_network(wanted: SettingsTree, context: RunContext) -> nn.Module | None:
    """The network in its form, without weights; None if it begins at random. Without a start and an
    architecture, the shipped detector is the start.
    """
    if not any(wanted.has(f"member.{name}") for name in ("weights", "architecture", "options")):
        wanted.replace({"member.weights": str(SHIPPED)})
    member = validate(MemberConfig, wanted.get("member") or {}, "member")
    if member.weights is None:
        return None
    member = following_start(member, context.data_root)
    return build_model(member.architecture, 2, **member.options)


def _choose_by_measuring(
    wanted: SettingsTree,
    by_user: SettingsTree,
    dataset: Dataset,
    started: bool,
    context: RunContext,
) -> tuple[RegionTrainingConfig, Costs]:
    """The settings with the search that reaches more objects, and the costs; measured by the main
    process.
    """
    settings, scale = _validated(wanted, context), "proposals.options.superpixel_scale"
    finer = settings.proposals.engine == "selective-search" and started and not wanted.has(scale)
    numbers = torch.zeros(2 + len(Costs._fields))
    if context.group.is_main:
        if not context.quiet:
            say(f"timing searches of {IMAGES} images, crops and steps")
        with_objects = [s.image_id for s in dataset.samples if s.annotations.real.any()]
        sample = dataset.subset(with_objects).subset(IMAGES)
        options: list[dict[str, float]] = [{}, {"superpixel_scale": 1.0}]
        search = try_searches(settings, sample, context, *options[: 1 + finer])
        costs = measure_costs(settings, sample, search, context)
        # The first half of the proposals serves as well where a quarter reaches the same objects.
        few = search.in_first >= search.recall - TOLERANCE
        numbers += torch.tensor([search.option, few, *costs])
    option, few, *measured = context.group.all_reduce(numbers.to(context.device)).tolist()
    costs, most = Costs(*measured), "thresholds.max_proposals"
    if option:
        wanted.replace({scale: 1.0})
    if few and started and not by_user.has(most):
        wanted.replace({most: FEW_PROPOSALS})
        costs = costs._replace(regions=min(costs.regions, FEW_PROPOSALS))
    if costs.threads:
        wanted.replace({"optimiser.threads": round(costs.threads)})
    return _validated(wanted, context), costs


def _workload(settings: RegionTrainingConfig, dataset: Dataset, members: int) -> Workload:
    sampling = settings.sampling
    learnt = sampling.positives_per_batch + sampling.background_per_batch
    return Workload(
        len(dataset), sum(int(sample.annotations.real.sum()) for sample in dataset.samples),
        settings.bank is not None, members, (sampling.drawn_per_batch, learnt),
        2 * REGIONS,
    )  # fmt: skip


def _put_plan(
    wanted: SettingsTree,
    by_user: SettingsTree,
    plan: TrainingPlan,
    images: int,
    context: RunContext,
) -> None:
    if plan.images < images:
        for source in wanted.tree["data"]:
            whole = validate(DataSource, source, "data")
            size = len(build_dataset([whole], wanted.get("classes") or "own", context.data_root))
            source["images"] = max(1, round(size * plan.images / images))
    if not by_user.has("held_out"):
        # A half less: the number of images is rounded up.
        wanted.replace({"held_out": max(0, round((plan.held - 0.5) / plan.images, 4))})
    if isinstance(wanted.get("bank"), dict):
        wanted.put({"bank.positives_per_object": plan.per_object})
        wanted.put({"bank.background_per_image": plan.per_image})
    _put_steps(wanted, by_user, wanted.get("optimiser.steps") or plan.steps)


def _put_steps(wanted: SettingsTree, by_user: SettingsTree, steps: int) -> None:
    """Set the steps, and what follows from them where the user has not set it."""
    wanted.replace({"optimiser.steps": steps})
    if by_user.get("optimiser.warmup") is None and wanted.has("optimiser.warmup"):
        wanted.replace({"optimiser.warmup": min(20, steps // 8)})
    checks = {
        "optimiser.validate_every": validation_interval(steps),
        "optimiser.patience": PATIENCE,
    }
    if wanted.get("held_out") and by_user.get("optimiser.validate_every") != 0:
        wanted.replace({name: n for name, n in checks.items() if not by_user.has(name)})


def _steps_in_budget(
    seconds: float, settings: RegionTrainingConfig, data: RegionData, work: Workload,
    context: RunContext, began: float,
) -> int:  # fmt: skip
    """Make the maps, and count the steps that then fit into what is left of `seconds`."""
    now = time.monotonic()
    member = build_member(settings, data, context)
    step, validation = time_steps(member, settings.optimiser.threads)
    left = (seconds - (time.monotonic() - now)) / work.members - (VALIDATIONS + 1) * validation
    steps = bounded_steps(left / step, work.objects)
    agreed = torch.tensor([steps * context.group.is_main], device=context.device)
    steps = int(context.group.all_reduce(agreed).item())
    if context.group.is_main and not context.quiet:
        spent = duration(time.monotonic() - began)
        say(f"proposals and maps took {spent} of the budget; {steps} steps of {step:.2f} s follow")
        if left < steps * step:
            say(f"warning: too short a budget; {steps} steps are the least")
    return steps


def _describe(
    settings: RegionTrainingConfig, plan: TrainingPlan, work: Workload, costs: Costs,
    context: RunContext, budget: float | None,
) -> Iterator[str]:  # fmt: skip
    """Lines for the user: what was chosen, why, and for how long it takes."""
    optimiser, start = settings.optimiser, settings.member.weights
    device = "the CPU" if context.device.type == "cpu" else context.device.type
    parts = [
        f"start {Path(start).name}" if start else "a random start",
        f"layers above {settings.bank.after} trained on stored maps of {plan.maps} regions"
        if settings.bank else "the whole network trained",
        "boxes learnt beside classes" if settings.box_loss else "no box regression",
        f"{optimiser.steps} steps of {work.batch[1]} regions by {optimiser.method} at"
        f" {optimiser.rate:g}",
    ]  # fmt: skip
    if optimiser.validate_every:
        parts.append(f"held-out loss every {optimiser.validate_every} steps, the best weights kept")
    of = f"{plan.images} of " if plan.images < work.images else ""
    yield (
        f"chosen for {of}{pluralise(work.images, 'image')} with {pluralise(work.objects, 'object')}"
        f" on {device}: {', '.join(parts)} (--set or --config say otherwise)"
    )
    learning = optimiser.steps * plan.learning / plan.steps
    seconds = {
        "proposals": plan.searching, "maps": plan.mapping, "steps": learning,
        "threshold": plan.scoring if settings.held_out else 0,
    }  # fmt: skip
    shown = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items() if value)
    shorter = "" if budget else "; --budget 10m would bound it"
    yield (
        f"about {duration(sum(seconds.values()))} by what was timed here: {shown}"
        f" ({costs.step:.2f} s a step){shorter}"
    )
    if plan.images < work.images:
        yield "warning: too short a budget for all images; an evenly spaced part is learnt from"
