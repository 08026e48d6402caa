"""The detector of arXiv 1409.4842, section 8: propose regions, crop each one, classify it with
the ensemble, suppress per class.

An image is one value on the way: a `Job` goes into the stream, and comes out with the networks'
outputs for its regions (forward.py). Everything else is a use of that:

    detector(image) == detector.score(image, detector.propose(image))

Results are a function of the image alone: neither the images before it nor those beside it change a
bit of them.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass, field, replace
from typing import NoReturn

import torch

from detector.detection.aggregate import RegionOutputs, RegionScores, aggregate
from detector.detection.ensemble import Ensemble
from detector.detection.forward import Chunk, ClassifiedImage, Job, RegionBatches
from detector.detection.prescored import Prescored, RegionScorer
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.detection.suppression import suppress
from detector.errors import SettingsError
from detector.images.inputs import ImageLike, to_pixels
from detector.progress.prefetch import prefetched
from detector.proposals.merge import Proposer
from detector.proposals.tiles import Tiled
from detector.structures import Array, Detections, Proposals

_CPU, _USUAL = torch.device("cpu"), DetectionSettings()


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """Propose, crop, classify, suppress: image -> Detections.

    An image is a path, a Pillow picture, an array (H, W, 3) uint8 RGB or a tensor (3, H, W), uint8
    or floating point in [0, 1]; anything else is an ImageError. The two halves, `propose`
    and `score`, take the array (images/inputs.py makes it, `read_image` of a file).

    Any number of threads may share one. Each process loads its own. `dataclasses.replace` makes
    another of the same networks:

    settings      thresholds and limits
    prior         corrects the softmax by the regions' sizes (size_prior.py)
    temperatures  one for each member; the members' own if not given
    chunk         regions, of one or several images, that are cropped and classified at a time;
                  None: 128 on the CPU, 1024 elsewhere, and fewer where memory runs out
    prescorer     needed where the settings say how many regions it keeps
    budget        seconds for each image: its best ranked regions are classified until they are
                  spent, one batch at least. Only their number depends on the time: the same by
                  `max_proposals` (without `tile`) gives the same result
    """

    proposer: Proposer
    ensemble: Ensemble
    classes: tuple[str, ...]
    settings: DetectionSettings = _USUAL
    prior: SizePrior | None = None
    temperatures: tuple[float, ...] = ()
    device: torch.device = _CPU
    threads: int = 1
    prescorer: RegionScorer | None = None
    budget: float | None = None
    chunk: InitVar[int | None] = None
    shared_chunk: Chunk | None = None  # of the detector that this one is made from
    batches: RegionBatches = field(init=False)

    def __post_init__(self, chunk: int | None) -> None:
        device = torch.device(self.device)
        if chunk is not None or self.shared_chunk is None:
            usual = 128 if device.type == "cpu" else 1024
            object.__setattr__(self, "shared_chunk", Chunk(usual if chunk is None else chunk))
        assert self.shared_chunk is not None
        threads = max(1, self.threads)
        checked = {
            "classes": tuple(self.classes),
            "temperatures": tuple(self.temperatures) or self.ensemble.temperatures,
            "device": device,
            "threads": threads,
        }
        for name, value in checked.items():  # frozen, since any number of threads may share it
            object.__setattr__(self, name, value)
        batches = RegionBatches(
            self.ensemble, device, threads, self.shared_chunk, self.temperatures,
            self.budget, self.settings.cascade,
        )  # fmt: skip
        object.__setattr__(self, "batches", batches)
        if self.settings.prescore is not None and self.prescorer is None:
            raise SettingsError(
                "this detector has no pre-scorer for prescore; fit one with inception-rcnn fit"
                " prescorer"
            )
        if self.ensemble.num_outputs != len(self.classes) + 1:
            raise ValueError(
                f"{len(self.classes)} classes need {len(self.classes) + 1} outputs (background is"
                f" the last), the ensemble has {self.ensemble.num_outputs}"
            )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a detector has threads, and weights laid out for this machine: it is neither copied"
            " nor sent to a process; threads may share it, and each process calls load_detector"
        )

    @property
    def search(self) -> Proposer:
        """The proposer; where the settings tile the image, in its windows, too, and where they say
        so, the best by the pre-scorer alone.
        """
        tile, overlap, keep = (
            self.settings.tile, self.settings.tile_overlap, self.settings.prescore
        )  # fmt: skip
        search = self.proposer
        if tile is not None:
            search = Tiled(search, tile, overlap, self.settings.max_proposals)
        if keep is None:
            return search
        assert self.prescorer is not None
        return Prescored(search, self.prescorer, keep)

    @property
    def limit(self) -> int | None:
        """The most regions of an image: `max_proposals`, unless each window has had its own."""
        return self.settings.max_proposals if self.settings.tile is None else None

    def __call__(self, image: ImageLike) -> Detections:
        pixels = to_pixels(image)
        return self.score(pixels, self.propose(pixels))

    def propose(self, image: Array) -> Proposals:
        """Class-agnostic regions, best first, at most `limit`."""
        return self.search(image)[: self.limit]

    def score(self, image: Array, proposals: Proposals) -> Detections:
        """Classify the best `limit` of the given regions, and suppress."""
        scored = self.predict(image, proposals[: self.limit])
        return self.suppress(scored.boxes, scored.scores)

    def predict(self, image: Array, proposals: Proposals) -> RegionScores:
        """Class scores of all N regions (the best of them, within a budget), and their boxes."""
        (found,) = self.batches.run([(Job(image), proposals)])
        return self.aggregate(found)

    def aggregate(self, found: RegionOutputs) -> RegionScores:
        """Combine the members' outputs: temperatures, mean, prior, heads (aggregate.py)."""
        return aggregate(found, self.temperatures, self.prior, self.settings.tile)

    def suppress(self, boxes: Array, scores: Array) -> Detections:
        """Threshold, per-class NMS, the best of what is left: (N, 4), (N, K+1) -> Detections.

        Boxes (N, K, 4) are each class's own.
        """
        return suppress(boxes, scores, self.settings, self.classes)

    def detections(self, found: RegionOutputs) -> Detections:
        """Aggregate and suppress the outputs for one image, such as of `stream`."""
        scored = self.aggregate(found)
        return self.suppress(scored.boxes, scored.scores)

    def detect_many(self, images: Iterable[ImageLike]) -> Iterator[Detections]:
        """Detections of each image in turn; the same as one by one, but sooner."""
        jobs = (Job(to_pixels(image)) for image in images)
        return (self.detections(found) for found in self.stream(jobs))

    def stream(self, jobs: Iterable[Job]) -> Iterator[ClassifiedImage]:
        """Propose and classify each image in turn; of given proposals the best `limit`.

        Proposals are made in threads ahead of the network, whose batches run across images.
        """
        return self.batches.run(self._proposed(jobs))

    def _proposed(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Proposals]]:
        def propose(job: Job) -> tuple[Job, Proposals]:
            if job.proposals is not None:
                return job, job.proposals[: self.limit]
            started = time.perf_counter()
            found = self.propose(job.image)
            return replace(job, seconds=job.seconds + time.perf_counter() - started), found

        # Few of them: every image ahead of the network stays in memory.
        return prefetched(propose, jobs, threads=self.threads)
