"""Networks run on the regions of a stream of images, in batches across images."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from detector.crops.warp import crop_batch
from detector.detection.aggregate import MemberOutput, RegionOutputs
from detector.detection.ensemble import CropSpec, Ensemble
from detector.errors import DetectorError, SettingsError, is_out_of_memory
from detector.images.decoding import check_pixels
from detector.proposals.merge import check_near
from detector.structures import Array, Proposals


@dataclass(frozen=True, eq=False)
class Job:
    """An image on its way into the detector.

    image      (H, W, 3) uint8 RGB
    proposals  its regions; None: the detector proposes
    tag        the caller's own, which comes back with the result
    seconds    that the image has cost so far, such as those of reading it
    """

    image: Array
    proposals: Proposals | None = None
    tag: Any = None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifiedImage(RegionOutputs):
    """A job after the networks have run.

    seconds  those of the job, of its search and of its regions' share of the batches; not what
             other images cost meanwhile
    """

    image: Array
    tag: Any
    seconds: float


class Chunk:
    """The number of regions that are cropped and classified at a time.

    It is all that changes in a detector: when memory runs out it is halved, and stays so for all
    detectors that `replace` has made of one. It also remembers its process.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise SettingsError(f"chunk is {size}; it must be at least 1, and None is the usual")
        self.size = size
        self._lock = threading.Lock()
        self._process, self._used = os.getpid(), False

    def halve(self, tried: int) -> None:
        """Halve the size that did not fit."""
        with self._lock:  # another thread may have halved it meanwhile
            self.size = min(self.size, tried // 2)

    def check_process(self) -> None:
        """Raise DetectorError in a fork that would wait for threads which it does not have."""
        # A fork copies no threads, neither the detector's nor those of torch's operators.
        if os.getpid() != self._process:
            if self._used or torch.get_num_threads() > 1:
                raise DetectorError(
                    "this detector was loaded before a fork, which copies no threads; call"
                    " load_detector in each process, started by 'spawn' or forked before the first"
                )
            self._process = os.getpid()
        self._used = True


@dataclass
class _Waiting:
    """A job with regions that are still to be classified."""

    job: Job
    proposals: Proposals
    seconds: float
    done: int = 0
    parts: list[tuple[MemberOutput, ...]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class RegionBatches:
    """Crops regions and runs an ensemble on them, `chunk` at a time, of as many images as it
    takes.

    budget   seconds of an image, after which the regions that are left are dropped
    cascade  members after the first see regions that have at least this score (ensemble.py)
    """

    ensemble: Ensemble
    device: torch.device
    threads: int
    chunk: Chunk
    temperatures: tuple[float, ...]
    budget: float | None = None
    cascade: float | None = None

    def run(self, jobs: Iterable[tuple[Job, Proposals]]) -> Iterator[ClassifiedImage]:
        """Yield each job in turn, with the outputs for all of its proposals."""
        self.chunk.check_process()
        waiting: deque[_Waiting] = deque()
        missing = 0
        for job, proposals in jobs:
            check_pixels(job.image)
            if proposals.size != job.image.shape[:2]:
                raise ValueError(
                    f"proposals are for an image of (H, W) {proposals.size},"
                    f" not {job.image.shape[:2]}"
                )
            check_near(proposals)
            waiting.append(_Waiting(job, proposals, job.seconds))
            if self.budget is None:
                missing += len(proposals)
            else:
                self._spend(self.budget, waiting[-1])
            while missing >= self.chunk.size:
                missing -= self._classify_chunk(waiting)
            yield from self._finished(waiting)
        while missing:
            missing -= self._classify_chunk(waiting)
        yield from self._finished(waiting)

    def _spend(self, budget: float, one: _Waiting) -> None:
        """Classify the best regions of an image, a batch of all workers at a time, as long as the
        next one will probably end within the budget; the others are dropped.
        """
        last = 0.0
        while one.done < len(one.proposals) and (not one.done or one.seconds + last <= budget):
            before = one.seconds
            self._classify_chunk([one], self.ensemble.at_once)
            last = one.seconds - before
        one.proposals = one.proposals[: one.done]

    def _classify_chunk(self, waiting: Iterable[_Waiting], most: int | None = None) -> int:
        """Classify the next chunk of regions, at most `most`; returns their number."""
        parts: list[tuple[_Waiting, slice]] = []
        room = size = min(self.chunk.size, most or self.chunk.size)
        for one in waiting:
            take = min(room, len(one.proposals) - one.done)
            if take:
                parts.append((one, slice(one.done, one.done + take)))
                room -= take
            if not room:
                break
        started = time.perf_counter()
        crops: dict[CropSpec, torch.Tensor] | None
        try:
            crops = {spec: self._crops(parts, spec) for spec in self.ensemble.crop_specs}
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):  # only the crops': the networks halve their own batches
                raise
            if size == 1:
                raise MemoryError(f"one crop at a time does not fit: {error}") from error
            crops = None
        if crops is None:  # outside the handler, whose traceback would keep the crops made so far
            self.chunk.halve(size)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return self._classify_chunk(waiting, most)
        outputs = self._forward(crops)
        count = size - room
        each = (time.perf_counter() - started) / max(1, count)
        at = 0
        for one, rows in parts:
            end = at + rows.stop - rows.start
            one.parts.append(tuple(output.rows(slice(at, end)) for output in outputs))
            one.done, one.seconds, at = rows.stop, one.seconds + each * (end - at), end
        return count

    def _forward(self, crops: dict[CropSpec, torch.Tensor]) -> tuple[MemberOutput, ...]:
        if self.cascade is None:
            return self.ensemble.forward(crops)
        return self.ensemble.cascade(crops, self.temperatures, self.cascade)

    def _crops(self, parts: Sequence[tuple[_Waiting, slice]], spec: CropSpec) -> torch.Tensor:
        made = [
            crop_batch(
                one.job.image, one.proposals.boxes[rows], spec.size,
                context=spec.context, device=self.device, threads=self.threads,
            )
            for one, rows in parts
        ]  # fmt: skip
        return made[0] if len(made) == 1 else torch.cat(made)

    def _finished(self, waiting: deque[_Waiting]) -> Iterator[ClassifiedImage]:
        while waiting and waiting[0].done == len(waiting[0].proposals):
            one = waiting.popleft()
            yield ClassifiedImage(
                one.proposals, self._outputs(one.parts),
                image=one.job.image, tag=one.job.tag, seconds=one.seconds,
            )  # fmt: skip

    def _outputs(self, parts: Sequence[tuple[MemberOutput, ...]]) -> tuple[MemberOutput, ...]:
        if not parts:  # of no region: no rows, columns as always
            specs = self.ensemble.crop_specs
            crops = {spec: torch.zeros(0, 3, spec.size, spec.size) for spec in specs}
            return self.ensemble.forward(crops)
        if len(parts) == 1:
            return parts[0]
        return tuple(
            MemberOutput(*map(torch.cat, zip(*of_member, strict=True)))
            for of_member in zip(*parts, strict=True)
        )
