"""The learned ranking: another order of the same boxes, a function of the image alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from detector.errors import SettingsError
from detector.proposals.cache.stored import describe, settings_hash
from detector.proposals.selective_search import SelectiveSearch, learned_ranking
from detector.proposals.selective_search.grouping import Hierarchy


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    """Three flat rectangles on noise."""
    image = rng.integers(100, 140, (90, 120, 3), np.uint8)
    for x, y, colour in ((10, 10, (200, 30, 30)), (60, 20, (30, 200, 30)), (30, 55, (30, 30, 200))):
        image[y : y + 30, x : x + 40] = colour
    return image


def test_the_same_boxes_in_an_order_that_threads_and_seeds_do_not_change(picture):
    paper = SelectiveSearch(threads=1)(picture).boxes
    orders = [
        SelectiveSearch(ranking="learned", threads=threads, seed=seed)(picture).boxes
        for threads in (1, 2)
        for seed in (0, 7)
    ]
    assert sorted(map(tuple, orders[0])) == sorted(map(tuple, paper))
    assert all(np.array_equal(orders[0], other) for other in orders[1:])


def test_other_weights_are_another_key_of_the_cache_for_what_is_ranked_by_them(monkeypatch):
    def keys() -> tuple[str, str]:
        made = (SelectiveSearch(ranking=name) for name in ("learned", "paper"))
        learned, paper = (settings_hash(describe(one)) for one in made)
        return learned, paper

    before = keys()
    own = learned_ranking.shipped()
    monkeypatch.setattr(learned_ranking, "shipped", lambda: own._replace(linear=-own.linear))
    learned_ranking.fingerprint.cache_clear()
    after = keys()
    learned_ranking.fingerprint.cache_clear()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_box_cut_off_by_a_budget_is_never_the_whole_image(picture):
    kept = SelectiveSearch(ranking="learned", max_boxes=5)(picture).boxes
    assert len(kept) == 5
    assert [0, 0, 120, 90] in kept.tolist()


def test_the_numbers_of_a_hierarchy_of_two_halves():
    # Two leaves of 10 x 20 pixels side by side, joined at similarity 0.5 of 2 terms into the image.
    tree = Hierarchy(
        np.array([[0, 0, 10, 20], [10, 0, 20, 20], [0, 0, 20, 20]], np.int32),
        np.array([200, 200, 400], np.int32),
        np.array([[0, 1]], np.int32),
        np.array([2**27], np.int64),
    )
    left, _, whole = learned_ranking.region_features(tree, "SF", (20, 20))
    table = dict(zip(learned_ranking.NAMES, left, strict=False))
    assert table["log area"] == pytest.approx(np.log(0.5))
    assert table["log aspect"] == pytest.approx(np.log(0.5))
    assert (table["fill"], table["made at"], table["joined at"]) == (1.0, 1.0, 0.5)
    assert table["log growth"] == pytest.approx(np.log(2))
    assert (table["borders"], table["left"], table["right"], table["leaf"]) == (3, 0, 0.5, 1)
    assert whole[learned_ranking.NAMES.index("joined at")] == 0
    assert whole[learned_ranking.NAMES.index("borders")] == 4


def test_equal_boxes_become_one_and_are_counted():
    boxes = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [0, 0, 4, 4]])
    first, table = learned_ranking.merge_duplicates(boxes, np.array([[1.0], [5.0], [3.0]]))
    assert first.tolist() == [0, 1]
    assert table.tolist() == [[2.0, np.log(2)], [5.0, 0.0]]


def test_near_duplicates_step_back_behind_what_is_new():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 90], [200, 0, 300, 100]], float)
    assert learned_ranking.order_by_score(boxes, np.array([3.0, 2.0, 1.0])).tolist() == [0, 2, 1]


def test_a_logistic_regression_on_numbers_and_squares():
    one = learned_ranking.Weights(*np.array([[1.0], [2.0], [3.0], [10.0]]))
    # (5 - 1) / 2 = 2 deviations: 3 * 2 + 10 * 4; and no more than four count.
    assert one.scores(np.array([[5.0], [1001.0]])).tolist() == [46.0, 12.0 + 160.0]


@pytest.mark.parametrize("text", ["no", "{}", "[1]", json.dumps({"log area": [1, 2, 3]})])
def test_weights_that_are_none_are_refused(tmp_path: Path, text: str):
    (tmp_path / "weights.json").write_text(text)
    with pytest.raises(SettingsError, match="fit ranking"):
        learned_ranking.read(tmp_path / "weights.json")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path):
    table = {name: [0, 1, float("nan"), 0] for name in learned_ranking.NAMES}
    (tmp_path / "weights.json").write_text(json.dumps(table))
    with pytest.raises(SettingsError, match="finite"):
        learned_ranking.read(tmp_path / "weights.json")


@pytest.mark.slow
def test_it_finds_more_objects_at_a_small_budget_than_the_papers_order(shared_data: Path):
    from detector.datasets import read_dataset
    from detector.evaluation.coverage import coverage
    from detector.images.decoding import read_image

    dataset = read_dataset(shared_data / "voc2012_sample", "val").subset(40)
    recall = {}
    for name in ("paper", "learned"):
        search = SelectiveSearch(ranking=name)
        found = {one.image_id: search(read_image(one.path)) for one in dataset.samples}
        recall[name] = float(coverage(dataset, found, [100]).recall(0.5)[0])
    assert recall["learned"] > recall["paper"] + 0.02
