"""Crops a second of one member: the framework as it comes against our inference path."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benches.timing import by_turns, machine, median, read_folder, seconds
from detector.crops.warp import crop_batch
from detector.detection.bundle import load_bundle
from detector.detection.ensemble import Member
from detector.detection.load import load_detector
from detector.models import build_model
from detector.models.googlenet import GoogLeNet
from detector.models.inference.int8 import activation_ranges, runs_in_8_bits
from detector.models.inference.prepare import (
    FixedBatches,
    Precision,
    fastest_precision,
    prepare_for_inference,
)
from detector.models.input_normalisation import Normalisation
from detector.models.layers import LocalResponseNorm

Classify = Callable[[Tensor], Tensor]


class FrameworkResponseNorm(nn.Module):
    """Response normalisation by the framework's own operator."""

    def forward(self, x: Tensor) -> Tensor:
        # GoogLeNet's constants (BVLC's train_val.prototxt).
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)


def measure(
    bundle: Path | None, photographs: Path, *, crops: int, rounds: int, threads: int
) -> dict[str, Any]:
    """Time every way in turn on the same crops: medians of `rounds`, and ratios to the first."""
    torch.set_num_threads(threads)
    member, name = member_of(bundle)
    batch, source = crops_of(photographs, crops, member.input_size)
    ways = _ways(member, batch, threads)
    scores = {way: classify(batch).softmax(-1) for way, classify in ways.items()}
    times = {way: taken[:, 0] for way, taken in by_turns(ways, [batch], rounds).items()}
    exact = scores["eager"]
    table: dict[str, dict[str, Any]] = {}
    for way, taken in times.items():
        difference = (scores[way] - exact).abs()
        same = (scores[way].argmax(1) == exact.argmax(1)).float().mean()
        table[way] = {
            "crops a second": round(crops / float(np.median(taken)), 1),
            "times eager": median(times["eager"] / taken),
            "largest score difference": round(float(difference.max()), 5),
            "mean score difference": round(float(difference.mean()), 6),
            "same best class": round(float(same), 4),
        }
        if bundle is not None and way != "eager" and (way != "int8" or member.activation_ranges):
            table[way] |= a_photograph(bundle, photographs, way, threads)
    about = {
        "network": name,
        "input_size": member.input_size,
        "crops": f"{crops} {source}",
        "rounds": rounds,
        "threads": threads,
        "torch": torch.__version__,
        "eager": "NCHW float32, batches of 32, the framework's own response norm",
        "others": "channels-last, folded and fused, batches of 8, one thread each",
    }
    return {"about": machine() | about, "tables": {"way": table}}


def a_photograph(bundle: Path, photographs: Path, precision: str, threads: int) -> dict[str, float]:
    """Seconds of one photograph through the whole detector, loaded and warm: its search and as many
    regions as the bundle says. Of the clock, and of the processor.
    """
    if not photographs.is_dir():
        return {}
    detect = load_detector(bundle, precision=precision, threads=threads)
    images = read_folder(photographs)
    detect(images[0])
    wall, processor = seconds(lambda: list(detect.detect_many(images))) / len(images)
    return {
        "seconds a photograph": round(wall, 2),
        "processor seconds a photograph": round(processor, 2),
    }


def _ways(member: Member, batch: Tensor, threads: int) -> dict[str, Classify]:
    formats: list[Precision] = ["float32"]
    if fastest_precision("cpu") == "bfloat16":
        formats.append("bfloat16")
    ranges = member.activation_ranges
    # int8 is for a GoogLeNet on a processor with exact 8-bit products.
    if isinstance(member.model, GoogLeNet) and runs_in_8_bits("cpu"):
        formats.append("int8")
        ranges = ranges or activation_ranges(member.model, batch[:32], member.normalisation)
    ways: dict[str, Classify] = {"eager": _eager(member.model, member.normalisation)}
    for precision in formats:
        fast = prepare_for_inference(member.model, precision, member.normalisation, ranges)
        ways[precision] = FixedBatches(fast, batch_size=8, workers=threads)
    return ways


def member_of(bundle: Path | None) -> tuple[Member, str]:
    if bundle is None:
        network = build_model("googlenet", 21, generator=torch.Generator().manual_seed(0))
        return Member(network.eval(), 224), "googlenet, random weights"
    loaded = load_bundle(bundle, members=1)
    one = loaded.manifest.members[0]
    member = Member(loaded.models[0], one.input_size, one.normalisation, one.activation_ranges)
    return member, f"{one.architecture} of {bundle.name}"


def crops_of(photographs: Path, count: int, size: int) -> tuple[Tensor, str]:
    """Random regions of the photographs in a folder; noise where there is none."""
    rng = np.random.default_rng(0)
    if not photographs.is_dir():
        noise = rng.normal(0, 0.25, (count, 3, size, size)).astype(np.float32)
        return torch.from_numpy(noise), "noise"
    images, parts = read_folder(photographs), []
    for share, image in zip(np.array_split(np.arange(count), len(images)), images, strict=True):
        height, width = image.shape[:2]
        corners = np.sort(rng.uniform(0, 1, (len(share), 2, 2)), axis=1)
        boxes = (corners * (width, height)).reshape(-1, 4)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 8)
        parts.append(crop_batch(image, boxes, size))
    return torch.cat(parts), f"random regions of {len(images)} photographs"


def _eager(model: nn.Module, normalisation: Normalisation) -> Classify:
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LocalResponseNorm):
                setattr(module, name, FrameworkResponseNorm())

    def classify(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            parts = batch.contiguous().split(32)
            return torch.cat([plain(normalisation(part)) for part in parts])

    return classify
