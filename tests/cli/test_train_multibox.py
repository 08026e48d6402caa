"""tools/train_multibox.py: it learns, resumes to the same bits, and keeps to its maps; and what
becomes of its weights in the tools beside it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from small_classifiers import TOOLS
from toy_multibox import run, train, varied
from toy_regions import same, settings, weights, write_squares

import detector.datasets
from detector.datasets import read_dataset
from detector.models import build_model
from detector.progress.journal import read_journal
from detector.proposals.multibox.predict import MultiBox
from detector.proposals.multibox.weights import load_multibox
from detector.training.engine.distributed import Group
from detector.training.engine.run_folder import exclusive_lock


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """Squares, one image without any, and one with sixty boxes more, for 55 shapes of priors."""
    root = varied(write_squares(tmp_path_factory.mktemp("toy") / "squares", images=8))
    path = root / "Annotations" / "000007.xml"
    text = path.read_text()
    path.write_text(text[: text.index("<object>")] + "</annotation>")
    return root


@pytest.fixture(scope="module")
def config(toy: Path) -> Path:
    """Four steps of six views on a narrow GoogLeNet."""
    tree = {
        "data": [{"path": str(toy), "split": "train"}],
        "trunk": {"options": {"width": 0.125}, "input_size": 64, "after": "3b"},
        "heads": {"width": 16},
        "bank": {"views_per_image": 3},
        "optimiser": {"batch": 6, "epochs": 1, "save_every": 1, "precision": "float32"},
    }
    path = toy / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def finished(toy: Path, config: Path, tmp_path_factory) -> Path:
    """One undisturbed run on kept maps."""
    out = tmp_path_factory.mktemp("run")
    assert train(config, out) == 0
    return out


def test_a_run_leaves_a_journal_its_settings_and_a_proposer(finished: Path):
    entries = read_journal(finished / "journal.jsonl")
    assert [entry["step"] for entry in entries] == [0, 1, 2, 3]
    assert all(np.isfinite(entry["loss"]) for entry in entries)
    assert all(0 <= entry["matching"] <= entry["seconds"] for entry in entries)
    written = yaml.safe_load((finished / "config.yaml").read_text())
    assert written["loss"]["alpha"] == 2.5
    trained = load_multibox(finished / "multibox.safetensors")
    assert len(trained.priors) == 1420
    assert len(MultiBox(trained, keep=20)(np.zeros((60, 80, 3), np.uint8))) <= 20


def test_a_run_that_was_stopped_resumes_to_the_same_bits(config, finished, tmp_path, monkeypatch):
    import contextlib

    from detector.progress import interruption

    class StopsSoon(interruption.Stop):
        def __bool__(self) -> bool:
            journal = tmp_path / "journal.jsonl"
            return journal.exists() and len(read_journal(journal)) == 2

    @contextlib.contextmanager
    def gently(finishing: str = ""):
        yield StopsSoon()

    with monkeypatch.context() as patch:
        patch.setattr(interruption, "stop_gently", gently)
        train(config, tmp_path, "--set", f"run.bank={finished / 'bank'}")
    assert len(read_journal(tmp_path / "journal.jsonl")) == 2
    assert train(config, tmp_path, "--set", f"run.bank={finished / 'bank'}") == 0
    assert same(weights(tmp_path), weights(finished))
    ours, theirs = ((p / "multibox.safetensors").read_bytes() for p in (tmp_path, finished))
    assert ours == theirs


def test_the_same_command_twice_at_once_is_refused(config, finished, tmp_path, capsys):
    with exclusive_lock(tmp_path, Group()):
        assert train(config, tmp_path, "--set", f"run.bank={finished / 'bank'}") == 3
    assert f"{tmp_path}: another process" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / ".writing-00ff.tmp").write_bytes(b"half")
    assert train(config, tmp_path, "--set", f"run.bank={finished / 'bank'}") == 0
    assert not (tmp_path / ".writing-00ff.tmp").exists()


def test_maps_serve_other_heads_but_not_other_views(config, finished, tmp_path, capsys):
    bank = ["--set", f"run.bank={finished / 'bank'}"]
    other = settings("loss.match=priors", "optimiser.rate=0.01", "optimiser.accumulate=2")
    assert train(config, tmp_path / "heads", *bank, *other) == 0
    for change in ("views.min_area=0.1", "augment.flip=false"):
        assert train(config, tmp_path / "views", *bank, *settings(change)) == 3
        assert "other settings" in capsys.readouterr().err


def test_a_run_on_changed_data_does_not_resume(toy, config, tmp_path, capsys):
    """Its priors, its order and its answers would be others."""
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(toy, data)
    change = settings(
        f"data=[{{path: {data}, split: train}}]", "bank=null", "optimiser.batch=8",
        "heads.priors=50",
    )  # fmt: skip
    assert train(config, out, *change) == 0
    path = data / "Annotations" / "000003.xml"
    text = path.read_text()
    path.write_text(re.sub("<xmin>.*?</xmin>", "<xmin>1</xmin>", text))
    assert train(config, out, *change) == 3
    assert "other data" in capsys.readouterr().err
    path.write_text(text)
    listing = data / "ImageSets" / "Main" / "train.txt"
    names = listing.read_text().split()
    listing.write_text("\n".join([*names[:-2], names[-1], names[-2]]))  # the same, in another order
    assert train(config, out, *change) == 3
    assert "other data" in capsys.readouterr().err
    listing.write_text("\n".join(names))
    picture = data / "JPEGImages/000003.jpg"
    before = picture.read_bytes()
    picture.write_bytes((data / "JPEGImages/000001.jpg").read_bytes())  # of the same size
    assert train(config, out, *change) == 3
    assert "other data" in capsys.readouterr().err
    picture.write_bytes(before)
    assert train(config, out, *change) == 0


def test_a_trunk_that_changed_in_its_place_is_noticed(config, tmp_path, capsys):
    out, start = tmp_path / "run", tmp_path / "start.safetensors"
    change = [*settings("bank.views_per_image=1", "heads.priors=50"), "--start", str(start)]

    def write_start(seed: int) -> None:
        torch.manual_seed(seed)
        save_file(build_model("googlenet", 3, width=0.125).state_dict(), start)

    write_start(0)
    assert train(config, out, *change) == 0
    write_start(1)
    assert train(config, out, *change) == 3
    assert "another start" in capsys.readouterr().err
    shutil.rmtree(out / "bank")
    assert train(config, out, *change) == 3  # the heads belong to the old trunk
    assert "run on other data" in capsys.readouterr().err
    write_start(0)
    assert train(config, out, *change) == 3
    assert "another start" in capsys.readouterr().err
    shutil.rmtree(out / "bank")
    assert train(config, out, *change) == 0


def test_a_run_may_change_what_no_weight_depends_on(config, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    change = settings(
        "stored_as=float32", "licence=CC0-1.0", "optimiser.save_every=7",
        "optimiser.max_bad_steps=9", "optimiser.accumulate=2",
    )  # fmt: skip
    assert train(config, tmp_path / "run", *change) == 0
    written = load_multibox(tmp_path / "run" / "multibox.safetensors").header
    assert written.licence == "CC0-1.0"
    assert train(config, tmp_path / "run", *settings("optimiser.rate=0.5")) == 3
    assert "other settings" in capsys.readouterr().err


def test_priors_are_of_boxes_alone_where_nothing_is_mirrored(toy, config, tmp_path, capsys):
    alone = write_squares(tmp_path / "few", images=2)
    change = settings(f"data=[{{path: {alone}, split: train}}]", "heads.priors=50")
    assert train(config, tmp_path / "run", *change, *settings("augment.flip=false")) == 2
    assert "ask for at most 2" in capsys.readouterr().err


def test_a_whole_network_learns_without_kept_maps(config, finished, tmp_path):
    # eight images in batches of four are two steps
    change = settings("bank=null", "optimiser.batch=4", "heads.priors=50")
    assert train(config, tmp_path, *change) == 0
    assert len(read_journal(tmp_path / "journal.jsonl")) == 2
    before = weights(tmp_path)
    assert any(name.startswith("model/trunk.") for name in before)
    assert not (tmp_path / "bank").exists()


def test_an_image_that_cannot_be_read_is_named_once_in_each_run(
    toy, config, finished, tmp_path, capsys
):
    shutil.copytree(toy, tmp_path / "toy")
    path = tmp_path / "toy" / "JPEGImages" / "000003.jpg"
    path.write_bytes(b"no image")
    change = settings(
        f"data=[{{path: {tmp_path / 'toy'}, split: train}}]", "bank=null", "heads.priors=50"
    )
    for code, strict in ((0, []), (1, ["--strict"])):  # the second time, no step is left
        assert train(config, tmp_path / "run", *change, *strict) == code
        assert capsys.readouterr().err.count(str(path)) == 1


def test_steps_lower_the_loss(config, finished, tmp_path):
    change = settings("optimiser.epochs=8", "optimiser.rate=0.003", "optimiser.save_every=100")
    assert train(config, tmp_path, "--set", f"run.bank={finished / 'bank'}", *change) == 0
    losses = [entry["loss"] for entry in read_journal(tmp_path / "journal.jsonl")]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])  # four steps are an epoch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("loss.alpha=-1", "loss.alpha"),
        ("heads.depth=2", "known: priors, width"),
        ("trunk={architecture: nin}", "choose googlenet"),
        ("trunk.after=9z", "not cut after"),
        ("heads.priors=60", "heads.priors"),
        ("data=[]", "--data"),
        ("optimiser={batch: 1, accumulate: 2}", "does not go around"),
        ("optimiser.label_smoothing=0.1", "label_smoothing changes nothing of a MultiBox"),
        ("bank={views: 2}", "known: views_per_image, partial_views"),
    ],
)
def test_wrong_settings_are_one_sentence(config, finished, tmp_path, capsys, change, message):
    assert train(config, tmp_path, *settings(change)) in (2, 3)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_network_that_runs_away_is_said_to_be_not_finite(config, finished, tmp_path, capsys):
    """Steps of 1e30 give predictions beyond all numbers: they are skipped, then told."""
    change = settings(
        "optimiser.rate=1e30", "optimiser.warmup=0", "optimiser.epochs=8",
        "optimiser.save_every=100", "optimiser.max_bad_steps=3",
    )  # fmt: skip
    assert train(config, tmp_path, "--set", f"run.bank={finished / 'bank'}", *change) == 3
    assert "not finite 3 times in a row" in capsys.readouterr().err
    assert len(list(tmp_path.glob("not-finite-*.json"))) == 3


def test_more_priors_than_boxes_say_how_many_there_may_be(toy, config, tmp_path, capsys):
    alone = write_squares(tmp_path / "few", images=2)
    change = settings(f"data=[{{path: {alone}, split: train}}]", "heads.priors=50")
    assert train(config, tmp_path / "run", *change) == 2
    assert "ask for at most 4" in capsys.readouterr().err  # two boxes and their mirror images


def test_calibrated_weights_join_selective_search_and_are_ablated(toy, finished, tmp_path, capsys):
    path = tmp_path / "new" / "calibrated.safetensors"
    weights_file = finished / "multibox.safetensors"
    words = [weights_file, "--data", toy, "--split", "train", "--out", path, "--quiet"]
    assert run("fit_proposals", *words, "--threads", "1") == 0
    assert set(load_multibox(path).header.calibration) == {"multibox", "selective-search"}
    out = tmp_path / "ablation"
    words = ["proposals", "--data", toy, "--split", "train", "--multibox", path, "--out", out]
    capsys.readouterr()
    assert run("ablate", *words, "--images", "2", "--quiet") == 0
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    once, doubled, joined, alone = (row["boxes"] for row in rows)
    assert doubled < once
    assert max(doubled, alone) <= joined <= doubled + alone
    assert rows[2]["coverage"] >= max(rows[1]["coverage"], rows[3]["coverage"])
    assert "about 60 %" in capsys.readouterr().out


def test_images_in_which_objects_may_be_unboxed_calibrate_nothing(
    toy, finished, tmp_path, capsys, monkeypatch
):
    partial = read_dataset(toy, "train").partial(())
    monkeypatch.setattr(detector.datasets, "read_dataset", lambda *_: partial)
    words = [finished / "multibox.safetensors", "--data", toy, "--out", tmp_path / "a.safetensors"]
    assert run("fit_proposals", *words) == 3
    assert "no image that is annotated in full" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(config, finished, tmp_path):
    """Equal for an equal global batch, up to rounding; dropout is off, for its masks are a
    process's own.
    """
    change = settings("heads.dropout=0")
    bank = ["--set", f"run.bank={finished / 'bank'}"]
    assert train(config, tmp_path / "one", *bank, *change) == 0
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
        str(TOOLS / "train_multibox.py"), "--config", str(config), "--out", str(tmp_path / "two"),
        "--device", "cpu", "--quiet", *bank, *change,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=400, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    one, two = (read_journal(tmp_path / name / "journal.jsonl") for name in ("one", "two"))
    assert one[0]["objects"] == two[0]["objects"]
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert same(ours, theirs, atol=1e-4)
