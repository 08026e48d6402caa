"""inception-rcnn fit prescorer: what it learns, keeps, and refuses."""

from functools import partial

import pytest
from coloured_squares import exit_code_of, googlenet

from detector.cli import fit_prescorer
from detector.detection.bundle.reading import read_manifest
from detector.detection.load import load_detector
from detector.images.decoding import read_image

__all__ = ["googlenet"]
exit_code = partial(exit_code_of, fit_prescorer)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of small images, and a third of the images held out."""
    for name, value in {"SIDE": 160, "HELD_OUT": 3, "EPOCHS": 30}.items():
        monkeypatch.setattr(f"detector.training.heads.fit_prescorer.{name}", value)


def test_objects_are_among_the_first_regions(voc, googlenet, tmp_path, capsys):
    out = tmp_path / "faster"
    options = ("--split", "train", "--keep", "30", "--threads", "1")
    assert exit_code(voc, googlenet, *options, "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 objects of 2 images held out, reached at IoU 0.5:"
    shares = {int(line.split()[0]): line.split()[1:] for line in lines[2:9]}
    assert shares[300] == ["100.0%", "100.0%"]
    before, after = (float(share.rstrip("%")) for share in shares[25])
    assert after > before
    detect = load_detector(out)
    assert len(detect.propose(read_image(voc / "JPEGImages/0.png"))) == 30
    # The same again: maps and proposals are there, and the same is learnt.
    first, kept = read_manifest(out), sorted((tmp_path / "faster.maps").glob("*/maps.f16"))
    made = kept[0].stat().st_mtime_ns
    assert exit_code(voc, googlenet, *options, "--out", out) == 0
    assert read_manifest(out).prescorer == first.prescorer
    assert kept[0].stat().st_mtime_ns == made


def test_a_network_that_has_no_maps_is_refused_before_the_work(voc, bundle, tmp_path, capsys):
    assert exit_code(voc, bundle, "--split", "train", "--out", tmp_path / "faster") == 2
    assert "a Colours is not cut" in capsys.readouterr().err
    assert not (tmp_path / "faster").exists()
