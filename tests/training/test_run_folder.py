"""A run's folder is one run's at a time, and what a killed one left there goes."""

import subprocess
import sys
from pathlib import Path

import pytest

from detector.errors import TrainingError
from detector.training.engine.distributed import Group
from detector.training.engine.run_folder import exclusive_lock, shared_lock


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path):
    out = tmp_path / "new" / "run"
    with exclusive_lock(out, Group()):
        with pytest.raises(TrainingError, match="another process is at work") as caught:
            exclusive_lock(out, Group()).__enter__()
        assert str(caught.value).startswith(f"{out}: ")
        with exclusive_lock(tmp_path / "other", Group()):
            pass
    with pytest.raises(KeyError), exclusive_lock(out, Group()):
        raise KeyError
    with exclusive_lock(out, Group()):
        pass


def test_a_run_may_keep_what_others_share_in_its_own_folder(tmp_path: Path):
    with exclusive_lock(tmp_path, Group()), shared_lock(tmp_path, "busy"):
        with pytest.raises(TrainingError, match="busy"), shared_lock(tmp_path, "busy"):
            pass
        with (
            pytest.raises(TrainingError, match="another process is at work"),
            exclusive_lock(tmp_path, Group()),
        ):
            pass


def test_all_processes_of_a_group_are_refused_together(tmp_path: Path):
    class Refused(Group):
        def any(self, flag: bool, device: object = "cpu") -> bool:
            assert not flag  # this one holds no lock, and asks the others
            return True

    with pytest.raises(TrainingError, match="another process"):
        exclusive_lock(tmp_path, Refused(rank=1)).__enter__()
    with exclusive_lock(tmp_path, Group()), exclusive_lock(tmp_path, Group(rank=1)):
        pass  # of one group


def test_a_killed_run_holds_nothing(tmp_path: Path):
    code = (
        "import sys, time; from detector.training.engine.run_folder import exclusive_lock\n"
        "from detector.training.engine.distributed import Group\n"
        "with exclusive_lock(__import__('pathlib').Path(sys.argv[1]), Group()):\n"
        "    print('held', flush=True); time.sleep(100)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(TrainingError):
            exclusive_lock(tmp_path, Group()).__enter__()
        process.kill()
    with exclusive_lock(tmp_path, Group()):
        pass


def test_what_killed_writers_left_goes_and_nothing_else(tmp_path: Path):
    for place in ("", "member-0", "member-1", "bank"):
        (tmp_path / place).mkdir(exist_ok=True)
        for name in (".writing-00ff.tmp", "writing-00ff.tmp", ".writing-00ff"):
            (tmp_path / place / name).write_bytes(b"half")
    with (
        pytest.raises(TrainingError),
        exclusive_lock(tmp_path, Group()),
        exclusive_lock(tmp_path, Group()),
    ):
        pass
    (tmp_path / ".writing-00ff.tmp").write_bytes(b"as a process of the same group may write")
    with exclusive_lock(tmp_path, Group(rank=1)):
        pass
    assert (tmp_path / ".writing-00ff.tmp").exists()
    with exclusive_lock(tmp_path, Group(), within="member-*"):
        pass
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".writing-*.tmp")]
    assert left == ["bank/.writing-00ff.tmp"]
    assert len(list(tmp_path.rglob("*writing-00ff*"))) == 9


def test_where_there_are_no_such_locks_runs_go_on(tmp_path: Path, monkeypatch):
    went_on = []
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fcntl", None)
        with exclusive_lock(tmp_path, Group()), exclusive_lock(tmp_path, Group()):
            went_on.append("no module")

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with exclusive_lock(tmp_path, Group()), exclusive_lock(tmp_path, Group()):
        went_on.append("no locks")
    assert went_on == ["no module", "no locks"]
