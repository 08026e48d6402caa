"""ablate.py detection: rows of a file, measured on shared scores, beside the paper's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_classifiers import exit_code, tool
from toy_regions import write_squares

from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    save_bundle,
    save_heads,
)
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.heads import BoxRegression, HeadManifest
from detector.models import build_model

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two images, and a bundle of two networks that have learnt nothing."""
    root = tmp_path_factory.mktemp("ablate")
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(build_model("googlenet", 3).state_dict())
    manifest = BundleManifest(
        classes=("green", "red"),
        members=(MemberManifest(architecture="googlenet", input_size=64),) * 2,
        proposals={"engine": "selective-search", "options": {"max_boxes": 12}},
        prior=SizePrior(sides=(0.1, 0.9), log_odds=(-3.0, 1.0)),
        provenance=Provenance(training_data="none", licence="CC0-1.0"),
    )
    save_bundle(root / "bundle", manifest, states)
    return write_squares(root / "toy", images=2), root / "bundle"


def ablate(toy: tuple[Path, Path], out: Path, table: str, *more: object) -> int:
    path = out.parent / "table.yaml"
    path.write_text(table)
    words = ["--data", toy[0], "--split", "train", "--weights", toy[1], "--table", path]
    main = tool("ablate").command_line()
    return exit_code(main, "detection", *words, "--out", out, "--quiet", "--threads", 1, *more)


TABLE = """
common: {nms: 0.5}
rows:
  - {name: one, members: 1, paper: "38.02"}
  - {name: all of them, members: all, voting: 0.5}
  - {name: plain, members: 1, size_prior: false, max_proposals: 5}
"""


def test_rows_are_measured_and_compared_with_the_first(toy, tmp_path: Path, capsys):
    assert ablate(toy, tmp_path / "out", TABLE, "--rounds", 20) == 0
    said = capsys.readouterr().out
    assert "38.02" in said
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["one", "all of them", "plain"]
    assert [row["boxes"] for row in rows] == [12, 12, 5]
    assert rows[1]["settings"]["nms"] == 0.5
    for row in rows[1:]:
        assert row["gain"][0] == pytest.approx(row["mAP"] - rows[0]["mAP"])
    assert "gain" not in rows[0]
    low, high = rows[0]["interval"]
    assert low <= rows[0]["mAP"] <= high


def test_the_same_command_reads_what_is_kept(toy, tmp_path: Path, monkeypatch):
    assert ablate(toy, tmp_path / "out", TABLE, "--rounds", 0) == 0
    before = (tmp_path / "out" / "ablation.json").read_bytes()
    from detector.detection.forward import RegionBatches

    def never(*_: object) -> None:
        raise AssertionError("a region was judged again")

    monkeypatch.setattr(RegionBatches, "_classify_chunk", never)
    assert ablate(toy, tmp_path / "out", TABLE, "--rounds", 0) == 0
    assert (tmp_path / "out" / "ablation.json").read_bytes() == before


def test_other_classes_are_refused_before_the_work(toy, tmp_path: Path, capsys):
    others = write_squares(tmp_path / "others", ("cat", "dog"), images=2)
    assert ablate((others, toy[1]), tmp_path / "out", TABLE) == 3
    assert "other classes than the weights" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_said_once_and_the_rest_are_judged(
    toy, tmp_path: Path, capsys
):
    data = tmp_path / "data"
    shutil.copytree(toy[0], data)
    broken = sorted((data / "JPEGImages").iterdir())[0]
    broken.write_bytes(b"no picture")
    assert ablate((data, toy[1]), tmp_path / "out", TABLE, "--rounds", 0) == 1
    assert capsys.readouterr().err.count(broken.name) == 1
    whole = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert whole["images"] == 1
    assert [row["boxes"] for row in whole["rows"]] == [12, 12, 5]
    assert ablate((data, toy[1]), tmp_path / "out", TABLE, "--rounds", 0, "--seed", 1) == 2


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ("rows: []", "rows"),
        ("rows: [{name: a}, {name: a}]", "name of its own"),
        ("rows: [{members: 1}]", "name of its own"),
        ("rows: [{name: a, member: 1}]", "unknown setting member"),
        ("rows: [{name: a, proposals: opencw}]", "opencw"),
        ("rows: [{name: a, members: 3}]", "3 of its members were asked for; it has 2"),
    ],
)
def test_a_table_that_cannot_be_is_one_sentence(toy, tmp_path: Path, capsys, table, word):
    assert ablate(toy, tmp_path / "out", table, "--rounds", 0) in (2, 3)
    said = capsys.readouterr().err
    assert word in said
    assert len(said.splitlines()) <= 3


