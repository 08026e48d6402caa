"""tools/train_regions.py with a bank or a teacher: what is kept, asked, and learnt from it."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_classifiers import exit_code, tool
from toy_regions import STILL, settings, train, write_config, write_squares

from detector.detection.bundle import load_bundle, save_bundle, save_temperatures
from detector.errors import ImageError, SettingsError
from detector.settings import load_config, validate
from detector.training.engine.distributed import Group
from detector.training.engine.image_cache import ImageCache
from detector.training.regions import teacher as region_teacher
from detector.training.regions.bank import RegionBank
from detector.training.regions.loss import distillation_loss
from detector.training.regions.settings import RegionTrainingConfig, TeacherConfig
from detector.training.regions.teacher import build_teacher


def learning_from(config: Path, out: Path, *changes: str) -> tuple[Any, ...]:
    """(data set, member) of a run, without its steps."""
    from detector.training.engine.context import RunContext
    from detector.training.regions.data import load_regions
    from detector.training.regions.member import build_member

    chosen = validate(RegionTrainingConfig, load_config(config, changes[1::2]), "test")
    cache = config.parent / "proposals.sqlite"
    context = RunContext(out, Path(), torch.device("cpu"), 1, True, cache)
    data = load_regions(chosen, context)
    return data.dataset, build_member(chosen, data, context)


def test_a_signal_while_maps_are_made_keeps_them_and_the_same_goes_on(
    config: Path, tmp_path: Path, monkeypatch, capsys
):
    bank = settings("bank={after: 4e, positives_per_object: 2}", "member.freeze=[]")
    made: list[int] = []
    of_image = RegionBank._crops_of

    def interrupted(self: RegionBank, image: int) -> torch.Tensor:
        made.append(image)
        if len(made) == 6:  # the last one is asked for when three are done
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        return of_image(self, image)

    monkeypatch.setattr(RegionBank, "_crops_of", interrupted)
    assert train(config, tmp_path, *bank) == 143
    assert "this image or step" in capsys.readouterr().err
    assert not (tmp_path / "journal.jsonl").exists()
    done = json.loads((tmp_path / "bank" / "bank.json").read_text())
    assert 3 <= done["done"] < 6
    assert not done["complete"]
    assert train(config, tmp_path, *bank) == 0
    assert len(made) == 6 + 6 - done["done"]
    monkeypatch.setattr(RegionBank, "_crops_of", of_image)
    assert train(config, tmp_path / "straight", *bank) == 0
    maps = [(run / "bank" / "maps.f16").read_bytes() for run in (tmp_path, tmp_path / "straight")]
    assert maps[0] == maps[1]


def test_an_image_that_fails_while_maps_are_made_is_not_learnt_from(
    config: Path, tmp_path: Path, monkeypatch, capsys
):
    bank = settings("bank={after: 4e, positives_per_object: 2}", "member.freeze=[]")
    read = ImageCache.read

    def failing(self: ImageCache, path: Path) -> np.ndarray:
        if path.name == "000003.jpg":
            raise ImageError(f"{path}: unplugged")
        return read(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(ImageCache, "read", failing)
        assert train(config, tmp_path, *bank, "--set", "box_loss={}") == 0
    assert "000003.jpg: unplugged" in capsys.readouterr().err
    # Its maps stay what they are, so it stays out, and is named again.
    dataset, member = learning_from(config, tmp_path, *bank)
    rows = np.arange(len(member.bank.pool.boxes))
    batch = member.bank.pool.batch(rows, np.zeros(len(rows), bool))
    seen = member.bank(batch, 0)
    lost = np.array([dataset.samples[image].path.name == "000003.jpg" for image in batch.image])
    assert lost.any()
    assert (seen.read.numpy() == ~lost).all()
    assert seen.allowed_classes[lost].all()
    assert train(config, tmp_path, *bank, "--set", "box_loss={}", "--strict") == 1
    assert "000003.jpg: could not be read when" in capsys.readouterr().err


def test_a_broken_image_ends_the_first_process_only_with_an_error(
    config: Path, tmp_path: Path, monkeypatch
):
    """torchrun kills the first process, at work on the bundle, where another one ends with 1, as
    --strict asks for.
    """

    def failing(self: ImageCache, path: Path) -> np.ndarray:
        raise ImageError("unplugged")

    monkeypatch.setattr(ImageCache, "read", failing)
    second = Group(rank=1)
    monkeypatch.setattr("detector.training.engine.distributed.join_group", lambda *_: second)
    assert train(config, tmp_path, "--strict") == 0
    assert not (tmp_path / "bundle").exists()
    monkeypatch.undo()
    monkeypatch.setattr(ImageCache, "read", failing)
    assert train(config, tmp_path, "--strict") == 1
    assert (tmp_path / "bundle").exists()


def _divergence(one: Path, other: Path) -> float:
    """Mean KL divergence of what two bundles say of the same crops."""
    crops = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = (load_bundle(path).models[0](crops) for path in (one, other))
    return float(distillation_loss(ours, theirs).mean())


@pytest.mark.slow
@pytest.mark.parametrize("banked", [False, True])
def test_a_teacher_pulls_its_pupil_towards_itself(config: Path, tmp_path: Path, banked: bool):
    assert train(config, tmp_path / "teacher", *settings("optimiser.seed=5")) == 0
    teacher = tmp_path / "teacher" / "bundle"
    how = [*STILL, *settings("optimiser.rate=0.02", "optimiser.steps=16", "member.freeze=[]")]
    how += settings("bank={after: 4e, positives_per_object: 2}") if banked else []
    alone, taught = tmp_path / "alone", tmp_path / "taught"
    with_teacher = [*how, *settings(f"teacher={{bundle: {teacher}, weight: 1.0}}")]
    assert train(config, alone, *how) == 0
    assert train(config, taught, *with_teacher) == 0
    near, far = (_divergence(run / "bundle", teacher) for run in (taught, alone))
    assert near < 0.6 * far
    assert train(config, taught, *with_teacher) == 0  # nothing is left to do


def sharpen(folder: Path, crops: torch.Tensor) -> None:
    """Make the networks of a bundle, which have hardly learnt, say something else of every crop."""
    found = load_bundle(folder)
    with torch.no_grad():
        for model in found.models:
            layer, features = model.get_submodule("classifier"), model.features(crops)
            logits = features @ layer.weight.T
            scale = 2 / logits.std(0)
            layer.weight *= scale[:, None]
            layer.bias.copy_(-logits.mean(0) * scale)
    save_bundle(folder, found.manifest, [model.state_dict() for model in found.models], "float32")


@pytest.mark.slow
def test_a_teacher_of_a_bank_says_of_each_region_what_it_says_of_its_crop(
    config: Path, tmp_path: Path, monkeypatch
):
    assert train(config, tmp_path / "teacher", "--members", "2") == 0
    teacher = tmp_path / "teacher" / "bundle"
    made: list[torch.Tensor] = []
    of_image = RegionBank._crops_of
    monkeypatch.setattr(
        RegionBank, "_crops_of", lambda self, image: made.append(of_image(self, image)) or made[-1]
    )
    bank = settings("bank={after: 4e, positives_per_object: 2}", "member.freeze=[]")
    learning_from(config, tmp_path / "pupil", *bank)
    maps = torch.cat(made)
    sharpen(teacher, maps)
    made.clear()
    taught = settings(f"teacher={{bundle: {teacher}}}")
    _, member = learning_from(config, tmp_path / "pupil", *bank, *taught)
    assert torch.equal(torch.cat(made), maps)
    with torch.no_grad():
        said = torch.stack([model(maps) for model in load_bundle(teacher).models])
    said = said.softmax(-1).mean(0)
    assert said.std(0).min() > 0.05  # so rows cannot be confused
    batch = member.bank.pool.draw(0, 0)
    found = member.examples(0).target.teacher_logits.exp()
    assert torch.allclose(found, said[torch.from_numpy(batch.rows)], atol=5e-3)


@pytest.mark.slow
def test_another_teacher_has_another_folder_and_another_run(config: Path, tmp_path: Path, capsys):
    teacher, bank = tmp_path / "teacher" / "bundle", tmp_path / "pupil" / "bank"
    assert train(config, tmp_path / "teacher") == 0
    how = [
        *settings("bank={after: 4e, positives_per_object: 2}", "member.freeze=[]"),
        *settings(f"teacher={{bundle: {teacher}}}"),
    ]
    assert train(config, tmp_path / "pupil", *how) == 0
    assert len(list(bank.glob("teacher-*"))) == 1
    save_temperatures(teacher, tmp_path / "warm", [4.0], {})
    shutil.rmtree(teacher)
    shutil.move(tmp_path / "warm", teacher)
    assert train(config, tmp_path / "pupil", *how) != 0  # the same words, but another teacher
    assert "other data" in capsys.readouterr().err
    assert train(config, tmp_path / "other", *how, "--set", f"run.bank={bank}") == 0
    assert len(list(bank.glob("teacher-*"))) == 2


@pytest.mark.slow
def test_heads_are_fitted_without_the_teacher(config: Path, tmp_path: Path):
    assert train(config, tmp_path / "teacher") == 0
    shutil.move(tmp_path / "teacher" / "bundle", tmp_path / "lent")
    how = settings(
        "bank={after: 4e, positives_per_object: 12}", "member.freeze=[]",
        f"teacher={{bundle: {tmp_path / 'lent'}}}",
    )  # fmt: skip
    assert train(config, tmp_path / "pupil", *how) == 0
    shutil.rmtree(tmp_path / "lent")
    words = ["--bank", tmp_path / "pupil", "--weights", tmp_path / "pupil" / "bundle"]
    words += ["--out", tmp_path / "fitted", "--quiet", "--set", "svm=false"]
    assert exit_code(tool("fit_heads").main, *words) == 0


def test_what_was_not_read_is_not_learnt_and_what_is_not_annotated_is(monkeypatch):
    from detector.training.regions.step import RegionStep, RegionSums, Target

    layer = torch.nn.Linear(3, 2)

    def network(crops: torch.Tensor) -> torch.Tensor:
        return layer(crops.mean((2, 3)))

    step = RegionStep(network, torch.device("cpu"), torch.float32, 2, weight=1.0)
    told, labels = torch.tensor([[5.0, -5.0]] * 2), torch.tensor([0, 1])
    crops, all_possible = torch.zeros(2, 3, 4, 4), torch.ones(2, 2).bool()
    none, both = torch.zeros(2).bool(), torch.ones(2).bool()
    unread = Target(all_possible, labels, none, teacher_logits=told)
    sums = RegionSums(*step(crops, unread, 1.0))
    assert (sums.loss, sums.read) == (0, 0)
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()
    unlabelled = Target(all_possible, labels, both, teacher_logits=told)
    assert RegionSums(*step(crops, unlabelled, 1.0)).loss > 0.1


def test_a_teacher_of_other_classes_is_refused(config: Path, tmp_path: Path, capsys):
    others = write_config(write_squares(tmp_path / "other", ("cat", "dog")))
    assert train(others, tmp_path / "teacher") == 0
    teacher = settings(f"teacher={{bundle: {tmp_path / 'teacher' / 'bundle'}}}")
    for bank in ([], settings("bank={after: 4e}", "member.freeze=[]")):
        assert train(config, tmp_path / "pupil", *teacher, *bank) == 2
        assert "other classes" in capsys.readouterr().err


def test_a_class_that_was_added_to_a_teacher_is_none_of_its_networks(monkeypatch):
    manifest = SimpleNamespace(
        classes=("green", "red", "blue"), network_classes=("green", "red"), members=()
    )
    bundle = SimpleNamespace(manifest=manifest, models=())
    monkeypatch.setattr(region_teacher, "load_bundle", lambda _: bundle)
    asked = TeacherConfig(bundle="any"), Path(), torch.device("cpu"), "float32"
    build_teacher(asked[0], ("green", "red"), *asked[1:])
    with pytest.raises(SettingsError, match="other classes"):
        build_teacher(asked[0], ("green", "red", "blue"), *asked[1:])
