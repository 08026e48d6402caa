"""benchmarks/bench.py detection: what it writes. No figure is judged here."""

import json
from pathlib import Path

import bench
import numpy as np
import torch
from PIL import Image
from small_classifiers import exit_code

from detector.detection.bundle import BundleManifest, MemberManifest, Provenance, save_bundle
from detector.models import build_model


def test_stages_floors_growth_and_the_rate_of_a_folder_are_told(tmp_path: Path):
    models = [
        build_model("googlenet", 3, generator=torch.Generator().manual_seed(seed), width=0.125)
        for seed in range(2)
    ]
    one = MemberManifest(architecture="googlenet", options={"width": 0.125}, input_size=32)
    manifest = BundleManifest(
        classes=("cat", "dog"), members=(one, one), proposals={"engine": "selective-search"},
        provenance=Provenance(training_data="none", licence="CC0"),
    )  # fmt: skip
    save_bundle(tmp_path / "bundle", manifest, [model.state_dict() for model in models])
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    words = ["--weights", tmp_path / "bundle", "--photographs", tmp_path, "--out", tmp_path]
    threads = torch.get_num_threads()
    try:
        assert exit_code(bench.app, "detection", *words, "--rounds", 1, "--device", "cpu") == 0
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "detection.json").read_text())
    stages = found["tables"]["stage"]
    for name in ("crops", "networks, 1 member", "networks, 2 members"):
        assert stages[name]["ms"] > 0
        assert stages[name]["floor ms"] >= 0
    assert all(row["images a second"] > 0 for row in found["tables"]["a folder, members"].values())
    growth = found["tables"]["growth"].keys()
    assert "search in 120 x 80" in growth
    assert sum(name.endswith(" regions") for name in growth) == 3 + 2
    assert found["about"]["limit"].endswith("regions")
