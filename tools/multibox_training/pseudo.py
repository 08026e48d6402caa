"""Pseudo boxes of a run: drawn once before the first step, kept in its folder, and chosen anew from
there whenever it starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from detector.datasets import Dataset, Sample
from detector.errors import ImageError, TrainingError
from detector.proposals.cache.stored import ProposalStore
from detector.proposals.gather import gather
from detector.reporting.cli import counted
from detector.reporting.progress import progress
from detector.structures import Proposals
from detector.training.pseudo_boxes import PseudoBoxes, PseudoSettings, choose, digest
from multibox_training.images import pseudo_settings_of
from multibox_training.pseudo_sources import build_source

if TYPE_CHECKING:
    from detector.reporting.cli import Stop
    from detector.training.distributed import Group
    from detector.training.places import Places
    from multibox_training.settings import MultiBoxTrainingConfig

CACHE = "pseudo.sqlite"
"""In the folder of the run."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """The images to learn from, and the boxes that they have beside the annotated ones.

    boxes   by the position of the image
    digest  of all of them; empty where nobody draws pseudo boxes
    by      who drew them, in words
    broken  images that could not be read
    """

    dataset: Dataset
    boxes: Mapping[int, PseudoBoxes] = field(default_factory=dict)
    digest: str = ""
    by: str = ""
    broken: Mapping[Path, str] = field(default_factory=dict)


def labelled(
    settings: MultiBoxTrainingConfig, dataset: Dataset, places: Places, group: Group, stop: Stop
) -> Labelled:
    """The images with their pseudo boxes. Where `stop` becomes true, it ends the tool; what was
    drawn is kept.

    An image that has neither a box nor an annotated class says nothing, and is left out. Raises
    TrainingError where nothing is left to learn from.
    """
    who = [pseudo_settings_of(settings, sample) for sample in dataset.samples]
    asked = list(dict.fromkeys(one for one in who if one is not None))
    if not asked:
        return Labelled(dataset)
    drawn: dict[int, Proposals | ImageError] = {}
    for one in asked:
        rows = [i for i, other in enumerate(who) if other == one]
        paths = [dataset.samples[i].path for i in rows]
        found = _drawn(one, paths, places, group, stop)
        drawn.update(zip(rows, found, strict=True))
    return _chosen(dataset, who, drawn, quiet=places.quiet)


def _drawn(
    settings: PseudoSettings, paths: list[Path], places: Places, group: Group, stop: Stop
) -> list[Proposals | ImageError]:
    """What is drawn in each image: the first process draws, the others read."""
    found: list[Proposals | ImageError] = []

    def drawing() -> Iterator[int]:
        with closing(_gathered(settings, paths, places)) as every:
            for one in progress(every, "pseudo-labels", len(paths), places.quiet):
                found.append(one)
                yield len(found)

    if not group.first_does(drawing(), stop, places.device):
        stop.leave()
    return found if group.is_first else list(_gathered(settings, paths, places))


def _gathered(
    settings: PseudoSettings, paths: list[Path], places: Places
) -> Generator[Proposals | ImageError, None, None]:
    source = build_source(
        settings.source, places.data_root, settings.min_score, places.device, places.threads,
        None if places.quiet else lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    with ProposalStore(places.out / CACHE, "rw") as store:
        for _, found in gather(paths, source, store):
            yield found


def _chosen(
    dataset: Dataset,
    who: list[PseudoSettings | None],
    drawn: Mapping[int, Proposals | ImageError],
    *,
    quiet: bool,
) -> Labelled:
    samples: list[Sample] = []
    boxes: dict[int, PseudoBoxes] = {}
    counts: dict[PseudoSettings, Counter[str]] = {}
    broken: dict[Path, str] = {}
    for i, (sample, asked) in enumerate(zip(dataset.samples, who, strict=True)):
        if asked is None:
            samples.append(sample)
            continue
        found, count = drawn[i], counts.setdefault(asked, Counter())
        count["images"] += 1
        if isinstance(found, ImageError):
            broken[sample.path] = str(found)
            count["unreadable"] += 1
            continue
        choice = choose(found, sample.annotations.boxes, asked)
        count.update({k: v for k, v in choice._asdict().items() if k != "boxes"})
        count["boxes"] += len(choice.boxes)
        if len(choice.boxes):
            count["labelled"] += 1
            boxes[len(samples)] = PseudoBoxes(choice.boxes, asked.weight, asked.background)
        elif not len(sample.annotations) and not sample.annotated:
            count["silent"] += 1
            continue
        samples.append(replace(sample, size=sample.size or found.size))
    if not quiet:
        for asked, count in counts.items():
            typer.echo(_remark(asked, count), err=True)
    _refuse_nothing(samples, boxes, counts)
    names = {samples[i].image_id: one for i, one in boxes.items()}
    by = ", ".join(dict.fromkeys(Path(one.source).name for one in counts))
    return Labelled(replace(dataset, samples=tuple(samples)), boxes, digest(names), by, broken)


def _remark(settings: PseudoSettings, count: Counter[str]) -> str:
    return (
        f"pseudo-labels of {settings.source}: {counted(count['boxes'], 'box')} in"
        f" {count['labelled']} of {counted(count['images'], 'image')}, weight {settings.weight:g}\n"
        f"  dropped: {count['weak']} below {settings.min_score:g}, {count['repeated']} of the"
        f" object of a better one, {count['true']} where a true box is, {count['beyond']} beyond"
        f" {settings.per_image} an image\n"
        f"  left out: {counted(count['silent'], 'image')} without any box,"
        f" {count['unreadable']} that cannot be read"
    )


def _refuse_nothing(
    samples: list[Sample],
    boxes: Mapping[int, PseudoBoxes],
    counts: Mapping[PseudoSettings, Counter[str]],
) -> None:
    if not boxes:
        asked, count = next(iter(counts.items()))
        raise TrainingError(
            f"pseudo: no box of {asked.source} is taken in {counted(count['images'], 'image')}"
            f" ({counted(count['weak'], 'box')} below {asked.min_score:g},"
            f" {count['true']} where a true box is); lower pseudo.min_score, or leave pseudo out"
        )
    quiet = (one.annotated is None for one in samples)
    if not any(quiet) and not any(one.background > 0 for one in boxes.values()):
        raise TrainingError(
            "pseudo: no image is annotated in full, so nothing teaches what is no object;"
            " add annotated images, or set pseudo.background, such as 0.1"
        )
