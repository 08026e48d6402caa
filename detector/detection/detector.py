"""The detector of arXiv 1409.4842, section 8: propose regions, crop each one, ask the ensemble,
suppress per class.

It is split at the regions, because stored proposals, training and every ablation use one half:

    detector(image) == detector.score(image, detector.propose(image))

Results are a function of the image alone: neither the images before it nor those beside it change a
bit of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NoReturn

import torch

from detector.crops.warp import crop_batch
from detector.detection.aggregate import MemberOutput, aggregate
from detector.detection.ensemble import CropSpec, Ensemble
from detector.detection.size_prior import SizePrior
from detector.detection.suppression import DetectionSettings, suppress
from detector.errors import DetectorError, SettingsError, is_out_of_memory
from detector.heads.bbox_regression import apply_deltas
from detector.images.decoding import check_pixels
from detector.images.inputs import ImageLike, to_pixels
from detector.proposals.merge import Proposer, check_near
from detector.structures import Array, Detections, Proposals


@dataclass(frozen=True, eq=False)
class RegionScores:
    """The class scores of the regions of one image.

    scores  (N, K+1) float32; the last column is background
    boxes   (N, 4) as proposed or, where classes move their regions, (N, K, 4)
    """

    proposals: Proposals
    scores: Array
    boxes: Array


@dataclass
class _Work:
    """One image on its way through the classifier.

    seconds  that it has cost so far: its search, and its share of the batches
    """

    image: Array
    proposals: Proposals
    seconds: float = 0.0
    parts: list[tuple[MemberOutput, ...]] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(len(part[0].logits) for part in self.parts)

    @property
    def complete(self) -> bool:
        return self.done == len(self.proposals)

    def outputs(
        self, of_nothing: Callable[[], tuple[MemberOutput, ...]]
    ) -> tuple[MemberOutput, ...]:
        """What the members say of all its regions."""
        parts = self.parts or [of_nothing()]
        return parts[0] if len(parts) == 1 else _joined(parts)


@dataclass(frozen=True, eq=False)
class DetectedImage:
    """What was proposed and what was found in one image, and the seconds that this image cost: its
    search and its regions' share of the batches, not what others cost meanwhile.
    """

    proposals: Proposals
    detections: Detections
    seconds: float


class Detector:
    """Propose, crop, classify, suppress: image -> Detections.

    An image is a path, a Pillow picture, an array (H, W, 3) uint8 RGB or a tensor (3, H, W), uint8
    or floating point in [0, 1]; what is none of them is an ImageError. The two halves, `propose`
    and `score`, take the array (images/inputs.py makes it, `read_image` of a file).

    Any number of threads may share one. Each process loads its own.
    """

    def __init__(
        self,
        proposer: Proposer,
        ensemble: Ensemble,
        classes: Sequence[str],
        settings: DetectionSettings | None = None,
        *,
        prior: SizePrior | None = None,
        device: torch.device | str = "cpu",
        threads: int = 1,
        chunk: int | None = None,
    ) -> None:
        """`chunk` regions, of one or several images, are cropped and classified at a time.

        prior  corrects the softmax by the regions' sizes (size_prior.py)
        """
        self.propose_regions = proposer
        self.ensemble = ensemble
        self.classes = tuple(classes)
        self.settings = settings or DetectionSettings()
        self.prior = prior
        self.device = torch.device(device)
        self.threads = max(1, threads)
        self.chunk = (128 if self.device.type == "cpu" else 1024) if chunk is None else chunk
        if self.chunk < 1:
            raise SettingsError(f"chunk is {chunk}; it must be at least 1, and None is the usual")
        self._halving = threading.Lock()
        self._process, self._asked = os.getpid(), False
        if ensemble.num_outputs != len(self.classes) + 1:
            raise ValueError(
                f"{len(self.classes)} classes need {len(self.classes) + 1} outputs (background is"
                f" the last), the ensemble has {ensemble.num_outputs}"
            )

    def __copy__(self) -> Detector:
        """Another detector of the same parts, such as for other settings."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a detector has threads, and weights laid out for this machine: it is neither copied"
            " nor sent to a process; threads may share it, and each process calls load_detector"
        )

    def __call__(self, image: ImageLike) -> Detections:
        pixels = to_pixels(image)
        return self.score(pixels, self.propose(pixels))

    def propose(self, image: Array) -> Proposals:
        """Class-agnostic regions, best first, at most `max_proposals`."""
        return self._limited(self.propose_regions(image))

    def _limited(self, proposals: Proposals) -> Proposals:
        return proposals[: self.settings.max_proposals]

    def score(self, image: Array, proposals: Proposals) -> Detections:
        """Classify given regions, the best `max_proposals` of them as everywhere, and suppress."""
        judged = next(self.predict_many([(image, self._limited(proposals))]))
        return self.suppress(judged.boxes, judged.scores)

    def classify(self, image: Array, proposals: Proposals) -> Array:
        """(N, K+1) float32 class scores of all N regions; the last column is background."""
        return next(self.classify_many([(image, proposals)]))

    def classify_many(self, pairs: Iterable[tuple[Array, Proposals]]) -> Iterator[Array]:
        """Scores of each image in turn; the batches of the network run across images."""
        return (judged.scores for judged in self.predict_many(pairs))

    def predict_many(self, pairs: Iterable[tuple[Array, Proposals]]) -> Iterator[RegionScores]:
        """As `classify_many`, with the boxes that the scores stand for."""
        for work in self._judge(_Work(*pair) for pair in pairs):
            yield self.aggregate(work.proposals, work.outputs(self._of_nothing))

    def aggregate(self, proposals: Proposals, outputs: Sequence[MemberOutput]) -> RegionScores:
        """What the members said of these regions, as scores and boxes: temperatures, mean, prior of
        sizes, heads (aggregate.py).
        """
        log_odds = None if self.prior is None else self.prior(proposals.boxes, proposals.size)
        aggregated = aggregate(outputs, self.ensemble.temperatures, log_odds)
        if not all(
            part is None or bool(torch.isfinite(part).all())
            for part in (aggregated.scores, aggregated.deltas)
        ):
            raise DetectorError(
                "the networks' scores are not finite: weights or normalisation of this detector are"
                f" too large for {self.ensemble.precision}; use another bundle"
            )
        boxes = proposals.boxes
        if aggregated.deltas is not None:
            boxes = apply_deltas(boxes, aggregated.deltas.numpy(), proposals.size)
        return RegionScores(proposals, aggregated.scores.numpy(), boxes)

    def forward_many(
        self, pairs: Iterable[tuple[Array, Proposals]]
    ) -> Iterator[tuple[MemberOutput, ...]]:
        """What each member says of each image's regions, in turn; nothing is made of it yet.

        The batches of the network run across images.
        """
        for work in self._judge(_Work(*pair) for pair in pairs):
            yield work.outputs(self._of_nothing)

    def _judge(self, works: Iterable[_Work]) -> Iterator[_Work]:
        """Each with all its parts, in turn."""
        self._check_process()
        waiting: deque[_Work] = deque()
        missing = 0
        for work in works:
            image, proposals = work.image, work.proposals
            check_pixels(image)
            if proposals.size != image.shape[:2]:
                raise ValueError(
                    f"proposals are for an image of (H, W) {proposals.size}, not {image.shape[:2]}"
                )
            check_near(proposals)
            waiting.append(work)
            missing += len(proposals)
            while missing >= self.chunk:
                missing -= self._classify_chunk(waiting)
                yield from self._finished(waiting)
        while missing:
            missing -= self._classify_chunk(waiting)
        yield from self._finished(waiting)

    def _check_process(self) -> None:
        """A fork copies no threads, neither this detector's nor those of the framework's operators:
        what waits for them waits for ever.
        """
        if os.getpid() != self._process:
            if self._asked or torch.get_num_threads() > 1:
                raise DetectorError(
                    "this detector was loaded before a fork, which copies no threads; call"
                    " load_detector in each process, started by 'spawn' or forked before the first"
                )
            self._process = os.getpid()
        self._asked = True

    def _classify_chunk(self, waiting: Iterable[_Work]) -> int:
        """Classify the next `chunk` regions that are waiting, of as many images as it takes."""
        parts: list[tuple[_Work, slice]] = []
        room = size = self.chunk
        for work in waiting:
            take = min(room, len(work.proposals) - work.done)
            if take:
                parts.append((work, slice(work.done, work.done + take)))
                room -= take
            if not room:
                break
        started = time.perf_counter()
        crops: dict[CropSpec, torch.Tensor] | None
        try:
            crops = {spec: self._crops(parts, spec) for spec in self.ensemble.crop_specs}
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError(f"one crop at a time does not fit: {error}") from error
            crops = None
        if crops is None:  # outside the handler, whose traceback would keep the crops made so far
            with self._halving:  # of what was tried, whatever another thread has done meanwhile
                self.chunk = min(self.chunk, size // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return self._classify_chunk(waiting)
        outputs = self.ensemble.forward(crops)
        at = 0
        for work, rows in parts:
            count = rows.stop - rows.start
            work.parts.append(tuple(one.rows(slice(at, at + count)) for one in outputs))
            at += count
        each = (time.perf_counter() - started) / max(1, at)
        for work, rows in parts:
            work.seconds += each * (rows.stop - rows.start)
        return at

    @staticmethod
    def _finished(waiting: deque[_Work]) -> Iterator[_Work]:
        while waiting and waiting[0].complete:
            yield waiting.popleft()

    def _of_nothing(self) -> tuple[MemberOutput, ...]:
        """What is said of no region: rows of none, columns as always."""
        specs = self.ensemble.crop_specs
        return self.ensemble.forward({one: torch.zeros(0, 3, one.size, one.size) for one in specs})

    def _crops(self, parts: Sequence[tuple[_Work, slice]], spec: CropSpec) -> torch.Tensor:
        made = [
            crop_batch(
                work.image, work.proposals.boxes[rows], spec.size,
                context=spec.context, device=self.device, threads=self.threads,
            )
            for work, rows in parts
        ]  # fmt: skip
        return made[0] if len(made) == 1 else torch.cat(made)

    def detect_many(self, images: Iterable[ImageLike]) -> Iterator[Detections]:
        """Detections of each image in turn; the same as one by one, but sooner."""
        pairs = ((to_pixels(image), None) for image in images)
        return (one.detections for one in self.detect_pairs(pairs))

    def detect_pairs(
        self, pairs: Iterable[tuple[Array, Proposals | None]]
    ) -> Iterator[DetectedImage]:
        """As `detect_many`, with given proposals where there are some (None: propose), of which the
        best `max_proposals` count.

        Proposals are made in threads ahead of the network.
        """
        for work in self._judge(self._proposed(pairs)):
            judged = self.aggregate(work.proposals, work.outputs(self._of_nothing))
            found = self.suppress(judged.boxes, judged.scores)
            yield DetectedImage(work.proposals, found, work.seconds)

    def _proposed(self, pairs: Iterable[tuple[Array, Proposals | None]]) -> Iterator[_Work]:
        def propose(image: Array, given: Proposals | None) -> _Work:
            started = time.perf_counter()
            found = self.propose(image) if given is None else self._limited(given)
            return _Work(image, found, time.perf_counter() - started)

        with ThreadPoolExecutor(self.threads, thread_name_prefix="propose") as pool:
            ahead: deque[Future[_Work]] = deque()
            for image, given in pairs:
                ahead.append(pool.submit(propose, image, given))
                if len(ahead) > self.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def suppress(self, boxes: Array, scores: Array) -> Detections:
        """Threshold, per-class NMS, the best of what is left: (N, 4), (N, K+1) -> Detections.

        Boxes (N, K, 4) are each class's own.
        """
        return suppress(boxes, scores, self.settings, self.classes)


def _joined(parts: Sequence[tuple[MemberOutput, ...]]) -> tuple[MemberOutput, ...]:
    """One part after the other, for each member."""
    return tuple(
        MemberOutput(*map(torch.cat, zip(*of_member, strict=True)))
        for of_member in zip(*parts, strict=True)
    )
