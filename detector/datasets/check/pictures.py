"""Checks that decode every picture once: readable, of the declared size, no copy."""

import hashlib
from collections import defaultdict
from pathlib import Path

from detector.datasets.check.index import Index, Picture, Watch
from detector.datasets.dataset import Ledger
from detector.datasets.formats.entries import wrong_size
from detector.datasets.image_files import upright_size
from detector.errors import ImageError
from detector.images.decoding import MAX_BYTES, MAX_PIXELS, Decoded, decode, read_bytes


def judge_pictures(index: Index, ledger: Ledger, watch: Watch) -> None:
    """Decode all pictures, set their true sizes, and record what is wrong with them."""
    by_pixels: dict[bytes, list[Picture]] = defaultdict(list)
    turned: list[Picture] = []
    for picture in watch(index.pictures, "look at images"):
        decoded = _decoded(picture, ledger)
        if decoded is None:
            continue
        picture.true = decoded.size
        _judge_size(picture, decoded, ledger)
        for warning in decoded.warnings:
            ledger.add(picture.path, picture.id, "image-warning", warning)
        # A declared size tells the frame where the raw and the upright one differ in size.
        tells = picture.entry.size is not None and decoded.size != decoded.raw_size
        if decoded.orientation != 1 and not tells:
            turned.append(picture)
        # The size counts: 2 x 8 and 4 x 4 pixels may have the same bytes.
        pixels = hashlib.blake2b(repr(decoded.size).encode(), digest_size=16)
        pixels.update(decoded.pixels.data)
        by_pixels[pixels.digest()].append(picture)
    for same in by_pixels.values():
        _judge_copies(same, ledger)
    _judge_frames(turned, index, ledger)


def judge_splits(index: Index, ledger: Ledger) -> None:
    """Find images in two splits, unless one of these joins others (trainval)."""
    members: dict[str, set[Path]] = defaultdict(set)
    for picture in index.pictures:
        for split in picture.splits:
            members[split].add(picture.path)
    joined = {split for split in members if _joins_others(split, members)}
    for picture in index.pictures:
        apart = [name for name in picture.splits if name not in joined]
        if len(apart) > 1:
            why = f"stands in {' and in '.join(apart)}"
            ledger.add(picture.file, picture.id, "two-splits", why)


def _joins_others(split: str, members: dict[str, set[Path]]) -> bool:
    parts = [other for other in members.values() if other < members[split]]
    return len(parts) > 1 and set().union(*parts) == members[split]


def _decoded(picture: Picture, ledger: Ledger) -> Decoded | None:
    try:
        data = read_bytes(picture.path)
        return decode(data, picture.path.name)
    except ImageError as error:
        why = str(error).partition(": ")[2] or str(error)  # the ledger names the file itself
    if picture.path.stat().st_size > MAX_BYTES:
        rule = "too-large"
    elif (size := upright_size(picture.path)) is None:
        rule = "unreadable-image"
    else:
        rule = "too-large" if size[0] * size[1] > MAX_PIXELS else "truncated-image"
    ledger.add(picture.path, picture.id, rule, why)
    return None


def _judge_size(picture: Picture, decoded: Decoded, ledger: Ledger) -> None:
    declared = picture.entry.size
    if declared is not None and declared != decoded.size:
        # Only quarter turns swap the sides.
        turned = decoded.orientation >= 5 and declared == decoded.raw_size
        rule = "raw-frame" if turned else "wrong-size"
        ledger.add(picture.file, picture.id, rule, wrong_size(declared, decoded.size))


# One note for images that EXIF turns and whose sizes leave the frame of their boxes open.
def _judge_frames(turned: list[Picture], index: Index, ledger: Ledger) -> None:
    unclear = [picture for picture in turned if picture.entry.rows]
    if unclear:
        filled = sum(bool(picture.entry.rows) for picture in index.pictures)
        why = (
            f"{len(unclear)} of {filled} images with objects are turned by EXIF, and nothing"
            " tells whether their boxes are of the upright frame, as which they are read"
        )
        ledger.add(unclear[0].file, unclear[0].id, "unknown-frame", why)


def _judge_copies(same: list[Picture], ledger: Ledger) -> None:
    first = same[0]
    for other in same[1:]:
        apart = first.splits and other.splits and not set(first.splits) & set(other.splits)
        where = f" ({first.splits[0]} and {other.splits[0]})" if apart else ""
        why = f"has the pixels of {ledger.shown(first.path)}{where}"
        ledger.add(other.path, other.id, "leak" if apart else "same-image", why)
