"""Proposals of many images: read from the cache, or else computed and stored."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from detector.errors import ImageError, ProposalError
from detector.images.decoding import content_hash, decode, read_bytes
from detector.proposals.cache.stored import ProposalStore, describe, settings_hash
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
        if "engine" in names:
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


def gather(
    paths: Sequence[Path], proposer: Proposer, store: ProposalStore | None, *, threads: int = 1
) -> Generator[tuple[Path, Proposals | ImageError], None, None]:
    """Yield each path in order with its proposals, or with the ImageError of its image.

    New proposals are written to `store` where it is open for writing. Proposers release the
    interpreter's lock, so threads share the work; the result is the same for any number of them.
    """
    key = None
    if store is not None:
        settings = describe(proposer)
        key = store.put_settings(settings) if store.mode == "rw" else settings_hash(settings)

    def propose_one(path: Path) -> Proposals | ImageError:
        try:
            data = read_bytes(path)
            content = content_hash(data)
            stored = store.get(content, key) if store is not None and key else None
            if stored is not None:
                if store is not None and store.mode == "rw":
                    store.add_name(content, path.name)
                return stored
            proposals = proposer(decode(data, str(path)).pixels)
        except ImageError as error:
            return error
        if store is not None and key and store.mode == "rw":
            store.put(content, key, proposals, path.name)
        return proposals

    with ThreadPoolExecutor(threads, thread_name_prefix="proposals") as pool:
        waiting: list[Future[Proposals | ImageError]] = []
        try:
            submitted = 0
            for path in paths:
                while submitted < len(paths) and len(waiting) < 2 * threads:
                    waiting.append(pool.submit(propose_one, paths[submitted]))
                    submitted += 1
                yield path, waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
