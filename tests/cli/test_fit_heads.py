"""inception-rcnn fit heads: what it writes, leaves alone, and refuses."""

import shutil
from functools import partial

import pytest
from coloured_squares import COLOURS, exit_code_of, middle

from detector.cli import fit_heads
from detector.detection.bundle import read_manifest
from detector.detection.load import load_detector
from detector.errors import SettingsError
from detector.images.decoding import read_image

exit_code = partial(exit_code_of, fit_heads)


def test_svms_and_regression_of_all_classes_are_optional_in_the_new_bundle(voc, bundle, tmp_path):
    out = tmp_path / "new"
    assert exit_code(voc, bundle, "--split", "train", "--out", out) == 0
    manifest = read_manifest(out)
    assert [head.kind for head in manifest.heads] == ["svm", "regression"]
    assert manifest.classes == ("cat", "dog")
    image = read_image(voc / "JPEGImages/0.png")
    detect = {
        options: load_detector(out, settings=dict.fromkeys(options, True))
        for options in ((), ("svm",), ("svm", "regression"))
    }
    plain = load_detector(bundle)
    regions = plain.propose(image)
    found, before = (one.predict(image, regions).scores for one in (detect[()], plain))
    assert (found == before).all()
    both = detect["svm", "regression"].predict(image, regions)
    assert (both.scores == detect["svm",].predict(image, regions).scores).all()
    for label, name in enumerate(("cat", "dog")):
        best = both.boxes[both.scores[:, label].argmax(), label]
        assert middle(image, best) == COLOURS[name]
    with pytest.raises(SettingsError, match="no svm head"):
        load_detector(bundle, settings={"svm": True})


def test_features_are_kept_and_the_heads_come_out_the_same(voc, bundle, tmp_path):
    out, kind = tmp_path / "new", ("--split", "train", "--set", "images=4", "--set", "svm=false")
    assert exit_code(voc, bundle, *kind, "--out", out) == 0
    stored = sorted((tmp_path / "new.features").glob("*/maps.f16"))
    assert len(stored) == 1
    before = {path: path.stat().st_mtime_ns for path in stored}
    first = read_manifest(out)
    assert not first.thresholds.regression
    assert exit_code(voc, bundle, *kind, "--out", out, "--enable") == 0
    assert {path: path.stat().st_mtime_ns for path in stored} == before
    again = read_manifest(out)
    assert [head.sha256 for head in again.heads] == [first.heads[0].sha256]
    assert again.thresholds.regression
    assert not again.thresholds.svm
    assert load_detector(out).settings.regression
    assert not load_detector(out, settings={"regression": False}).settings.regression


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            ["--split", "train", "--set", "svm=false", "--set", "regression=false"],
            2,
            "nothing to fit",
        ),
        (["--split", "train", "--set", "ensemble=two"], 2, "ensemble"),
        (
            ["--split", "train", "--set", "data_root=x"],
            2,
            "data_root: changes nothing without --ba",
        ),
    ],
)
def test_mistakes_end_in_at_most_three_lines_and_write_no_bundle(
    voc, bundle, tmp_path, capsys, options, code, words
):
    assert exit_code(voc, bundle, *options, "--out", tmp_path / "new") == code
    said = capsys.readouterr().err
    assert words in " ".join(said.split())
    assert len(said.splitlines()) <= 3
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("gone", ["absent", "difficult"])
def test_missing_classes_are_told_before_any_feature_is_made(
    voc, bundle, tmp_path, capsys, monkeypatch, gone
):
    shutil.copytree(voc, tmp_path / "voc")
    for path in (tmp_path / "voc" / "Annotations").iterdir():
        change = {
            "absent": ("<name>dog</name>", "<name>wolf</name>"),
            "difficult": ("<name>dog</name>", "<name>dog</name><difficult>1</difficult>"),
        }[gone]
        path.write_text(path.read_text().replace(*change))

    def no_network(*_: object) -> None:
        raise AssertionError("the network is not needed to see it")

    monkeypatch.setattr("detector.training.heads.fit_heads.load", no_network)
    where = ("--split", "train", "--out", tmp_path / "new")
    assert exit_code(tmp_path / "voc", bundle, *where) == 3
    assert "no objects of dog (1 of 2 classes)" in capsys.readouterr().err
    assert not (tmp_path / "new.features").exists()
    exit_code(
        tmp_path / "voc", bundle, *where, "--set", "svm=false"
    )  # regression does not need every class
    assert "the network is not needed" in capsys.readouterr().err  # it came as far as that
