"""TensorBoard is optional: without it, a sentence says what to install."""

import sys
from types import SimpleNamespace

import pytest

from detector.errors import SettingsError
from detector.progress.tensorboard import Tracker


def test_without_tensorboard_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingsError, match="pip install tensorboard"):
        Tracker(tmp_path)


@pytest.mark.parametrize("step", [0, 3])
def test_what_a_run_that_goes_on_will_write_again_is_hidden(tmp_path, monkeypatch, step):
    """A run killed before its first checkpoint begins again at 0, and had its curves twice."""
    opened = []

    def writer(folder: str, *, purge_step: int | None) -> None:
        opened.append((folder, purge_step))

    fake = SimpleNamespace(SummaryWriter=writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    Tracker(tmp_path, resume_at=step)
    assert opened == [(str(tmp_path), step)]


def test_with_tensorboard_curves_are_written(tmp_path):
    pytest.importorskip("tensorboard")
    tracker = Tracker(tmp_path, resume_at=3)
    tracker.write(3, loss=0.5, rate=0.1)
    tracker.close()
    assert [path.name.startswith("events") for path in tmp_path.iterdir()] == [True]
