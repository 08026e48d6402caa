"""Each fault that a machine can have is simulated, found, and told with its cure."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.cli import doctor
from detector.cli.app import run_tool
from detector.cli.doctor import Check


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Modules and distributions that hide the real ones."""

    def hide(sources: dict[str, str], versions: dict[str, str] | None = None) -> None:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        for name, version in (versions or {}).items():
            info = tmp_path / f"{name}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
            )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return hide


CPU_TORCH = "__version__ = '2.9.1+cpu'\ndef tensor(x): return x\ndef ones(n): return [1] * n\n"
NO_NMS = "raise RuntimeError('operator torchvision::nms does not exist')\n"


def test_the_cpu_build_of_torch_beside_pypis_torchvision(fake) -> None:
    """The commonest fault: operators that were built for another torch."""
    versions = {"torch": "2.9.1+cpu", "torchvision": "0.24.1"}
    fake({"torch": CPU_TORCH, "torchvision": NO_NMS}, versions)
    found = doctor.check_torch()
    assert found.state == "fault"
    assert "operator torchvision::nms does not exist" in found.said
    assert "(torch 2.9.1+cpu, torchvision 0.24.1; the two come from different" in found.said
    assert found.cure.endswith("torch torchvision --index-url https://download.pytorch.org/whl/cpu")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n", "crashed with signal 11"),
        ("raise ImportError('no module')\n", "ImportError: no module"),
        ("import os; os._exit(3)\n", "printed nothing"),
    ],
)
def test_a_torch_that_cannot_be_imported(fake, source: str, said: str) -> None:
    fake({"torch": source})
    found = doctor.check_torch()
    assert (found.state, found.said.startswith(said)) == ("fault", True)


@pytest.mark.parametrize(
    ("source", "said"),
    [("__version__ = '4.9'\n", "has no ximgproc"),
     ("raise ImportError('libGL.so.1: cannot open shared object file')\n", "libGL.so.1")],
)  # fmt: skip
def test_an_opencv_that_is_not_the_right_one(fake, source: str, said: str) -> None:
    fake({"cv2": source})
    found = doctor.check_opencv()
    assert found.state == "fault"
    assert said in found.said
    assert found.cure.endswith("&& pip install opencv-contrib-python-headless")


def test_two_opencv_packages_at_once(fake) -> None:
    versions = {"opencv_python": "4.9", "opencv_contrib_python": "4.9"}
    fake({}, versions)
    found = doctor.check_opencv()
    assert found.state == "fault"
    assert "opencv-python and opencv-contrib-python" in found.said
    assert found.cure.startswith("pip uninstall -y opencv-python opencv-contrib-python ")


def test_a_package_that_is_broken_is_named(fake) -> None:
    sources = dict.fromkeys(doctor.MODULES, "")
    sources["pydantic"] = "import no_such_module_at_all\n"
    fake(sources)
    found = doctor.check_modules()
    assert found.state == "fault"
    assert "no_such_module_at_all" in found.said


def test_a_card_that_does_not_compute(fake, tmp_path: Path) -> None:
    source = "class cuda: is_available = staticmethod(lambda: True)\ndef ones(*_, **__): 1 / 0\n"
    room = tmp_path / "detector" / "models" / "inference"
    room.mkdir(parents=True)
    for package in (room.parent.parent, room.parent, room):
        (package / "__init__.py").touch()
    (room / "prepare.py").write_text("fastest_precision = None\n")
    fake({"torch": source})
    found = doctor.check_precision()
    assert (found.state, "ZeroDivisionError" in found.said) == ("fault", True)


def test_shipped_weights_that_are_damaged(fake, tmp_path: Path) -> None:
    room = tmp_path / "detector"
    room.mkdir()
    (room / "__init__.py").touch()
    (room / "detection").mkdir()
    (room / "detection" / "__init__.py").touch()
    (room / "detection" / "bundle.py").write_text(
        "def load_bundle(_): raise ValueError('a.safetensors: damaged')"
    )
    (room / "detection" / "load.py").write_text("SHIPPED = ''\n")
    fake({})
    found = doctor.check_weights()
    assert (found.state, "a.safetensors: damaged" in found.said) == ("fault", True)
    assert found.cure.endswith("checkout -- detector/weights")


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
    found = doctor.check_memory(doctor._free_memory(tmp_path, tmp_path / "meminfo"))
    assert (found.state, bool(found.cure)) == (state, state != "ok")
    assert doctor.check_memory(doctor._free_memory(tmp_path, tmp_path / "none")).state == "ok"


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert doctor.check_folder("x", tmp_path / "not" / "yet", "TMPDIR").state == "ok"
    found = doctor.check_folder("x", tmp_path / "file", "TMPDIR")
    assert (found.state, found.cure) == ("fault", "export TMPDIR=~/there")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert doctor.check_folder("x", tmp_path, "TMPDIR").said == f"{tmp_path} cannot be written"


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("fault", 1)])
@pytest.mark.parametrize("as_json", [False, True])
def test_table_json_and_exit_code(state, code, as_json, monkeypatch, capsys) -> None:
    one = Check("torch", state, "2.9.1", "" if state == "ok" else "pip install torch")
    monkeypatch.setattr(doctor, "checks", lambda: iter([one]))
    with pytest.raises(SystemExit) as end:
        run_tool(doctor.main, ["--json"] if as_json else [])
    assert end.value.code == code
    said = capsys.readouterr().out
    if as_json:
        assert json.loads(said) == [one._asdict()]
    else:
        assert said.splitlines()[-1] == f"1 checks, {code} faults"
        assert ("cure: pip install torch" in said) == (state != "ok")


@pytest.mark.slow
def test_this_machine_is_fit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_tool(doctor.main, [])
    assert end.value.code == 0, capsys.readouterr().out
