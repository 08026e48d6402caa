"""tools/train_classifier.py: it learns, resumes to the same bits, and survives what befalls it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from small_classifiers import TOOLS, SmallNetwork, exit_code, tool, write_pictures
from toy_regions import weights as saved

from detector.detection.load import SHIPPED
from detector.models import ARCHITECTURES
from detector.models.weights.classifier_file import load_classifier
from detector.progress.journal import read_journal
from detector.progress.live import TrainingDisplay
from detector.training.classifier import patch_batches, trainer, validation
from detector.training.classifier import step as classifier_step
from detector.training.engine import checkpoint as checkpoints
from detector.training.engine.checkpoint import load_checkpoint
from detector.training.engine.distributed import Group
from detector.training.engine.run_folder import exclusive_lock

SETTINGS = {
    "recipe": "modern",
    "network": {"architecture": "small", "input_size": 32},
    "optimiser": {
        "epochs": 2, "batch": 5, "rate": 0.05, "warmup": 0, "save_every": 2, "average_decay": 0.9,
        "precision": "float32",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "small", SmallNetwork)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Eight pictures to learn from, two to judge by, and the settings of a run of four steps."""
    root = tmp_path_factory.mktemp("pictures")
    write_pictures(root / "train", 4)
    write_pictures(root / "val", 1)
    (root / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return root


def train(pictures: Path, out: Path, *more: str) -> int:
    arguments = ["--config", pictures / "config.yaml", "--data", pictures, "--device", "cpu"]
    main = tool("train_classifier").main
    return exit_code(main, *arguments, "--set", "run.threads=1", "--out", out, *more)


def changes(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def assert_same(out: Path, other: Path) -> None:
    ours, theirs = saved(out), saved(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_run_reports_first_and_leaves_a_journal_its_settings_and_a_classifier(
    pictures, tmp_path, capsys
):
    assert train(pictures, tmp_path) == 0
    said = capsys.readouterr().err
    assert "learn: train, 8 images of 2 classes, 4 to 4 each" in said
    assert "judge: val, 2 images of 2 classes" in said
    entries = read_journal(tmp_path / "journal.jsonl")
    assert [entry["step"] for entry in entries if "loss" in entry] == [0, 1, 2, 3]
    # Eight images in batches of five: the epochs end within steps 1 and 3.
    assert [entry["step"] for entry in entries if "validation" in entry] == [1, 3]
    assert entries[-1]["validation"]["images"] == 2
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["optimiser"]["batch"] == 5
    assert load_classifier(tmp_path / "classifier.safetensors").classes == ("green", "red")
    assert "warm-up" not in said
    assert train(pictures, tmp_path / "short", *changes("optimiser.warmup=2")) == 0
    assert "its warm-up has 2 epochs, the training 2; set" in capsys.readouterr().err


def test_colours_are_learnt(pictures, tmp_path):
    assert train(pictures, tmp_path, "--epochs", "25", "--quiet") == 0
    entries = read_journal(tmp_path / "journal.jsonl")
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    assert entries[-1]["validation"]["top1"] == 1


@pytest.mark.parametrize(
    "options",
    [
        changes("network.options={auxiliary: true}"),
        changes("optimiser.method=rmsprop", "optimiser.clip=0.5", "optimiser.precision=bfloat16"),
        changes("optimiser.method=adamw", "optimiser.precision=float16", "optimiser.accumulate=2"),
    ],
    ids=["nesterov", "rmsprop", "adamw"],
)
def test_a_run_cut_in_the_middle_of_an_epoch_ends_with_the_same_bits(
    options, pictures, tmp_path, monkeypatch
):
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert train(pictures, straight, *options, "--quiet") == 0
    with monkeypatch.context() as patched:

        def killed(self: TrainingDisplay, step: int, *_: float) -> None:
            if step == 2:  # after the checkpoint of two steps
                raise MemoryError

        patched.setattr(TrainingDisplay, "step", killed)
        assert train(pictures, cut, *options, "--quiet") == 3
    assert not (cut / "classifier.safetensors").exists()
    assert train(pictures, cut, *options, "--quiet") == 0
    assert_same(cut, straight)
    steps = [one["step"] for one in read_journal(cut / "journal.jsonl") if "loss" in one]
    assert steps == [0, 1, 2, 3]


@pytest.mark.parametrize("members", [1, 2])
def test_an_interrupt_finishes_the_step_saves_and_leaves_a_classifier_to_try(
    members, pictures, tmp_path, monkeypatch, capsys
):
    """In the last network of a run; the same command goes on, and the file is the finished one."""
    calls: list[int] = []

    def interrupt(self: TrainingDisplay, step: int, *_: float) -> None:
        calls.append(step)
        if len(calls) == 4 * members - 1:
            os.kill(os.getpid(), signal.SIGINT)

    last = "run" if members == 1 else "run/member-1"
    file = tmp_path / last / "classifier.safetensors"
    options = ["--members", str(members)]
    with monkeypatch.context() as patched:
        patched.setattr(TrainingDisplay, "step", interrupt)
        assert train(pictures, tmp_path / "run", *options) == 130
    found = load_checkpoint(tmp_path / last)
    assert found is not None
    assert found.step == 3
    said = capsys.readouterr().err
    of = "" if members == 1 else ", network 2 of 2"
    assert f"of step 3 of 4{of}; try: inception-rcnn evaluate classifier --weights" in said
    assert load_classifier(file).classes == ("green", "red")
    with safe_open(file, framework="pt") as early:
        assert early.metadata()["unfinished"] == "step 3 of 4"
    assert train(pictures, tmp_path / "run", *options) == 0
    with safe_open(file, framework="pt") as whole:
        assert "unfinished" not in whole.metadata()


def test_a_run_that_is_stopped_before_its_first_step_writes_no_classifier(
    pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(trainer, "report", lambda learning: os.kill(os.getpid(), signal.SIGINT))
    assert train(pictures, tmp_path) == 130
    assert not (tmp_path / "classifier.safetensors").exists()
    assert "wrote" not in capsys.readouterr().err


def test_the_same_command_twice_at_once_is_refused(pictures, tmp_path, capsys):
    with exclusive_lock(tmp_path, Group()):
        assert train(pictures, tmp_path) == 3
    assert f"{tmp_path}: another process" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / ".writing-00ff.tmp").write_bytes(b"half")
    assert train(pictures, tmp_path) == 0
    assert not (tmp_path / ".writing-00ff.tmp").exists()


def judged(out: Path) -> list[int]:
    return [one["step"] for one in read_journal(out / "journal.jsonl") if "validation" in one]


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupt_in_a_step_that_is_to_be_validated_does_not_lose_that(
    at, pictures, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:

        def interrupt(self: TrainingDisplay, step: int, *_: float) -> None:
            if step == at:
                os.kill(os.getpid(), signal.SIGINT)

        patched.setattr(TrainingDisplay, "step", interrupt)
        assert train(pictures, tmp_path) == 130
    assert judged(tmp_path) == [one for one in (1, 3) if one <= at]
    assert train(pictures, tmp_path) == 0
    assert judged(tmp_path) == [1, 3]


@pytest.mark.parametrize("at", [1, 3])
def test_a_run_cut_between_its_checkpoint_and_its_validation_makes_up_for_it(
    at, pictures, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:

        def cut(*_: object, **__: object) -> None:
            if at == 1 or judged(tmp_path):
                raise MemoryError

        patched.setattr("detector.training.classifier.trainer.validate", cut)
        if at == 3:
            real = validation.validate
            patched.setattr(
                "detector.training.classifier.trainer.validate",
                lambda *a, **k: cut() or real(*a, **k),
            )
        assert train(pictures, tmp_path) == 3
    assert train(pictures, tmp_path) == 0
    assert judged(tmp_path) == [1, 3]
    assert train(pictures, tmp_path) == 0
    assert judged(tmp_path) == [1, 3], "once is enough"


def test_an_interrupt_while_validating_takes_no_further_step(pictures, tmp_path, monkeypatch):
    real = validation.validate

    def interrupted(*given: object, **options: object) -> validation.Accuracy:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("detector.training.classifier.trainer.validate", interrupted)
    assert train(pictures, tmp_path, *changes("optimiser.save_every=100")) == 130
    assert judged(tmp_path) == [1]
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 2


def test_unreadable_images_to_judge_by_are_named_and_no_accuracy_is_made_of_none(
    pictures, tmp_path, capsys
):
    write_pictures(tmp_path / "val", 1)
    (tmp_path / "val/red/0.png").write_bytes(b"not a picture")
    assert train(pictures, tmp_path / "some", "--set", f"data.validate_on={tmp_path / 'val'}") == 0
    assert "left out: red/0.png: not an image" in capsys.readouterr().err
    assert read_journal(tmp_path / "some/journal.jsonl")[-1]["validation"]["images"] == 1
    (tmp_path / "val/green/0.png").write_bytes(b"not a picture")
    assert train(pictures, tmp_path / "none", "--set", f"data.validate_on={tmp_path / 'val'}") == 0
    said = capsys.readouterr().err
    assert "validation: no image could be read" in said
    assert "top-1" not in said
    other = changes(f"data.validate_on={tmp_path / 'val'}")
    assert train(pictures, tmp_path / "none", *other, "--strict") == 1
    assert capsys.readouterr().err.count("left out: ") == 2
    last = read_journal(tmp_path / "none/journal.jsonl")[-1]["validation"]
    assert last == {"top1": None, "top5": None, "images": 0}
    assert (tmp_path / "none/classifier.safetensors").exists()


def test_accumulated_parts_are_one_batch(pictures, tmp_path, monkeypatch):
    """With the statistics of batch normalisation fixed; dropout is off, for masks are a part's."""
    monkeypatch.setattr(SmallNetwork, "dropout_share", 0.0)
    still = changes("network.frozen_norm=true")
    assert train(pictures, tmp_path / "one", *still, "--quiet") == 0
    parts = changes("optimiser.accumulate=3")
    assert train(pictures, tmp_path / "three", *still, *parts, "--quiet") == 0
    one, three = saved(tmp_path / "one"), saved(tmp_path / "three")
    for name, value in one.items():
        assert torch.allclose(three[name], value, atol=1e-5), name
    assert torch.equal(one["model/bn.running_mean"], torch.zeros(6))


def test_an_unreadable_image_is_named_and_costs_its_own_sample(pictures, tmp_path, capsys):
    write_pictures(tmp_path / "data/train", 4)
    (tmp_path / "data/train/red/1.png").write_bytes(b"not a picture")
    code = train(pictures, tmp_path / "run", "--data", str(tmp_path / "data"))
    said = capsys.readouterr().err
    assert code == 0
    assert "warning: made without the images" in said
    assert "warning: red/1.png: not an image" in said
    assert "left out: red/1.png: not an image" in said
    counts = [one["images"] for one in read_journal(tmp_path / "run/journal.jsonl")]
    assert sum(counts) in (17, 18), "of 20 places in the stream, two or three are this image's"
    assert (tmp_path / "run/classifier.safetensors").exists()
    write_pictures(tmp_path / "mended", 4)
    (tmp_path / "mended/red/1.png").replace(tmp_path / "data/train/red/1.png")
    assert train(pictures, tmp_path / "run", "--data", str(tmp_path / "data"), "--strict") == 1
    assert "left out: red/1.png: not an image" in capsys.readouterr().err, "nor is it in there now"


def test_if_no_image_can_be_read_any_more_the_run_stops(pictures, tmp_path, capsys):
    write_pictures(tmp_path / "data", 4)
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(b"gone")
    options = ["--data", str(tmp_path / "data"), *changes("optimiser.max_bad_steps=2")]
    assert train(pictures, tmp_path / "run", *options) == 3
    assert "nothing in the last 2 batches could be read" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_skipped_recorded_and_survived(
    pictures, tmp_path, monkeypatch
):
    real, calls = classifier_step.classifier_loss, []

    def spoilt(*given: object, **options: object) -> torch.Tensor:
        calls.append(1)
        loss = real(*given, **options)  # type: ignore[arg-type]
        return loss * float("nan") if len(calls) == 2 else loss

    monkeypatch.setattr(classifier_step, "classifier_loss", spoilt)
    assert train(pictures, tmp_path) == 0
    replay = json.loads((tmp_path / "not-finite-0000001.json").read_text())
    assert (replay["step"], replay["positions"]) == (1, [5, 6, 7, 8, 9])
    assert len(replay["files"]) == 5
    assert all(torch.isfinite(t).all() for t in saved(tmp_path).values())


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_that_is_not_taken_leaves_the_statistics_of_normalisation(
    parts, pictures, tmp_path, monkeypatch
):
    """Of a batch of infinite activations they would be no numbers, and no checkpoint would ever be
    written again.
    """
    real = patch_batches.PatchBatches.__call__

    def infinite(self: patch_batches.PatchBatches, step: int) -> patch_batches.PatchBatch:
        batch = real(self, step)
        if step == 1:
            batch.crops[0] = float("inf")
        return batch

    monkeypatch.setattr(patch_batches.PatchBatches, "__call__", infinite)
    change = changes("optimiser.save_every=1", f"optimiser.accumulate={parts}")
    assert train(pictures, tmp_path, *change) == 0
    assert (tmp_path / "not-finite-0000001.json").exists()
    found = saved(tmp_path)
    assert all(torch.isfinite(t).all() for t in found.values())
    assert found["model/bn.num_batches_tracked"] == 3 * parts, "of four steps three were taken"


def test_several_such_steps_in_a_row_stop_the_run(pictures, tmp_path, monkeypatch, capsys):
    real = classifier_step.classifier_loss
    monkeypatch.setattr(
        classifier_step, "classifier_loss", lambda *a, **k: real(*a, **k) * float("inf")
    )
    assert train(pictures, tmp_path, *changes("optimiser.max_bad_steps=2")) == 3
    assert "2 times in a row" in capsys.readouterr().err
    assert load_checkpoint(tmp_path) is None
    assert len(list(tmp_path.glob("not-finite-*.json"))) == 2
    (tmp_path / "not-finite-mine.txt").write_text("somebody's own")
    monkeypatch.undo()
    monkeypatch.setitem(ARCHITECTURES, "small", SmallNetwork)
    assert train(pictures, tmp_path) == 0  # from the first step on: they say nothing of this run
    assert [path.name for path in tmp_path.glob("not-finite-*")] == ["not-finite-mine.txt"]


def test_a_run_that_goes_on_keeps_what_it_said_of_its_own_steps(pictures, tmp_path, monkeypatch):
    def interrupt(self: TrainingDisplay, step: int, *_: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingDisplay, "step", interrupt)
        assert train(pictures, tmp_path) == 130
    (tmp_path / "not-finite-0000000.json").write_text("{}")
    assert train(pictures, tmp_path) == 0
    assert (tmp_path / "not-finite-0000000.json").exists()


def test_a_full_disk_leaves_the_checkpoint_before(pictures, tmp_path, monkeypatch, capsys):
    real = checkpoints.write_atomically

    def full(path: Path, data: bytes) -> None:
        if (tmp_path / checkpoints.CURRENT).exists():
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    assert train(pictures, tmp_path) == 3
    assert "No space left on device" in capsys.readouterr().err
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 2


def test_a_workers_fault_is_one_sentence(pictures, tmp_path, monkeypatch, capsys):
    def fault(*_: object) -> None:
        raise RuntimeError("out of ink")

    monkeypatch.setattr(patch_batches, "resize_patch", fault)
    assert train(pictures, tmp_path) == 3
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: step 0: making a patch of ")
    assert "out of ink" in last


def test_other_settings_do_not_resume_a_run_but_other_intervals_do(pictures, tmp_path, capsys):
    assert train(pictures, tmp_path) == 0
    assert train(pictures, tmp_path, *changes("optimiser.save_every=1")) == 0
    assert train(pictures, tmp_path, *changes("optimiser.rate=0.1")) == 3
    assert "other settings" in capsys.readouterr().err


def test_parts_of_a_batch_may_change_where_the_weights_do_not_depend_on_them(pictures, tmp_path):
    """As the number of processes may: memory is short only once a run has begun."""
    still, parts = changes("network.frozen_norm=true"), changes("optimiser.accumulate=2")
    assert train(pictures, tmp_path / "still", *still) == 0
    assert train(pictures, tmp_path / "still", *still, *parts) == 0
    assert train(pictures, tmp_path / "moving") == 0
    assert train(pictures, tmp_path / "moving", *parts) == 3


def test_weights_that_a_run_starts_from_keep_their_meaning_at_another_scale_of_pixels(
    pictures, tmp_path
):
    assert train(pictures, tmp_path / "first", "--quiet") == 0
    start = tmp_path / "first/classifier.safetensors"
    still = changes("network.pixel_scale=255", "network.frozen_norm=true", "optimiser.rate=1e-12")
    assert train(pictures, tmp_path / "next", "--start", str(start), *still, "--quiet") == 0
    before = load_classifier(start).model.state_dict()
    after = load_classifier(tmp_path / "next/classifier.safetensors").model.state_dict()
    for name, value in before.items():
        assert torch.allclose(after[name], value, rtol=1e-4), name


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--recipe", "secret"], "known are googlenet, caffe, v3, modern", 2),
        (changes("optimiser.speed=1"), "known: method, rate", 2),
        (changes("network.architecture=resnet9000"), "not known", 2),
        (changes("optimiser.batch=1", "optimiser.accumulate=2"), "does not go around", 2),
        (["--data", "/nowhere"], "no such file", 3),
        (["--device", "gpu7"], "device gpu7", 2),
        (["--start", "/nowhere.safetensors"], "no such file", 3),
        (["--data", "ONE_CLASS"], "all images are of one class, red, so", 3),
        (["--start", str(SHIPPED)], "holds a googlenet, but architecture is set to small", 2),
    ],
)
def test_wrong_options_are_one_sentence(options, message, code, pictures, tmp_path, capsys):
    shutil.copytree(pictures / "train/red", tmp_path / "one/red")
    options = [str(tmp_path / "one") if one == "ONE_CLASS" else one for one in options]
    assert train(pictures, tmp_path / "run", *options) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert "--data" not in options or not (tmp_path / "run").exists()


def test_tensorboard_that_is_missing_is_said_before_the_training(
    pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(pictures, tmp_path, "--set", "run.tensorboard=true") == 2
    assert "pip install tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "journal.jsonl").exists()


REAL = [
    "--recipe", "modern", "--quiet", "--device", "cpu",
    *changes(
        "network.architecture=bn_googlenet", "network.options={dropout: 0.0}",
        "network.input_size=32", "network.frozen_norm=true", "optimiser.batch=4",
        "optimiser.epochs=2", "optimiser.warmup=0", "optimiser.rate=0.001",
        "optimiser.save_every=1", "optimiser.precision=float32",
    ),
]  # fmt: skip
SCRIPT = str(TOOLS / "train_classifier.py")


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(pictures, tmp_path):
    launch = {
        "one": [sys.executable, SCRIPT],
        "two": [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            SCRIPT,
        ],
    }  # fmt: skip
    for name, command in launch.items():
        options = ["--data", str(pictures), *REAL, "--out", str(tmp_path / name)]
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, env=_environment()
        )
        assert done.returncode == 0, done.stderr
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    for name, value in one.items():
        assert torch.allclose(two[name], value, atol=1e-4), name
    judged = [read_journal(tmp_path / name / "journal.jsonl")[-1] for name in launch]
    assert judged[0] == judged[1]


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(pictures, tmp_path):
    command = [sys.executable, SCRIPT, "--data", str(pictures), *REAL]
    command += [*changes("run.threads=1"), "--out"]
    subprocess.run([*command, str(tmp_path / "straight")], check=True, env=_environment())
    out = tmp_path / "killed"
    with subprocess.Popen([*command, str(out)], env=_environment()) as process:
        deadline = time.monotonic() + 200
        while not (out / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert not (out / "classifier.safetensors").exists()
    subprocess.run([*command, str(out)], check=True, env=_environment())
    assert_same(out, tmp_path / "straight")


@pytest.mark.slow
def test_a_compiled_run_gives_the_plain_ones_weights(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(SmallNetwork, "dropout_share", 0.0)  # compiled masks are others
    still = [*changes("network.frozen_norm=true"), "--quiet"]
    assert train(pictures, tmp_path / "plain", *still) == 0
    assert train(pictures, tmp_path / "compiled", *still, *changes("run.compile=true")) == 0
    plain, compiled = saved(tmp_path / "plain"), saved(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        assert torch.allclose(compiled[name], value, atol=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["googlenet", "caffe", "v3", "modern"])
def test_each_recipe_takes_its_steps_at_its_own_size(recipe, pictures, tmp_path):
    size = changes("optimiser.batch=4", "optimiser.precision=float32")
    main = tool("train_classifier").main
    code = exit_code(
        main, "--data", pictures, "--recipe", recipe, "--epochs", 1, "--device", "cpu",
        "--out", tmp_path, "--quiet", *size,
    )  # fmt: skip
    assert code == 0
    entries = read_journal(tmp_path / "journal.jsonl")
    assert len([one for one in entries if "loss" in one]) == 2
    assert not list(tmp_path.glob("not-finite-*"))
    assert load_classifier(tmp_path / "classifier.safetensors").num_outputs == 2


def test_members_have_one_start_and_other_samples_in_another_order(pictures, tmp_path, capsys):
    """As the paper's seven networks; each resumes, and they are judged together."""
    still = changes("optimiser.rate=1e-12", "optimiser.weight_decay=0", "optimiser.average_decay=0")
    assert train(pictures, tmp_path / "still", *still, "--members", "2") == 0
    first, second = (saved(tmp_path / "still" / f"member-{n}") for n in range(2))
    start = [name for name in first if name.startswith("model/") and name.endswith("conv.weight")]
    assert start
    assert all(torch.allclose(first[name], second[name], atol=1e-9) for name in start)

    out = tmp_path / "run"
    assert train(pictures, out, "--members", "3") == 0
    assert "wrote 3 members" in capsys.readouterr().err
    members = [saved(out / f"member-{number}") for number in range(3)]
    weight = "model/classifier.weight"
    assert len({tuple(one[weight].flatten().tolist()) for one in members}) == 3
    # The first is the network of a run of one, and each that of its own settings.
    assert train(pictures, tmp_path / "one") == 0
    assert_same(out / "member-0", tmp_path / "one")
    seed = changes("optimiser.sampling_seed=2")
    assert train(pictures, tmp_path / "third", *seed) == 0
    assert_same(out / "member-2", tmp_path / "third")
    configs = [yaml.safe_load((out / f"member-{n}" / "config.yaml").read_text()) for n in range(3)]
    assert [one["optimiser"]["sampling_seed"] for one in configs] == [None, 1, 2]
    assert {one["optimiser"]["seed"] for one in configs} == {0}

    # What is lost of one member is made again, and nothing else.
    before = saved(out / "member-1")
    shutil.rmtree(out / "member-1")
    assert train(pictures, out, "--members", "3") == 0
    again = saved(out / "member-1")
    assert all(torch.equal(before[name], again[name]) for name in before)

    weights = [
        w for n in range(3) for w in ("--weights", out / f"member-{n}/classifier.safetensors")
    ]
    judge = tool("evaluate_classifier").main
    words = ["--data", pictures, "--out", tmp_path / "judged", "--device", "cpu", "--quiet"]
    assert exit_code(judge, *words, *weights, "--set", "precision=float32") == 0
    table = json.loads((tmp_path / "judged" / "classification.json").read_text())["table"]
    assert [row["models"] for row in table] == [1, 2, 3]
