"""tools/fit_heads.py --bank: heads from the maps that a training kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_classifiers import exit_code, tool
from toy_regions import TOOL, arguments, settings, train, write_config, write_squares

from detector.detection.bundle import load_bundle, read_manifest

TOOLS = str(TOOL.parent)
BANK = settings("bank={after: 4e, positives_per_object: 12}", "member.freeze=[]")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished training on toy squares, with its maps."""
    root = tmp_path_factory.mktemp("bank")
    assert train(write_config(write_squares(root / "toy")), root / "run", *BANK) == 0
    return root / "run"


def test_a_training_fits_heads_at_its_end(run: Path, tmp_path: Path, capsys):
    """One command ends with the detector that two would have made."""
    config = run.parent / "toy" / "config.yaml"
    heads = settings("heads={svm: true, regression: true}")
    shared = settings(f"run.bank={run / 'bank'}")
    assert train(config, tmp_path / "one", *BANK, *heads, *shared) == 0
    made = read_manifest(tmp_path / "one" / "bundle")
    assert [head.kind for head in made.heads] == ["svm", "regression"]
    assert made.thresholds.svm
    assert made.thresholds.regression
    words = ["--bank", run, "--weights", run / "bundle", "--out", tmp_path / "two", "--quiet"]
    assert exit_code(tool("fit_heads").main, *words, "--enable", "--device", "cpu") == 0
    apart = read_manifest(tmp_path / "two")
    assert [one.sha256 for one in made.heads] == [one.sha256 for one in apart.heads]


def test_heads_are_fitted_on_every_member_and_the_report_is_not_given_twice(
    run: Path, tmp_path: Path, capfd
):
    config = run.parent / "toy" / "config.yaml"
    broken = config.parent / "JPEGImages" / "000001.jpg"
    before = broken.read_bytes()
    words = arguments(config, tmp_path, *BANK, *settings("heads={regression: true}"))
    broken.write_bytes(b"no picture")
    (config.parent / "proposals.sqlite").unlink()
    try:
        assert exit_code(tool("train_regions").main, *words, "--members", "2") == 0
        said = capfd.readouterr().err
        words = ["--bank", tmp_path, "--weights", tmp_path / "bundle", "--out", tmp_path / "again"]
        again = exit_code(tool("fit_heads").main, *words, "--quiet", "--set", "svm=false")
    finally:
        broken.write_bytes(before)
    heads = read_manifest(tmp_path / "bundle").heads
    assert [(head.kind, head.member) for head in heads] == [("regression", 0), ("regression", 1)]
    assert said.count("left out:") == 1
    assert said.count("positive regions") == 1
    assert "fitted regression" in said
    assert again == 0
    assert "left out: 1 image that cannot be read" in capfd.readouterr().err


def test_a_fit_that_is_interrupted_leaves_a_bundle_and_is_made_by_the_same_command(
    run: Path, tmp_path: Path, monkeypatch
):
    config = run.parent / "toy" / "config.yaml"
    heads = settings("heads={regression: true}")
    with monkeypatch.context() as patch:
        patch.setattr("detector.training.heads.fit_heads.fit_regressions", interrupted)
        assert train(config, tmp_path, *BANK, *heads) == 130
    assert read_manifest(tmp_path / "bundle").heads == ()
    assert train(config, tmp_path, *BANK, *heads) == 0
    assert [head.kind for head in read_manifest(tmp_path / "bundle").heads] == ["regression"]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_heads_at_the_end_need_a_bank(run: Path, tmp_path: Path, capsys):
    config = run.parent / "toy" / "config.yaml"
    assert train(config, tmp_path / "x", *settings("heads={regression: true}")) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith(
        "config.yaml: heads are fitted on a bank's maps: give a bank, or leave heads out"
    )


def test_too_little_for_heads_leaves_a_detector_without(run: Path, tmp_path: Path, capsys):
    config = write_config(write_squares(tmp_path / "one", images=1))
    assert train(config, tmp_path / "run", *BANK, *settings("heads={regression: true}")) == 1
    assert "is without heads: no class has 10 proposals" in capsys.readouterr().err
    assert read_manifest(tmp_path / "run" / "bundle").heads == ()


def test_missing_classes_are_told_before_the_training_and_before_the_maps(
    run: Path, tmp_path: Path, capsys, monkeypatch
):
    heads = settings("heads={svm: true}", "classes=[green, red, blue]")
    config = run.parent / "toy" / "config.yaml"
    assert train(config, tmp_path / "out", *BANK, *heads) == 3
    assert "no objects of blue (1 of 3 classes)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "bank").exists()

    from detector.training.heads import bank_features

    lost = run.parent / "toy" / "Annotations" / "000001.xml"
    before = {path: path.read_text() for path in lost.parent.iterdir()}

    def no_maps(*_: object) -> None:
        raise AssertionError("the maps are not needed to see it")

    monkeypatch.setattr(bank_features, "open_bank", no_maps)
    words = ["--bank", run, "--weights", run / "bundle", "--out", tmp_path / "b", "--quiet"]
    try:
        for path, text in before.items():
            path.write_text(text.replace("<name>red", "<difficult>1</difficult><name>red"))
        assert exit_code(tool("fit_heads").main, *words, "--device", "cpu") == 3
    finally:
        for path, text in before.items():
            path.write_text(text)
    assert "no objects of red (1 of 2 classes)" in capsys.readouterr().err


