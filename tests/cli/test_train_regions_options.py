"""tools/train_regions.py: members, parts of batches, number formats, banks, boxes, bad data."""

import gc
import json
import os
import re
import shutil
import signal
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_classifiers import tool
from toy_regions import STILL, same, settings, train, weights, write_config, write_squares

from detector.datasets import read_dataset
from detector.detection.bundle import load_bundle, read_manifest
from detector.errors import ImageError
from detector.progress.journal import read_journal
from detector.settings import load_config, validate
from detector.structures import Array, Proposals
from detector.training.engine.context import RunContext
from detector.training.engine.distributed import Group
from detector.training.engine.image_cache import ImageCache
from detector.training.engine.run_folder import exclusive_lock
from detector.training.regions.bank import RegionBank
from detector.training.regions.crops import InputBatch, RegionCrops
from detector.training.regions.member import Examples
from detector.training.regions.sampling import RegionBatch, RegionPool, SamplingSettings


def test_members_begin_alike_and_learn_from_other_samples(config: Path, tmp_path: Path):
    assert train(config, tmp_path, "--members", "2") == 0
    first, second = (weights(tmp_path / f"member-{i}") for i in range(2))
    frozen = "model/conv1.conv.weight"
    assert torch.equal(first[frozen], second[frozen])
    assert not same(first, second)
    bundle = load_bundle(tmp_path / "bundle")
    assert len(bundle.models) == 2
    # The first is the member of a run of one.
    assert train(config, tmp_path / "one") == 0
    assert same(first, weights(tmp_path / "one"))


def test_a_program_trains_as_the_command_does(config: Path, tmp_path: Path, capsys):
    from detector.training import RegionTrainingConfig, RunContext, train_regions

    assert train(config, tmp_path / "command") == 0
    capsys.readouterr()
    chosen = validate(RegionTrainingConfig, load_config(config), "test")
    cache = config.parent / "proposals.sqlite"
    assert train_regions(chosen, RunContext(tmp_path / "program", cache=cache))
    assert same(weights(tmp_path / "command"), weights(tmp_path / "program"))
    first, second = (read_manifest(tmp_path / name / "bundle") for name in ("command", "program"))
    assert first == second


def test_a_program_that_stops_a_training_gets_no_heads(config: Path, tmp_path: Path, monkeypatch):
    from detector.training import RegionTrainingConfig, RunContext, train_regions
    from detector.training.regions import run

    chosen = validate(RegionTrainingConfig, load_config(config), "test")
    context = RunContext(tmp_path / "program", cache=config.parent / "proposals.sqlite")

    def stopped_before_the_first_step(*_: object) -> int:
        context.stop.with_the_others()
        return 0

    monkeypatch.setattr(run, "train_member", stopped_before_the_first_step)
    monkeypatch.setattr(run, "finish", lambda *_: pytest.fail("there is no bundle to finish"))
    assert train_regions(chosen, context)
    assert not (tmp_path / "program" / "bundle").exists()


@pytest.mark.slow
def test_a_batch_in_parts_gives_the_step_of_a_whole_one(config: Path, tmp_path: Path):
    for name, parts in (("whole", 1), ("parts", 4)):
        more = settings(f"optimiser.accumulate={parts}")
        assert train(config, tmp_path / name, *STILL, *more) == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near_the_whole_one(config: Path, tmp_path: Path, precision: str):
    assert train(config, tmp_path / "float32", *STILL) == 0
    more = settings(f"optimiser.precision={precision}")
    assert train(config, tmp_path / precision, *STILL, *more) == 0
    losses = [
        [entry["loss"] for entry in read_journal(tmp_path / name / "journal.jsonl")]
        for name in ("float32", precision)
    ]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=0.02)
    assert np.isfinite(losses[1]).all()


def test_only_the_hardest_background_counts(config: Path, tmp_path: Path):
    assert train(config, tmp_path, *settings("sampling.hard_candidates=4")) == 0
    entries = read_journal(tmp_path / "journal.jsonl")
    assert len(entries) == 2
    assert all(0 <= entry["right"] <= 1 for entry in entries)


def test_a_bank_trains_what_is_above_it_and_resumes(config: Path, tmp_path: Path):
    bank = settings("bank={after: 4a, positives_per_object: 2}", "member.freeze=[]")
    assert train(config, tmp_path / "run", *bank) == 0
    bundle = load_bundle(tmp_path / "run" / "bundle")
    state = bundle.models[0].state_dict()
    trained = weights(tmp_path / "run")
    assert "average/inception.4b.one.conv.weight" in trained
    assert "average/inception.4a.one.conv.weight" not in trained
    assert "inception.4a.one.conv.weight" in state
    # Another member on the same bank; and the same again, which has nothing left to do.
    shared = ["--set", f"run.bank={tmp_path / 'run' / 'bank'}"]
    other = settings("optimiser.sampling_seed=5")
    assert train(config, tmp_path / "other", *bank, *shared, *other) == 0
    assert not same(trained, weights(tmp_path / "other"))
    assert train(config, tmp_path / "run", *bank) == 0
    assert same(trained, weights(tmp_path / "run"))


