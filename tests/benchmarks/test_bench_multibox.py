"""benchmarks/bench.py: what multibox and page write. No figure is judged here."""

import json
from pathlib import Path

import bench
import numpy as np
import pytest
import torch
from PIL import Image
from small_classifiers import exit_code
from toy_multibox import write_multibox

from detector.detection.bundle import BundleManifest, MemberManifest, Provenance, save_bundle
from detector.models import build_model


@pytest.fixture
def member(tmp_path: Path) -> Path:
    model = build_model("googlenet", 3, generator=torch.Generator().manual_seed(0), width=0.125)
    one = MemberManifest(architecture="googlenet", options={"width": 0.125}, input_size=32)
    manifest = BundleManifest(
        classes=("cat", "dog"), members=(one,), proposals={"engine": "selective-search"},
        provenance=Provenance(training_data="none", licence="CC0"),
    )  # fmt: skip
    save_bundle(tmp_path / "bundle", manifest, [model.state_dict()])
    return tmp_path / "bundle"


def measured(member: Path, photographs: Path, out: Path) -> int:
    weights = write_multibox(out / "multibox.safetensors")
    words = ["--weights", weights, "--member", member, "--photographs", photographs, "--out", out]
    threads = torch.get_num_threads()
    try:
        return exit_code(bench.app, "multibox", *words, "--crops", 8, "--rounds", 2)
    finally:
        torch.set_num_threads(threads)


def test_every_way_is_told_in_milliseconds_and_in_crops(member, tmp_path, capsys):
    for number in range(2):
        pixels = np.full((40, 60, 3), 100 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    assert measured(member, tmp_path, tmp_path) == 0
    found = json.loads((tmp_path / "multibox.json").read_text())
    about, ways = found["about"], found["tables"]["way"]
    assert {"forward, float32", "crop, float32", "propose", "propose, 1 + 4 crops"} < ways.keys()
    assert all(row["ms"] > 0 and row["crops"] > 0 for row in ways.values())
    crops = [row["crops"] for way, row in ways.items() if way.startswith("crop")]
    assert 1 in crops  # the crop that all is counted in
    assert about["must_save_crops"] == ways["propose"]["crops"]
    assert about["promise_kept"] == (ways["forward, float32"]["ms"] < 150)
    assert (about["threads"], about["rounds"], about["images"]) == (1, 2, "2, the first 60 x 40")
    for name in ("priors", "predictions"):
        assert 0 < about[f"matching_share_by_{name}"] < 1
    assert "must save crops" in capsys.readouterr().out


def test_the_page_has_a_section_for_the_figures_that_are_there(tmp_path):
    figures = {"about": {"load_average": 2}, "tables": {"way": {"a": {"ms": 1}, "b": {"ns": 2}}}}
    (tmp_path / "cold_start.json").write_text(json.dumps(figures))
    words = ["page", "--figures", tmp_path, "--out", tmp_path / "speed.md"]
    assert exit_code(bench.app, *words) == 0
    text = (tmp_path / "speed.md").read_text()
    assert text.count("\n## ") == 1
    assert text.endswith(
        "## A new process\n\n`python benchmarks/bench.py cold-start`\n\n- load average: 2\n\n"
        "| way | ms | ns |\n|---|---|---|\n| a | 1 |  |\n| b |  | 2 |\n"
    )


def test_a_folder_without_photographs_is_told(member, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert measured(member, tmp_path / "empty", tmp_path) == 3
    assert "no .jpg or .png in" in capsys.readouterr().err
