"""The suite runs in two processes by itself, and in one for a debugger or without pytest-xdist."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
WHERE = """
import os
def test_writes_where_it_runs():
    with open(os.environ["SEEN"], "a") as file:
        file.write(os.environ.get("PYTEST_XDIST_WORKER", "alone") + "\\n")
"""


@pytest.mark.parametrize(
    ("given", "has_xdist", "expected"),
    [
        ({}, True, (2, "loadfile")),
        ({}, False, (None, "no")),
        ({"usepdb": True}, True, (None, "no")),
        ({"trace": True}, True, (None, "no")),
        ({"collectonly": True}, True, (None, "no")),
        ({"numprocesses": 0}, True, (0, "no")),
        ({"numprocesses": 4}, True, (4, "no")),
        ({"dist": "load", "tx": ["2*popen"]}, True, (None, "load")),
    ],
)
def test_two_processes_unless_somebody_wants_otherwise(
    given: dict[str, Any], has_xdist: bool, expected: tuple[int | None, str]
) -> None:
    known: dict[str, Any] = {"usepdb": False, "trace": False, "collectonly": False}
    known |= {"numprocesses": None, "dist": "no", "tx": []} if has_xdist else {}
    option = SimpleNamespace(**{**known, **given})
    plugins = SimpleNamespace(hasplugin=lambda name: has_xdist and name == "xdist")
    hook = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["pytest_cmdline_main"]
    next(hook(SimpleNamespace(option=option, pluginmanager=plugins)))
    found = getattr(option, "numprocesses", None), getattr(option, "dist", "no")
    assert found == expected


@pytest.mark.parametrize(
    ("options", "workers"), [([], {"gw0", "gw1"}), (["-p", "no:xdist", "--pdb"], {"alone"})]
)
def test_where_tests_run(options: list[str], workers: set[str], tmp_path: Path) -> None:
    """With the project's own settings, in a process of its own."""
    if not options:
        pytest.importorskip("xdist")
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(WHERE)
    environment = {name: one for name, one in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), environment["PYTHONPATH"]])
    seen = tmp_path / "seen"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "conftest",
         "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temp"), *options, str(tmp_path)],
        cwd=ROOT, env={**environment, "SEEN": str(seen)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(seen.read_text().split()) == workers
