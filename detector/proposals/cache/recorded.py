"""One image's way into the cache: what a worker of tools/propose.py does with each path."""

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
    """What became of an image. `error` is None where its proposals are in the cache."""

    path: str
    boxes: int = 0
    seconds: float = 0.0
    known: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Recorder:
    """Prepares the function path -> Record in whatever process it is needed."""

    store: Path
    engine: str
    options: dict[str, Any]
    settings: dict[str, Any] = field(repr=False)
    """What the cache is to know of the proposer; see `describe`."""

    def __call__(self) -> Callable[[str], Record]:
        propose = build_engine(self.engine, self.options)
        store = ProposalStore(self.store, "rw")
        key = settings_hash(self.settings)

        def record(path: str) -> Record:
            try:
                data = read_bytes(path)
                content = content_hash(data)
                found = store.get(content, key)  # None too where the row is damaged
                if found is not None:
                    store.also_called(content, Path(path).name)
                    return Record(path, len(found), known=True)
                pixels = decode(data, path).pixels
                started = time.perf_counter()
                made = propose(pixels)
                seconds = time.perf_counter() - started
                store.put(content, key, made, Path(path).name)
            except DetectorError as error:
                return Record(path, error=str(error))
            return Record(path, len(made), seconds)

        return record
