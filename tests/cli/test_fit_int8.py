"""tools/calibrate.py and benchmarks/bench.py classifier: what they write, and what they refuse."""

import json
from pathlib import Path

import bench
import numpy as np
import pytest
import torch
from PIL import Image

from detector.cli import fit_int8 as calibrate
from detector.cli.app import run_tool
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    load_bundle,
    read_manifest,
    save_bundle,
)
from detector.detection.load import load_detector
from detector.models import build_model
from detector.models.inference.int8 import runs_in_8_bits


def small_bundle(folder: Path, architecture: str, size: int) -> Path:
    model = build_model(architecture, 3, generator=torch.Generator().manual_seed(0))
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(MemberManifest(architecture=architecture, input_size=size),),
        proposals={"engine": "opencv", "options": {"longest_side": 100}},
        provenance=Provenance(training_data="none", licence="CC0"),
    )
    save_bundle(folder, manifest, [model.state_dict()])
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        blocks = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(15, 0).repeat(15, 1)
        Image.fromarray(blocks).save(folder / f"{i}.jpg")
    return folder


def exit_code(tool, *arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        run_tool(tool, arguments)
    return int(end.value.code or 0)


def test_calibrate_makes_a_bundle_fit_for_eight_bits(tmp_path, photos, capsys):
    folder = small_bundle(tmp_path / "b", "googlenet", 32)
    assert exit_code(calibrate.main, str(folder), str(photos), "--crops", "16") == 0
    bundle = load_bundle(folder)
    ranges = bundle.manifest.members[0].activation_ranges
    assert len(ranges) == 32
    assert all(value > 0 for value in ranges.values())
    if runs_in_8_bits("cpu"):
        assert "same best class" in capsys.readouterr().out
        image = np.asarray(Image.open(photos / "0.jpg"))
        settings = {"score_threshold": 0.0}
        quick, exact = (
            load_detector(folder, precision=precision, settings=settings)
            for precision in ("int8", "float32")
        )
        regions = exact.propose(image)
        found, expected = (one.predict(image, regions).scores for one in (quick, exact))
        assert 0 < abs(found - expected).max() < 0.02


def test_a_photograph_that_cannot_be_read_is_told_and_left_out(tmp_path, photos, capsys):
    folder = small_bundle(tmp_path / "b", "googlenet", 32)
    bad = photos / "0.jpg"
    bad.write_bytes(b"no picture")
    words = [str(folder), str(photos), "--crops", "16"]
    assert exit_code(calibrate.main, *words) == 0
    assert f"error: {bad}: not an image" in capsys.readouterr().err
    assert load_bundle(folder).manifest.members[0].activation_ranges
    assert exit_code(calibrate.main, *words, "--strict") == 1
    assert exit_code(calibrate.main, str(folder), str(bad)) == 3
    assert "none of 1 photograph can be read" in capsys.readouterr().err


def test_calibrate_leaves_a_network_without_an_8_bit_form_alone(tmp_path, photos, capsys):
    folder = small_bundle(tmp_path / "b", "inception_v3", 75)
    before = (folder / "bundle.json").read_bytes()
    assert exit_code(calibrate.main, str(folder), str(photos)) == 2
    assert "no 8-bit form" in capsys.readouterr().err
    assert (folder / "bundle.json").read_bytes() == before
    assert read_manifest(folder).members[0].activation_ranges == {}


def test_bench_writes_every_way_with_its_difference(tmp_path, photos, capsys):
    folder = small_bundle(tmp_path / "b", "googlenet", 32)
    arguments = ["--weights", str(folder), "--photographs", str(photos), "--out", str(tmp_path)]
    threads = torch.get_num_threads()
    try:
        code = exit_code(
            bench.app, "classifier", *arguments, "--crops", "8", "--rounds", "1", "--threads", "1"
        )
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    found = json.loads((tmp_path / "classifier.json").read_text())
    assert found["about"]["crops"] == "8 random regions of 2 photographs"
    ways = found["tables"]["way"]
    assert {"eager", "float32"} <= ways.keys()
    assert ways["eager"]["times eager"] == 1
    assert ways["float32"]["largest score difference"] <= 1e-4
    assert all(row["largest score difference"] < 0.1 for row in ways.values())
    assert ways["float32"]["processor seconds a photograph"] > 0
    assert "seconds a photograph" not in ways["eager"]  # no detector runs so
    assert "times eager" in capsys.readouterr().out
