"""Fit a pre-scorer: by one pass over the whole photograph it chooses the regions that the networks
then see one by one.

    inception-rcnn fit prescorer --data VOC2012 --split train --out runs/faster
    inception-rcnn detect photos/ --weights runs/faster
    inception-rcnn detect photos/ --weights runs/faster --prescore 50

The new bundle's networks see the best 100 regions of each image (--keep). A tenth of the images is
held out, and the share of their objects that so many regions reach is printed. Proposals and maps
stay in OUT.maps: the same command goes on after an interruption.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made, exclusive_out, sibling


@exclusive_out
def main(
    data: Annotated[Path, typer.Option(help="Data set: folder, COCO .json or YOLO .yaml.")],
    out: option.NewBundle,
    split: option.Split = None,
    weights: option.Weights = None,
    keep: Annotated[
        int, typer.Option(min=1, help="Regions of an image that the new bundle's networks see.")
    ] = 100,
    images: option.SomeImages = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of proposals and maps. [OUT.maps]")
    ] = None,
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    threads: option.Threads = None,
    quiet: option.Quiet = False,
    strict: option.AllImages = False,
) -> int:
    """Fit a pre-scorer, so that the networks see fewer regions."""
    from detector.cli.detecting.loading import announce_compiling
    from detector.cli.evaluating.data import read_under_networks
    from detector.detection.bundle import read_manifest
    from detector.detection.load import SHIPPED
    from detector.training.heads.fit_prescorer import fit_prescorer

    started = time.perf_counter()
    announce_compiling(quiet)
    bundle = weights or SHIPPED
    dataset = read_under_networks(data, split, images, read_manifest(bundle))
    report = fit_prescorer(
        dataset, bundle, out, cache or sibling(out, ".maps"), keep=keep, device=device,
        precision=precision, threads=threads, quiet=quiet,
    )  # fmt: skip
    print(report)
    taken = time.perf_counter() - started
    print(f"wrote {out} in {taken:.0f} s; try: inception-rcnn detect IMAGE --weights {out}")
    return code_of_made(not report.complete, strict)
