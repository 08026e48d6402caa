"""Crops a second of a bundle's first member on every engine that is installed."""

import os
from pathlib import Path
from typing import Any

from benches.classifier import crops_of
from benches.timing import by_turns, machine, median
from detector.detection.engine_choice import ENGINES
from detector.detection.load import SHIPPED, load_detector
from detector.errors import SettingsError
from detector.models.inference.engines import versions
from detector.models.inference.prepare import fastest_precision


def measure(
    bundle: Path | None, photographs: Path, folder: Path, *, crops: int, rounds: int, threads: int
) -> dict[str, Any]:
    """Time the engines by turns on the same crops, in each number format: medians of `rounds`,
    ratios to torch in the same format, and differences of the scores to torch in float32.

    folder  of converted networks
    """
    ways = {}
    for precision in dict.fromkeys(["float32", fastest_precision("cpu")]):
        for engine in ENGINES:
            try:
                detect = load_detector(
                    bundle, precision=precision, engine=engine, engine_folder=folder,
                    threads=threads,
                )  # fmt: skip
            except SettingsError:  # not installed, or without this number format
                continue
            ways[f"{engine}, {precision}"] = detect.ensemble
    (spec,) = ways["torch, float32"].crop_specs
    batch, source = crops_of(photographs, crops, spec.size)
    scores = {way: ensemble({spec: batch}) for way, ensemble in ways.items()}
    times = {way: taken[:, 0] for way, taken in by_turns(ways, [{spec: batch}], rounds).items()}
    table = {
        way: {
            "crops a second": round(crops / median(times[way], 6), 1),
            "times torch": median(times[f"torch, {way.partition(', ')[2]}"] / times[way]),
            "largest score difference": float(
                f"{(scores[way] - scores['torch, float32']).abs().max():.2g}"
            ),
        }
        for way in ways
    }
    about = {
        "bundle": (bundle or SHIPPED).name,
        "crops": f"{crops} {source}, batches of 8, one thread each",
        "rounds": rounds,
        "threads": threads,
        "load": f"{os.getloadavg()[0]:.1f} at the end, this benchmark included",
        **versions(),
    }
    return {"about": machine() | about, "tables": {"engine": table}}