def test_the_same_command_twice_at_once_is_refused(config, tmp_path, capsys):
    with exclusive_lock(tmp_path, Group()):
        assert train(config, tmp_path) == 3
    assert f"{tmp_path}: another process" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / ".writing-00ff.tmp").write_bytes(b"half")
    assert train(config, tmp_path) == 0
    assert not (tmp_path / ".writing-00ff.tmp").exists()


def test_a_damaged_checkpoint_is_passed_over_aloud(config: Path, tmp_path: Path, capsys):
    assert train(config, tmp_path) == 0
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half a fi")
    assert train(config, tmp_path) == 0
    said = capsys.readouterr().err
    assert f"{tmp_path / 'checkpoint.safetensors'} is damaged" in said
    assert f"going on from {tmp_path / 'checkpoint-previous.safetensors'}, step 1\n" in said


@pytest.mark.slow
def test_a_start_that_changed_in_its_place_is_noticed(config: Path, tmp_path: Path, capsys):
    """The maps of the old start must not be read as those of the new one."""
    bank = settings("bank={after: 4e, positives_per_object: 2}", "member.freeze=[]")
    first, second = (tmp_path / name for name in ("first", "second"))
    assert train(config, first, *bank) == 0
    start = tmp_path / "start"
    shutil.copytree(first / "bundle", start)
    assert train(config, second, *bank, "--start", str(start)) == 0
    recipe = read_manifest(second / "bundle").provenance
    assert recipe.started_from == "start"  # and not the folder of this machine
    assert str(tmp_path) not in str(recipe.recipe["member"])
    other = settings("optimiser.seed=7")
    assert train(config, tmp_path / "another", *bank, *other) == 0
    shutil.rmtree(start)
    shutil.copytree(tmp_path / "another" / "bundle", start)
    assert train(config, second, *bank, "--start", str(start)) == 3
    assert "another start" in capsys.readouterr().err
    # Nor may what was trained on the old maps be put on the new trunk.
    shutil.rmtree(second / "bank")
    assert train(config, second, *bank, "--start", str(start)) == 3
    assert "the settings are the same, but" in capsys.readouterr().err


def test_members_on_a_bank_are_stored_with_one_trunk(config: Path, tmp_path: Path):
    bank = settings("bank={after: 4e, positives_per_object: 2}", "member.freeze=[]", "box_loss={}")
    bank += settings("thresholds={voting: 0.5, max_proposals: 9}")
    assert train(config, tmp_path, "--members", "2", *bank) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert (manifest.thresholds.voting_iou, manifest.thresholds.max_proposals) == (0.5, 9)
    first, second = manifest.members
    assert second.trunk == (0, "4e")
    assert second.bytes < first.bytes / 2
    assert [(head.kind, head.member) for head in manifest.heads] == [
        ("regression", 0),
        ("regression", 1),
    ]


