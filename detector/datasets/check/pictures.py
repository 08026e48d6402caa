"""Every picture decoded once: can it be, how large is it, and was it there before?"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from detector.datasets.check.findings import Findings
from detector.datasets.check.index import Index, Picture, Watch
from detector.datasets.image_files import upright_size
from detector.errors import ImageError
from detector.images.decoding import MAX_BYTES, MAX_PIXELS, Decoded, decode, read_bytes


def judge_pictures(index: Index, findings: Findings, watch: Watch) -> None:
    """Fills in the true sizes."""
    seen: dict[bytes, list[Picture]] = defaultdict(list)
    turned: list[Picture] = []
    for picture in watch(index.pictures, "look at images"):
        decoded = _decoded(picture, findings)
        if decoded is None:
            continue
        picture.true = decoded.size
        _judge_size(picture, decoded, findings)
        for warning in decoded.warnings:
            findings.add(picture.path, picture.id, "image-warning", warning)
        if decoded.orientation != 1 and not _tells_frame(picture, decoded):
            turned.append(picture)
        pixels = hashlib.blake2b(repr(decoded.size).encode(), digest_size=16)
        pixels.update(decoded.pixels.data)
        seen[pixels.digest()].append(picture)
    for same in seen.values():
        _judge_copies(same, findings)
    _judge_frames(turned, index, findings)


def judge_splits(index: Index, findings: Findings) -> None:
    """No image may stand in two splits, unless one of them joins others (trainval)."""
    members: dict[str, set[Path]] = defaultdict(set)
    for picture in index.pictures:
        for split in picture.splits:
            members[split].add(picture.path)
    joined = {split for split in members if _joins_others(split, members)}
    for picture in index.pictures:
        apart = [one for one in picture.splits if one not in joined]
        if len(apart) > 1:
            why = f"stands in {' and in '.join(apart)}"
            findings.add(picture.file, picture.id, "two-splits", why)


def _joins_others(split: str, members: dict[str, set[Path]]) -> bool:
    """Whether it is made of two or more other splits."""
    parts = [other for other in members.values() if other < members[split]]
    return len(parts) > 1 and set().union(*parts) == members[split]


def _decoded(picture: Picture, findings: Findings) -> Decoded | None:
    try:
        data = read_bytes(picture.path)
        return decode(data, picture.path.name)
    except ImageError as error:
        why = str(error).partition(": ")[2] or str(error)
    if picture.path.stat().st_size == 0:
        rule = "empty-file"
    elif picture.path.stat().st_size > MAX_BYTES:
        rule = "too-large"
    elif (size := upright_size(picture.path)) is None:
        rule = "unreadable-image"
    else:
        rule = "too-large" if size[0] * size[1] > MAX_PIXELS else "truncated-image"
    findings.add(picture.path, picture.id, rule, why)
    return None


def _judge_size(picture: Picture, decoded: Decoded, findings: Findings) -> None:
    if picture.declared in (None, decoded.size):
        return
    height, width = picture.declared  # type: ignore[misc]
    why = f"is said to be {width}x{height} pixels, but is {decoded.size[1]}x{decoded.size[0]}"
    turned = decoded.orientation >= 5 and picture.declared == decoded.raw_size
    rule = "raw-frame" if turned else "wrong-size"
    findings.add(picture.file, picture.id, rule, why)


def _tells_frame(picture: Picture, decoded: Decoded) -> bool:
    """Whether the declared size can be that of one frame only."""
    return picture.declared is not None and decoded.size != decoded.raw_size


def _judge_frames(turned: list[Picture], index: Index, findings: Findings) -> None:
    """One note for all objects of images that EXIF turns, unless something tells their frame."""
    filled = {id(index.pictures[row]) for row in index.boxes.picture}
    found = [one for one in turned if id(one) in filled]
    if found:
        why = (
            f"{len(found)} of {len(filled)} images with objects are turned by EXIF, and nothing"
            " tells whether their boxes are of the upright frame, as which they are read"
        )
        findings.add(found[0].file, found[0].id, "unknown-frame", why)


def _judge_copies(same: list[Picture], findings: Findings) -> None:
    first = same[0]
    for other in same[1:]:
        apart = first.splits and other.splits and not set(first.splits) & set(other.splits)
        where = f" ({first.splits[0]} and {other.splits[0]})" if apart else ""
        why = f"has the pixels of {findings.shown(first.path)}{where}"
        findings.add(other.path, other.id, "leak" if apart else "same-image", why)
