"""What networks and their heads say of the regions of images, kept on disk.

Kept are logits and the heads' numbers, one folder for each network and for each kind of its heads,
before anything is made of them. Temperatures, the mean over members and the prior of sizes come
when they are read, so settings that differ there find the same files; and of a ranking of M regions
that is kept, the first N <= M are the ranking of N.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detector.detection.aggregate import MemberOutput
from detector.detection.bundle import BundleManifest
from detector.files import write_atomically
from detector.heads import HeadManifest
from detector.proposals.cache.stored import settings_hash
from detector.structures import Array, Proposals

FORMAT = 2
DAMAGE = (
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
    RuntimeError,  # "encrypted", or packed in an unknown way
    TypeError,  # one number in a list's place, or the other way round
    MemoryError,  # a shape that nobody wrote
)  # fmt: skip
"""What reading a .npz file that is damaged may raise."""


class Part(NamedTuple):
    """One thing that regions are asked: a network, or one kind of its heads.

    member    of the ensemble
    field     of MemberOutput
    columns   of the numbers kept
    settings  all that decides them
    """

    member: int
    field: str
    columns: int
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class RegionOutputs:
    """The regions of one image and what each member says of them."""

    proposals: Proposals
    outputs: tuple[MemberOutput, ...]


def parts_of(
    manifest: BundleManifest,
    members: int,
    heads: Sequence[HeadManifest],
    *,
    proposals: str,
    precision: str,
    device: str,
) -> list[Part]:
    """All that the first `members` networks and the `heads` in use say.

    proposals  the hash of the settings by which regions are made; not how many are used
    """
    classes = len(manifest.network_classes)
    parts = []
    for member in range(members):
        how: dict[str, Any] = {
            "format": FORMAT, "proposals": proposals, "precision": precision, "device": device,
            "network": _network(manifest, member, precision),
        }  # fmt: skip
        parts.append(Part(member, "logits", classes + 1, how))
        for kind, field, columns in (
            ("svm", "svm", classes), ("class", "added", 1), ("regression", "deltas", 4 * classes)
        ):  # fmt: skip
            own = [one.sha256 for one in heads if (one.kind, one.member) == (kind, member)]
            if own:
                parts.append(Part(member, field, columns * len(own), {**how, "heads": own}))
    return parts


def _network(manifest: BundleManifest, member: int, precision: str) -> dict[str, Any]:
    """What decides the logits of a member: not its temperature, nor who runs beside it."""
    entry = manifest.members[member]
    decides = {"architecture", "options", "input_size", "context", "mean", "std", "sha256"}
    found = entry.model_dump(mode="json", include=decides)
    if entry.trunk is not None:
        owner = manifest.members[entry.trunk.member]
        found["trunk"] = {"after": entry.trunk.after, "sha256": owner.sha256}
    if precision == "int8":
        found["activation_ranges"] = entry.activation_ranges
    return found


class _Kept(NamedTuple):
    """A file: boxes (M, 4), the best ranked of `total`, and the numbers (M, columns) of each."""

    boxes: Array
    size: tuple[int, int]
    total: int
    values: Array

    def suffices(self, limit: int | None) -> bool:
        """Whether the first `limit` regions are there; None is all that were proposed."""
        return len(self.boxes) >= (self.total if limit is None else min(limit, self.total))


class RegionStore:
    """One file an image and part, named by the hash of the image's bytes, in the part's folder.

    A file that is damaged counts as missing. Any number of processes may write at once.
    """

    def __init__(self, folder: str | Path, parts: Sequence[Part]) -> None:
        """`parts` in the order of the members, each member's logits first."""
        self.parts = tuple(parts)
        self.folders = [Path(folder) / settings_hash(part.settings)[:16] for part in parts]
        for one in self.folders:
            one.mkdir(parents=True, exist_ok=True)

    def get(self, content: str, limit: int | None = None) -> RegionOutputs | None:
        """The `limit` best regions (None: all) of the image with this content hash; None where not
        all parts have them.
        """
        found = []
        for place in range(len(self.parts)):
            kept = self._read(place, content)
            if kept is None or not kept.suffices(limit):
                return None
            found.append(kept)
        boxes, size = found[0].boxes[:limit], found[0].size
        if any(one.size != size or not np.array_equal(one.boxes[:limit], boxes) for one in found):
            return None
        return RegionOutputs(Proposals(boxes, size), self._by_member(found, limit))

    def _by_member(self, found: Sequence[_Kept], limit: int | None) -> tuple[MemberOutput, ...]:
        members: list[MemberOutput] = []
        for part, kept in zip(self.parts, found, strict=True):
            values = torch.from_numpy(kept.values[:limit])
            if part.field == "logits":
                none = values[:, :0]
                members.append(MemberOutput(values, none, none, none))
            else:
                members[part.member] = members[part.member]._replace(**{part.field: values})
        return tuple(members)

    def put(self, content: str, regions: RegionOutputs, total: int) -> None:
        """Keep what is not there yet; the regions are the best ranked of `total`."""
        boxes, size = regions.proposals.boxes, regions.proposals.size
        for place, part in enumerate(self.parts):
            kept = self._read(place, content)
            if kept and kept.suffices(len(boxes)) and (kept.boxes[: len(boxes)] == boxes).all():
                continue
            data = io.BytesIO()
            np.savez_compressed(
                data, boxes=boxes, size=np.array(size), total=np.array(total),
                values=getattr(regions.outputs[part.member], part.field).numpy(),
            )  # fmt: skip
            write_atomically(self._path(place, content), data.getvalue())

    def _read(self, place: int, content: str) -> _Kept | None:
        try:
            data = io.BytesIO(self._path(place, content).read_bytes())
            with np.load(data, allow_pickle=False) as file:
                height, width = file["size"].tolist()
                proposals = Proposals(file["boxes"], (height, width))
                kept = _Kept(proposals.boxes, proposals.size, int(file["total"]), file["values"])
        except DAMAGE:
            return None
        wanted = (len(kept.boxes), self.parts[place].columns)
        fits = kept.values.shape == wanted and kept.values.dtype == np.float32
        return kept if fits and kept.total >= len(kept.boxes) else None

    def _path(self, place: int, content: str) -> Path:
        return self.folders[place] / f"{content}.npz"
