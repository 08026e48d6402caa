"""Every file in configs/ starts and takes five steps, on toy data in place of its own."""

from pathlib import Path

import pytest
import yaml
from small_classifiers import exit_code, tool, write_pictures
from toy_regions import ROOT, settings, train, write_squares

from detector.progress.journal import read_journal

CONFIGS = {path: yaml.safe_load(path.read_text()) for path in (ROOT / "configs").glob("*.yaml")}
OF_MULTIBOX = sorted(path for path, tree in CONFIGS.items() if "trunk" in tree)
OF_REGIONS = sorted(path for path, tree in CONFIGS.items() if not {"recipe", "trunk"} & set(tree))
OF_CLASSIFIERS = sorted(path for path, tree in CONFIGS.items() if "recipe" in tree)


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_REGIONS, ids=lambda path: path.stem)
def test_regions(path: Path, tmp_path: Path):
    toy = write_squares(tmp_path / "toy", ("cat", "dog"))
    change = settings(
        f"data=[{{path: {toy}, split: train}}]", "member.weights=null",
        "member.start_member=0", "member.input_size=64",
        "optimiser.steps=5", "optimiser.warmup=0", "optimiser.accumulate=1",
        "sampling.positives_per_batch=4", "sampling.background_per_batch=4",
    )  # fmt: skip
    if CONFIGS[path].get("classes") != "voc":
        change += settings("classes=own")
    if "bank" in CONFIGS[path]:  # so few images have too few regions near objects otherwise
        change += settings("bank.positives_per_object=12")
    config = tmp_path / path.name
    config.write_text(path.read_text())
    assert train(config, tmp_path / "run", *change) == 0
    assert len(read_journal(tmp_path / "run" / "journal.jsonl")) == 5
    assert (tmp_path / "run" / "bundle" / "bundle.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_CLASSIFIERS, ids=lambda path: path.stem)
def test_classifiers(path: Path, tmp_path: Path):
    pictures = write_pictures(tmp_path / "pictures", 5)
    change = settings(
        f"data.path={pictures}", "data.validate_on=null", "network.weights=null",
        "optimiser.batch=2", "optimiser.accumulate=1", "optimiser.epochs=1",
    )  # fmt: skip
    words = ["--config", path, "--out", tmp_path / "run", "--device", "cpu", "--quiet"]
    assert exit_code(tool("train_classifier").main, *words, *change) == 0
    assert (
        len([one for one in read_journal(tmp_path / "run" / "journal.jsonl") if "loss" in one]) == 5
    )
    assert (tmp_path / "run" / "classifier.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_MULTIBOX, ids=lambda path: path.stem)
def test_multibox(path: Path, tmp_path: Path):
    shapes = tuple((20 + 5 * (i % 8), 15 + 3 * (i % 9)) for i in range(72))  # 55 shapes of priors
    toy = write_squares(tmp_path / "toy", images=75, shapes=shapes)
    change = settings(
        f"data=[{{path: {toy}, split: train}}]", "trunk.weights=null", "trunk.input_size=64",
        "optimiser.batch=45", "optimiser.epochs=1",
    )  # fmt: skip
    words = ["--config", path, "--out", tmp_path / "run", "--device", "cpu", "--quiet"]
    assert exit_code(tool("train_multibox").main, *words, *change) == 0
    assert len(read_journal(tmp_path / "run" / "journal.jsonl")) == 5
    assert (tmp_path / "run" / "multibox.safetensors").exists()
