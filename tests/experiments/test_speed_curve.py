"""experiments/speed_curve.py on coloured squares."""

import re
from pathlib import Path

import pytest
import speed_curve
import torch
from coloured_squares import NARROW, Colours, googlenet, small_parts, voc  # noqa: F401 fixtures
from PIL import Image

from detector.cli.app import run_tool
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    save_bundle,
    save_prescorer,
)
from detector.heads.prescorer import Prescorer, PrescorerManifest
from detector.models import build_model
from detector.models.split import ImageMap, map_shape


def test_every_setting_has_a_row_and_everything_differs_from_itself_by_nothing(
    voc, small_parts, tmp_path: Path, capsys  # noqa: F811
):  # fmt: skip
    torch.manual_seed(0)
    member = MemberManifest(architecture="colours", input_size=32)
    manifest = BundleManifest(
        classes=("cat", "dog"), members=(member, member),
        provenance=Provenance(training_data="none", licence="CC0"),
    )  # fmt: skip
    save_bundle(tmp_path / "bundle", manifest, [Colours(3).state_dict() for _ in range(2)])
    given = {
        "data": voc, "split": "train", "weights": tmp_path / "bundle", "regions": "20,400",
        "cascades": "0,1", "timed": 1, "out": tmp_path / "out",
    }  # fmt: skip
    with pytest.raises(SystemExit) as end:
        run_tool(speed_curve.app, [f"--{name}={value}" for name, value in given.items()])
    assert not end.value.code
    lines = [line for line in capsys.readouterr().out.splitlines() if "difference" in line]
    assert len(lines) == 6
    alone, every, nobody = lines[1], lines[3], lines[5]
    assert "2 of 2 members " in every
    assert "difference +0.0 (+0.0 to +0.0)" in every
    assert "difference +0.0 (+0.0 to +0.0)" in lines[4]  # all regions are likely enough
    of_ap = [re.search(r"mAP +([0-9.]+)", line).group(1) for line in (alone, nobody)]
    assert of_ap[0] == of_ap[1]  # none is, so that the first member decides alone
    with Image.open(tmp_path / "out" / "speed_curve.png") as picture:
        assert picture.width > 500


def test_a_bundle_with_a_pre_scorer_has_rows_of_its_own(
    voc, googlenet, tmp_path: Path, capsys  # noqa: F811
):  # fmt: skip
    channels = map_shape(ImageMap(build_model("googlenet", 3, **NARROW)), 64)[0]
    about = PrescorerManifest(side=64)
    save_prescorer(googlenet, tmp_path / "bundle", Prescorer(channels), about, 20)
    given = {
        "data": voc, "split": "train", "weights": tmp_path / "bundle", "regions": "10,20,40",
        "images": 2, "timed": 1, "out": tmp_path / "out",
    }  # fmt: skip
    with pytest.raises(SystemExit) as end:
        run_tool(speed_curve.app, [f"--{name}={value}" for name, value in given.items()])
    assert not end.value.code
    lines = [line for line in capsys.readouterr().out.splitlines() if "difference" in line]
    found = [re.match(r"1 of 1 members(, pre-scored)? +(\d+) regions", line) for line in lines]
    assert [one.groups() for one in found] == [
        (None, "10"), (None, "20"), (None, "40"), (", pre-scored", "10"), (", pre-scored", "20"),
    ]  # fmt: skip
