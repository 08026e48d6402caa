"""The fit of a pre-scorer (heads/prescorer.py): which of the proposed regions are objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from detector import boxes as box_ops
from detector.datasets import Dataset, Sample
from detector.detection.bundle import load_bundle, save_prescorer
from detector.detection.prescored import WholeImages, in_order, inputs
from detector.heads.prescorer import Prescorer, PrescorerManifest
from detector.images.decoding import content_hash, read_bytes, read_image
from detector.matching import BACKGROUND, match_to_objects
from detector.models.split import ImageMap, map_shape
from detector.progress.bar import progress
from detector.progress.messages import pluralise
from detector.progress.prefetch import prefetched
from detector.structures import Array, Proposals
from detector.training.engine.checkpoint import digest_of, fingerprint_of
from detector.training.engine.feature_cache import FeatureCache
from detector.training.heads.data_features import load, proposals_of
from detector.training.regions.size_counts import countable

SIDE = 448
EPOCHS, IMAGES_A_STEP, RATE, DECAY = 8, 4, 2e-3, 0.02
# Regions of an epoch: of each object, and of each image's background.
OF_OBJECT, OF_BACKGROUND = 64, 192
# However many regions an object has, together they weigh as much as 80 of the background.
OBJECT_WEIGHT, BACKGROUND_WEIGHT = 8.0, 0.1
# The target rises from 0 to 1 between these IoUs with the nearest object.
LOW_IOU, HIGH_IOU = 0.3, 0.8
LEAST_IOU = 0.4  # of an object's regions
HELD_OUT = 10  # every tenth image shows what was learnt
COUNTS = (25, 50, 75, 100, 150, 200, 300)


@dataclass(frozen=True)
class PrescorerReport:
    """The share of objects that the first regions reach at IoU 0.5, on images held out.

    counts    numbers of regions
    by_rank   in the order of the search
    by_score  in that of the pre-scorer
    complete  all images could be read
    """

    images: int
    objects: int
    counts: tuple[int, ...]
    by_rank: tuple[float, ...]
    by_score: tuple[float, ...]
    complete: bool

    def __str__(self) -> str:
        rows = [
            f"{count:8} {before:9.1%} {after:11.1%}"
            for count, before, after in zip(self.counts, self.by_rank, self.by_score, strict=True)
        ]
        about = f"{pluralise(self.objects, 'object')} of {pluralise(self.images, 'image')} held out"
        return "\n".join([f"{about}, reached at IoU 0.5:", " regions   by rank  pre-scorer", *rows])


@dataclass(frozen=True, eq=False)
class _Image:
    """An image's regions in the order of the search, and the objects that they are (matching.py).

    best  (N,) IoU with the nearest object
    """

    sample: Sample
    proposals: Proposals
    which: Array
    best: Array

    @staticmethod
    def of(sample: Sample, proposals: Proposals) -> "_Image":
        which, best = match_to_objects(proposals.boxes, sample.annotations, LEAST_IOU)
        return _Image(sample, proposals, which, best)

    def drawn(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Rows of some regions, and their weights."""
        rows = [rng.permutation(np.flatnonzero(self.which == BACKGROUND))[:OF_BACKGROUND]]
        weights = [np.full(len(rows[0]), BACKGROUND_WEIGHT)]
        for number in np.unique(self.which[self.which >= 0]):
            rows.append(rng.permutation(np.flatnonzero(self.which == number))[:OF_OBJECT])
            weights.append(np.full(len(rows[-1]), OBJECT_WEIGHT / len(rows[-1])))
        return np.concatenate(rows), np.concatenate(weights)


def fit_prescorer(
    dataset: Dataset, bundle: Path, out: Path, cache: Path, *, keep: int, device: str = "auto",
    precision: str = "auto", threads: int | None = None, quiet: bool = True, seed: int = 0,
) -> PrescorerReport:  # fmt: skip
    """Fit a pre-scorer on annotated images, and write the bundle with it as `out`.

    cache  folder of proposals and maps; the same fit goes on from there
    keep   regions of an image that the new bundle's networks see

    Images in which some objects may be unboxed are left out. Raises SettingsError where the first
    member has no maps to see, DatasetError where no image can be read.
    """
    detector = load(bundle, 1, 0, device, precision, threads)
    loaded = load_bundle(bundle, 1)
    maps = WholeImages.of(
        loaded, SIDE, detector.ensemble.precision, detector.device, detector.threads
    )
    dataset = countable(dataset)
    cache.mkdir(parents=True, exist_ok=True)
    pairs = proposals_of(dataset, detector, cache / "proposals.sqlite", quiet)
    images = [_Image.of(*pair) for pair in pairs]
    shape = map_shape(ImageMap(loaded.models[0]), SIDE)
    features = _computed([one.sample for one in images], maps, shape, cache, quiet)
    held = range(0, len(images), HELD_OUT) if len(images) >= HELD_OUT else range(0)
    learnt = [row for row in range(len(images)) if row not in held]
    network = _fitted(images, features, learnt, seed, quiet)
    about = f"{pluralise(len(learnt), 'image')} of {dataset.name}"
    manifest = PrescorerManifest(side=SIDE, recipe={"data": about, "seed": seed, "epochs": EPOCHS})
    save_prescorer(bundle, out, network, manifest, keep)
    return _report(images, features, held, network, complete=len(pairs) == len(dataset))


