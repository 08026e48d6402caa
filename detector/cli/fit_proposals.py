"""Make the scores of MultiBox and of selective search comparable, on annotated images.

    inception-rcnn fit proposals multibox.safetensors --data VOC2012 --split train

Fits, for either engine, the chance that a region covers an object (IoU 0.5) as a function of its
score, and writes both into the header of the weights: then `both` ranks the regions of the two
together. Images that the network did not learn from are the better judges; those in which some
objects may be unboxed are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made
from detector.errors import DatasetError, ImageError
from detector.files import make_place_for
from detector.progress.messages import say_error

if TYPE_CHECKING:
    from detector.datasets import Sample
    from detector.proposals.merge import Proposer
    from detector.structures import Array


def main(
    weights: Annotated[Path, typer.Argument(help="A file of inception-rcnn train multibox.")],
    data: option.Data,
    split: option.Split = None,
    images: Annotated[int, typer.Option(min=1, help="At most so many images.")] = 300,
    threads: option.SearchThreads = 2,
    out: Annotated[Path | None, typer.Option(help="Where to write. [in place]")] = None,
    quiet: option.Quiet = False,
    strict: option.AllImages = False,
) -> int:
    """Calibrate MultiBox against selective search."""
    import numpy as np

    from detector.datasets import read_dataset
    from detector.progress.bar import progress
    from detector.proposals.calibration import fit_calibration
    from detector.proposals.multibox.predict import MultiBox
    from detector.proposals.multibox.weights import load_multibox, save_multibox
    from detector.proposals.selective_search import SelectiveSearch
    from detector.training.regions.size_counts import countable

    trained = load_multibox(weights)
    search = SelectiveSearch(threads=threads)
    engines: dict[str, Proposer] = {
        "multibox": MultiBox(trained, threads=threads),
        "selective-search": search.proposals_with_scores,
    }
    dataset = countable(read_dataset(data, split)).subset(images)
    place = out or weights
    make_place_for(place)  # refused before the work
    parts = []
    for sample in progress(dataset.samples, "calibrate", quiet=quiet):
        try:
            parts.append(judged(sample, engines))
        except ImageError as error:
            say_error(error)
    if not parts:
        raise DatasetError(f"{dataset.name}: no image that is annotated in full can be read")
    calibration = {}
    for name in engines:
        scores, covers = (
            np.concatenate(values) for values in zip(*(part[name] for part in parts), strict=True)
        )
        calibration[name] = fit_calibration(scores, covers)
        chances = calibration[name](scores)
        said, true = mean_of_best(chances, chances), mean_of_best(chances, covers)
        print(
            f"{name}: {len(scores)} regions, {covers.mean():.1%} cover an object;"
            f" said of the best tenth {said:.1%}, true {true:.1%}"
        )
    save_multibox(place, trained.calibrated(calibration))
    print(f"wrote {place}", file=sys.stderr)
    return code_of_made(len(parts) < len(dataset), strict)


def judged(sample: Sample, engines: dict[str, Proposer]) -> dict[str, tuple[Array, Array]]:
    """By engine: the scores (N,) of its regions, and (N,) bool, true where one covers an object."""
    import numpy as np

    from detector import boxes as box_ops
    from detector.images.decoding import read_image
    from detector.proposals.calibration import MIN_IOU

    image = read_image(sample.path)
    # A crowd's box is that of no single object.
    objects = sample.annotations.boxes[~sample.annotations.crowd]
    by_engine = {}
    for name, propose in engines.items():
        regions = propose(image)
        covers = np.zeros(len(regions), bool)
        if len(objects):
            covers = box_ops.iou(regions.boxes, objects).max(1) >= MIN_IOU
        assert regions.scores is not None
        by_engine[name] = (regions.scores.astype(np.float64), covers)
    return by_engine


def mean_of_best(chances: Array, values: Array) -> float:
    import numpy as np

    best = np.argsort(-chances, kind="stable")[: max(1, len(chances) // 10)]
    return float(values[best].mean())
