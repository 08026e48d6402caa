"""The cost of a pass of MultiBox in crops of the classifier, which it has to save to pay off."""

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benches.classifier import crops_of, member_of
from benches.timing import by_turns, machine, median, read_folder
from detector.crops.warp import crop_batch
from detector.models.inference.prepare import (
    FixedBatches,
    Precision,
    fastest_precision,
    prepare_for_inference,
)
from detector.proposals.merge import whole_image
from detector.proposals.multibox.loss import LossSettings
from detector.proposals.multibox.predict import SHIPPED, MultiBox, SingleOutput
from detector.proposals.multibox.weights import TrainedMultiBox, load_multibox
from detector.structures import Array
from detector.training.multibox.examples import ViewBatch
from detector.training.multibox.step import MultiBoxStep

# A forward pass of one image in float32 takes less.
PROMISE_MS = 150
# Of a training step: views, and objects in each.
VIEWS, OBJECTS = 32, 3


def measure(
    weights: Path | None, bundle: Path | None, photographs: Path,
    *, crops: int, rounds: int, threads: int,
) -> dict[str, Any]:  # fmt: skip
    """Time every way in turn, `rounds` times: medians, and ratios to a crop of the same round.

    Each round takes the next photograph. A crop is the member's at the precision that is its
    default here. Ratios are of processor time, which a busy machine stretches less than the clock.
    """
    torch.set_num_threads(threads)
    trained, default = load_multibox(weights or SHIPPED), fastest_precision("cpu")
    member, name = member_of(bundle)
    images = read_folder(photographs)
    batch, source = crops_of(photographs, crops, member.input_size)
    ways = _ways(trained, threads)
    for precision in _precisions():
        fast = prepare_for_inference(member.model, precision, member.normalisation)
        classify = FixedBatches(fast, batch_size=8, workers=threads)
        ways[f"crop, {precision}"] = _without_image(classify, batch)
    times = by_turns(ways, images, rounds)
    for way in ways:
        if way.startswith("crop"):
            times[way] = times[way] / crops
    crop = times[f"crop, {default}"][:, 1]
    table = {
        way: {
            "ms": median(1000 * taken[:, 0]), "processor ms": median(1000 * taken[:, 1]),
            "crops": median(taken[:, 1] / crop),
        }
        for way, taken in times.items()
    }  # fmt: skip
    about = {
        "network": trained.header.architecture + " to " + trained.header.after,
        "input_size": trained.header.input_size,
        "priors": len(trained.priors),
        "member": name,
        "crops": f"{crops} {source}, batches of 8, one thread each",
        "images": f"{len(images)}, the first {images[0].shape[1]} x {images[0].shape[0]}",
        "rounds": rounds,
        "threads": threads,
        "torch": torch.__version__,
        "forward": "a batch of one, on one thread",
        "promise_kept": table["forward, float32"]["ms"] < PROMISE_MS,
        "must_save_crops": table["propose"]["crops"],
        "bfloat16_largest_difference": bfloat16_difference(trained, images[0]),
        "matching_share_by_priors": matching_share(trained, "priors", rounds),
        "matching_share_by_predictions": matching_share(trained, "predictions", rounds),
    }
    return {"about": machine() | about, "tables": {"way": table}}


def matching_share(trained: TrainedMultiBox, match: str, rounds: int) -> float:
    """Median share of matching and loss in a training step of the heads alone on cached maps.

    A step of the whole network takes longer, but its matching takes as long.
    """
    rng = np.random.default_rng(0)
    heads = copy.deepcopy(trained.network.heads).train().requires_grad_(True)
    side = trained.header.input_size
    with torch.inference_mode():
        maps = trained.network.trunk(torch.zeros(1, 3, side, side)).shape
    noise = rng.random((VIEWS, *maps[1:]), np.float32)
    corner = rng.uniform(0, 0.5, (VIEWS, OBJECTS, 2))
    boxes = list(np.concatenate([corner, corner + rng.uniform(0.1, 0.5, corner.shape)], -1))
    batch = ViewBatch(
        torch.from_numpy(noise), boxes, torch.ones(VIEWS, dtype=torch.bool),
        torch.ones(VIEWS, dtype=torch.bool), {},
    )  # fmt: skip
    step = MultiBoxStep(
        heads, trained.priors, LossSettings.model_validate({"match": match}), torch.device("cpu"),
        torch.float32, VIEWS,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(heads.parameters(), lr=1e-6)
    shares = []
    for _ in range(rounds + 1):
        step.seconds, start = 0.0, time.perf_counter()
        step(batch, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        shares.append(step.seconds / (time.perf_counter() - start))
    return round(statistics.median(shares[1:]), 4)  # the first step warms up


def bfloat16_difference(trained: TrainedMultiBox, image: Array) -> float | None:
    """The largest difference of a confidence from float32's; None where bfloat16 is not fast."""
    if "bfloat16" not in _precisions():
        return None
    one, other = (_forward(trained, precision)(image) for precision in _precisions())
    return round(float((one[..., 4].sigmoid() - other[..., 4].sigmoid()).abs().max()), 5)


def _precisions() -> tuple[Precision, ...]:
    # 8 bits are for a whole GoogLeNet only.
    return ("float32", "bfloat16") if fastest_precision("cpu") == "bfloat16" else ("float32",)


def _ways(trained: TrainedMultiBox, threads: int) -> dict[str, Callable[[Array], object]]:
    ways: dict[str, Callable[[Array], object]] = {
        f"forward, {precision}": _forward(trained, precision) for precision in _precisions()
    }
    for scales, name in ((1, "propose"), (2, "propose, 1 + 4 crops"), (3, "propose, 1 + 4 + 9")):
        ways[name] = MultiBox(trained, threads=threads, scales=scales)
    return ways


def _without_image(classify: FixedBatches, batch: Tensor) -> Callable[[Array], Tensor]:
    return lambda _image: classify(batch)


def _forward(trained: TrainedMultiBox, precision: Precision) -> Callable[[Array], Tensor]:
    """Image to (1, K, 5)."""
    model = prepare_for_inference(
        SingleOutput(trained.network), precision, trained.network.trunk.normalisation
    )
    run, made = FixedBatches(model, batch_size=1), dict[int, Tensor]()

    def forward(image: Array) -> Tensor:
        # Once an image, so that only its first pass is timed with it.
        if id(image) not in made:
            box = whole_image((image.shape[0], image.shape[1]))
            made[id(image)] = crop_batch(image, box, trained.header.input_size, context=0)
        return run(made[id(image)])

    return forward
