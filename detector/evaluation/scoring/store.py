"""A cache of the outputs of networks and their heads for the regions of images.

Raw logits and head outputs are stored in one folder per network and kind of head. Temperatures, the
mean over members and the size prior are applied after reading, so settings that differ in them
share the files; and of M stored regions the first N <= M serve a limit of N.
"""

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detector.detection.aggregate import MemberOutput, RegionOutputs
from detector.detection.bundle import BundleManifest
from detector.files import write_atomically
from detector.heads import HeadManifest
from detector.proposals.cache.stored import settings_hash
from detector.structures import Array, Proposals

FORMAT = 2  # counts in the name of each folder, so that files of others are not found
# The errors of reading a damaged .npz file.
DAMAGE = (
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
    RuntimeError,  # "encrypted", or packed in an unknown way
    TypeError,  # one number in a list's place, or the other way round
    MemoryError,  # a shape that nobody wrote
)  # fmt: skip


class Part(NamedTuple):
    """One output of a member: its logits, or those of one kind of its heads.

    member    index in the ensemble
    field     of MemberOutput
    columns   number of values per region
    settings  all that decides the values
    """

    member: int
    field: str
    columns: int
    settings: dict[str, Any]


def parts_of(
    manifest: BundleManifest,
    members: int,
    heads: Sequence[HeadManifest],
    *,
    proposals: str,
    precision: str,
    device: str,
) -> list[Part]:
    """The outputs of the first `members` networks and the `heads` in use.

    proposals  hash of the settings that make the regions; their number in use does not count
    """
    classes = len(manifest.network_classes)
    parts = []
    for member in range(members):
        settings: dict[str, Any] = {
            "format": FORMAT, "proposals": proposals, "precision": precision, "device": device,
            "network": _network(manifest, member, precision),
        }  # fmt: skip
        parts.append(Part(member, "logits", classes + 1, settings))
        for kind, field, columns in (
            ("svm", "svm", classes), ("class", "added", 1), ("class", "added_deltas", 4),
            ("regression", "deltas", 4 * classes),
        ):  # fmt: skip
            hashes = [h.sha256 for h in heads if (h.kind, h.member) == (kind, member)]
            if hashes:
                parts.append(
                    Part(member, field, columns * len(hashes), {**settings, "heads": hashes})
                )
    return parts


# Neither a member's temperature nor the other members change its logits.
def _network(manifest: BundleManifest, member: int, precision: str) -> dict[str, Any]:
    entry = manifest.members[member]
    decides = {"architecture", "options", "input_size", "context", "mean", "std", "sha256"}
    chosen = entry.model_dump(mode="json", include=decides)
    if entry.trunk is not None:
        owner = manifest.members[entry.trunk.member]
        chosen["trunk"] = {"after": entry.trunk.after, "sha256": owner.sha256}
    if precision.startswith("int8"):
        chosen["activation_ranges"] = entry.activation_ranges
    return chosen


class _StoredFile(NamedTuple):
    """One file: boxes (M, 4), the best ranked of `total`, and their values (M, columns)."""

    boxes: Array
    size: tuple[int, int]
    total: int
    values: Array

    def suffices(self, limit: int | None) -> bool:
        """True if the first `limit` regions are stored; None stands for all proposals."""
        return len(self.boxes) >= (self.total if limit is None else min(limit, self.total))


class RegionStore:
    """A cache with one file per image and part, named by the hash of the image's bytes, in the
    part's folder.

    A damaged file counts as missing. Several processes may write at once.
    """

    def __init__(self, folder: str | Path, parts: Sequence[Part]) -> None:
        """`parts` come in the order of the members, each member's logits first."""
        self.parts = tuple(parts)
        self.folders = [Path(folder) / settings_hash(part.settings)[:16] for part in parts]
        for one in self.folders:
            one.mkdir(parents=True, exist_ok=True)

    def get(self, content: str, limit: int | None = None) -> RegionOutputs | None:
        """The `limit` best regions (None: all) of the image with this content hash; None unless all
        parts have them.
        """
        stored = []
        for index in range(len(self.parts)):
            file = self._read(index, content)
            if file is None or not file.suffices(limit):
                return None
            stored.append(file)
        boxes, size = stored[0].boxes[:limit], stored[0].size
        if any(s.size != size or not np.array_equal(s.boxes[:limit], boxes) for s in stored):
            return None
        return RegionOutputs(Proposals(boxes, size), self._by_member(stored, limit))

    def _by_member(
        self, stored: Sequence[_StoredFile], limit: int | None
    ) -> tuple[MemberOutput, ...]:
        members: list[MemberOutput] = []
        for part, file in zip(self.parts, stored, strict=True):
            values = torch.from_numpy(file.values[:limit])
            if part.field == "logits":
                none = values[:, :0]
                members.append(MemberOutput(values, none, none, none, none))
            else:
                members[part.member] = members[part.member]._replace(**{part.field: values})
        return tuple(members)

    def put(self, content: str, regions: RegionOutputs, total: int) -> None:
        """Store the parts that are missing; the regions are the best ranked of `total`."""
        boxes, size = regions.proposals.boxes, regions.proposals.size
        for index, part in enumerate(self.parts):
            file = self._read(index, content)
            if file and file.suffices(len(boxes)) and (file.boxes[: len(boxes)] == boxes).all():
                continue
            data = io.BytesIO()
            np.savez_compressed(
                data, boxes=boxes, size=np.array(size), total=np.array(total),
                values=getattr(regions.outputs[part.member], part.field).numpy(),
            )  # fmt: skip
            write_atomically(self._path(index, content), data.getvalue())

    def _read(self, index: int, content: str) -> _StoredFile | None:
        try:
            data = io.BytesIO(self._path(index, content).read_bytes())
            with np.load(data, allow_pickle=False) as file:  # a pickle runs code
                height, width = file["size"].tolist()
                proposals = Proposals(file["boxes"], (height, width))
                stored = _StoredFile(
                    proposals.boxes, proposals.size, int(file["total"]), file["values"]
                )
        except DAMAGE:
            return None
        wanted = (len(stored.boxes), self.parts[index].columns)
        fits = stored.values.shape == wanted and stored.values.dtype == np.float32
        return stored if fits and stored.total >= len(stored.boxes) else None

    def _path(self, index: int, content: str) -> Path:
        return self.folders[index] / f"{content}.npz"