def _computed(
    samples: Sequence[Sample], maps: WholeImages, shape: tuple[int, int, int], cache: Path,
    quiet: bool,
) -> FeatureCache:  # fmt: skip
    content = [content_hash(read_bytes(sample.path)) for sample in samples]
    fingerprint = fingerprint_of({**maps.about, "images": digest_of(content)})
    counts = np.ones(len(samples), np.int64)
    features = FeatureCache(cache / fingerprint, counts, shape, fingerprint)
    filling = features.fill(
        lambda first: prefetched(
            lambda sample: maps(read_image(sample.path))[None], samples[first:],
            threads=maps.batches.workers,
        )
    )  # fmt: skip
    for _ in progress(filling, "maps", len(samples), quiet):
        pass
    return features


def _fitted(
    images: Sequence[_Image], features: FeatureCache, learnt: Sequence[int], seed: int, quiet: bool
) -> Prescorer:
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the weights and of dropout
        some = features.read(np.array(learnt[:: max(1, len(learnt) // 50)]))
        size = some.square().mean((0, 2, 3)).sqrt()
        scale = 0.1 / (size + size.mean())  # maps of different depth differ in size
        network = Prescorer(len(scale)).train()
        steps = EPOCHS * len(learnt) // IMAGES_A_STEP + 1
        optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        order = np.concatenate([rng.permutation(learnt) for _ in range(EPOCHS)])
        for done, row in enumerate(progress(order.tolist(), "fit", quiet=quiet), 1):
            one = images[row]
            chosen, weights = one.drawn(rng)
            if len(chosen):
                boxes, _ = inputs(one.proposals.boxes[chosen], one.proposals.size)
                ranks = torch.from_numpy(chosen).float()
                target = np.clip((one.best[chosen] - LOW_IOU) / (HIGH_IOU - LOW_IOU), 0, 1)
                maps = F.dropout(features.read(np.array([row]))[0] * scale[:, None, None], 0.1)
                loss = F.binary_cross_entropy_with_logits(
                    network(maps, boxes, ranks), torch.from_numpy(target).float(),
                    weight=torch.from_numpy(weights).float(), reduction="sum",
                )  # fmt: skip
                (loss / 40 / IMAGES_A_STEP).backward()
            if done % IMAGES_A_STEP == 0:
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()
    with torch.no_grad():
        network.maps.weight *= scale
    return network.eval().requires_grad_(False)


def _report(
    images: Sequence[_Image], features: FeatureCache, held: Sequence[int], network: Prescorer, *,
    complete: bool,
) -> PrescorerReport:  # fmt: skip
    reached = np.array(list(_reached(images, features, held, network))).reshape(-1, 2, len(COUNTS))
    if not len(reached):
        return PrescorerReport(len(held), 0, (), (), (), complete)
    by_rank, by_score = (tuple(shares.tolist()) for shares in reached.mean(0))
    return PrescorerReport(len(held), len(reached), COUNTS, by_rank, by_score, complete)


def _reached(
    images: Sequence[_Image], features: FeatureCache, held: Sequence[int], network: Prescorer
) -> Iterator[list[list[bool]]]:
    """Yield for each object which numbers of regions reach it, in both orders."""
    for row in held:
        one = images[row]
        boxes = one.proposals.boxes
        truth = one.sample.annotations
        with torch.no_grad():
            logits = network(features.read(np.array([row]))[0], *inputs(boxes, one.proposals.size))
        reaching = box_ops.iou(boxes, truth.boxes[truth.real]) >= 0.5
        for order in zip(reaching.T, reaching[in_order(boxes, logits.numpy())].T, strict=True):
            yield [[bool(rows[:count].any()) for count in COUNTS] for rows in order]
