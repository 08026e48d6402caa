"""Pseudo-labels in tools/train_multibox.py: who is asked, what is taken, kept and refused."""

from __future__ import annotations

import signal
from pathlib import Path

import multibox_training.pseudo as pseudo
import numpy as np
import pytest
import torch
import yaml
from multibox_training import pseudo_sources
from multibox_training.images import images_of
from multibox_training.pseudo_sources import build_source
from multibox_training.settings import MultiBoxTrainingConfig, map_settings, run_settings
from PIL import Image
from pydantic import BaseModel
from toy_multibox import train, varied
from toy_regions import settings, write_squares

from detector.bundle import BundleManifest, MemberManifest, Provenance, save_bundle
from detector.errors import TrainingError
from detector.models import build_model
from detector.proposals.cache.stored import ProposalStore, describe
from detector.proposals.multibox.weights import load_multibox
from detector.reporting.cli import Stop
from detector.structures import Proposals
from detector.training.distributed import Group
from detector.training.places import Places

CPU = torch.device("cpu")


class Settings(BaseModel):
    name: str = "drawing"


class Drawing:
    """Two boxes in every image, the right one sure; it counts the images that it is asked about."""

    settings = Settings()
    asked = 0

    def __call__(self, image: np.ndarray) -> Proposals:
        Drawing.asked += 1
        return Proposals([[50, 10, 90, 50], [0, 60, 20, 80]], image.shape[:2], [0.9, 0.4])


@pytest.fixture
def drawing(monkeypatch) -> type[Drawing]:
    monkeypatch.setattr(pseudo, "build_source", lambda *_: Drawing())
    Drawing.asked = 0
    return Drawing


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Path:
    return varied(write_squares(tmp_path_factory.mktemp("toy") / "squares", images=4))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images that nobody annotated, one of them in a folder below."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name in ("a.png", "b.png", "more/c.png"):
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), np.uint8)).save(folder / name)
    return folder


def config_of(*data: dict, **rooms: object) -> MultiBoxTrainingConfig:
    return MultiBoxTrainingConfig.model_validate({"data": list(data), **rooms})


def labelled(config: MultiBoxTrainingConfig, out: Path, number: int | None = None):
    """`number`: the signal that has asked to stop."""
    stop = Stop()
    stop.signal = number
    places = Places(out, Path("."), CPU, 1, True)
    return pseudo.labelled(config, images_of(config, Path(".")), places, Group(), stop)


def test_only_images_that_are_not_annotated_in_full_are_labelled(
    squares, photos, tmp_path, drawing
):
    full = {"path": str(squares), "split": "train"}
    config = config_of(
        full, {**full, "partial": ["red"]}, {"path": str(photos), "unlabelled": True},
        pseudo={"from": "any", "weight": 0.25},
    )  # fmt: skip
    found = labelled(config, tmp_path)
    assert len(found.dataset) == 4 + 4 + 3
    assert drawing.asked == 4 + 3  # one row a picture, whichever source names it
    # A square of 40 that begins below x = 30 is another object than the box at 50. Only the first
    # image, with sixty boxes more, may have one there.
    assert {5, 6, 7, 8, 9, 10} <= set(found.boxes) <= set(range(4, 11))
    assert found.boxes[8].boxes.tolist() == [[50, 10, 90, 50]]
    assert found.boxes[8].weight == 0.25
    assert found.dataset.samples[8].size == (80, 100)
    own = config_of({**full, "pseudo": {"from": "any", "background": 0.1}})
    again = labelled(own, tmp_path)
    assert {1, 2, 3} <= set(again.boxes) <= set(range(4))
    assert all(one.annotated is not None for one in again.dataset.samples)
    assert drawing.asked == 7  # the same images, from the cache


def test_drawing_that_was_stopped_goes_on_where_it_was(squares, photos, tmp_path, drawing):
    config = config_of(
        {"path": str(squares), "split": "train"},
        {"path": str(photos), "unlabelled": True, "pseudo": {"from": "any"}},
    )
    with pytest.raises(SystemExit) as left:
        labelled(config, tmp_path, signal.SIGINT)
    assert left.value.code == 130
    with ProposalStore(tmp_path / pseudo.CACHE) as store:
        before = store.count()
    assert 1 <= before <= 2  # the one after it was under way
    assert labelled(config, tmp_path).digest == labelled(config, tmp_path / "fresh").digest
    assert drawing.asked == 3 + 3


def test_an_image_that_cannot_be_read_or_in_which_nothing_is_found_is_left_out(
    squares, photos, tmp_path, drawing
):
    (photos / "b.png").write_bytes(b"no image")
    config = config_of(
        {"path": str(squares), "split": "train"},
        {"path": str(photos), "unlabelled": True, "pseudo": {"from": "any"}},
    )
    found = labelled(config, tmp_path)
    assert [one.path.name for one in found.dataset.samples[4:]] == ["a.png", "c.png"]
    assert [path.name for path in found.broken] == ["b.png"]
    assert set(found.boxes) == {4, 5}


def test_runs_are_bound_to_the_boxes_and_maps_not_to_their_weights(squares):
    one, other = (
        config_of({"path": "a", "pseudo": {"from": "b", "weight": weight}})
        for weight in (0.5, 0.25)
    )
    assert map_settings(one, "boxes") == map_settings(other, "boxes") != map_settings(one, "else")
    assert run_settings(one, "boxes") != run_settings(other, "boxes")
    plain = config_of({"path": "a"})
    assert "pseudo" not in str(run_settings(plain)) + str(map_settings(plain))
    assert MultiBoxTrainingConfig.model_validate(one.model_dump(mode="json")) == one


