"""Where the time of a detection goes: stages against their floors, growth, and a folder's rate.

The floor of crops is the bytes that they are written as over the rate of copying memory, that of
the networks their operations over the rate of a large matrix product in the same number format;
both rates are measured in the same run. A multiply-add is two operations; a trunk that members
share counts for each.
"""

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benches.timing import by_turns, machine, median, read_folder, seconds
from detector.crops.warp import crop_batch
from detector.detection.bundle import load_bundle
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED, load_detector
from detector.hardware import search_kernels
from detector.structures import Array

# Of a matrix, and of a copy in bytes: large enough for a device's full rate.
SIDE = {"cpu": 2048, "cuda": 8192}
COPIED = 2**28
# Of a photograph's regions.
SHARES = (0.25, 0.5, 1.0)
# Sides of a photograph, as shares of its own.
SCALES = (0.5, 1.0, 2.0)


def measure(
    bundle: Path | None, photographs: Path, *, images: int, rounds: int, threads: int,
    device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    """The tables of one bundle on one device; the first photograph stands for all in the stages."""
    torch.set_num_threads(threads)
    search_kernels(device)
    folder = bundle or SHIPPED
    count = len(load_bundle(folder).models)
    detectors = {
        members: load_detector(folder, device=device, members=members, threads=threads)
        for members in sorted({1, count})
    }
    pictures = read_folder(photographs, images)
    stages, limit = _stages(folder, detectors, pictures[0], rounds, device)
    rates = {}
    for members, detect in detectors.items():
        taken = seconds(partial(list, detect.detect_many(pictures)))[0]
        rates[f"{members} of {count}"] = {
            "images a second": round(len(pictures) / taken, 2),
            "seconds an image": round(taken / len(pictures), 3),
        }
    about = {
        "bundle": folder.name,
        "device": str(device),
        "precision": detectors[1].ensemble.arithmetic,
        "threads": threads,
        "rounds": rounds,
        "images": f"{len(pictures)}, the first {pictures[0].shape[1]} x {pictures[0].shape[0]}",
        "limit": limit,
        "peak memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    tables = {
        "stage": stages,
        "a folder, members": rates,
        "growth": _growth(detectors, pictures[0], rounds),
    }
    return {"about": machine() | about, "tables": tables}


def _stages(
    folder: Path, detectors: dict[int, Detector], image: Array, rounds: int, device: torch.device
) -> tuple[dict[str, dict[str, Any]], str]:
    """Each stage of a photograph, and a sentence about the longest of one member."""
    detect, everyone = detectors[1], detectors[max(detectors)]
    proposals = detect.propose(image)

    def crops(_: Any) -> dict[Any, torch.Tensor]:
        made = {
            one: crop_batch(
                image, proposals.boxes, one.size, context=one.context, device=device,
                threads=detect.threads,
            )
            for one in everyone.ensemble.crop_specs
        }  # fmt: skip
        _wait(device)
        return made

    ready = crops(None)
    scored = detect.predict(image, proposals)
    ways: dict[str, Callable[[Any], object]] = {
        "search": lambda _: detect.propose(image),
        "crops": crops,
        f"networks, {max(detectors)} members": lambda _: everyone.ensemble.forward(ready),
        "networks, 1 member": lambda _: detect.ensemble.forward(ready),
        "suppression": lambda _: detect.suppress(scored.boxes, scored.scores),
    }
    times = {name: float(np.median(t[:, 0])) for name, t in by_turns(ways, [None], rounds).items()}
    copying, products = _rates(detect.ensemble.precision, device, rounds)
    number = sum(one.numel() * one.element_size() for one in ready.values())
    loaded = load_bundle(folder)
    operations = [
        _operations(model, entry.input_size) * len(proposals)
        for model, entry in zip(loaded.models, loaded.manifest.members, strict=True)
    ]
    floors = {
        "crops": number / copying,
        f"networks, {max(detectors)} members": sum(operations) / products,
        "networks, 1 member": operations[0] / products,
    }
    table: dict[str, dict[str, Any]] = {
        name: {"ms": round(1000 * taken, 1)} for name, taken in times.items()
    }
    for name, floor in floors.items():
        table[name] |= {"floor ms": round(1000 * floor, 1), "ratio": round(times[name] / floor, 1)}
    one = {name: taken for name, taken in times.items() if not name.endswith("members")}
    longest = max(one, key=one.__getitem__)
    share = one[longest] / sum(one.values())
    return table, f"{longest}: {100 * share:.0f} % of a photograph of {len(proposals)} regions"


def _growth(detectors: dict[int, Detector], image: Array, rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds of a photograph by regions, by pixels, and by members."""
    detect = detectors[1]
    every = detect.propose(image)
    calls: dict[str, Callable[[], object]] = {}
    for number in (round(share * len(every)) for share in SHARES):
        calls[f"{number} regions"] = partial(detect.score, image, every[:number])
    for scale in SCALES:
        pixels = cv2.resize(image, None, fx=scale, fy=scale)
        name = f"search in {pixels.shape[1]} x {pixels.shape[0]}"
        calls[name] = partial(detect.propose, pixels)
    for members, one in detectors.items():
        calls[f"{members} members, {len(every)} regions"] = partial(one.score, image, every)
    ways = {name: partial(_call, run) for name, run in calls.items()}
    times = by_turns(ways, [None], rounds)
    return {name: {"ms": median(1000 * taken[:, 0], 1)} for name, taken in times.items()}


def _call(run: Callable[[], object], _: Any) -> object:
    return run()


def _rates(precision: str, device: torch.device, rounds: int) -> tuple[float, float]:
    """Bytes copied, and operations of a matrix product, a second."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size = SIDE.get(device.type, 2048)
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def product(_: Any) -> None:
        _ = one @ other
        _wait(device)

    def copy(_: Any) -> None:
        target.copy_(source)
        _wait(device)

    times = by_turns({"copy": copy, "product": product}, [None], max(rounds, 3))
    copying, products = (float(np.median(t[:, 0])) for t in times.values())
    return COPIED / copying, 2 * size**3 / products


def _operations(model: torch.nn.Module, size: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    return counter.get_total_flops()


def _wait(device: torch.device) -> None:  # a GPU's calls return before its work is done
    if device.type == "cuda":
        torch.cuda.synchronize(device)