def test_a_run_may_ask_for_heads_afterwards(run: Path, tmp_path: Path):
    """They change nothing of what was learnt: the finished run goes on from its last step."""
    config = run.parent / "toy" / "config.yaml"
    assert train(config, tmp_path / "run", *BANK) == 0
    before = read_manifest(tmp_path / "run" / "bundle")
    assert train(config, tmp_path / "run", *BANK, *settings("heads={regression: true}")) == 0
    after = read_manifest(tmp_path / "run" / "bundle")
    assert [one.sha256 for one in after.members] == [one.sha256 for one in before.members]
    assert [head.kind for head in after.heads] == ["regression"]


def kept_of(run: Path, precision: str):
    from detector.training.engine.context import RunContext
    from detector.training.heads.bank_features import features_of_run

    context = RunContext(run, Path(), torch.device("cpu"), 1, True)
    models = load_bundle(run / "bundle").models
    return features_of_run(("green", "red"), models, context, precision)[0]


def test_svms_and_regression_are_fitted_without_a_crop(run: Path, tmp_path: Path):
    words = ["--bank", run, "--weights", run / "bundle", "--out", tmp_path / "b", "--quiet"]
    assert exit_code(tool("fit_heads").main, *words, "--enable", "--device", "cpu") == 0
    manifest = read_manifest(tmp_path / "b")
    assert [head.kind for head in manifest.heads] == ["svm", "regression"]
    assert manifest.thresholds.svm
    assert manifest.thresholds.regression


def test_features_in_bfloat16_are_near_those_in_float32(run: Path):
    exact, near = (
        np.concatenate([one.features for one in kept_of(run, precision).images(0, "")])
        for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(exact, near)
    assert np.allclose(exact, near, atol=0.05 * np.abs(exact).max())


def test_mirrored_regions_come_with_a_mirrored_truth(run: Path):
    kept = kept_of(run, "float32")
    found = list(kept.images(0, ""))
    assert sum(len(one.boxes) for one in found) == len(kept.pool.boxes)
    assert kept.mirrored.any()
    assert not kept.mirrored.all()
    for one in found:
        rows, _, deltas = one.to_move(0.6)
        overlap = np.array([_iou(one.boxes[row], one.real.boxes[0]) for row in rows])
        assert (overlap > 0.6).all()
        assert np.isfinite(deltas).all()


def test_every_object_comes_once(run: Path):
    """Also where a bank has nothing of an image but its objects."""
    kept = kept_of(run, "float32")
    for _ in range(2):
        found = list(kept.images(0, ""))
        assert sum(len(one.positives(label)) for one in found for label in (0, 1)) == 6
        assert all(one.objects.boxes.tolist() == one.boxes[: len(one.objects)].tolist()
                   for one in found)  # fmt: skip
        rows = np.flatnonzero(kept.pool.overlap >= 0.999)
        kept.pool, kept.mirrored = kept.pool.restricted(rows), kept.mirrored[rows]
        kept.read, kept._features = kept.read[rows], [one[rows] for one in kept._features]


def test_a_damaged_config_beside_a_bank_is_named(tmp_path: Path, capsys):
    (tmp_path / "config.yaml").write_text("data: [")
    words = ["--bank", tmp_path, "--out", tmp_path / "b", "--quiet", "--device", "cpu"]
    assert exit_code(tool("fit_heads").main, *words) == 2
    assert "config.yaml: not a YAML file" in capsys.readouterr().err


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    from detector.boxes import iou

    return float(iou(one[None], other[None])[0, 0])


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "--data DATA"), (["--bank", "x", "--data", "y"], "--data DATA"),
     (["--bank", "nowhere"], "no such file"),
     (["--bank", "x", "--set", "precision=int8"], "precision int8"),
     (["--bank", "x", "--split", "val"], "--split: changes nothing with --bank"),
     (["--bank", "x", "--set", "images=3", "--set", "max_proposals=9"], "max_proposals: changes"),
     (["--bank", "x", "--set", "cache=y"], "--set cache: changes nothing with --bank")],
)  # fmt: skip
def test_what_is_missing_is_said(run: Path, tmp_path: Path, capsys, words: list[str], said: str):
    common = ["--weights", run / "bundle", "--out", tmp_path / "b", "--quiet"]
    assert exit_code(tool("fit_heads").main, *common, *words) in (2, 3)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
