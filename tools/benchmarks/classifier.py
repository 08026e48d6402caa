"""Crops a second of one member: the framework as it comes against our inference path."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.bundle import load_bundle
from detector.crops import crop_batch
from detector.images import read_image
from detector.models import build_model
from detector.models.inception import LocalResponseNorm
from detector.models.inference import FixedBatches, fastest_precision, prepare_for_inference
from detector.models.normalisation import CENTRED, Normalisation

Classify = Callable[[Tensor], Tensor]


class FrameworkResponseNorm(nn.Module):
    """What one writes without knowing better."""

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)


def measure(
    bundle: Path | None, photographs: Path, *, crops: int, rounds: int, threads: int
) -> dict[str, Any]:
    """Both ways on the same crops, in turn, `rounds` times; the median of each and their ratio."""
    torch.set_num_threads(threads)
    model, size, normalisation, name = _member(bundle)
    batch, source = _crops(photographs, crops, size)
    precision = fastest_precision("cpu")
    ours = FixedBatches(
        prepare_for_inference(model, precision, normalisation), batch_size=8, workers=threads
    )
    ways: dict[str, Classify] = {"eager": _eager(model, normalisation), "ours": ours}
    scores = {way: classify(batch).softmax(-1) for way, classify in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, classify in ways.items():
            start = time.perf_counter()
            classify(batch)
            seconds[way].append(time.perf_counter() - start)
    rates = {way: crops / statistics.median(taken) for way, taken in seconds.items()}
    return {
        "network": name,
        "input_size": size,
        "crops": source,
        "eager_crops_per_second": round(rates["eager"], 1),
        "our_crops_per_second": round(rates["ours"], 1),
        "ratio": round(rates["ours"] / rates["eager"], 2),
        "ratio_of_each_round": [
            round(eager / own, 2)
            for eager, own in zip(seconds["eager"], seconds["ours"], strict=True)
        ],
        "largest_score_difference": float((scores["eager"] - scores["ours"]).abs().max()),
        "same_first_class": float(
            (scores["eager"].argmax(1) == scores["ours"].argmax(1)).float().mean()
        ),
        "eager": "NCHW float32, batches of 32, the framework's response norm",
        "ours": f"channels-last {precision}, batches of 8, {threads} workers",
        "threads": threads,
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }


def _member(bundle: Path | None) -> tuple[nn.Module, int, Normalisation, str]:
    if bundle is None:
        network = build_model("googlenet", 21, generator=torch.Generator().manual_seed(0))
        return network.eval(), 224, CENTRED, "googlenet, random weights"
    loaded = load_bundle(bundle, members=1)
    member = loaded.manifest.members[0]
    name = f"{member.architecture} of {bundle.name}"
    return loaded.models[0], member.input_size, member.normalisation, name


def _crops(photographs: Path, count: int, size: int) -> tuple[Tensor, str]:
    """Random regions of the photographs in a folder; noise where there is none."""
    rng = np.random.default_rng(0)
    paths = sorted(photographs.glob("*.jpg")) if photographs.is_dir() else []
    if not paths:
        noise = rng.normal(0, 0.25, (count, 3, size, size)).astype(np.float32)
        return torch.from_numpy(noise), "noise"
    parts = []
    for share, path in zip(np.array_split(np.arange(count), len(paths)), paths, strict=True):
        image = read_image(path)
        height, width = image.shape[:2]
        corners = np.sort(rng.uniform(0, 1, (len(share), 2, 2)), axis=1)
        boxes = (corners * (width, height)).reshape(-1, 4)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 8)
        parts.append(crop_batch(image, boxes, size))
    return torch.cat(parts), f"random regions of {len(paths)} photographs"


def _eager(model: nn.Module, normalisation: Normalisation) -> Classify:
    """The network in the framework's default layout and number format, its own operators."""
    import copy

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