def test_the_tables_that_come_with_the_project_are_valid():
    from ablations.detection import read_rows

    tables = TOOLS.parent / "configs" / "ablation"
    assert len(read_rows(tables / "shipped.yaml")) == 11
    assert len(read_rows(tables / "proposals.yaml")) == 6
    rows = read_rows(tables / "detection.yaml")
    assert [row.members for row in rows] == [1, 1, "all"]
    assert all(row.voting == 0 and row.regression is False for row in rows)


SHARING = """
common: {proposals: "selective-search:max_boxes=12"}
rows:
  - {name: all, members: all}
  - {name: no prior, members: all, size_prior: false}
  - {name: no temperature, members: all, temperature: false}
  - {name: one, members: 1}
  - {name: fewer, members: 1, max_proposals: 3}
  - {name: fewer of all, members: all, max_proposals: 3, size_prior: false}
"""


def test_rows_that_differ_in_what_is_made_of_the_answers_ask_once(toy, tmp_path: Path, monkeypatch):
    """Both networks see 12 regions of an image; each row is what it is by itself, to the bit."""
    from ablations.detection import measure, read_rows

    from detector.datasets import read_dataset
    from detector.detection.bundle import save_temperatures
    from detector.detection.ensemble import Ensemble

    bundle = tmp_path / "warm"
    save_temperatures(toy[1], bundle, [2.0, 0.5], {})
    (tmp_path / "table.yaml").write_text(SHARING)
    dataset = read_dataset(toy[0], "train").subset(1)
    asked, ask = [], Ensemble.forward

    def counted(self: Ensemble, crops):
        asked.append(sum(map(len, crops.values())))
        return ask(self, crops)

    monkeypatch.setattr(Ensemble, "forward", counted)
    shared, alone = [], []
    for row in read_rows(tmp_path / "table.yaml"):
        shared.append(measure(dataset, row, bundle, 1, tmp_path / "out", iter).results)
    assert sum(asked) == 12
    for number, row in enumerate(read_rows(tmp_path / "table.yaml")):
        out = tmp_path / str(number)
        out.mkdir()
        alone.append(measure(dataset, row, bundle, 1, out, iter).results)
    assert sum(asked) == 12 + 4 * 12 + 2 * 3
    scores = set()
    for one, other in zip(shared, alone, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            for part in ("boxes", "scores", "labels"):
                assert getattr(one[name], part).tobytes() == getattr(other[name], part).tobytes()
        scores.add(tuple(found.scores.tobytes() for found in one.values()))
    assert len(scores) == 6


def test_answers_of_other_heads_are_kept_apart(toy, tmp_path: Path):
    """Box regression moves the regions; a new fit must not find what the old one said."""
    from detector.detection.bundle import read_manifest
    from detector.detection.load import load_detector
    from detector.evaluation.scoring.regions import region_store

    folders = set()
    for seed in (0, 1):
        weight = np.random.default_rng(seed).normal(size=(8, 1024)).astype(np.float32)
        heads = [
            (HeadManifest(kind="regression", member=one), BoxRegression(weight, np.zeros(8, "f4")))
            for one in (0, 1)
        ]
        bundle = tmp_path / str(seed)
        save_heads(toy[1], bundle, heads, DetectionSettings(regression=True))
        kept = region_store(tmp_path / "out", load_detector(bundle), read_manifest(bundle))
        folders |= set(kept.folders)
    assert len(folders) == 3  # the network's own is one
