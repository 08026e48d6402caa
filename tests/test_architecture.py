"""The map of the house: which room stands on which storey, and that arrows point down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "detector"
STOREY = {
    "structures": 0, "boxes": 0, "errors": 0, "files": 0, "jit": 0, "hardware": 0, "matching": 0,
    "safe_yaml": 0, "seeds": 0, "settings": 0,
    "progress": 0, "images": 0, "models": 1, "crops": 1,
    "heads": 2,
    "datasets": 3,
    "proposals": 4, "results": 4,
    "detection": 5,
    "evaluation": 6,
    "training": 7,
    "labelling": 8, "demo": 8,
    "cli": 9,
    "__main__": 10,
}  # fmt: skip
FOUNDATION = [
    "errors", "files", "progress", "images", "structures", "boxes", "matching", "hardware",
    "safe_yaml", "settings",
]  # fmt: skip
"""The modules and rooms of the lowest storey that others of it may import, in this order."""
DOORWAYS = {
    (above, below)
    for position, below in enumerate(FOUNDATION)
    for above in FOUNDATION[position + 1 :]
}


def _arrows() -> set[tuple[str, str]]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module] if node.module != "detector" else [
                    f"detector.{alias.name}" for alias in node.names
                ]  # fmt: skip
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "detector" and len(parts) > 1 and parts[1] != room:
                    found.add((room, parts[1]))
    return {arrow for arrow in found if arrow[0] != "__init__" and arrow[1] != "__version__"}


def test_every_room_has_a_storey():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    rooms |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == STOREY.keys()


def test_the_top_of_the_package_is_small():
    """Ten modules, which are what everything else stands on; rooms are folders."""
    assert len({path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}) <= 10


def test_arrows_point_down_or_through_a_named_doorway():
    wrong = {
        (here, there)
        for here, there in _arrows()
        if STOREY[there] >= STOREY[here] and (here, there) not in DOORWAYS
    }
    assert not wrong


@pytest.mark.parametrize(
    "tool",
    [
        *sorted((PACKAGE.parent / "tools").glob("*.py")),
        PACKAGE.parent / "experiments" / "ablate.py",
        PACKAGE.parent / "benchmarks" / "bench.py",
    ],
    ids=lambda p: p.stem,
)
def test_help_loads_nothing_heavy(tool: Path):
    """What makes --help slow is torch, numba, OpenCV or matplotlib at import; none of them may be
    there.
    """
    program = (
        "import sys, runpy; sys.argv = ['tool', '--help']\n"
        f"sys.path.insert(0, {str(tool.parent)!r})\n"
        f"try: runpy.run_path({str(tool)!r}, run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'numba', 'cv2', 'matplotlib', 'scipy', 'sklearn', 'pydantic', 'numpy'}\n"
        "heavy.add('rich')\n"
        "heavy &= set(sys.modules)\n"
        "print('heavy:', sorted(heavy), 'code:', code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    assert done.stdout.strip().endswith("heavy: [] code: 0"), (
        done.stdout[-300:] + done.stderr[-300:]
    )


def test_importing_the_package_is_cheap():
    program = "import sys, detector; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_a_detector_is_ready_once_it_is_loaded():
    """The framework's compiler, training and data sets take seconds to import, and nobody who
    detects needs them. What a detection does need is there before any picture is in memory: an
    import that first happens in a thread, where memory is scarce, ends in an abort.
    """
    program = (
        "import sys, numpy as np\n"
        "from detector import load_detector, read_image\n"
        "from detector.models.inference.int8 import runs_in_8_bits\n"
        "late = []\n"
        "for precision in ['int8'] * runs_in_8_bits('cpu') + ['float32']:\n"
        "    detect = load_detector(precision=precision, threads=1)\n"
        "    loaded = set(sys.modules)\n"
        "    detect(np.full((40, 50, 3), 90, np.uint8))\n"
        "    late += sorted(set(sys.modules) - loaded)\n"
        "slow = ('torch._dynamo', 'torch._inductor', 'sympy', 'detector.training',\n"
        "        'detector.datasets', 'sklearn', 'matplotlib', 'cv2')\n"
        "print([one for one in slow if one in loaded])\n"
        "print(late)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    slow, late = done.stdout.splitlines()
    assert slow == "[]"
    assert late == "[]", late


def test_every_name_at_the_front_door_is_there():
    import detector

    assert {"load_detector", "read_image", "Detector"} <= set(detector.__all__)
    for name in detector.__all__:
        assert getattr(detector, name).__name__ == name
