"""The journal of a detection, on disk as images are done, so that the same command goes on after an
interruption, a kill or a full disk.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from detector import __version__
from detector.cli.detecting.records import Record
from detector.cli.detecting.results import mark_of
from detector.detection.bundle import MANIFEST
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED
from detector.files import read_regular
from detector.images.decoding import content_hash, read_bytes
from detector.progress.journal import read_journal
from detector.proposals.cache.stored import describe, settings_hash
from detector.proposals.gather import StoredProposals
from detector.structures import Proposals

# In the folder of results while the run is not finished.
FILE = ".detected.jsonl"


def key_of(
    detector: Detector,
    store: StoredProposals | None,
    weights: Path | None,
    boxes: dict[str, Any] | None = None,
) -> str:
    """The hash of all that decides what is found in an image, but the image: version, weights,
    settings, proposals or `boxes` of another detector, precision, kind of device and size of the
    batches. Threads decide nothing.
    """
    proposer = detector.proposer
    regions: Any = boxes
    if store is not None:
        regions = {"stored": store.key}
    elif boxes is None:
        regions = describe(proposer) if hasattr(proposer, "settings") else type(proposer).__name__
    manifest = read_regular((weights or SHIPPED) / MANIFEST)  # holds the hash of every other file
    return settings_hash(
        {
            "version": __version__,
            "bundle": content_hash(manifest),
            "members": len(detector.ensemble.members),
            "precision": detector.ensemble.arithmetic,
            "device": detector.device.type,
            "batch": [one.batches.batch_size for one in detector.ensemble.groups],
            "settings": detector.settings.model_dump(mode="json"),
            "budget": detector.budget,
            "proposals": regions,
        }
    )[:32]


class DoneImages:
    """A line for each image that is done, of one key; those of another are forgotten.

    A line that a kill or a full disk left half written is cut off.
    """

    def __init__(self, out: Path, key: str) -> None:
        self.path, self.key = out / FILE, key
        self._before: dict[tuple[str, str, str], dict[str, Any]] = {}
        entries = read_journal(self.path) if self.path.is_file() else []
        if entries and entries[0].get("key") == key:
            self._before = {_name(one): one for one in entries[1:] if "content" in one}
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)  # less the umask
        # A line that was cut short would be glued to the next one.
        whole = read_regular(self.path).rfind(b"\n") + 1 if self._before else 0
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)
        self.count = len(self._before)
        if not whole:
            self._write({"key": key})

    def restore(self, record: Record, pictures: Path | None, store: StoredProposals | None) -> bool:
        """Fill the record of an image that is done, with its picture if there is to be one."""
        data = read_bytes(record.path)
        found = self._before.get((content_hash(data), record.image_id, record.path.name))
        if found is None or found["picture"] != record.picture:
            return False
        # The picture may have been removed, or drawn by other settings.
        if pictures is not None and mark_of(pictures / record.picture) != self.key:
            return False
        if store is not None:
            size = found["size"][0], found["size"][1]
            regions = store.of(content_hash(data), size, str(record.path))
            # The file of proposals may have been made anew since.
            if found["regions"] != hash_of(regions):
                return False
        record.restore(found)
        return True

    def add(self, record: Record) -> None:
        """Write the record of an image that is done."""
        self._write(record.done())
        self.count += 1

    def _write(self, entry: dict[str, Any]) -> None:
        line = (json.dumps(entry) + "\n").encode()
        start = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            while line:
                # A write may take only a part, as on a disk that fills up.
                line = line[os.write(self._file, line) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, start)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def forget(self) -> None:
        """Remove the journal: the run is finished, or has done nothing."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._file)
        if not self.count:
            self.forget()


def hash_of(proposals: Proposals) -> str:
    return content_hash(proposals.boxes.tobytes())


def _name(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["content"], entry["image_id"], entry["file_name"]


@contextmanager
def done_images(out: Path, key: str) -> Iterator[DoneImages]:
    out.mkdir(parents=True, exist_ok=True)
    done = DoneImages(out, key)
    try:
        yield done
    finally:
        done.close()
