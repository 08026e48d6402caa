"""Each fault that a machine can have is simulated, found, and told with its cure."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import doctor
import pytest
from health import machine, packages, shipped
from health.check import Check, run_apart

from detector.hardware import usable_cores
from detector.reporting.cli import run_tool

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def fake(folder: Path, sources: dict[str, str], versions: dict[str, str] | None = None) -> dict:
    """An environment in which these modules and distributions hide the real ones."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    for name, version in (versions or {}).items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        )
    return {"PYTHONPATH": str(folder)}


CPU_TORCH = "__version__ = '2.9.1+cpu'\ndef tensor(x): return x\ndef ones(n): return [1] * n\n"
NO_NMS = "raise RuntimeError('operator torchvision::nms does not exist')\n"


def test_the_cpu_build_of_torch_beside_pypis_torchvision(tmp_path: Path) -> None:
    """The commonest fault: operators that were built for another torch."""
    environment = fake(
        tmp_path,
        {"torch": CPU_TORCH, "torchvision": NO_NMS},
        {"torch": "2.9.1+cpu", "torchvision": "0.24.1"},
    )
    found = packages.check_torchvision(environment)
    assert found.state == "fault"
    assert "operator torchvision::nms does not exist" in found.said
    assert "(torch 2.9.1+cpu, torchvision 0.24.1); the two come from different" in found.said
    assert found.cure.endswith("torch torchvision --index-url https://download.pytorch.org/whl/cpu")


NO_SEARCH = "__version__ = '4.9'\n"
SEARCH = (
    "from types import SimpleNamespace as S\n__version__ = '4.9'\n"
    "ximgproc = S(segmentation=S(createSelectiveSearchSegmentation=lambda: 1))\n"
)
NO_LIBRARY = "raise ImportError('libGL.so.1: cannot open shared object file')\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [(NO_SEARCH, "has no ximgproc"), (NO_LIBRARY, "libGL.so.1")],
)
def test_an_opencv_that_is_not_the_right_one(tmp_path: Path, source: str, said: str) -> None:
    found = packages.check_opencv(fake(tmp_path, {"cv2": source}))
    assert found.state == "fault"
    assert said in found.said
    assert found.cure.endswith("&& pip install opencv-contrib-python-headless")


def test_two_opencv_packages_at_once(tmp_path: Path) -> None:
    versions = {"opencv_python": "4.9", "opencv_contrib_python": "4.9"}
    found = packages.check_opencv(fake(tmp_path, {"cv2": SEARCH}, versions))
    assert found.state == "fault"
    assert "opencv-python and opencv-contrib-python" in found.said
    assert found.cure.startswith("pip uninstall -y opencv-python opencv-contrib-python ")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n", "crashed with signal 11"),
        ("raise ImportError('no module')\n", "ImportError: no module"),
        ("import os; os._exit(3)\n", "ended with code 3"),
        ("print('half a')\nraise SystemExit\n", "printed nothing that can be read"),
    ],
)
def test_a_torch_that_cannot_be_imported(tmp_path: Path, source: str, said: str) -> None:
    found = packages.check_torch(fake(tmp_path, {"torch": source}))
    assert found == Check("torch", "fault", said, packages.TOGETHER)


def test_an_import_that_hangs_is_given_up() -> None:
    assert run_apart("while True: pass", seconds=0.2).error == "did not end within 0 s"


def test_a_package_that_is_broken_is_named(tmp_path: Path) -> None:
    sources = dict.fromkeys(packages.MODULES, "")
    sources["pydantic"] = "import no_such_module_at_all\n"
    found = packages.check_modules(fake(tmp_path, sources))
    assert [(one.name, one.state, one.cure) for one in found] == [
        ("pydantic", "fault", "pip install --upgrade 'pydantic>=2.6'")
    ]
    assert "no_such_module_at_all" in found[0].said


@pytest.mark.parametrize(("version", "state"), [((3, 10, 9), "fault"), ((3, 11, 0), "ok")])
def test_pythons_version(version: tuple[int, ...], state: str) -> None:
    assert packages.check_python(version).state == state


def test_a_card_that_torch_does_not_see(tmp_path: Path) -> None:
    no_cuda = "class cuda: is_available = staticmethod(lambda: False)\n__version__ = '2.9'\n"
    environment = fake(tmp_path, {"torch": no_cuda})
    found = machine.check_gpu(environment, driver="/usr/bin/nvidia-smi")
    assert (found.state, found.said) == (
        "fault",
        "a driver is installed, but torch 2.9 sees no card",
    )


def test_a_container_of_one_and_a_half_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert usable_cores(tmp_path) == 1
    found = machine.check_cores(tmp_path, {})
    assert (found.state, found.cure) == ("note", "export OMP_NUM_THREADS=1")
    assert machine.check_cores(tmp_path, {"OMP_NUM_THREADS": "1"}).state == "ok"
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("300000 100000\n")
    assert usable_cores(tmp_path) == 3
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == 8
    assert machine.check_cores(tmp_path, {}).state == "ok"
    assert machine.check_cores(tmp_path, {"OMP_NUM_THREADS": "9"}).state == "note"


