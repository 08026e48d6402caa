"""Which photographs to label next: by hand, and end to end on coloured squares."""

from pathlib import Path

import numpy as np
import pytest

from detector.cli.main import main
from detector.errors import ImageError, SettingsError
from detector.training.heads import suggest as module
from detector.training.heads.suggest import choose, suggest, uncertainty_of


def test_doubtful_scores_count_and_sure_ones_do_not():
    assert uncertainty_of(np.array([0.5], np.float32)) == 1
    assert uncertainty_of(np.array([0.0, 1.0], np.float32)) == 0
    assert uncertainty_of(np.array([0.75, 0.25], np.float32)) == pytest.approx(2 * 0.25)
    assert uncertainty_of(np.zeros(0, np.float32)) == 0


def test_the_next_photograph_is_uncertain_and_unlike_those_before():
    """Two alike in the east, one in the north, one in the west."""
    vectors = np.array([[1, 0], [1, 0.01], [0, 1], [-1, 0.0]])
    uncertainty = np.array([3.0, 2.9, 1.0, 0.1])
    none = np.zeros((0, 2))
    assert choose(uncertainty, vectors, none, 1) == [0]
    assert choose(uncertainty, vectors, none, 2) == [0, 2]  # 1.05 x 1.41 against 2.95 x 0.01
    assert sorted(choose(uncertainty, vectors, none, 9)) == [0, 1, 2, 3]
    # With the east labelled it has nothing new.
    assert choose(uncertainty, vectors, np.array([[1.0, 0]]), 1) == [2]


def test_photographs_come_from_the_command_as_from_python(voc, bundle, tmp_path, capsys):
    photographs, out = voc / "JPEGImages", tmp_path / "todo"
    words = ["suggest", photographs, "--weights", bundle, "--out", out, "--count", 3]
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in [*words, "--device", "cpu", "--threads", 1]])
    assert not end.value.code
    assert str(out / "suggested.txt") in capsys.readouterr().out
    listed = [Path(line) for line in (out / "suggested.txt").read_text().splitlines()]
    with pytest.raises(SystemExit):  # the cache is there; now as labels, too
        main([str(word) for word in [*words, "--device", "cpu", "--format", "voc,labelme"]])
    assert len(list((out / "labelme").glob("*.json"))) == 3
    assert len(list((out / "voc-xml" / "Annotations").glob("*.xml"))) == 3
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in [*words, "--format", "pdf"]])
    assert end.value.code == 2
    assert "'pdf' is not known; choose among" in capsys.readouterr().err
    again = suggest([photographs], out / "cache", count=3, bundle=bundle, device="cpu", threads=1)
    assert [one.path for one in again] == listed
    assert len(set(listed)) == 3
    rest = suggest(
        [photographs], out / "cache", bundle=bundle, device="cpu", labelled=listed, threads=1
    )
    assert {one.path for one in rest} == set(photographs.iterdir()) - set(listed)


def test_an_interrupted_search_goes_on(voc, bundle, tmp_path, monkeypatch):
    """The second one runs no network on regions: only the descriptions are made again."""
    cache = tmp_path / "cache"
    given = {"bundle": bundle, "device": "cpu", "threads": 1}
    first = suggest([voc / "JPEGImages"], cache, **given)
    monkeypatch.setattr(
        "detector.detection.forward.RegionBatches.run", lambda self, jobs: iter(list(jobs)[:0])
    )
    again = suggest([voc / "JPEGImages"], cache, **given)
    assert [one.path for one in again] == [one.path for one in first]


def test_an_unreadable_photograph_is_named_and_the_rest_are_chosen(voc, bundle, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    given = {"bundle": bundle, "device": "cpu", "threads": 1}
    found = suggest([voc / "JPEGImages", tmp_path / "broken.png"], tmp_path / "cache", **given)
    assert len(found) == 6
    assert "broken.png" in capsys.readouterr().err
    with pytest.raises(ImageError, match="none of the photographs can be read"):
        suggest([tmp_path / "broken.png"], tmp_path / "cache", **given)


def test_mistakes_are_told_before_the_work(voc, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_detector", None)
    with pytest.raises(SettingsError, match="count is 0"):
        suggest([voc / "JPEGImages"], tmp_path, count=0, bundle=bundle)
    with pytest.raises(SettingsError, match="no class 'mug' in the bundle; it has cat, dog"):
        suggest([voc / "JPEGImages"], tmp_path, classes=["mug"], bundle=bundle)
