"""experiments/ablate.py proposals: mAP and intervals of its rows, each region judged once."""

# ruff: noqa: F811 - a fixture and its use have the same name

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_classifiers import exit_code, tool
from test_ablate_detection import TOOLS, toy  # noqa: F401 - a fixture
from toy_regions import write_squares

from detector.datasets import read_dataset
from detector.detection.bundle import read_manifest
from detector.detection.load import load_detector
from detector.evaluation.scoring.regions import region_store
from detector.images.decoding import read_image
from detector.proposals.selective_search import SelectiveSearch
from detector.structures import Proposals


def ablate(toy: tuple[Path, Path], out: Path, *more: object) -> int:
    main = tool("ablate").command_line()
    words = ["--data", toy[0], "--split", "train", "--out", out, "--quiet", *more]
    return exit_code(main, "proposals", *words)


def test_rows_have_their_precision_and_intervals(toy, tmp_path: Path, capsys):
    words = ["--weights", toy[1], "--max-proposals", 5, "--rounds", 20, "--ensemble", "all"]
    words += ["--budgets", "7,2"]
    assert ablate(toy, tmp_path, *words) == 0
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    for row in rows:
        assert row["coverage_interval"][0] <= row["coverage"] <= row["coverage_interval"][1]
        assert row["mAP_interval"][0] <= row["mAP_interval"][1]
    alone = [row for row in rows if "mAP_gain" not in row and "coverage_gain" not in row]
    assert [row["name"] for row in alone] == ["selective search", "the bundle's: all"]
    assert all(len(row.get("mAP_gain", "abc")) == 3 for row in rows)
    assert all(len(row.get("coverage_gain", "abc")) == 3 for row in rows)
    names = [row["name"] for row in rows[rows.index(alone[1]) :]]
    assert names == ["the bundle's: all", "the bundle's: 2", "the bundle's: 7"]
    assert [row["boxes"] for row in rows[-3:]] == [12, 2, 7]
    assert rows[-1]["mAP_gain"] == [0, 0, 0]  # five of its best seven are five of all
    assert rows[-1]["seconds"] == rows[-3]["seconds"]
    said = capsys.readouterr().out
    assert "95 % interval" in said
    based = {row["name"]: alone[row["name"].startswith("the bundle's")] for row in rows}
    for row in rows:
        base = based[row["name"]]
        if row is base:
            continue
        for what in ("mAP", "coverage"):
            gain = row[f"{what}_gain"]
            assert gain[0] == pytest.approx(row[what] - base[what])
            assert gain[1] <= gain[0] <= gain[2]
    gains = {round(row[f"{what}_gain"][0], 6) for row in rows if row not in alone for what in
             ("mAP", "coverage")}  # fmt: skip
    assert len(gains) > 2  # so a wrong base or sign would show
    fewest = rows[-2]
    assert f"{100 * fewest['coverage_gain'][0]:+.1f} (" in said
    assert ablate(toy, tmp_path, *words, "--rounds", 0) == 0
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    assert not any("interval" in key for row in rows for key in row)
    assert {"mAP", "coverage"} <= rows[0].keys()


def test_without_weights_no_network_is_asked(toy, tmp_path: Path):
    assert ablate(toy, tmp_path, "--rounds", 10) == 0
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    assert not any("mAP" in key for row in rows for key in row)
    assert not (tmp_path / "regions").exists()


def test_a_region_of_several_rows_is_judged_once_and_as_if_alone(toy, tmp_path: Path):
    from ablations.proposals import Row, detect_by_rows

    dataset = read_dataset(toy[0], "train")
    propose = SelectiveSearch(max_boxes=30)
    every = {one.image_id: propose(read_image(one.path)) for one in dataset.samples}
    rows = [Row("all", propose, [], {}, found=dict(every)), Row("some", propose, [], {})]
    for name, found in every.items():
        rows[1].found[name] = Proposals(found.boxes[3:12][::-1], found.size)

    def loaded():
        return load_detector(
            toy[1], proposer=propose, settings={"score_threshold": 0.0, "max_proposals": 20}
        )

    detector = loaded()
    store = region_store(tmp_path, detector, read_manifest(toy[1]), "rows")
    asked = []
    ask = detector.forward_many
    detector.forward_many = lambda pairs: ask((asked.append(len(p)), (i, p))[1] for i, p in pairs)
    found = detect_by_rows(dataset, rows, detector, store, lambda scored: scored)
    assert asked == [20, 20]  # 20 of the first row, and the second's 9 are among them
    alone = loaded()
    for sample in dataset.samples:
        for row, own in zip(rows, found, strict=True):
            alone.propose_regions = lambda _, row=row: row.found[sample.image_id]  # noqa: B023
            wanted, seen = alone(read_image(sample.path)), own[sample.image_id]
            assert np.array_equal(wanted.labels, seen.labels)
            assert np.allclose(wanted.scores, seen.scores, rtol=0, atol=1e-6)
            assert np.allclose(wanted.boxes, seen.boxes, rtol=0, atol=1e-3)


