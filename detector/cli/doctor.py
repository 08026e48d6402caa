"""Check whether this machine is fit to run the detector; each fault comes with its cure.

    inception-rcnn doctor
    inception-rcnn doctor --json

Works where the packages do not: every import is tried in a process of its own. Exit codes: 0 fit
(notes cost time only), 1 faults.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from detector.progress.messages import escape_controls

# The clone, or the folder of installed packages.
ROOT = Path(__file__).resolve().parents[2]
IS_CLONE = (ROOT / "pyproject.toml").is_file()
MODULES = (
    "numpy", "scipy", "numba", "PIL", "safetensors", "pydantic", "yaml", "sklearn", "pycocotools",
    "rich", "matplotlib",
)  # fmt: skip
OPENCV = [f"opencv-{kind}python{head}" for head in ("", "-headless") for kind in ("", "contrib-")]
TOGETHER = "pip install --force-reinstall torch torchvision"
MIN_MEMORY, GOOD_MEMORY = 1.0, 3.0  # GB


class Check(NamedTuple):
    """One line of the table; `state` is ok, note or fault."""

    name: str
    state: str
    said: str
    cure: str = ""


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
) -> int:
    """Check packages, machine and weights; say what cures each fault."""
    found = []
    for check in checks():
        found.append(check)
        if not as_json:
            print(f"{check.state:6s} {check.name:12s} {escape_controls(check.said)}")
            if check.cure:
                print(f"       cure: {check.cure}")
    faults = sum(check.state == "fault" for check in found)
    print(
        json.dumps([check._asdict() for check in found], indent=1)
        if as_json
        else f"{len(found)} checks, {faults} faults"
    )
    return int(faults > 0)


def checks() -> Iterator[Check]:
    """All checks, in the order in which faults are best cured."""
    yield check_torch()
    yield check_opencv()
    yield check_modules()
    yield check_precision()
    yield check_weights()
    yield check_memory(_free_memory())
    cache = Path(os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache")
    yield check_folder("cache", cache, "NUMBA_CACHE_DIR")
    yield check_folder("temporary", Path(tempfile.gettempdir()), "TMPDIR")


def run_apart(program: str) -> tuple[Any, str]:
    """The JSON value that Python source prints last, in a process of its own, and its error."""
    # -P: nothing in the user's folder hides a package
    source = f"import json, sys\nsys.path.append({str(ROOT)!r})\n{program}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", source], capture_output=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode < 0:
        return None, f"crashed with signal {-done.returncode}"
    try:
        return json.loads(done.stdout.strip().splitlines()[-1]), ""
    except (ValueError, IndexError):
        return None, (done.stderr.strip().splitlines() or ["printed nothing"])[-1][:300]


def versions_of(names: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that are installed, without an import."""
    # Reversed, so that of two copies the first on the path stays: the one that is imported.
    listing = "{d.metadata['Name']: d.version for d in reversed(list(m.distributions()))}"
    program = f"import importlib.metadata as m\nprint(json.dumps({listing}))"
    found, _ = run_apart(program)
    return {name: found[name] for name in names if name in (found or {})}


# torchvision's compiled operators are there only beside the very torch they were built for.
def check_torch() -> Check:
    versions = versions_of(("torch", "torchvision"))
    torch, vision = versions.get("torch"), versions.get("torchvision")
    said = f"torch {torch}, torchvision {vision}"
    _, error = run_apart(
        "import torch, torchvision\n"
        "torchvision.ops.nms(torch.tensor([[0., 0., 9., 9.]]), torch.ones(1), 0.5)\n"
        "print(json.dumps(torch.cuda.is_available()))"
    )
    if not error:
        return Check("torch", "ok", said)
    builds = [(one or "").partition("+")[2] for one in (torch, vision)]  # cpu of 2.9.1+cpu
    if builds[0] != builds[1]:
        said += "; the two come from different indexes"
    cpu = " --index-url https://download.pytorch.org/whl/cpu" if builds[0] == "cpu" else ""
    return Check("torch", "fault", f"{error} ({said})", TOGETHER + cpu)


