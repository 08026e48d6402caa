"""What fewer regions, by rank or by a pre-scorer, and fewer members for most of them, cost in mAP
and save in time.

    python experiments/speed_curve.py --data DATA/voc2012_sample --split val --out runs/curve

Each region is classified once by all members; every other setting is computed from that. Seconds
are of one photograph, from the measured cost of the search and of the regions in each member, in
this run. Differences are paired over the images (bootstrap), against all regions and all members.
The outputs stay in --out, so that a second run takes seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out, members_of, new_app, run_tool
from detector.datasets import Dataset, read_dataset
from detector.detection.aggregate import RegionOutputs, likely, repeating_first
from detector.detection.bundle import BundleManifest, read_manifest
from detector.detection.detector import Detector
from detector.detection.forward import Job
from detector.detection.load import SHIPPED, load_detector
from detector.errors import ImageError
from detector.evaluation import Interval, compare
from detector.evaluation.scoring.regions import forward_dataset, region_store
from detector.hardware import use_threads
from detector.images.decoding import read_image

app = new_app(__doc__ or "")


class Costs(NamedTuple):
    """Seconds of the search of an image, and of N regions in M members under [M, N]."""

    search: float
    regions: dict[tuple[int, int], float]

    def of(self, number: int, members: int, share: float) -> float:
        """Seconds of an image, if members after the first see a share of the regions."""
        first = self.regions[1, number]
        return self.search + first + share * (self.regions[members, number] - first)


class Row(NamedTuple):
    """One setting, its mAP, and the difference from everything."""

    kind: str
    regions: int
    seconds: float
    mean_ap: float
    difference: Interval

    @property
    def line(self) -> str:
        """Of the plot that it is on."""
        members, cascade, _ = self.kind.partition(" from")
        return members + (", cascade" if cascade else "")

    def __str__(self) -> str:
        low, middle, high = (
            f"{100 * one:+.1f}"
            for one in (self.difference.low, self.difference.estimate, self.difference.high)
        )
        return (
            f"{self.kind:27} {self.regions:4} regions {self.seconds:6.2f} s  mAP"
            f" {100 * self.mean_ap:4.1f}, difference {middle} ({low} to {high})"
        )


@app.command()
@exclusive_out
def main(
    data: option.Data, split: option.Split = None,
    weights: Annotated[Path, typer.Option()] = SHIPPED, ensemble: option.Ensemble = "all",
    images: option.SomeImages = None,
    regions: Annotated[str, typer.Option(help="Numbers of regions.")] = "16,32,64,128,300",
    cascades: Annotated[str, typer.Option(help="Thresholds.")] = "0.01,0.05,0.1,0.2",
    timed: Annotated[int, typer.Option(min=1, help="Images whose time is taken.")] = 5,
    threads: option.Threads = None, out: Annotated[Path, typer.Option()] = Path("runs/curve"),
) -> int:  # fmt: skip
    """mAP against seconds for one bundle."""
    dataset = read_dataset(data, split)
    dataset = dataset if images is None else dataset.subset(images)
    manifest, numbers = read_manifest(weights), sorted(map(int, regions.split(",")))
    count = members_of(ensemble) or len(manifest.members)
    everything = Classified.of(dataset, weights, manifest, count, numbers, out, threads, timed)
    thresholds = list(map(float, cascades.split(",")))
    rows = []
    for row in everything.rows(everything, numbers, thresholds):
        rows.append(row)
        print(row, flush=True)
    if manifest.prescorer is not None:
        fewer = numbers[:-1]
        first = Classified.of(dataset, weights, manifest, count, fewer, out, threads, timed, True)
        for row in first.rows(everything, fewer, []):
            rows.append(row)
            print(row, flush=True)
    draw(rows, out / "speed_curve.png")
    print(f"wrote {out / 'speed_curve.png'}")
    return 0


@dataclass(frozen=True, eq=False)
class Classified:
    """The outputs of all members for the regions of each image, and what regions cost.

    detectors  of 1, 2, ... members
    """

    dataset: Dataset
    detectors: list[Detector]
    outputs: dict[str, RegionOutputs]
    costs: Costs
    prescored: bool

    @staticmethod
    def of(
        dataset: Dataset, weights: Path, manifest: BundleManifest, count: int,
        numbers: Sequence[int], out: Path, threads: int | None, timed: int,
        prescored: bool = False,
    ) -> Classified:  # fmt: skip
        most = numbers[-1]
        given = {
            "score_threshold": 0.01, "max_proposals": most, "cascade": None,
            "prescore": most if prescored else None,
        }  # fmt: skip
        threads = use_threads(threads)
        detectors = [
            load_detector(weights, device="auto", members=one + 1, settings=given, threads=threads)
            for one in range(count)
        ]
        full = detectors[-1]
        dataset = dataset.with_classes(full.classes)
        store = region_store(out / "scores", full, manifest)
        outputs = {}
        for sample, found in forward_dataset(full, dataset, store, label="regions", quiet=False):
            if not isinstance(found, ImageError):
                outputs[sample.image_id] = found
        readable = [sample.path for sample in dataset.samples if sample.image_id in outputs]
        costs = measured(detectors, readable[:timed], numbers)
        return Classified(dataset, detectors, outputs, costs, prescored)

    def rows(
        self, others: Classified, numbers: Sequence[int], cascades: Sequence[float]
    ) -> Iterator[Row]:
        """Every setting, against all regions and members of `others`."""
        full = others.detectors[-1]
        everything = {name: full.detections(found) for name, found in others.outputs.items()}
        for members, detector in enumerate(self.detectors, 1):
            for threshold in [None, *cascades] if members > 1 else [None]:
                for number in numbers if threshold is None else numbers[-1:]:
                    results, shares = {}, []
                    for name, found in self.outputs.items():
                        some, share = reduced(found, number, members, threshold, detector)
                        results[name] = detector.detections(some)
                        shares.append(share)
                    judged = compare(self.dataset, everything, results)
                    kind = f"{members} of {len(self.detectors)} members"
                    kind += ", pre-scored" if self.prescored else ""
                    kind += "" if threshold is None else f" from {threshold:g}"
                    seconds = self.costs.of(number, members, sum(shares) / len(shares))
                    yield Row(kind, number, seconds, judged.second.estimate, judged.difference)


def reduced(
    found: RegionOutputs, number: int, members: int, threshold: float | None, detector: Detector
) -> tuple[RegionOutputs, float]:
    """The outputs with fewer regions and members, and the share that later members see."""
    outputs = tuple(output.rows(slice(number)) for output in found.outputs[:members])
    share = 1.0
    if threshold is not None:
        seen = likely(outputs[0], detector.temperatures[0], threshold)
        outputs = repeating_first(outputs, seen, detector.temperatures)
        share = float(seen.float().mean())
    return RegionOutputs(found.proposals[:number], outputs), share


def measured(detectors: Sequence[Detector], paths: Sequence[Path], numbers: Sequence[int]) -> Costs:
    """The mean costs of some images, after one that is not counted."""
    search, regions = 0.0, dict.fromkeys(product(range(1, len(detectors) + 1), numbers), 0.0)
    for turn, path in enumerate([paths[0], *paths]):
        image = read_image(path)
        started = time.perf_counter()
        proposals = detectors[0].propose(image)
        search += (time.perf_counter() - started) / len(paths) if turn else 0
        for members, number in regions if turn else [(1, numbers[0])]:
            (done,) = detectors[members - 1].stream([Job(image, proposals[:number])])
            regions[members, number] += done.seconds / len(paths) if turn else 0
    return Costs(search, regions)


def draw(rows: Sequence[Row], path: Path) -> None:
    """mAP against seconds, one line for each number of members, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for line in dict.fromkeys(row.line for row in rows):
        mine = [row for row in rows if row.line == line]
        seconds, aps = [row.seconds for row in mine], [100 * row.mean_ap for row in mine]
        axes.plot(seconds, aps, "o-", label=line)
    axes.set(xscale="log", xlabel="seconds a photograph", ylabel="mAP")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_tool(app, sys.argv[1:])
