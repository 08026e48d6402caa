"""The lengths of a region training, where they are not set: images, regions whose maps are stored,
steps; by the size of the data, measured times and a budget.
"""

import math
from typing import NamedTuple

from detector.training.regions.costs import Costs
from detector.training.regions.held_out import MIN_IMAGES, MIN_OBJECTS, TRAINING_SHARE

# What configs/bccd.yaml takes of each object and image, and shares of it for a short budget.
PER_OBJECT, PER_IMAGE = 3, 24
SHARES = (1.0, 0.7, 0.5, 0.35, 0.25)
MAX_MAPS = 24_000  # 2 GB
HELD_OUT = 0.1  # of the images
VALIDATIONS, PATIENCE = 10, 4
MIN_STEPS = 40
# Of a budget: the end of the training costs some seconds that are not foreseen here.
AIM = 0.93


class Workload(NamedTuple):
    """The size of a training.

    bank        maps of frozen layers are stored
    batch       regions of a step: those drawn, and those learnt from
    validation  regions of which the held-out loss is computed
    """

    images: int
    objects: int
    bank: bool = True
    members: int = 1
    batch: tuple[int, int] = (160, 96)
    validation: int = 768


class TrainingPlan(NamedTuple):
    """The lengths of a training, and the seconds of its parts."""

    images: int
    held: int
    per_object: int
    per_image: int
    steps: int
    maps: int
    searching: float
    mapping: float
    learning: float
    scoring: float

    @property
    def seconds(self) -> float:
        """The whole training's."""
        return self.searching + self.mapping + self.learning + self.scoring


def validation_interval(steps: int) -> int:
    """Steps between two validations, about VALIDATIONS of them in all."""
    return max(1, round(steps / VALIDATIONS))


def steps_for(objects: int) -> int:
    """Steps for so many objects: 190 for 130, 600 for the 3,900 of BCCD (its config has 500)."""
    return 10 * round(min(200, 10 + 0.8 * math.sqrt(objects)))


def bounded_steps(fit: float, objects: int) -> int:
    """So many steps as fit into a budget, within limits."""
    return max(MIN_STEPS, min(int(fit), 3 * steps_for(objects)))


def seconds_of_step(work: Workload, costs: Costs) -> float:
    """Seconds of a step with its share of the validations, of all members together."""
    drawn, learnt = work.batch
    # A backward pass costs two forward ones; mining a further one of all that are drawn.
    passes = 3 * learnt + (drawn if drawn > learnt else 0)
    validations = VALIDATIONS * work.validation / passes
    return work.members * costs.step * (1 + validations / steps_for(work.objects))


def plan_training(work: Workload, costs: Costs, budget: float | None = None) -> TrainingPlan:
    """The largest training that fits into so many seconds; without a budget, one for its data."""
    if budget is None:
        share = next(
            s for s in SHARES if _maps(work, work.images, s) <= MAX_MAPS or s == SHARES[-1]
        )
        held = math.ceil(HELD_OUT * work.images)
        return _plan_of(work, costs, work.images, held, share, steps_for(work.objects))
    aim = AIM * budget
    scoring = costs.regions * costs.scoring * work.members
    few = max(MIN_IMAGES, math.ceil(MIN_OBJECTS * work.images / max(1, work.objects)))
    least = min(work.images, math.ceil(few / (1 - TRAINING_SHARE) - 1e-9))
    held = max(few, min(math.ceil(HELD_OUT * work.images), int(0.15 * aim / max(scoring, 1e-9))))
    held = min(held, work.images // 2)
    left = aim - held * scoring
    # Before the steps, which get their part, and be it a short training's.
    before = min(0.6 * left, left - MIN_STEPS * seconds_of_step(work, costs))
    sizes = [max(1, round(work.images * 0.8**i)) for i in range(40)]
    sizes = [size for size in sizes if size > least] + [least]
    for images in sizes:
        for share in SHARES:
            made = _plan_of(work, costs, images, min(held, images // 2), share, 0)
            if made.searching + made.mapping <= before:
                break
        else:
            continue
        break
    left = aim - made.searching - made.mapping - made.scoring
    steps = bounded_steps(left / seconds_of_step(work, costs), work.objects)
    return _plan_of(work, costs, made.images, made.held, share, steps)


def _maps(work: Workload, images: int, share: float) -> int:
    objects = work.objects * images / work.images
    per_object, per_image = _sample(share)
    return round(objects * per_object + images * per_image)


def _sample(share: float) -> tuple[int, int]:
    return max(1, round(PER_OBJECT * share)), max(4, round(PER_IMAGE * share))


def _plan_of(
    work: Workload, costs: Costs, images: int, held: int, share: float, steps: int
) -> TrainingPlan:
    per_object, per_image = _sample(share)
    maps = _maps(work, images, share) if work.bank else 0
    return TrainingPlan(
        images, held, per_object, per_image, steps, maps,
        searching=images * costs.search, mapping=maps * costs.map,
        learning=steps * seconds_of_step(work, costs),
        scoring=held * costs.regions * costs.scoring * work.members,
    )  # fmt: skip