# One package only, with the contributed modules: two overwrite each other's files.
def check_opencv() -> Check:
    cure = f"pip uninstall -y {' '.join(OPENCV)} && pip install opencv-contrib-python-headless"
    names = versions_of(OPENCV)
    if len(names) > 1:
        return Check("opencv", "fault", f"{' and '.join(names)} are installed", cure)
    program = "import cv2\ncv2.ximgproc.segmentation\nprint(json.dumps(cv2.__version__))"
    version, error = run_apart(program)
    if "ximgproc" in error:
        error = "has no ximgproc: it is the package without the contributed modules"
    return Check("opencv", "fault", error, cure) if error else Check("opencv", "ok", version)


def check_modules() -> Check:
    _, error = run_apart(f"import {', '.join(MODULES)}\nprint(1)")
    if error:
        what = f"-e {ROOT}" if IS_CLONE else "inception-rcnn"
        return Check("packages", "fault", error, f"pip install --force-reinstall {what}")
    return Check("packages", "ok", f"{len(MODULES)} others import")


def check_precision() -> Check:
    """The number format of the networks; a card that torch cannot use is a fault."""
    program = (
        "import torch\nfrom detector.models.inference.prepare import fastest_precision as fastest\n"
        "there = torch.cuda.is_available()\n"
        "assert not there or float(torch.ones(2, device='cuda').sum()) == 2\n"
        "device = torch.device('cuda' if there else 'cpu')\n"
        "print(json.dumps(f'{fastest(device)} on {device}'))"
    )
    said, error = run_apart(program)
    if error:
        return Check("precision", "fault", error, TOGETHER)
    return Check("precision", "ok", said)


# Loading the shipped bundle verifies the size and hash of every file.
def check_weights() -> Check:
    program = (
        "from detector.detection.bundle import load_bundle\n"
        "from detector.detection.load import SHIPPED\n"
        "print(json.dumps(len(load_bundle(SHIPPED).models)))"
    )
    count, error = run_apart(program)
    if error:
        cure = (
            f"git -C {ROOT} checkout -- detector/weights"
            if IS_CLONE
            else "pip install --force-reinstall --no-deps inception-rcnn"
        )
        return Check("weights", "fault", error, cure)
    return Check("weights", "ok", f"{count} shipped networks, verified")


def check_memory(free: float | None) -> Check:
    """GB that may still be taken; None where the system does not say."""
    if free is None:
        return Check("memory", "ok", "not known on this system")
    cure = "inception-rcnn detect IMAGE --threads 1 --set batch_size=4 --set max_proposals=500"
    if free < MIN_MEMORY:
        return Check("memory", "fault", f"{free:.1f} GB free; needs {MIN_MEMORY:g}", cure)
    if free < GOOD_MEMORY:
        return Check("memory", "note", f"{free:.1f} GB free; training wants {GOOD_MEMORY:g}", cure)
    return Check("memory", "ok", f"{free:.1f} GB free")


# A container's limit (cgroup v2) does not show in /proc/meminfo.
def _free_memory(
    group: Path = Path("/sys/fs/cgroup"), system: Path = Path("/proc/meminfo")
) -> float | None:
    free = []
    try:
        rows = dict(line.split(":", 1) for line in system.read_text().splitlines() if ":" in line)
        free.append(int(rows["MemAvailable"].split()[0]) * 1024 / 1e9)
        limit, used = ((group / f"memory.{one}").read_text() for one in ("max", "current"))
        free.append((int(limit) - int(used)) / 1e9)
    except (OSError, ValueError, KeyError):  # "max": no limit
        pass
    return min(free) if free else None


def check_folder(name: str, folder: Path, variable: str) -> Check:
    """A folder (or the one where it will be made) can be written."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Check(name, "ok", str(there))
    return Check(name, "fault", f"{there} cannot be written", f"export {variable}=~/there")
