"""The proposals of many images: from the cache where they are stored, else computed and stored."""

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
    """The proposals of one cache file, by the content of the image file."""

    def __init__(self, path: str | Path, settings: str | None = None) -> None:
        """`settings` is the hash of those wanted; it may be left out where the cache holds only one
        kind.
        """
        self.store = ProposalStore(path, "r")
        self.key = self.store.only_settings(settings)
        self.settings = self.store.settings()[self.key]

    def unlike(self, proposer: Proposer) -> str | None:
        """What these proposals were made with and the proposer would not, in a sentence that names
        both; None where there is nothing.
        """
        own, known = describe(proposer), self.settings
        names = [name for name in own if name in known and known[name] != own[name]]
        if "engine" in names:
            names = ["engine"]
        if not names:
            return None
        theirs, ours = (
            ", ".join(f"{name}={settings[name]}" for name in names) for settings in (known, own)
        )
        return f"{self.store.path} holds proposals of {theirs}, but the weights' own have {ours}"

    def of(self, content: str, size: tuple[int, int], name: str) -> Proposals:
        """The proposals of the image with this content hash and (H, W); ProposalError where there
        are none.
        """
        found = self.store.get(content, self.key)
        if found is None:
            raise ProposalError(
                f"no proposals for {name} in {self.store.path}; make them with"
                " inception-rcnn propose run"
            )
        if found.size != size:
            raise ProposalError(
                f"{name}: proposals are for (H, W) {found.size}, the image has {size}"
            )
        check_near(found, f"{name} in {self.store.path}")
        return found


def gather(
    paths: Sequence[Path], proposer: Proposer, store: ProposalStore | None, *, threads: int = 1
) -> Generator[tuple[Path, Proposals | ImageError], None, None]:
    """Each path in order with its proposals, or with the error that its image gives.

    `store` is written where it is open for writing. Proposers release the interpreter's lock, so
    threads share the work; the result is the same for any number of them.
    """
    key = None
    if store is not None:
        settings = describe(proposer)
        key = store.put_settings(settings) if store.mode == "rw" else settings_hash(settings)

    def one(path: Path) -> Proposals | ImageError:
        try:
            data = read_bytes(path)
            content = content_hash(data)
            found = store.get(content, key) if store is not None and key else None
            if found is not None:
                if store is not None and store.mode == "rw":
                    store.also_called(content, path.name)
                return found
            made = proposer(decode(data, str(path)).pixels)
        except ImageError as error:
            return error
        if store is not None and key and store.mode == "rw":
            store.put(content, key, made, path.name)
        return made

    with ThreadPoolExecutor(threads, thread_name_prefix="proposals") as pool:
        waiting: list[Future[Proposals | ImageError]] = []
        try:
            asked = 0
            for path in paths:
                while asked < len(paths) and len(waiting) < 2 * threads:
                    waiting.append(pool.submit(one, paths[asked]))
                    asked += 1
                yield path, waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
