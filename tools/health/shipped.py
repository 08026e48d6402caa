"""What is our own: the package, its kernels, the bundle that ships, one image through all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from detector.reporting.cli import counted
from health.check import Check, run_apart

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "detector" / "weights" / "default"
RESTORE = "git checkout -- detector/weights/default"


def check_package(environment: Mapping[str, str] | None = None) -> Check:
    """Whether `import detector` finds this checkout, and not another one."""
    found = run_apart(
        "import json, detector; print(json.dumps([detector.__version__, detector.__file__]))",
        environment,
    )
    cure = f"pip install -e '{ROOT}'"
    if found.error is not None:
        return Check("detector", "fault", found.error, cure)
    version, file = found.value
    home = Path(file).resolve().parents[1]
    if home != ROOT:
        return Check("detector", "note", f"{version} is imported from {home}", cure)
    return Check("detector", "ok", version)


def check_kernels(environment: Mapping[str, str] | None = None) -> Check:
    """Compiled kernels are kept in a folder that can be written, and are there already.

    Those of a detection in a picture: its crops and the search. What writes a proposal cache, say,
    is compiled where it is used.
    """
    program = (
        "import json, os\n"
        "import detector.native_crops, detector.proposals.selective_search\n"
        "from detector.compiled import kernels_of, on_disk\n"
        "rooms = 'detector.native_crops', 'detector.proposals.selective_search'\n"
        "used = [one for room in rooms for one in kernels_of(room)]\n"
        "folders = {getattr(one._cache, '_cache_path', None) for one in used}\n"
        "good = [f for f in folders if f and os.access(f if os.path.isdir(f) else\n"
        "        os.path.dirname(f), os.W_OK)]\n"
        "print(json.dumps([len(used), on_disk(used), len(good) == len(folders), sorted(good)]))"
    )
    found = run_apart(program, environment)
    if found.error is not None:
        return Check("kernels", "fault", found.error, "pip install --upgrade 'numba>=0.60'")
    count, warm, writable, folders = found.value
    if warm:
        return Check("kernels", "ok", f"{count} compiled, in {', '.join(folders) or 'memory'}")
    if not writable:
        said = "no folder to keep them in: every process compiles anew"
        return Check("kernels", "note", said, "export NUMBA_CACHE_DIR=~/.cache/numba")
    said = "not compiled yet: the first run takes a minute more"
    return Check("kernels", "note", said, "python tools/detect.py examples/cat.jpg --device cpu")


def check_bundle(folder: Path = SHIPPED) -> Check:
    """Every file that bundle.json names has its size and hash; needs no torch."""
    manifest = folder / "bundle.json"
    try:
        content = json.loads(manifest.read_bytes())
        entries = [*content["members"], *content.get("heads", [])]
        files = [(one["file"], one["bytes"], one["sha256"]) for one in entries]
    except OSError as error:
        return Check("bundle", "fault", f"{manifest}: {error.strerror}", RESTORE)
    except (ValueError, KeyError, TypeError) as error:
        said = f"{manifest}: not a manifest ({type(error).__name__})"
        return Check("bundle", "fault", said, RESTORE)
    for file, size, digest in files:
        path = folder / file
        if not path.is_file():
            return Check("bundle", "fault", f"{path}: missing", RESTORE)
        data = path.read_bytes()
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            return Check("bundle", "fault", f"{path}: damaged", RESTORE)
    return Check("bundle", "ok", f"{len(files)} files verified")


def check_detection(environment: Mapping[str, str] | None = None) -> Check:
    """One picture through everything."""
    picture = ROOT / "examples" / "cat.jpg"
    program = (
        "import json\nfrom detector import load_detector, read_image\n"
        f"found = load_detector()(read_image({str(picture)!r}))\n"
        "print(json.dumps(len(found)))"
    )
    found = run_apart(program, environment, seconds=600)
    if found.error is not None:
        cure = f"python tools/detect.py '{picture}' --debug"
        return Check("detection", "fault", found.error, cure)
    return Check("detection", "ok", f"{counted(int(found.value), 'object')} in {picture.name}")
