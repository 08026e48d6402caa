"""Safetensors files of strangers: nothing is believed before it is checked.

Size and hash come before the content, names and shapes (by the file's own header) before the
numbers; a fault is a BundleError that names the file and the tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from detector.errors import BundleError, brief, cut

Layout = Mapping[str, tuple[int, ...]]
"""Shapes by the names of tensors."""


def verified_bytes(folder: Path, file: str, size: int, sha256: str) -> bytes:
    """The content of `folder / file`, which has this size and hash."""
    path = folder / file
    if not file or not path.is_file():
        raise BundleError(f"{path}: missing; the bundle is incomplete, copy it again")
    found = path.stat().st_size
    if found != size:
        raise BundleError(f"{path}: {found} bytes, expected {size}; copy the bundle again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"{path}: its SHA-256 is not the manifest's; copy the bundle again")
    return data


@contextmanager
def naming(label: str) -> Iterator[None]:
    """What safetensors itself refuses (offsets that overlap, or leave the file) names the file."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise BundleError(f"{label}: damaged ({error}); copy the bundle again") from None


def layout_in_header(data: bytes, label: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes by the file's own header, before any tensor is made of it."""
    known = ["F32", "F16", "I8", "I64"]
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        kinds = {name: entry["dtype"] for name, entry in header.items()}
        layout = {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(f"{label}: not a safetensors file") from None
    for name, kind in kinds.items():
        if kind not in known:
            raise BundleError(
                f"{label}: tensor {cut(name)} is stored as {brief(kind)}, expected one of {known}"
            )
    return layout


def compare_layouts(found: Layout, wanted: Layout, label: str) -> None:
    """BundleError unless both have the same names and shapes."""
    for name, shape in wanted.items():
        if name not in found:
            raise BundleError(f"{label}: tensor {name} is missing")
        if found[name] != shape:
            raise BundleError(
                f"{label}: tensor {name} has shape {brief(found[name])}, expected {shape}"
            )
    for name in found:
        if name not in wanted:
            raise BundleError(f"{label}: tensor {cut(name)} does not belong to the architecture")
