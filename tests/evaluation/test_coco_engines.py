"""Every engine gives the numbers of unmodified pycocotools, to the last bit."""

import builtins
import contextlib
import copy
import importlib.util
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from evaluation_cases import dataset_of, random_case

from detector.datasets import Dataset
from detector.errors import SettingsError
from detector.evaluation import evaluate
from detector.evaluation.protocols.coco import _found, _truth
from detector.evaluation.protocols.coco_engines import ENGINES, Accumulated, Content, accumulate
from detector.structures import Annotations, Detections

needs_hotcoco = pytest.mark.skipif(
    importlib.util.find_spec("hotcoco") is None, reason="hotcoco is not installed ([fast-coco])"
)
engines = pytest.mark.parametrize(
    "engine", ["pycocotools", pytest.param("fast", marks=needs_hotcoco)]
)


def unmodified(truth: Content, found: Content) -> Accumulated:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sides = []
    with contextlib.redirect_stdout(io.StringIO()):
        for content in (truth, found):
            sides.append(COCO())
            sides[-1].dataset = content
            sides[-1].createIndex()
        run = COCOeval(*sides, iouType="bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return Accumulated(run.stats, run.eval["precision"], run.eval["scores"], run.params.recThrs)


def case(seed: int) -> tuple[Dataset, dict[str, Detections]]:
    """Ties, crowds, difficult objects, small and medium areas, a class missing, a partial image."""
    rng = np.random.default_rng(seed)
    dataset, results = random_case(rng, images=8, classes=4)
    partial = replace(dataset.samples[0], annotated=frozenset({0, 2}))
    return replace(dataset, samples=(partial, *dataset.samples[1:])), results


@engines
def test_areas_on_the_edge_of_two_ranges_are_in_both(engine: Any) -> None:
    """1,024 and 9,216 pixels, COCO's own edges: small and medium, medium and large."""
    boxes = [[0, 0, 32, 32], [0, 0, 96, 96]]
    dataset = dataset_of(*(Annotations([box], [0]) for box in boxes))
    found = {name: Detections([box], [0.9], [0]) for name, box in zip("ab", boxes, strict=True)}
    truth, rows = _truth(dataset), _found(dataset, found)
    expected = unmodified(copy.deepcopy(truth), copy.deepcopy(rows)).statistics
    assert expected.tolist() == pytest.approx([1.0] * 6 + [1.0] * 6)
    assert accumulate(truth, rows, engine).statistics.tolist() == expected.tolist()


@engines
@pytest.mark.parametrize("seed", range(12))
def test_all_numbers_equal_unmodified_pycocotools(engine: Any, seed: int) -> None:
    dataset, results = case(seed)
    truth, found = _truth(dataset), _found(dataset, results)
    expected = unmodified(copy.deepcopy(truth), copy.deepcopy(found))
    ours = accumulate(truth, found, engine)
    assert ours.statistics.tolist() == expected.statistics.tolist()
    assert np.array_equal(ours.precision, expected.precision)
    # Recall 0 is reached by any detection: there an engine may name the score of an ignored one.
    assert np.array_equal(ours.scores[:, 1:], expected.scores[:, 1:])
    assert np.array_equal(ours.scores[..., 0, :], expected.scores[..., 0, :])  # all areas
    assert ours.recalls.tolist() == expected.recalls.tolist()


@engines
def test_an_evaluation_is_the_same_by_any_engine(engine: Any) -> None:
    dataset, results = case(3)
    by_default, chosen = (
        evaluate(dataset, results, "coco"),
        evaluate(dataset, results, "coco", coco_engine=engine),
    )
    assert chosen.to_json() == by_default.to_json()


@engines
def test_nothing_is_printed(engine: Any, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(dataset_of(Annotations([[0, 0, 10, 10]], [0])), {}, "coco", coco_engine=engine)
    assert capfd.readouterr() == ("", "")


def test_detections_beyond_a_hundred_of_an_image_and_class_do_not_count() -> None:
    # The object is found by the last of 101; COCO looks at the best hundred.
    wrong = [[20.0, 20, 30, 30]] * 100
    found = Detections([*wrong, [0, 0, 10, 10]], [*np.linspace(1, 0.5, 100), 0.1], [0] * 101)
    dataset = dataset_of(Annotations([[0, 0, 10, 10]], [0]))
    assert evaluate(dataset, {"a": found}, "coco").mean_ap == 0.0
    assert evaluate(dataset, {"a": found[1:]}, "coco").mean_ap == pytest.approx(0.01)


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=f"choose one of {', '.join(ENGINES)}"):
        evaluate(dataset_of(Annotations([[0, 0, 9, 9]], [0])), {}, "coco", coco_engine="slow")  # type: ignore


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without_hotcoco(name: str, *rest: Any) -> Any:
        if name == "hotcoco":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_hotcoco)
    with pytest.raises(SettingsError, match="pip install hotcoco"):
        evaluate(dataset_of(Annotations([[0, 0, 9, 9]], [0])), {}, "coco", coco_engine="fast")
