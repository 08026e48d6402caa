"""Devices, cores and number formats of the machine.

Commands and `load_detector` choose them here; nothing else in the package does.
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
    """Number of cores that this process may use, at least 1.

    A container's quota counts (docker run --cpus 2): more threads than that block each other.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(_quota_of(group) or cores)))


def _quota_of(group: Path) -> float | None:
    """Quota of a control group in cores, or None without a limit."""
    try:  # control groups of version 2 only
        limit, period = (group / "cpu.max").read_text().split()
        return int(limit) / int(period)
    except (OSError, ValueError):  # "max": no limit
        return None


def use_threads(asked: int | None) -> int:
    """Set and return the number of CPU threads: `asked`, or else one for each usable core.

    It applies to torch's own operators too.
    """
    import torch

    threads = asked or usable_cores()
    torch.set_num_threads(threads)
    return threads


def choose_device(
    name: str = "auto", environment: Mapping[str, str] = MappingProxyType({})
) -> torch.device:
    """Choose a device: "auto" is the first CUDA device, else Apple's, else the CPU.

    Raises SettingsError for one that does not exist.

    Under torchrun (WORLD_SIZE, LOCAL_RANK in `environment`) "auto" and "cuda" give each process its
    own GPU.
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
        torch.empty(1, device=device)  # the name alone, such as cuda:9, is accepted everywhere
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device {name}: {reason}; try auto or cpu") from None
    return device


def use_device(
    name: str = "auto", environment: Mapping[str, str] = MappingProxyType({})
) -> torch.device:
    """Choose a device for the whole process, and turn TF32 off: float32 is float32 on a GPU too."""
    import torch

    device = choose_device(name, environment)
    # By default torch lets convolutions on a GPU drop 13 of the 23 bits of the mantissa (TF32).
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 (AVX-512 BF16, AMX, Ampere and later)."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Private functions of torch: a version without them counts as slow.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return False


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose a number format: "auto" is bfloat16 where the hardware has it, else float32."""
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in known:
        raise SettingsError(f"precision {name!r} is not one of auto, {', '.join(known)}")
    return known[name]


def search_kernels(device: torch.device) -> None:
    """Let cuDNN time its convolutions at the first batch and use the fastest; for batches of one
    shape.
    """
    import torch

    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
