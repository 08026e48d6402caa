"""The work on one image file: compute its proposals and store them in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.errors import DetectorError
from detector.images.decoding import content_hash, decode, read_bytes
from detector.proposals.cache.stored import ProposalStore, settings_hash
from detector.proposals.engines import build_engine


@dataclass(frozen=True)
class Record:
    """Outcome for one image; `error` is None where its proposals are in the cache."""

    path: str
    boxes: int = 0
    seconds: float = 0.0
    known: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Recorder:
    """Picklable factory of the function path -> Record, called in each worker process."""

    store: Path
    engine: str
    options: dict[str, Any]
    settings: dict[str, Any] = field(repr=False)
    """Description of the proposer for the cache; see `describe`."""

    def __call__(self) -> Callable[[str], Record]:
        propose = build_engine(self.engine, self.options)
        store = ProposalStore(self.store, "rw")
        key = settings_hash(self.settings)

        def record(path: str) -> Record:
            try:
                data = read_bytes(path)
                content = content_hash(data)
                stored = store.get(content, key)  # None too where the row is damaged
                if stored is not None:
                    store.add_name(content, Path(path).name)
                    return Record(path, len(stored), known=True)
                pixels = decode(data, path).pixels
                started = time.perf_counter()
                proposals = propose(pixels)
                seconds = time.perf_counter() - started
                store.put(content, key, proposals, Path(path).name)
            except DetectorError as error:
                return Record(path, error=str(error))
            return Record(path, len(proposals), seconds)

        return record
