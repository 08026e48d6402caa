"""Learn which regions of selective search are objects: the weights of its `learned` ranking.

    inception-rcnn fit ranking --data VOC2012 --split train --out ranking.json

Class-agnostic: all boxes of all classes are objects. Images in which some may be unboxed are left
out. The shipped weights were made so; where yours are to be used, put the file in place of
detector/proposals/selective_search/learned_ranking.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made
from detector.errors import DatasetError, ImageError
from detector.files import make_place_for, write_atomically
from detector.progress.messages import pluralise, say_error

if TYPE_CHECKING:
    from detector.datasets import Sample
    from detector.proposals.selective_search import SelectiveSearch
    from detector.structures import Array


def main(
    data: Annotated[list[Path], typer.Option(help="Data set; repeat for several.")],
    split: option.Split = None,
    images: Annotated[int, typer.Option(min=1, help="At most so many images of each set.")] = 800,
    iou: Annotated[
        float, typer.Option(min=0.1, max=1, help="A region of at least this IoU is an object.")
    ] = 0.7,
    preset: Annotated[str, typer.Option(help="single, fast or quality.")] = "fast",
    scale: Annotated[float, typer.Option(help="superpixel_scale.")] = 2.0,
    threads: option.SearchThreads = 2,
    quiet: option.Quiet = False,
    strict: option.AllImages = False,
    out: Annotated[Path, typer.Option(help="The weights.")] = Path("learned_ranking.json"),
) -> int:
    """Fit the learned ranking of selective search to annotated images."""
    import numpy as np

    from detector.datasets import read_dataset
    from detector.progress.bar import progress
    from detector.proposals.selective_search import SelectiveSearch
    from detector.proposals.selective_search.learned_ranking import NAMES
    from detector.training.regions.size_counts import countable

    search = SelectiveSearch(preset=preset, superpixel_scale=scale, threads=threads)
    sets = [countable(read_dataset(one, split)).subset(images) for one in data]
    samples = [sample for one in sets for sample in one.samples]
    make_place_for(out)  # refused before the work
    parts = []
    for sample in progress(samples, "regions", quiet=quiet):
        try:
            parts.append(examples(sample, search, iou))
        except ImageError as error:
            say_error(error)
    if not parts or not any(part[1].any() for part in parts):
        raise DatasetError("no region overlaps an object: nothing to learn from")
    features, is_object, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    weights = fitted(features, is_object, weight)
    table = {name: [float(f"{v:.6g}") for v in weights[:, i]] for i, name in enumerate(NAMES)}
    names = ", ".join(one.name for one in sets)
    about = f"{pluralise(len(parts), 'image')} of {names}; objects from IoU {iou}"
    write_atomically(out, json.dumps({"fitted on": about, **table}, indent=1) + "\n")
    objects = pluralise(int(is_object.sum()), "object")
    print(f"{about}: {pluralise(len(features), 'region')}, {objects}; wrote {out}")
    return code_of_made(len(parts) < len(samples), strict)


def examples(sample: Sample, search: SelectiveSearch, iou: float) -> tuple[Array, Array, Array]:
    """Features (N, 15) of an image's regions, (N,) bool for objects, and their weights (N,).

    However many regions an object has, together they weigh as much as eight of the others. Regions
    on difficult objects and in crowds are left out.
    """
    import numpy as np

    from detector.images.decoding import read_image
    from detector.matching import IGNORE, match_to_objects

    image = read_image(sample.path)
    boxes, features = search.box_features(image)
    which, _ = match_to_objects(boxes, sample.annotations, iou)
    features, which = features[which != IGNORE], which[which != IGNORE]
    is_object = which >= 0
    weight = np.ones(len(which))
    weight[is_object] = 8 / np.bincount(which[is_object])[which[is_object]]
    return features, is_object, weight


def fitted(features: Array, is_object: Array, weight: Array) -> Array:
    """Fit (4, 15): mean, deviation, and the weights of the features and of their squares."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from detector.proposals.selective_search.learned_ranking import REACH

    # The deviation of a constant feature is a divisor, too.
    mean, deviation = features.mean(0), features.std(0) + 1e-9
    part = slice(None, None, max(1, len(features) // 250_000))
    z = np.clip((features[part] - mean) / deviation, -REACH, REACH)  # as the ranking clips them
    model = LogisticRegression(C=0.1, max_iter=500)
    model.fit(np.concatenate([z, z * z], 1), is_object[part], sample_weight=weight[part])
    return np.stack([mean, deviation, *model.coef_[0].reshape(2, -1)])
