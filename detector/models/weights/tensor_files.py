"""Verification of untrusted safetensors files.

Size and hash are checked before the content, names and shapes (in the file's header) before the
numbers; every fault is a BundleError that names the file and the tensor.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from detector.errors import BundleError, brief, cut

# Shapes of tensors by name.
Layout = Mapping[str, tuple[int, ...]]


def verified_bytes(folder: Path, file: str, size: int, sha256: str) -> bytes:
    """Read `folder / file` and verify its size and hash. Raises BundleError."""
    path = folder / file
    if not file or not path.is_file():
        raise BundleError(f"{path}: missing; the bundle is incomplete, copy it again")
    actual = path.stat().st_size
    if actual != size:
        raise BundleError(f"{path}: {actual} bytes, expected {size}; copy the bundle again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"{path}: its SHA-256 is not the manifest's; copy the bundle again")
    return data


@contextmanager
def name_file_in_errors(label: str) -> Iterator[None]:
    """Convert safetensors' errors, such as overlapping offsets, to BundleErrors with the label."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise BundleError(f"{label}: damaged ({error}); copy the bundle again") from None


def layout_in_header(data: bytes, label: str) -> dict[str, tuple[int, ...]]:
    """Read names and shapes from the header, before any tensor is made. Raises BundleError."""
    known = ["F32", "F16", "I8", "I64"]  # I64: the counters of batch normalisation
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


def compare_layouts(actual: Layout, wanted: Layout, label: str) -> None:
    """Raise BundleError unless both layouts have the same names and shapes."""
    for name, shape in wanted.items():
        if name not in actual:
            raise BundleError(f"{label}: tensor {name} is missing")
        if actual[name] != shape:
            raise BundleError(
                f"{label}: tensor {name} has shape {brief(actual[name])}, expected {shape}"
            )
    for name in actual:
        if name not in wanted:
            raise BundleError(f"{label}: tensor {cut(name)} does not belong to the architecture")