def test_a_broken_image_in_the_middle_costs_itself_only(tmp_path: Path, capsys):
    toy = write_squares(tmp_path / "toy")
    config = write_config(toy)
    assert train(config, tmp_path / "first") == 0  # proposals are known now
    path = toy / "JPEGImages" / "000002.jpg"
    Image.new("RGB", (100, 80)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    capsys.readouterr()
    for code, strict in ((0, []), (0, []), (1, ["--strict"])):  # again: all is known already
        assert train(config, tmp_path / "second", *strict) == code
        said = capsys.readouterr().err
        assert said.count("000002.jpg") == 1
        assert ("warning: made without the images" in said) == (code == 0)
    assert (tmp_path / "second" / "bundle").exists()


def test_an_image_that_breaks_while_it_is_learnt_from_is_named_once(tmp_path: Path, capsys):
    toy = write_squares(tmp_path / "toy")
    real = ImageCache.read

    def read(self: ImageCache, path: Path) -> Array:
        if path.name == "000002.jpg":
            raise ImageError(f"{path}: damaged")
        return real(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageCache, "read", read)
        assert train(write_config(toy), tmp_path / "run") == 0
        path = toy / "JPEGImages" / "000002.jpg"
        said = capsys.readouterr().err
        assert f"left out: {path}: damaged\n" in said
        assert "warning: made without the images" in said
        assert train(write_config(toy), tmp_path / "other", "--strict") == 1


def test_proposals_are_made_by_the_first_process_and_read_by_the_others(
    tmp_path: Path, capsys, monkeypatch
):
    toy = write_squares(tmp_path / "toy")
    config = write_config(toy)
    (toy / "JPEGImages" / "000002.jpg").write_bytes(b"no image")
    assert train(config, tmp_path / "first") == 0
    assert "left out" in capsys.readouterr().err
    waited = []

    def waits(self: Group, steps: object, *_: object) -> bool:
        waited.append(steps)
        return True

    def searches(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Group, "run_on_main", waits)
    monkeypatch.setattr("detector.proposals.selective_search.SelectiveSearch.__call__", searches)
    monkeypatch.setattr("detector.training.engine.distributed.join_group", lambda *_: Group(rank=1))
    assert train(config, tmp_path / "second") == 0
    assert len(waited) == 1
    assert capsys.readouterr().err == "", "the first process says it"


def test_the_images_of_a_member_are_gone_before_those_of_the_next_are_read(
    config: Path, tmp_path: Path, monkeypatch
):
    """Whenever Python would collect them by itself: the caches of two may not fit the memory."""
    from detector.training.regions import member

    made: list[weakref.ref[RegionCrops]] = []

    class Crops(RegionCrops):
        def __init__(self, *given: Any, **options: Any) -> None:
            assert not [one for one in made if one() is not None]
            super().__init__(*given, **options)
            made.append(weakref.ref(self))

    monkeypatch.setattr(member, "RegionCrops", Crops)
    gc.disable()
    try:
        assert train(config, tmp_path, "--members", "2") == 0
    finally:
        gc.enable()
    assert len(made) == 2


def test_if_no_image_can_be_read_any_more_the_run_stops(tmp_path: Path, capsys):
    """Momentum and decay would move the weights to the last step, away from what was learnt."""
    toy = write_squares(tmp_path / "toy")
    config = write_config(toy)
    change = settings("optimiser.steps=6", "optimiser.label_smoothing=0.1")
    real, seen = ImageCache.read, []

    def read(self: ImageCache, path: Path) -> Array:
        seen.append(path)
        if len(seen) > 6:  # those of the first step at the most
            raise ImageError(f"{path}: Stale file handle")
        return real(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageCache, "read", read)
        assert train(config, tmp_path / "run", *change, *settings("optimiser.max_bad_steps=2")) == 3
    assert "nothing in the last 2 batches could be read" in capsys.readouterr().err
    assert not (tmp_path / "run" / "bundle").exists()


def test_one_image_is_enough(tmp_path: Path):
    config = write_config(write_squares(tmp_path / "toy", images=1))
    assert train(config, tmp_path / "run") == 0
    assert load_bundle(tmp_path / "run" / "bundle").manifest.classes == ("green",)


def test_a_class_that_the_start_does_not_have_gets_a_fresh_last_layer(config: Path, tmp_path: Path):
    assert train(config, tmp_path / "first") == 0
    others = write_config(write_squares(tmp_path / "other", ("cat", "red")))
    start = ["--start", str(tmp_path / "first" / "bundle")]
    assert train(others, tmp_path / "second", *start) == 0
    assert load_bundle(tmp_path / "second" / "bundle").manifest.classes == ("cat", "red")


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_network_starts_from_the_member_that_is_named(config: Path, tmp_path: Path, number: int):
    fast = settings("optimiser.rate=0.05")  # the two end apart
    assert train(config, tmp_path / "two", "--members", "2", *fast) == 0
    begun = ["--start", str(tmp_path / "two" / "bundle")]
    still = settings("optimiser.rate=1e-12", f"member.start_member={number}")
    assert train(config, tmp_path / "next", *begun, *still) == 0
    members = load_bundle(tmp_path / "two" / "bundle").models
    (after,) = load_bundle(tmp_path / "next" / "bundle").models
    name = "inception.5b.one.conv.weight"
    apart = [(one.state_dict()[name] - after.state_dict()[name]).abs().max() for one in members]
    assert apart[number] < 1e-6 < apart[1 - number]


@pytest.mark.parametrize("start", [[], ["--start", "w.safetensors"]])
def test_only_a_bundle_has_members_to_start_from(
    config: Path, tmp_path: Path, capsys, start: list[str]
):
    assert train(config, tmp_path / "x", *start, *settings("member.start_member=1")) == 2
    assert "give a bundle that has such a member" in capsys.readouterr().err


def test_a_start_of_other_layers_is_said_at_once(config: Path, tmp_path: Path, capsys):
    assert train(config, tmp_path / "one") == 0
    begun = ["--start", str(tmp_path / "one" / "bundle")]
    assert train(config, tmp_path / "x", *begun, *settings("member.options={width: 0.5}")) == 2
    assert "whose layers are others" in capsys.readouterr().err


def test_the_starts_normalisation_stays(config: Path, tmp_path: Path):
    assert train(config, tmp_path / "one") == 0
    path = tmp_path / "one" / "bundle" / "bundle.json"
    told = json.loads(path.read_text())
    told["members"][0]["mean"] = [0.25, 0.5, 0.75]
    path.write_text(json.dumps(told))
    begun = ["--start", str(tmp_path / "one" / "bundle")]
    assert train(config, tmp_path / "next", *begun) == 0
    assert read_manifest(tmp_path / "next" / "bundle").members[0].mean == (0.25, 0.5, 0.75)


@pytest.mark.parametrize("asked", ["in the first step", "in the last save"])
def test_a_stop_of_another_process_stops_this_one_with_what_there_is(
    config: Path, tmp_path: Path, monkeypatch, asked: str
):
    """One process of a group was interrupted: none goes on to the next network alone, and the
    bundle says that it is of a half-trained one.
    """
    answers = iter([False] * {"in the first step": 1, "in the last save": 3}[asked])

    def stops(self: RunContext) -> bool:
        if stopping := next(answers, True):
            self.stop.with_the_others()
        return stopping

    monkeypatch.setattr(RunContext, "stops", stops)
    assert train(config, tmp_path, "--members", "2") == 143
    done = {"in the first step": 1, "in the last save": 2}[asked]
    early = read_manifest(tmp_path / "bundle").provenance.unfinished
    assert early == f"step {done} of 2, network 1 of 2"
    assert (tmp_path / "member-0" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "member-1").exists()
    monkeypatch.undo()
    assert train(config, tmp_path, "--members", "2") == 0
    assert len(load_bundle(tmp_path / "bundle").models) == 2


def test_a_member_that_the_start_does_not_have_is_said(config: Path, tmp_path: Path, capsys):
    assert train(config, tmp_path / "one") == 0
    begun = ["--start", str(tmp_path / "one" / "bundle")]
    assert train(config, tmp_path / "x", *begun, *settings("member.start_member=1")) == 2
    assert "2 of its members were asked for; it has 1" in capsys.readouterr().err


def test_tensorboard_that_is_not_installed_is_one_sentence(
    config: Path, tmp_path: Path, capsys, monkeypatch
):
    (config.parent / "proposals.sqlite").unlink(missing_ok=True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(config, tmp_path, "--set", "run.tensorboard=true") == 2
    assert "pip install tensorboard" in capsys.readouterr().err
    assert not (config.parent / "proposals.sqlite").exists()


def test_a_full_disk_stops_the_run_and_keeps_the_previous_checkpoint(
    config: Path, tmp_path: Path, capsys, monkeypatch
):
    from detector.training.engine import checkpoint

    assert train(config, tmp_path) == 0
    before = weights(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    out = tmp_path / "fresh"
    assert train(config, out) == 3
    assert "No space left" in capsys.readouterr().err
    assert not (out / "checkpoint.safetensors").exists()
    assert same(before, weights(tmp_path))


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(config: Path, tmp_path: Path):
    both = [*STILL, *settings("box_loss={}")]
    assert train(config, tmp_path / "eager", *both) == 0
    assert train(config, tmp_path / "compiled", *both, "--set", "run.compile=true") == 0
    eager, compiled = weights(tmp_path / "eager"), weights(tmp_path / "compiled")
    assert same(eager, compiled, atol=1e-3)


def test_the_early_report_names_what_was_left_out_by_file_and_rule(tmp_path: Path, capsys):
    toy = write_squares(tmp_path / "toy")
    config = write_config(toy)
    path = toy / "Annotations" / "000001.xml"
    box = "<xmin>9</xmin><ymin>9</ymin><xmax>2</xmax><ymax>20</ymax>"
    bad = f"<object><name>red</name><bndbox>{box}</bndbox></object></annotation>"
    path.write_text(path.read_text().replace("</annotation>", bad))
    assert train(config, tmp_path / "run", "--no-quiet") == 0
    said = capsys.readouterr().err
    assert "green 3, red 3" in said
    assert "1 x " in said
    assert "000001.xml" in said


def test_a_network_is_trained_on_the_input_that_it_will_detect_with(monkeypatch):
    from detector.models.input_normalisation import HALF
    from detector.training.regions.step import RegionStep, RegionSums, Target

    class Watching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = torch.nn.Linear(3, 2)

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            self.seen = crops
            return self.classifier(crops.mean((2, 3)))

    network, crops = Watching(), torch.randn(2, 3, 4, 4)
    step = RegionStep(network, torch.device("cpu"), torch.float32, 2, HALF)
    sums = RegionSums(
        *step(crops, Target(torch.eye(2).bool(), torch.tensor([0, 1]), torch.ones(2).bool()), 1.0)
    )
    assert torch.equal(network.seen, HALF(crops))
    assert sums.objects == 1
    assert sums.boxes == 0
    assert network.classifier.weight.grad is not None


@pytest.mark.parametrize("banked", [False, True])
def test_boxes_learnt_beside_the_classes_become_the_detectors_regression(
    config: Path, tmp_path: Path, banked: bool
):
    from detector import load_detector

    bank = settings("bank.after=4e", "member.freeze=[]") if banked else []
    learning = settings("box_loss.weight=2", "optimiser.steps=3", "optimiser.rate=0.001")
    assert train(config, tmp_path, *bank, *learning) == 0
    bundle = load_bundle(tmp_path / "bundle")
    assert [(head.kind, head.member) for head in bundle.manifest.heads] == [("regression", 0)]
    assert bundle.manifest.thresholds.regression
    head = bundle.heads[0]
    assert head.weight.shape == (8, 1024)
    assert np.abs(head.weight).max() > 0
    assert all(entry["boxes"] > 0 for entry in read_journal(tmp_path / "journal.jsonl"))
    image = np.zeros((60, 80, 3), np.uint8)
    detect = load_detector(tmp_path / "bundle")
    proposals = Proposals(np.array([[5, 5, 40, 40], [10, 10, 70, 50]]), (60, 80))
    assert detect.predict(image, proposals).boxes.shape == (2, 2, 4)
    # A training that starts from the bundle goes on with its regression.
    begun = ["--start", str(tmp_path / "bundle")]
    slow = settings("box_loss.weight=2", "optimiser.steps=1", "optimiser.rate=1e-9")
    assert train(config, tmp_path / "on", *begun, *bank, *slow) == 0
    assert np.allclose(load_bundle(tmp_path / "on" / "bundle").heads[0].weight, head.weight)


@pytest.mark.parametrize("flip", [True, False])
def test_moves_are_mirrored_where_the_network_sees_a_region_mirrored(
    config: Path, tmp_path: Path, monkeypatch, flip: bool
):
    class Pool:
        def deltas(self, rows: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
            return np.stack([rows, mirrored, rows, rows], 1).astype(np.float32)

        def draw(self, seed: int, step: int) -> RegionBatch:
            return batch

    class Bank(RegionBank):
        def __init__(self) -> None:
            self.mirrored = np.array([False, True, True])

        def __call__(self, batch: RegionBatch, _step: int) -> InputBatch:
            return made

    rows, drawn = np.array([2, 0, 1]), np.array([True, True, False])
    batch = RegionBatch(*[rows] * 2, *[drawn] * 2, drawn, rows)
    made = InputBatch(*[torch.zeros(3)] * 3)
    for source, wanted in ((lambda *_: made, [flip, flip, 0]), (Bank(), [flip, 0, flip])):
        target = Examples(Pool(), source, 0, Group(), boxes=True, flip=flip)(0).target
        assert target.deltas[:, 1].tolist() == wanted


def test_a_broken_image_teaches_no_moves(monkeypatch):
    from detector.training.regions.box_loss import RegionOutput
    from detector.training.regions.step import RegionStep, RegionSums, Target

    def network(crops: torch.Tensor) -> RegionOutput:
        return RegionOutput(torch.zeros(len(crops), 3) * scale, torch.zeros(len(crops), 8) * scale)

    scale = torch.ones(1, requires_grad=True)
    step = RegionStep(network, torch.device("cpu"), torch.float32, 2, box_weight=1.0)
    deltas, labels = torch.full((2, 4), 0.3), torch.tensor([0, 1])
    known, unread = torch.eye(3, dtype=torch.bool)[:2], torch.zeros(2, dtype=torch.bool)
    read = ~unread
    crops = torch.zeros(2, 3, 4, 4)
    assert RegionSums(*step(crops, Target(known, labels, read, deltas), 1.0)).boxes > 1
    assert RegionSums(*step(crops, Target(known, labels, unread, deltas), 1.0)).boxes == 0
    none = Target(known[:0], labels[:0], read[:0], deltas[:0])
    assert RegionSums(*step(crops[:0], none, 1.0)).objects == 0


def test_two_ways_to_box_regression_at_once_are_refused(config: Path, tmp_path: Path, capsys):
    both = settings("bank.after=4e", "box_loss.weight=1", "heads.regression=true")
    assert train(config, tmp_path, *both) == 2
    assert "choose one" in capsys.readouterr().err


def test_background_is_made_as_common_as_it_is_among_proposals(config: Path, tmp_path: Path):
    for name, prior in (("plain", 1.0), ("raised", 7.0)):
        more = settings(f"sampling.background_prior={prior}")
        assert train(config, tmp_path / name, *STILL, *more) == 0
    plain, raised = (
        load_bundle(tmp_path / name / "bundle").models[0].state_dict()["classifier.bias"]
        for name in ("plain", "raised")
    )
    assert torch.allclose(raised[:-1], plain[:-1])
    assert float(raised[-1] - plain[-1]) == pytest.approx(np.log(7), abs=1e-5)


def test_the_detector_knows_how_common_objects_are_at_each_size(config: Path, tmp_path: Path):
    assert train(config, tmp_path / "on", *STILL) == 0
    manifest = load_bundle(tmp_path / "on" / "bundle").manifest
    prior = manifest.prior
    assert prior is not None
    # The squares cover a fifth of the picture; what is much smaller is never an object.
    at = dict(zip(prior.sides, prior.log_odds, strict=True))
    assert at[min(prior.sides)] < at[min(prior.sides, key=lambda side: abs(side - 0.45))]
    assert train(config, tmp_path / "off", *STILL, *settings("sampling.size_prior=false")) == 0
    assert load_bundle(tmp_path / "off" / "bundle").manifest.prior is None
    partial = settings(f"data=[{{path: {config.parent}, split: train, partial: [red]}}]")
    assert train(config, tmp_path / "partial", *STILL, *partial) == 0
    assert load_bundle(tmp_path / "partial" / "bundle").manifest.prior is None


def test_odds_are_counted_among_the_proposals_that_will_be_judged(tmp_path: Path):
    from detector.training.regions.size_counts import prior_of

    dataset = read_dataset(write_squares(tmp_path / "toy"), "train")
    small, large = [0, 0, 10, 8], [0, 0, 100, 80]
    found = {}
    for sample in dataset.samples:
        box = sample.annotations.boxes[0]
        found[sample.image_id] = Proposals(np.array([box, small, large, box + 1]), (80, 100))
    how = SamplingSettings(positives_per_batch=32, background_per_batch=64)
    prior = prior_of(dataset, found, how, 3)
    assert prior is not None
    size = (80, 100)
    of_object = prior(dataset.samples[0].annotations.boxes, size)[0]
    assert of_object > prior(np.array([small]), size)[0]
    assert of_object > prior(np.array([large]), size)[0]
    assert prior_of(dataset, found, how, 1) is None  # nothing but objects
    nothing = SamplingSettings(background_per_batch=0)
    assert prior_of(dataset, found, nothing, 3) is None


def test_a_finished_run_may_change_what_no_weight_depends_on(config: Path, tmp_path: Path):
    assert train(config, tmp_path) == 0
    before = weights(tmp_path)
    change = settings(
        "licence=CC0-1.0", "thresholds.score=0.2", "sampling.background_prior=2",
        "optimiser.save_every=7", "optimiser.max_bad_steps=9", "optimiser.accumulate=2",
        "detect_with={engine: opencv}", "sampling.size_prior=false",
    )  # fmt: skip
    assert train(config, tmp_path, *change) == 0
    manifest = read_manifest(tmp_path / "bundle")
    assert (manifest.provenance.licence, manifest.thresholds.score_threshold) == ("CC0-1.0", 0.2)
    assert manifest.prior is None
    assert same(weights(tmp_path), before)


def test_refused_settings_leave_what_the_folder_says_of_its_run(config: Path, tmp_path: Path):
    assert train(config, tmp_path / "run") == 0
    said = (tmp_path / "run" / "config.yaml").read_text()
    assert train(config, tmp_path / "run", *settings("optimiser.rate=0.5")) == 3
    assert (tmp_path / "run" / "config.yaml").read_text() == said


def test_a_refusal_to_resume_names_every_setting_that_differs(config: Path, tmp_path, capsys):
    assert train(config, tmp_path) == 0
    capsys.readouterr()
    change = settings("optimiser.rate=0.5", "member.freeze=[]", "optimiser.save_every=7")
    assert train(config, tmp_path, *change) == 3
    said = capsys.readouterr().err
    assert 'member.freeze was ["conv1."], is []; optimiser.rate was 0.003, is 0.5; use' in said
    assert "save_every" not in said  # which may change
    many = settings(*(f"augment.{name}=0" for name in ("brightness", "contrast", "saturation")))
    assert train(config, tmp_path, *change, *many) == 3
    assert "and 2 others; use the same, or another --out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_stopped_early_leaves_a_bundle_and_goes_on_to_the_same_bits(
    config: Path, tmp_path: Path, monkeypatch
):
    assert train(config, tmp_path / "whole", "--members", "2") == 0
    real = RegionCrops.__call__
    stops = {"stopped": 0, "between": 2}  # at which batch, of two a network

    for name, at in stops.items():
        seen: list[int] = []

        def stopping(self: RegionCrops, batch: RegionBatch, step: int) -> InputBatch:
            if len(seen) == at:  # noqa: B023 used at once
                os.kill(os.getpid(), signal.SIGINT)
            seen.append(step)  # noqa: B023
            return real(self, batch, step)

        out = tmp_path / name
        with monkeypatch.context() as patch:
            patch.setattr(RegionCrops, "__call__", stopping)
            assert train(config, out, "--members", "2") == 130
        early = load_bundle(out / "bundle").manifest
        assert early.provenance.unfinished.endswith(f", network {1 + at // 2} of 2")
        assert len(early.members) in (1 + at // 2, at // 2)
        assert train(config, out, "--members", "2") == 0
        last = load_bundle(out / "bundle").manifest
        assert last.provenance.unfinished == ""
        whole = load_bundle(tmp_path / "whole" / "bundle").manifest
        assert [one.sha256 for one in last.members] == [one.sha256 for one in whole.members]


def test_a_licence_is_of_the_data_and_not_of_the_config_that_was_copied(tmp_path: Path):
    toy = write_squares(tmp_path / "toy")
    config = write_config(toy)
    config.write_text(config.read_text() + "licence: images of somebody else, MIT\n")
    mine = write_squares(tmp_path / "mine")
    (mine / "LICENSE").write_text("\n  Creative Commons Zero 1.0\n\nThe rest of it\n")
    data = ["--data", str(mine), "--split", "train"]
    cache = settings(f"run.cache={tmp_path / 'mine.sqlite'}")
    assert train(config, tmp_path / "run", *data, *cache) == 0
    origin = read_manifest(tmp_path / "run" / "bundle").provenance
    assert origin.licence == "not stated; images of mine: Creative Commons Zero 1.0"
    assert origin.training_data == "6 images of mine (train)"
    assert len(origin.pictures) == 6
    stated = [*data, *cache, *settings("licence=CC0-1.0")]
    assert train(config, tmp_path / "run", *stated) == 0
    origin = read_manifest(tmp_path / "run" / "bundle").provenance
    assert origin.licence == "CC0-1.0; images of mine: Creative Commons Zero 1.0"
    assert train(config, tmp_path / "other") == 0  # its own data
    origin = read_manifest(tmp_path / "other" / "bundle").provenance
    assert origin.licence == "images of somebody else, MIT"


def test_other_data_do_not_resume_a_run(tmp_path: Path, capsys):
    data = write_squares(tmp_path / "squares")
    config = write_config(data)
    assert train(config, tmp_path / "run") == 0
    path = sorted((data / "Annotations").glob("*.xml"))[0]
    text = path.read_text()
    path.write_text(re.sub(r"<xmin>(\d+)", lambda m: f"<xmin>{int(m[1]) + 3}", text, count=1))
    assert train(config, tmp_path / "run") == 3
    assert "other data" in capsys.readouterr().err


def test_a_bank_frees_whoever_trains_above_it_from_naming_frozen_layers(
    config: Path, tmp_path: Path
):
    bank = settings("bank={after: 4e, positives_per_object: 2}", "member.freeze=[conv1.]")
    assert train(config, tmp_path / "run", *bank) == 0


@pytest.mark.parametrize("change", ["member.freeze=[nonsense.]", "teacher={bundle: nonsense.}"])
def test_a_wrong_network_or_teacher_is_told_before_any_proposal(
    config: Path, tmp_path: Path, capsys, change: str
):
    (config.parent / "proposals.sqlite").unlink(missing_ok=True)
    assert train(config, tmp_path / "run", *settings(change)) in (2, 3)
    assert "nonsense." in capsys.readouterr().err
    assert not (config.parent / "proposals.sqlite").exists()


def test_the_loss_is_the_mean_over_regions_that_are_drawn(tmp_path: Path):
    dataset = read_dataset(write_squares(tmp_path / "toy"), "train")
    found = {s.image_id: Proposals(np.array([[0, 0, 9, 9]]), (80, 100)) for s in dataset.samples}
    how = SamplingSettings(positives_per_batch=4, background_per_batch=8)
    for data in (dataset, dataset.with_positives_only(True)):
        pool = RegionPool(data, found, how)
        assert pool.batch_size() == len(pool.draw(0, 0))


def test_odds_are_those_of_the_ranking_that_the_detector_uses(config: Path, tmp_path: Path):
    few = settings("thresholds.max_proposals=5", "optimiser.steps=1")
    other = settings("detect_with={engine: selective-search, options: {ranking: learned}}")
    assert train(config, tmp_path / "paper", *few) == 0
    assert train(config, tmp_path / "learned", *few, *other) == 0
    learned = settings("proposals={engine: selective-search, options: {ranking: learned}}")
    assert train(config, tmp_path / "both", *few, *learned) == 0
    priors = [read_manifest(tmp_path / n / "bundle").prior for n in ("paper", "learned", "both")]
    assert priors[0] != priors[1] == priors[2]


@pytest.mark.slow
def test_a_training_with_a_budget_goes_on_with_its_maps_after_a_kill(tmp_path: Path, monkeypatch):
    """They belong to what was chosen for them, though all is timed again."""
    from detector.cli.app import run_tool

    toy = write_squares(tmp_path / "toy", images=60)
    words = [
        "--data",
        str(toy),
        "--split",
        "train",
        "--device",
        "cpu",
        "--quiet",
        "--budget",
        "60s",
    ]
    words += settings("run.threads=1", "thresholds.max_proposals=20", "member.input_size=64")
    words += ["--out", str(tmp_path / "run")]
    real, made = RegionBank._crops_of, []

    def killed(self: RegionBank, image: int) -> torch.Tensor:
        made.append(image)
        if len(made) == 6:
            raise MemoryError
        return real(self, image)

    def run() -> object:
        with pytest.raises(SystemExit) as left:
            run_tool(tool("train_regions").main, words)
        return left.value.code

    with monkeypatch.context() as patch:
        patch.setattr(RegionBank, "_crops_of", killed)
        assert run() == 3
    before = load_config(tmp_path / "run" / "config.yaml")
    assert "steps" not in before["optimiser"]
    assert run() == 0
    after = load_config(tmp_path / "run" / "config.yaml")
    assert after["optimiser"]["steps"] >= 40
    assert [after[name] for name in ("bank", "held_out", "data")] == [
        before[name] for name in ("bank", "held_out", "data")
    ]


@pytest.mark.slow
def test_the_shortest_command_fits_temperature_and_threshold_on_what_it_holds_out(
    tmp_path: Path, capsys, monkeypatch
):
    from detector.cli.app import run_tool

    toy = write_squares(tmp_path / "toy", images=60)
    small = settings(
        "proposals={engine: opencv, options: {longest_side: 100}}", "member.input_size=64",
        "run.threads=1", "thresholds.max_proposals=20",
        "sampling={positives_per_batch: 4, background_per_batch: 4}",
        "optimiser={save_every: 5, warmup: 0, precision: float32}", "held_out=0.2",
    )  # fmt: skip
    words = ["--data", str(toy), "--split", "train", "--steps", "6", "--device", "cpu", *small]

    def run(out: Path, *more: str) -> str:
        with pytest.raises(SystemExit) as left:
            run_tool(tool("train_regions").main, [*words, "--out", str(out), *more])
        assert left.value.code == 0
        return capsys.readouterr().err

    said = run(tmp_path / "run")
    assert "chosen for 60 images with 60 objects on the CPU: start default, layers above 4e" in said
    assert "6 steps of 8 regions by adamw at 0.0002, held-out loss every" in said
    assert "by what was timed here: proposals" in said
    assert "held_out: loss " in said
    assert "the weights of step " in said
    kept = load_config(tmp_path / "run" / "config.yaml")
    assert (kept["bank"]["after"], kept["box_loss"], kept["optimiser"]["steps"]) == (
        "4e", {"weight": 1.0}, 6
    )  # fmt: skip
    assert "held out: 12 images with 12 objects, on which temperature" in said
    made = read_manifest(tmp_path / "run" / "bundle")
    recipe = made.provenance.recipe["temperature"]
    assert recipe["data"] == "12 images held out"
    assert made.members[0].temperature != 1
    assert made.provenance.training_data == "48 images of toy (train)"
    assert len(made.provenance.pictures) == 60
    if recipe["threshold"] is not None:
        assert made.thresholds.score_threshold == recipe["threshold"]
    before = (tmp_path / "run" / "bundle" / "bundle.json").read_bytes()
    with monkeypatch.context() as patch:  # again: nothing is timed or left to do
        costs = "detector.training.regions.auto_settings.measure_costs"
        patch.setattr(costs, lambda *_: pytest.fail("its choices are kept"))
        run(tmp_path / "run")
    assert (tmp_path / "run" / "bundle" / "bundle.json").read_bytes() == before
    assert "held_out" not in run(tmp_path / "all", "--set", "held_out=0", "--quiet")
    made = read_manifest(tmp_path / "all" / "bundle")
    assert made.provenance.training_data == "60 images of toy (train)"
    assert "temperature" not in made.provenance.recipe
    assert made.members[0].temperature == 1
