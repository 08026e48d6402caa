"""The machine: processors, memory, disks, graphics card; in a container, its limits count."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from detector.hardware import CONTROL_GROUP, usable_cores
from health.check import Check, run_apart

GB = 1e9
LEAST_MEMORY, GOOD_MEMORY = 1.0, 3.0
LEAST_DISK = 1.0
LEAST_INODES = 10_000


def check_cores(group: Path = CONTROL_GROUP, environment: Mapping[str, str] = os.environ) -> Check:
    """More threads than processors that we may use fight for them."""
    seen = os.cpu_count() or 1
    usable = usable_cores(group)
    said = f"{usable} usable of {seen}"
    threads = environment.get("OMP_NUM_THREADS", "")
    if usable < seen:
        said += " (limited by a container or taskset)"
        if not threads:
            return Check("cores", "note", said, f"export OMP_NUM_THREADS={usable}")
    if threads.isdecimal() and int(threads) > usable:
        said += f", but OMP_NUM_THREADS is {threads}"
        return Check("cores", "note", said, f"export OMP_NUM_THREADS={usable}")
    return Check("cores", "ok", said)


def check_memory(group: Path = CONTROL_GROUP, system: Path = Path("/proc/meminfo")) -> Check:
    free = free_memory(group, system)
    if free is None:
        return Check("memory", "note", "not known on this system", "python tools/doctor.py --full")
    said = f"{free:.1f} GB free"
    small = "python tools/detect.py IMAGE --threads 1 --batch-size 4 --max-proposals 500"
    if free < LEAST_MEMORY:
        return Check("memory", "fault", f"{said}; needs {LEAST_MEMORY:g}", small)
    if free < GOOD_MEMORY:
        return Check("memory", "note", f"{said}; training wants {GOOD_MEMORY:g}", small)
    return Check("memory", "ok", said)


def free_memory(group: Path, system: Path) -> float | None:
    """GB that may still be taken: of the machine, or of the control group where that is less."""
    free = []
    try:
        rows = dict(line.split(":", 1) for line in system.read_text().splitlines() if ":" in line)
        free.append(int(rows["MemAvailable"].split()[0]) * 1024 / GB)
    except (OSError, ValueError, KeyError):
        pass
    try:
        limit, used = ((group / f"memory.{one}").read_text() for one in ("max", "current"))
        free.append((int(limit) - int(used)) / GB)
    except (OSError, ValueError):  # "max": no limit
        pass
    return min(free) if free else None


def check_folder(name: str, folder: Path, variable: str) -> Check:
    """Whether a folder (or where it will be made) can be written and has room.

    variable  what moves it elsewhere: an environment variable, or an option that starts with --
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    elsewhere = "mkdir -p ~/there && "
    if variable.startswith("--"):
        elsewhere += f"python tools/detect.py IMAGE {variable} ~/there"
    else:
        elsewhere += f"export {variable}=~/there"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check(name, "fault", f"{there} cannot be written", elsewhere)
    room = shutil.disk_usage(there).free / GB
    if room < LEAST_DISK:
        return Check(name, "fault", f"{there} has {room:.2f} GB left", elsewhere)
    inodes = os.statvfs(there) if hasattr(os, "statvfs") else None
    if inodes is not None and inodes.f_files and inodes.f_favail < LEAST_INODES:
        said = f"{there} takes only {inodes.f_favail} more files (inodes)"
        return Check(name, "fault", said, elsewhere)
    return Check(name, "ok", f"{there}: {room:.0f} GB left")


def check_temporary() -> Check:
    return check_folder("temporary", Path(tempfile.gettempdir()), "TMPDIR")


def check_gpu(environment: Mapping[str, str] | None = None, driver: str | None = None) -> Check:
    """A card that torch cannot use is a fault; none is none.

    driver  the path of nvidia-smi; looked for where it is not given
    """
    program = (
        "import json, torch\nname = None\n"
        "if torch.cuda.is_available():\n"
        "    name = torch.cuda.get_device_name(0)\n"
        "    assert float(torch.ones(2, device='cuda').sum()) == 2\n"
        "print(json.dumps([name, torch.__version__]))"
    )
    found = run_apart(program, environment)
    cure = "pip install --force-reinstall torch torchvision"
    if found.error is not None:
        return Check("gpu", "fault", found.error, cure)
    name, version = found.value
    if name is None and (driver or shutil.which("nvidia-smi")):
        return Check(
            "gpu", "fault", f"a driver is installed, but torch {version} sees no card", cure
        )
    return Check("gpu", "ok", name or "none; the CPU is used")
