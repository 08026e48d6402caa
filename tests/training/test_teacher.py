"""A teacher sees its pupil's crops at its own size."""

from __future__ import annotations

from pathlib import Path

import torch
from small_detector import save_detector

from detector.detection.bundle import load_bundle
from detector.training.regions.teacher import Teacher


def test_crops_of_another_size_are_made_smaller_without_aliasing(tmp_path: Path) -> None:
    """Stripes one pixel wide are grey at half the size, not the first stripe everywhere."""
    bundle = load_bundle(save_detector(tmp_path / "bundle"))
    teacher = Teacher(bundle, "float32", torch.device("cpu"))
    stripes = torch.ones(2, 3, 64, 64)
    stripes[..., ::2] = -1
    grey, white = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    found, wanted = teacher(stripes), teacher(grey)
    assert (found - wanted).abs().max() < 0.2 * (teacher(white) - wanted).abs().max()
