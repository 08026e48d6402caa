"""The command that serves a detector to Label Studio, where label-studio-ml is not installed."""

import sys
from pathlib import Path

import pytest

from detector.cli import label_studio
from detector.errors import SettingsError


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", None)
    monkeypatch.delitem(sys.modules, "detector.labelling.label_studio", raising=False)
    with pytest.raises(SettingsError, match=r"label_studio_ml.*pip install \"inception-rcnn\[lab"):
        label_studio.main(model_dir=tmp_path / "learnt")
    assert not (tmp_path / "learnt").exists()
