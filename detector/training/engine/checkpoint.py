"""Checkpoints: one safetensors file, replaced atomically, and the one before it.

Everything that a resumed run needs is inside: weights, momenta, averages, the step, and a
fingerprint of the settings that must not change in between. Chance is a function of (seed, step),
so there is no generator to save.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import CheckpointError, OtherRunError
from detector.files import write_atomically
from detector.structures import Array

CURRENT, PREVIOUS = "checkpoint.safetensors", "checkpoint-previous.safetensors"
# While one is saved; a kill before its last name leaves it there, complete.
NEW = "checkpoint-new.safetensors"
_FORMAT = "1"


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps: tensors by group ("model", "momentum", "average") and name."""

    step: int
    fingerprint: str
    groups: Mapping[str, Mapping[str, Tensor]]


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and keep the last whole one before it. Raises CheckpointError for weights
    that are not finite, or where the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {}
    for group, values in checkpoint.groups.items():
        for name, tensor in values.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"step {checkpoint.step}: {group} {name} is not finite; nothing was saved, the"
                    " previous checkpoint stands"
                )
            # safetensors refuses other layouts, such as channels-last.
            tensors[f"{group}/{name}"] = tensor.detach().cpu().contiguous()
    head = {"step": str(checkpoint.step), "fingerprint": checkpoint.fingerprint, "format": _FORMAT}
    data = save(tensors, metadata=head)
    folder = Path(folder)
    path = folder / CURRENT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / NEW, data)
        if path.exists() and _is_whole(path):  # else the one before is the better one
            path.replace(folder / PREVIOUS)
        (folder / NEW).replace(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); the previous checkpoint stands"
        ) from error
    return path


def load_checkpoint(
    folder: str | Path, fingerprint: str | None = None, tell: Callable[[str], None] | None = None
) -> Checkpoint | None:
    """The newest checkpoint in `folder` that can be read; None where there is none at all.

    A damaged file falls back to the one before it, and `tell` gets a sentence about that.
    Raises CheckpointError where all are damaged, OtherRunError where the fingerprint differs: the
    settings of a run do not change while it runs.
    """
    damaged = []
    for name in (NEW, CURRENT, PREVIOUS):  # the newest first
        path = Path(folder) / name
        if not path.exists():
            continue
        try:
            checkpoint = _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if fingerprint is not None and checkpoint.fingerprint != fingerprint:
            raise OtherRunError(
                f"{path} belongs to a run with other settings or other data; use the same,"
                " or another --out"
            )
        if damaged and tell is not None:
            tell(f"{'; '.join(damaged)}; going on from {path}, step {checkpoint.step}")
        return checkpoint
    if damaged:
        raise CheckpointError("; ".join(damaged) + "; delete the folder to begin again")
    return None


def _is_whole(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        # Opening compares the file's length with its header; no tensor is read.
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == _FORMAT
    except (SafetensorError, OSError):
        return False


def _read(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            head = file.metadata() or {}
            if head.get("format") != _FORMAT:
                raise CheckpointError(f"{path} is not a checkpoint of this program")
            for key in file.keys():  # noqa: SIM118
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
            return Checkpoint(int(head["step"]), head["fingerprint"], groups)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error


def hash_of(network: torch.nn.Module) -> str:
    """The SHA-256 of a network's tensors and their names."""

    numbers = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        numbers.update(name.encode())
        # Contiguous: a network hashes alike in every memory format.
        numbers.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return numbers.hexdigest()


def digest_of(*parts: Array | Sequence[str]) -> str:
    """A short hash of arrays and names, for the data that something was made from."""

    digest = hashlib.sha256()
    for part in parts:
        array = part if isinstance(part, np.ndarray) else np.array("\n".join(part).encode())
        # The same bytes are other numbers in another type or shape.
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def fingerprint_of(settings: Mapping[str, object]) -> str:
    """A short hash of settings, to which a checkpoint or a bank is bound."""

    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