def test_regions_that_are_not_those_kept_are_not_paired_with_their_scores(
    toy,
    tmp_path: Path,
    monkeypatch,
    capsys,
):
    """An engine that changed without a new version must not borrow other regions' scores."""
    from ablations import proposals as module

    words = ["--weights", toy[1], "--max-proposals", 3, "--rounds", 0, "--budgets", ""]
    assert ablate(toy, tmp_path, *words) == 0
    real = module.propose_all

    def moved(dataset, rows):
        yield from real(dataset, rows)
        for name, found in rows[0].found.items():
            rows[0].found[name] = Proposals(found.boxes + np.array([0, 0, 1, 0]), found.size)

    monkeypatch.setattr(module, "propose_all", moved)
    assert ablate(toy, tmp_path, *words) == 3
    assert "not those whose scores were kept" in capsys.readouterr().err


def test_other_classes_are_refused_before_the_work(toy, tmp_path: Path, capsys, monkeypatch):
    from ablations import proposals as module

    others = write_squares(tmp_path / "others", ("cat", "dog"), images=2)
    monkeypatch.setattr(module, "propose_all", lambda *_: pytest.fail("it began"))
    words = ["--data", others, "--split", "train", "--out", tmp_path / "out", "--quiet"]
    main = tool("ablate").command_line()
    assert exit_code(main, "proposals", *words, "--weights", toy[1]) == 3
    assert "other classes than the weights" in capsys.readouterr().err


def test_engines_need_no_network(toy, tmp_path: Path, capsys):
    words = ["--rounds", 0, "--budgets", "2"]
    assert ablate(toy, tmp_path, *words, "--proposals", "selective-search:max_boxes=5") == 0
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"][4:]
    assert [row["boxes"] for row in rows] == [5, 2]
    assert ablate(toy, tmp_path, *words, "--proposals", "edges") == 2


def test_all_rows_are_timed_on_as_many_threads(toy):
    from ablations.proposals import rows_of

    module = tool("ablate")
    rows = [*rows_of("", 3)[:2]]
    own = module.own_engine(read_manifest(toy[1]), 3)
    named = module.engine_of("selective-search:ranking=learned", 3)
    assert {engine.threads for engine in (own, named, *(row.propose for row in rows))} == {3}


def test_budgets_may_be_of_other_engines(toy, tmp_path: Path, capsys):
    words = ["--weights", toy[1], "--rounds", 0, "--max-proposals", 3, "--budgets", "2"]
    assert (
        ablate(toy, tmp_path, *words, "--proposals", "multibox:keep=4", "--proposals", "both") == 0
    )
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"][4:]
    names = ["multibox:keep=4: all", "multibox:keep=4: 2", "both: all", "both: 2"]
    assert [row["name"] for row in rows] == names
    assert [row["boxes"] for row in rows][:2] == [4, 2]
    assert ablate(toy, tmp_path, *words, "--proposals", "edges") == 2
    assert "--proposals edges: choose" in capsys.readouterr().err


@pytest.mark.parametrize("bad", ["0", "5,five", "3,3", "-1"])
def test_budgets_are_numbers_from_one(toy, tmp_path: Path, capsys, bad: str):
    assert ablate(toy, tmp_path, "--weights", toy[1], "--budgets", bad) == 2
    assert f"--budgets {bad}: expected whole numbers from 1" in capsys.readouterr().err


def test_the_number_of_members_is_a_number_or_all(toy, tmp_path: Path, capsys):
    assert ablate(toy, tmp_path, "--weights", toy[1], "--ensemble", "some") == 2
    assert "--ensemble some" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ensemble", "all"], "--ensemble: changes nothing without --weights"),
        (["--max-proposals", "5", "--precision", "float32"], "--max-proposals, --precision: cha"),
        (["--budgets", "5"], "--budgets: changes nothing without --weights and --proposals"),
        (["--rounds", "0", "--seed", "1"], "--seed: changes nothing with --rounds 0"),
    ],
)
def test_options_without_effect_are_refused(toy, tmp_path: Path, capsys, options, said: str):
    assert ablate(toy, tmp_path, *options) == 2
    assert said in capsys.readouterr().err
