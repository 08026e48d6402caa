"""Python and the packages: whether they import, fit one another, and do what we need of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from health.check import Check, run_apart

Environment = Mapping[str, str] | None

LEAST_PYTHON = (3, 11)
TOGETHER = "pip install --force-reinstall torch torchvision"
OPENCV = (
    "opencv-python", "opencv-contrib-python",
    "opencv-python-headless", "opencv-contrib-python-headless",
)  # fmt: skip
ONE_OPENCV = f"pip uninstall -y {' '.join(OPENCV)} && pip install opencv-contrib-python-headless"
MODULES = {
    "numpy": "numpy>=1.26", "scipy": "scipy>=1.12", "numba": "numba>=0.60", "PIL": "pillow>=10.3",
    "safetensors": "safetensors>=0.4.3", "pydantic": "pydantic>=2.6", "yaml": "pyyaml>=6.0",
    "sklearn": "scikit-learn>=1.4", "pycocotools": "pycocotools>=2.0.7", "rich": "rich>=13.7",
    "matplotlib": "matplotlib>=3.8",
}  # fmt: skip

_VERSIONS = """
import json, importlib.metadata as metadata
found = {}
for one in metadata.distributions():
    name = (one.metadata["Name"] or "").lower().replace("_", "-")
    found.setdefault(name, one.version)
"""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    said = ".".join(map(str, version))
    if version >= LEAST_PYTHON:
        return Check("python", "ok", said)
    least = ".".join(map(str, LEAST_PYTHON))
    cure = f"python{least} -m venv ~/venv && . ~/venv/bin/activate && pip install -e ."
    return Check("python", "fault", f"{said}; needs {least} or newer", cure)


def check_torch(environment: Environment = None) -> Check:
    program = (
        "import json, torch; print(json.dumps([torch.__version__, float(torch.ones(2).sum())]))"
    )
    found = run_apart(program, environment)
    if found.error is not None:
        return Check("torch", "fault", found.error, TOGETHER)
    version, total = found.value
    if total != 2:
        return Check("torch", "fault", f"{version} adds 1 and 1 to {total}", TOGETHER)
    return Check("torch", "ok", version)


def check_torchvision(environment: Environment = None) -> Check:
    """Its compiled operators are there only beside the very torch that they were built for."""
    program = (
        "import json, torch, torchvision\n"
        "kept = torchvision.ops.nms(torch.tensor([[0., 0., 9., 9.]]), torch.ones(1), 0.5)\n"
        "print(json.dumps([torchvision.__version__, kept.tolist()]))"
    )
    found = run_apart(program, environment)
    if found.error is None:
        return Check("torchvision", "ok", found.value[0])
    names = ("torch", "torchvision")
    versions = run_apart(
        f"{_VERSIONS}print(json.dumps([found.get(n) for n in {names}]))", environment
    )
    torch, vision = versions.value or (None, None)
    said = f"{found.error} (torch {torch}, torchvision {vision})"
    if _build_of(torch) != _build_of(vision):
        said += "; the two come from different indexes"
    cure = TOGETHER
    if _build_of(torch) == "cpu":
        cure += " --index-url https://download.pytorch.org/whl/cpu"
    return Check("torchvision", "fault", said, cure)


def _build_of(version: str | None) -> str:
    """cpu of 2.9.1+cpu; nothing of PyPI's versions."""
    return (version or "").partition("+")[2]


def check_opencv(environment: Environment = None) -> Check:
    """One package only, with the contributed modules: two overwrite each other's files."""
    listed: Any = run_apart(
        f"{_VERSIONS}print(json.dumps([n for n in {OPENCV} if n in found]))", environment
    ).value
    if listed and len(listed) > 1:
        return Check("opencv", "fault", f"{' and '.join(listed)} are installed", ONE_OPENCV)
    program = (
        "import json, cv2\n"
        "search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()\n"
        "print(json.dumps(cv2.__version__))"
    )
    found = run_apart(program, environment)
    if found.error is None:
        return Check("opencv", "ok", f"{found.value} ({', '.join(listed or ['unknown package'])})")
    said = found.error
    if "ximgproc" in said:
        said = "has no ximgproc: it is the package without the contributed modules"
    return Check("opencv", "fault", said, ONE_OPENCV)


def check_modules(environment: Environment = None) -> list[Check]:
    """One line for all that import; one for each that does not."""
    program = (
        "import importlib, json\nbad = {}\n"
        f"for name in {list(MODULES)}:\n"
        "    try: importlib.import_module(name)\n"
        "    except BaseException as error: bad[name] = f'{type(error).__name__}: {error}'[:200]\n"
        "print(json.dumps(bad))"
    )
    found = run_apart(program, environment)
    if found.error is not None:
        return [Check("packages", "fault", found.error, "pip install --force-reinstall -e .")]
    bad = found.value
    checks = [
        Check(name, "fault", error, f"pip install --upgrade '{MODULES[name]}'")
        for name, error in bad.items()
    ]
    return checks or [Check("packages", "ok", f"{len(MODULES)} others import")]
