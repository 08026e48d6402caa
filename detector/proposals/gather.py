"""Proposals of many images: read from the cache, or else computed and stored."""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.errors import DetectorError, ImageError, ProposalError
from detector.images.decoding import content_hash, decode, read_bytes
from detector.progress.prefetch import prefetched
from detector.proposals.cache.stored import ProposalStore, describe, settings_hash
from detector.proposals.engines import build_engine
from detector.proposals.merge import Proposer, check_near
from detector.structures import Proposals


class StoredProposals:
    """Proposals of one cache file, by the content of the image file."""

    def __init__(self, path: str | Path, settings: str | None = None) -> None:
        """`settings` is a settings hash; optional where the cache holds only one.

        Raises ProposalError.
        """
        self.store = ProposalStore(path, "r")
        self.key = self.store.only_settings(settings)
        self.settings = self.store.settings()[self.key]

    def unlike(self, proposer: Proposer) -> str | None:
        """Describe the settings in which these proposals and the proposer differ, or None."""
        wanted, stored = describe(proposer), self.settings
        names = [name for name in wanted if name in stored and stored[name] != wanted[name]]
        if "engine" in names:  # settings of different engines do not compare
            names = ["engine"]
        if not names:
            return None
        theirs, ours = (
            ", ".join(f"{name}={settings[name]}" for name in names) for settings in (stored, wanted)
        )
        return f"{self.store.path} holds proposals of {theirs}, but the weights' own have {ours}"

    def of(self, content: str, size: tuple[int, int], name: str) -> Proposals:
        """Proposals of the image with this content hash and (H, W).

        Raises ProposalError where there are none, or where they are of another size.
        """
        proposals = self.store.get(content, self.key)
        if proposals is None:
            raise ProposalError(
                f"no proposals for {name} in {self.store.path}; make them with"
                " inception-rcnn propose run"
            )
        if proposals.size != size:
            raise ProposalError(
                f"{name}: proposals are for (H, W) {proposals.size}, the image has {size}"
            )
        check_near(proposals, f"{name} in {self.store.path}")
        return proposals


def propose_file(
    path: Path, proposer: Proposer, store: ProposalStore | None, key: str
) -> tuple[Proposals, float | None]:
    """Proposals of an image file, and the seconds of the search; None where they were stored.

    New ones are stored under the settings hash `key`. Raises ImageError or ProposalError.
    """
    data = read_bytes(path)
    content = content_hash(data)
    stored = None if store is None else store.get(content, key)
    if stored is not None and store is not None:
        store.add_name(content, path.name)  # a renamed image is exported under both names
        return stored, None
    pixels = decode(data, str(path)).pixels
    started = time.perf_counter()
    proposals = proposer(pixels)
    seconds = time.perf_counter() - started
    if store is not None:
        store.put(content, key, proposals, path.name)
    return proposals, seconds


def gather(
    paths: Sequence[Path], proposer: Proposer, store: ProposalStore | None, *, threads: int = 1
) -> Generator[tuple[Path, Proposals | ImageError], None, None]:
    """Yield each path in order with its proposals, or with the ImageError of its image.

    New proposals are written to `store`. Proposers release the interpreter's lock, so threads share
    the work; the result is the same for any number of them.
    """
    key = "" if store is None else store.put_settings(describe(proposer))

    def propose_one(path: Path) -> tuple[Path, Proposals | ImageError]:
        try:
            return path, propose_file(path, proposer, store, key)[0]
        except ImageError as error:
            return path, error

    # A few images ahead and not all: their proposals would wait in memory.
    return prefetched(propose_one, paths, threads=threads, ahead=2 * threads - 1)


@dataclass(frozen=True)
class Record:
    """Outcome for one image; `error` is None where its proposals are in the cache."""

    path: str
    boxes: int = 0
    seconds: float | None = None  # of the search; None where they were stored already
    error: str | None = None


@dataclass(frozen=True)
class Recorder:
    """Picklable factory of the function path -> Record, called in each worker process."""

    store: Path
    engine: str
    options: dict[str, Any]
    settings: dict[str, Any] = field(repr=False)  # the proposer's description for the cache

    def __call__(self) -> Callable[[str], Record]:
        proposer = build_engine(self.engine, self.options)
        store, key = ProposalStore(self.store, "rw"), settings_hash(self.settings)

        def record(path: str) -> Record:
            try:
                proposals, seconds = propose_file(Path(path), proposer, store, key)
            except DetectorError as error:
                return Record(path, error=str(error))
            return Record(path, len(proposals), seconds)

        return record
