"""How common objects are among the proposals that will be judged: counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from detector.datasets import Dataset, Sample
from detector.structures import Annotations, Proposals
from detector.training.regions.sampling import SamplingSettings
from detector.training.regions.size_counts import prior_of

SIZE = (100, 100)
OBJECT = [0.0, 0, 40, 40]
ELSEWHERE = [60.0, 60, 100, 100]


def _sample(name: str, **flags: object) -> Sample:
    return Sample(name, Path(name), SIZE, Annotations([OBJECT], [0]), **flags)  # type: ignore[arg-type]


def _data(*samples: Sample) -> Dataset:
    return Dataset("toy", ("ant", "bee"), samples)


def _proposals(objects: int, others: int) -> Proposals:
    return Proposals(np.array([OBJECT] * objects + [ELSEWHERE] * others, np.float32), SIZE)


def test_it_is_the_odds_among_proposals_against_those_of_the_batches():
    """Ten on objects and forty elsewhere, all of one size: log 1/4, less the log of 32 / 96."""
    prior = prior_of(
        _data(_sample("a"), _sample("b")),
        {"a": _proposals(5, 20), "b": _proposals(5, 20)}, SamplingSettings(), None,
    )  # fmt: skip
    assert prior is not None
    assert prior.sides == pytest.approx([0.4], rel=1e-4)
    # The share is held towards itself by two regions of the average odds: it stays a fifth.
    assert prior.log_odds[0] == pytest.approx(np.log(1 / 4) - np.log(32 / 96), abs=1e-3)


def test_what_the_background_logit_already_has_is_not_added_twice():
    proposals = {"a": _proposals(5, 20)}
    plain, raised = (
        prior_of(_data(_sample("a")), proposals, SamplingSettings(background_prior=times), None)
        for times in (1.0, 3.0)
    )
    assert plain is not None
    assert raised is not None
    assert raised.log_odds[0] - plain.log_odds[0] == pytest.approx(np.log(3), abs=1e-3)


def test_only_the_proposals_that_are_judged_count_and_only_where_all_is_annotated():
    whole, partial = _sample("a"), _sample("b", annotated=frozenset({0}))
    proposals = {"a": _proposals(5, 20), "b": _proposals(20, 1)}
    settings = SamplingSettings()
    both = prior_of(_data(whole, partial), proposals, settings, None)
    assert both == prior_of(_data(whole), {"a": proposals["a"]}, settings, None)
    # Of the first ten, five are objects: even odds.
    first = prior_of(_data(whole), proposals, settings, 10)
    assert first is not None
    assert first.log_odds[0] == pytest.approx(-np.log(32 / 96), abs=1e-3)
    # An image without proposals, because it cannot be read, says nothing.
    unread = prior_of(_data(whole, _sample("c")), {"a": proposals["a"]}, settings, None)
    assert unread == prior_of(_data(whole), proposals, settings, None)


def test_where_nothing_can_be_counted_there_is_no_prior():
    proposals = {"a": _proposals(5, 20)}
    without = SamplingSettings(background_per_batch=0)
    assert prior_of(_data(_sample("a")), proposals, without, None) is None
    assert prior_of(_data(_sample("c")), proposals, SamplingSettings(), None) is None
    assert prior_of(_data(_sample("a")), {"a": _proposals(5, 0)}, SamplingSettings(), None) is None
