"""What the machine can do. The tools ask; nothing else in the package chooses a device or a number
format.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from detector.errors import SettingsError

if TYPE_CHECKING:
    import torch


CONTROL_GROUP = Path("/sys/fs/cgroup")


def usable_cores(group: Path = CONTROL_GROUP) -> int:
    """How many cores this process may use; at least 1. A container's limit counts (docker run
    --cpus 2): more threads than that stop each other.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(_quota_of(group) or cores)))


def _quota_of(group: Path) -> float | None:
    """Processors that a control group allows, or None without a limit."""
    try:
        limit, period = (group / "cpu.max").read_text().split()
        return int(limit) / int(period)
    except (OSError, ValueError):  # "max": no limit
        return None


def use_threads(asked: int | None) -> int:
    """How many threads a tool's work on the CPU may have: as many as were asked for, else one for
    each usable core. The framework's own operators are told too.
    """
    import torch

    threads = asked or usable_cores()
    torch.set_num_threads(threads)
    return threads


def choose_device(
    name: str = "auto", environment: Mapping[str, str] = MappingProxyType({})
) -> torch.device:
    """ "auto" is the first CUDA device, else Apple's, else the CPU; anything else must exist.

    Under torchrun (WORLD_SIZE, LOCAL_RANK in `environment`) "auto" and "cuda" give each process a
    card of its own.
    """
    import torch

    if int(environment.get("WORLD_SIZE", "1")) > 1 and name in ("auto", "cuda"):
        if torch.cuda.is_available():
            name = f"cuda:{environment['LOCAL_RANK']}"
        elif name == "auto":
            name = "cpu"
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device {name}: {reason}; try auto or cpu") from None
    return device


def use_device(
    name: str = "auto", environment: Mapping[str, str] = MappingProxyType({})
) -> torch.device:
    """`choose_device` for a command, which owns its process: from then on float32 is float32 on a
    card too, and not TF32.
    """
    import torch

    device = choose_device(name, environment)
    # The framework lets a card's convolutions drop 13 of the 23 binary digits (TF32) by itself.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are done by the hardware (AVX-512 BF16, AMX, Ampere and
    later).
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return False


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 where the hardware has it, else float32."""
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in known:
        raise SettingsError(f"precision {name!r} is not one of auto, {', '.join(known)}")
    return known[name]


def search_kernels(device: torch.device) -> None:
    """Let a CUDA device try its convolutions at the first batch and keep the fastest; for batches
    of one shape.
    """
    import torch

    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
