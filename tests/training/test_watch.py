"""Held-out losses watched while a network is trained: the best weights, the end, the warning."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_regions import same, settings, train, weights, write_config, write_squares

from detector.progress.journal import read_journal
from detector.training.engine.optimisers import DescentSettings
from detector.training.engine.state import TrainingState
from detector.training.engine.watch import HeldOutWatch, Losses
from detector.training.regions import member, run
from detector.training.regions.bank import RegionBank
from detector.training.regions.crops import RegionCrops


def watching(losses: Sequence[tuple[float, float]], patience: int = 0):
    """A state whose single weight is the number of the step, and its watch; looks at each step."""
    network = torch.nn.Linear(1, 1, bias=False)
    state = TrainingState(network, DescentSettings(average_decay=0.0), "print", 10)
    answers = iter(losses)
    watch = HeldOutWatch(state, lambda _: Losses(*next(answers)), 1, patience)
    return state, watch


def step_to(state: TrainingState, number: int) -> None:
    with torch.no_grad():
        state.network.weight.fill_(number)
    state.average.update(state.network, number)


LOSSES = [(0.5, 0.5), (0.2, 0.3), (0.21, 0.2), (0.3, 0.1)]


def test_the_weights_of_the_lowest_loss_are_kept_and_patience_ends_the_training():
    state, watch = watching(LOSSES, patience=2)
    over = []
    for step in range(1, 5):
        step_to(state, step)
        watch.look(step)
        over.append(watch.is_over)
    assert over == [False, False, False, True]
    assert state.averaged()["weight"].item() == 2


def test_overfitting_is_said_with_its_numbers():
    state, watch = watching(LOSSES)
    for step in range(1, 5):
        step_to(state, step)
        watch.look(step)
        if step == 3:  # 5 % above the lowest is noise
            assert watch.conclusion() == "the weights of step 2 are kept: held-out loss 0.200"
    assert watch.conclusion().startswith(
        "warning: overfitting: since step 2 the loss of held-out images rose from 0.200 to 0.300,"
        " while that of images learnt from fell from 0.300 to 0.100; the weights of step 2 are kept"
    )


def test_a_loss_that_is_no_number_is_a_look_in_vain(tmp_path: Path):
    state, watch = watching([(float("nan"), 0.5), (0.4, 0.4), (float("inf"), 0.1)], patience=1)
    watch.look(1)
    assert watch.conclusion() == ""
    watch.look(2)
    assert not watch.is_over
    watch.look(3)
    assert watch.is_over
    state.save(tmp_path, 3)  # all of it is finite


def test_a_resumed_watch_knows_what_it_has_seen(tmp_path: Path):
    state, watch = watching(LOSSES, patience=2)
    for step in (1, 2, 3):
        step_to(state, step)
        watch.look(step)
    state.save(tmp_path, 3)
    state, watch = watching(LOSSES[3:], patience=2)
    assert state.resume(tmp_path) == 3
    assert not watch.is_over
    step_to(state, 4)
    watch.look(4)
    assert watch.is_over
    assert state.averaged()["weight"].item() == 2


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return write_config(write_squares(tmp_path_factory.mktemp("toy") / "squares", images=60))


WATCHED = settings(
    "held_out=0.2", "bank={after: 4e, positives_per_object: 2, background_per_image: 4}",
    "member.freeze=[]", "box_loss={}", "optimiser.steps=12", "optimiser.save_every=3",
    "optimiser.validate_every=2", "optimiser.patience=2", "proposals={engine: opencv}",
    "member.input_size=32", "thresholds.max_proposals=2", "optimiser.method=adamw",
    "optimiser.rate=0.001", "run.threads=1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("banked", [True, False])
def test_a_training_killed_while_it_is_watched_ends_at_the_same_step_with_the_same_bits(
    config: Path, tmp_path: Path, monkeypatch, banked: bool
):
    how = [*WATCHED, *([] if banked else settings("bank=null"))]
    real_loss = member.held_out_loss

    def rising(*given: Any) -> Callable[..., Losses]:  # as the loss falls
        measure = real_loss(*given)
        return lambda state: Losses(-measure(state).held_out, measure(state).learnt)

    monkeypatch.setattr(member, "held_out_loss", rising)
    monkeypatch.setattr(run, "fit_on_held_out", lambda *_: None)
    assert train(config, tmp_path / "whole", *how) == 0
    source = RegionBank if banked else RegionCrops
    real = source.__call__

    def killed(self, batch, step):
        if step == 5:  # the looks are of step 0; the last checkpoint is of step 3
            raise MemoryError
        return real(self, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(source, "__call__", killed)
        assert train(config, tmp_path / "run", *how) != 0
    assert train(config, tmp_path / "run", *how) == 0
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert "watch/record" in whole
    assert same(whole, resumed)
    looks = [
        [one for one in read_journal(tmp_path / name / "journal.jsonl") if "held_out" in one]
        for name in ("whole", "run")
    ]
    assert looks[0] == looks[1]
    assert len(looks[0]) == 3, "the best of step 2, and two in vain"
    before = (tmp_path / "run" / "bundle" / "bundle.json").read_bytes()
    assert train(config, tmp_path / "run", *how) == 0  # nothing is left to do
    assert (tmp_path / "run" / "bundle" / "bundle.json").read_bytes() == before


def test_patience_and_looks_that_cannot_be_are_refused(config: Path, tmp_path: Path, capsys):
    assert train(config, tmp_path, *settings("held_out=0.2", "optimiser.patience=2")) == 2
    assert "set optimiser.validate_every" in capsys.readouterr().err
    assert train(config, tmp_path, *settings("optimiser.validate_every=2")) == 2
    assert "looks at held-out images: set held_out" in capsys.readouterr().err