def test_a_run_learns_from_pseudo_boxes_and_says_so(squares, photos, tmp_path, drawing, capsys):
    tree = {
        "data": [
            {"path": str(squares), "split": "train"},
            {"path": str(photos), "unlabelled": True, "pseudo": {"from": "any"}},
        ],
        "trunk": {"options": {"width": 0.125}, "input_size": 64, "after": "3b"},
        "heads": {"width": 16},
        "bank": {"views_per_image": 1},
        "optimiser": {"batch": 7, "epochs": 1, "precision": "float32"},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    assert train(config, tmp_path / "run", quiet=False) == 0
    said = capsys.readouterr().err
    assert "pseudo-labels of any: 3 boxes in 3 of 3 images, weight 0.5" in said
    assert "dropped: 3 below 0.6, 0 of the object of a better one, 0 where a true box is" in said
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["data"][1]["pseudo"] == {
        "from": "any", "min_score": 0.6, "per_image": 10, "weight": 0.5, "background": 0.0,
    }  # fmt: skip
    header = load_multibox(tmp_path / "run/multibox.safetensors").header
    assert header.training_data.endswith("photos, 3 pseudo boxes of any")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["data=[{path: PHOTOS, unlabelled: true, pseudo: {from: gone}}]"], 3, "no bundle.json in"),
        (["data=[{path: EMPTY, unlabelled: true, pseudo: {from: gone}}]"], 3, "no images in"),
        (["data=[{path: gone, unlabelled: true, pseudo: {from: b}}]"], 3, "gone: no such folder"),
        (["data=[{path: PHOTOS, unlabelled: true}]"], 2, "say who labels it"),
        (["data=[{path: PHOTOS, unlabelled: true, split: train}]", "pseudo.from=b"], 2, "no split"),
        (["data=[{path: PHOTOS}]", "pseudo={from: b, min_score: 1.5}"], 2, "pseudo.min_score"),
        (["data=[{path: PHOTOS}]", "pseudo={from: b, least: 1}"], 2, "known: from, min_score"),
        (["data=[{path: PHOTOS}]", "pseudo={weight: 1}"], 2, "pseudo.from"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(photos, tmp_path, capsys, change, code, message):
    (tmp_path / "empty").mkdir()
    names = {"PHOTOS": str(photos), "EMPTY": str(tmp_path / "empty")}
    for name, path in names.items():
        change = [one.replace(name, path) for one in change]
    config = tmp_path / "config.yaml"
    config.write_text("{}")
    assert train(config, tmp_path / "run", *settings(*change)) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) <= 3


def test_no_box_at_all_and_nobody_who_teaches_silence_are_refused(
    squares, photos, tmp_path, drawing
):
    photo = {"path": str(photos), "unlabelled": True}
    full = {"path": str(squares), "split": "train"}
    with pytest.raises(
        TrainingError, match=r"no box of any is taken in 3 images \(6 boxes below 1"
    ):
        labelled(config_of(full, photo, pseudo={"from": "any", "min_score": 1}), tmp_path)
    with pytest.raises(TrainingError, match=r"set pseudo\.background"):
        labelled(config_of(photo, pseudo={"from": "any"}), tmp_path)
    found = labelled(config_of(photo, pseudo={"from": "any", "background": 0.1}), tmp_path)
    assert len(found.boxes) == 3


def test_a_detector_and_selective_search_draw_boxes_with_scores_in_order(squares, tmp_path):
    model = build_model("googlenet", 3, generator=torch.Generator().manual_seed(0), width=0.125)
    options = {"longest_side": 60, "preset": "single"}
    member = MemberManifest(architecture="googlenet", options={"width": 0.125}, input_size=32)
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(member,),
        proposals={"engine": "selective-search", "options": options},
        provenance=Provenance(training_data="none", licence="CC0"),
    )  # fmt: skip
    save_bundle(tmp_path / "bundle", manifest, [model.state_dict()])
    image = np.asarray(Image.open(squares / "JPEGImages" / "000001.jpg"))
    for name in ("bundle", "selective-search"):
        draw = build_source(name, tmp_path, 0.6, CPU, 1)
        found = draw(image)
        assert len(found) > 0
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores.min() >= 0.1  # cached down to here, whatever is asked for above it
        assert found.scores.max() <= 1
        assert draw.settings.min_score == 0.1
    block = max(found.boxes, key=lambda box: iou_with_block(box, image))
    assert iou_with_block(block, image) > 0.8
    assert build_source("bundle", tmp_path, 0.05, CPU, 1).settings.min_score == 0.05


def test_other_weights_of_the_learned_ranking_are_other_pseudo_boxes(tmp_path, monkeypatch):
    source = build_source("selective-search", tmp_path, 0.6, CPU, 1)
    before = describe(source)
    monkeypatch.setattr(pseudo_sources, "other_weights", lambda: {"learned_ranking": "others"})
    assert describe(source) == {**before, "learned_ranking": "others"}


def iou_with_block(box: np.ndarray, image: np.ndarray) -> float:
    """Of a box and the red block: its pixels inside, over all of either."""
    red = (image[..., 0] > 160) & (image[..., 1] < 90)
    x1, y1, x2, y2 = box.round().astype(int)
    shared = red[y1:y2, x1:x2].sum()
    return float(shared / (red.sum() + (x2 - x1) * (y2 - y1) - shared))