@pytest.mark.parametrize(
    ("available", "limit", "state"),
    [
        (8_000_000, "max", "ok"),  # 8.2 GB
        (2_000_000, "max", "note"),
        (8_000_000, "2000000000", "fault"),  # 2 GB less 1.5 in use
        (500_000, "max", "fault"),
    ],
)
def test_memory_of_machine_and_container(
    tmp_path: Path, available: int, limit: str, state: str
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {available} kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("1500000000\n")
    found = machine.check_memory(tmp_path, tmp_path / "meminfo")
    assert found.state == state
    assert bool(found.cure) == (state != "ok")


def _full_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e8))


def _no_inodes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e12))
    patch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=1_000_000, f_favail=12))


def _read_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "access", lambda *_: False)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_full_disk, "has 0.50 GB left"),
        (_no_inodes, "takes only 12 more files"),
        (_read_only, "cannot be written"),
    ],
)
def test_folders_without_room(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], None],
    said: str,
) -> None:
    spoil(monkeypatch)
    found = machine.check_folder("results", tmp_path / "not" / "yet", "--out")
    assert found.state == "fault"
    assert said in found.said
    assert str(tmp_path) in found.said
    assert found.cure.endswith("--out ~/there")
    assert machine.check_folder("x", tmp_path, "TMPDIR").cure.endswith("export TMPDIR=~/there")


def test_a_file_where_the_results_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert machine.check_folder("results", tmp_path / "out", "--out").state == "fault"


def test_the_shipped_bundle_is_verified(tmp_path: Path) -> None:
    """One bit turned over is told, with the file."""
    assert shipped.check_bundle().state == "ok"
    folder = tmp_path / "bundle"
    shutil.copytree(shipped.SHIPPED, folder)
    weights = next(folder.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert shipped.check_bundle(folder).said == f"{weights}: damaged"
    weights.unlink()
    assert shipped.check_bundle(folder).said == f"{weights}: missing"
    (folder / "bundle.json").write_text("[]")
    assert "not a manifest" in shipped.check_bundle(folder).said
    found = shipped.check_bundle(tmp_path / "none")
    assert found.said.endswith("bundle.json: No such file or directory")
    assert found.cure == "git checkout -- detector/weights/default"


def kernels(folder: Path, *, warm: bool, where: str | None) -> Check:
    """The check with a package that says how its kernels are kept."""
    package = folder / "detector"
    for room in (package, package / "proposals", package / "proposals" / "selective_search"):
        room.mkdir()
        (room / "__init__.py").touch()
    (package / "native_crops.py").touch()
    (package / "proposals" / "engines.py").touch()
    cache = "None" if where is None else f"S(_cache_path={where!r})"
    (package / "compiled.py").write_text(
        "from types import SimpleNamespace as S\n"
        "codec = 'detector.proposals.cache.box_codec'\n"
        f"KERNELS = {{'detector.native_crops': {warm}, codec: False}}\n"
        f"def kernels_of(room):\n"
        f"    return [S(_cache={cache}, warm=KERNELS[room])] if room in KERNELS else []\n"
        "def on_disk(kernels): return all(one.warm for one in kernels)\n"
    )
    return shipped.check_kernels({"PYTHONPATH": str(folder)})


@pytest.mark.parametrize(
    ("warm", "writable", "state", "cure"),
    [
        (True, True, "ok", ""),
        (False, True, "note", "python tools/detect.py examples/cat.jpg --device cpu"),
        (False, False, "note", "export NUMBA_CACHE_DIR=~/.cache/numba"),
    ],
)
def test_kernels_cold_warm_and_homeless(
    tmp_path: Path, warm: bool, writable: bool, state: str, cure: str
) -> None:
    found = kernels(tmp_path, warm=warm, where=str(tmp_path) if writable else None)
    assert (found.state, found.cure) == (state, cure)


def test_numba_that_cannot_be_imported(tmp_path: Path) -> None:
    environment = fake(tmp_path, {"numba": "raise ImportError('needs NumPy 2.2 or less')"})
    environment["PYTHONPATH"] += os.pathsep + str(TOOLS.parent)
    found = shipped.check_kernels(environment)
    assert (found.state, found.cure) == ("fault", "pip install --upgrade 'numba>=0.60'")
    assert "needs NumPy 2.2 or less" in found.said


def test_another_checkout_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "detector.py").write_text("__version__ = '0.0'")
    assert shipped.check_package({"PYTHONPATH": str(tmp_path)}).state == "note"
    here = {"PYTHONPATH": str(TOOLS.parent)}
    assert shipped.check_package(here).state == "ok"


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("fault", 1)])
@pytest.mark.parametrize("as_json", [False, True])
def test_table_json_and_exit_code(
    state: str, code: int, as_json: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    one = Check("torch", state, "2.9.1", "" if state == "ok" else "pip install torch")
    monkeypatch.setattr(doctor, "checks", lambda full, out: iter([one]))
    with pytest.raises(SystemExit) as end:
        run_tool(doctor.main, ["--json"] if as_json else [])
    assert end.value.code == code
    said = capsys.readouterr().out
    if as_json:
        assert json.loads(said) == [one.describe()]
    else:
        assert said.splitlines()[-1] == f"1 checks, {code} faults"
        assert ("cure: pip install torch" in said) == (state != "ok")


def test_the_temporary_folder_is_the_one_in_use() -> None:
    assert str(Path(tempfile.gettempdir())) in machine.check_temporary().said


@pytest.mark.slow
def test_this_machine_is_fit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_tool(doctor.main, ["--full"])
    assert end.value.code == 0, capsys.readouterr().out
