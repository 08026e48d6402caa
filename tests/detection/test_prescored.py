"""Regions in the order of a pre-scorer: what it sees, what it leaves out, what a bundle holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coloured_squares import NARROW, Colours, Grid, bundle, googlenet, small_parts, voc

from detector.detection.bundle import join_bundles, save_bundle
from detector.detection.bundle.reading import read_manifest
from detector.detection.bundle.writing import save_prescorer
from detector.detection.load import load_detector
from detector.detection.prescored import in_order
from detector.detection.settings import DetectionSettings
from detector.errors import BundleError, SettingsError
from detector.heads.prescorer import Prescorer, PrescorerManifest, average
from detector.images.decoding import read_image
from detector.models import build_model
from detector.models.split import ImageMap, map_shape
from detector.settings import validate
from detector.training.heads.fit_classes import fit_classes
from detector.training.regions.settings import RegionTrainingConfig

__all__ = ["bundle", "googlenet", "small_parts", "voc"]


@pytest.fixture
def faster(googlenet: Path, tmp_path: Path) -> Path:
    """The same with a pre-scorer that has learnt nothing and keeps 20 regions."""
    channels = map_shape(ImageMap(build_model("googlenet", 3, **NARROW)), 64)[0]
    torch.manual_seed(0)
    about = PrescorerManifest(side=64)
    save_prescorer(googlenet, tmp_path / "faster", Prescorer(channels), about, 20)
    return tmp_path / "faster"


def test_an_average_counts_cells_by_the_area_inside() -> None:
    maps = torch.arange(6.0).reshape(2, 3, 1)  # 0 1 2 above 3 4 5
    boxes = [(0, 0, 1, 1), (1 / 3, 0, 2 / 3, 0.5), (0, 0.5, 0.5, 1), (0.9, 0.9, 9, 9)]
    found = average(maps, torch.tensor(boxes))[:, 0]
    # The third has all of cell 3 and half of cell 4; the last lies in the corner.
    assert found.tolist() == pytest.approx([2.5, 1, (3 + 0.5 * 4) / 1.5, 5])


def test_a_region_without_area_on_the_map_is_the_cell_that_it_lies_in() -> None:
    maps = torch.arange(6.0).reshape(2, 3, 1)
    assert average(maps, torch.tensor([[0.5, 0.2, 0.5, 0.2]])).tolist() == [[1.0]]


def test_the_map_is_that_of_the_modules_before_and_after_the_last_pool() -> None:
    whole = build_model("googlenet", 3, **NARROW).eval()
    image = torch.rand(1, 3, 96, 96) - 0.5
    with torch.no_grad():
        maps = dict(whole.stages(image))
        found = ImageMap(whole)(image)
    fine, coarse = maps["4e"], maps["5b"]
    assert torch.equal(found[:, : fine.shape[1]], fine)
    rest = found[:, fine.shape[1] :]
    assert torch.equal(rest[:, :, ::2, ::2], coarse)
    assert torch.equal(rest[:, :, 1::2, 1::2], coarse)


def test_regions_like_a_better_one_come_last() -> None:
    boxes = np.float32([[0, 0, 50, 50], [0, 0, 100, 100], [0, 0, 100, 98], [0, 0, 98, 100]])
    assert in_order(boxes, np.float32([0, 3, 1, 2])).tolist() == [1, 0, 3, 2]


def test_the_networks_see_the_best_regions_of_the_whole_search(faster: Path, voc: Path) -> None:
    image = read_image(voc / "JPEGImages/0.png")
    detect = load_detector(faster)
    every, kept = Grid()(image).boxes, detect.propose(image)
    assert detect.prescorer is not None
    order = in_order(every, detect.prescorer(image, every))
    assert kept.boxes.tolist() == every[order[:20]].tolist()
    assert order[:20].tolist() != list(range(20))
    # All that the search proposes, and few of what is kept.
    assert len(load_detector(faster, settings={"prescore": 400}).propose(image)) == len(every)
    assert len(load_detector(faster, settings={"max_proposals": 5}).propose(image)) == 5
    described = detect.search.settings.model_dump()
    assert (described["keep"], described["proposer"]) == (20, {"step": 3})


def test_without_it_detections_are_those_of_before(
    googlenet: Path, faster: Path, voc: Path
) -> None:
    image = read_image(voc / "JPEGImages/0.png")
    before = load_detector(googlenet)(image)
    after = load_detector(faster, settings={"prescore": None})(image)
    assert before.boxes.tobytes() == after.boxes.tobytes()
    assert before.scores.tobytes() == after.scores.tobytes()


def test_threads_and_images_in_between_change_nothing(faster: Path, voc: Path) -> None:
    paths = [voc / "JPEGImages" / f"{number}.png" for number in range(4)]
    alone = load_detector(faster, threads=1)
    together = load_detector(faster, threads=3)
    for path, found in zip(paths, together.detect_many(paths), strict=True):
        assert found.scores.tobytes() == alone(path).scores.tobytes()


def test_what_a_bundle_lacks_is_said(googlenet: Path, faster: Path) -> None:
    with pytest.raises(SettingsError, match=r"no pre-scorer .* inception-rcnn fit prescorer"):
        load_detector(googlenet, settings={"prescore": 20})
    about = read_manifest(faster).prescorer
    assert about is not None
    path = faster / about.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=about.file):
        load_detector(faster)
    assert load_detector(faster, settings={"prescore": None}).prescorer is None
    path.unlink()
    with pytest.raises(BundleError, match="missing"):
        load_detector(faster)
    text = (googlenet / "bundle.json").read_text()
    (googlenet / "bundle.json").write_text(text.replace('"nms"', '"prescore": 9, "nms"'))
    with pytest.raises(BundleError, match="a pre-scorer, which it does not have"):
        read_manifest(googlenet)


@pytest.mark.parametrize("fault", ["channels", "name", "values"])
def test_a_file_that_is_no_pre_scorer_of_the_network_is_refused(
    googlenet: Path, tmp_path: Path, fault: str
) -> None:
    network = Prescorer(464)
    if fault == "channels":
        network = Prescorer(100)
    elif fault == "name":
        network.register_buffer("more", torch.zeros(1))
    elif fault == "values":
        network.out.bias.data[0] = torch.inf
    save_prescorer(googlenet, tmp_path / "faster", network, PrescorerManifest(side=64), 20)
    with pytest.raises(BundleError, match=r"prescorer-.*safetensors: tensor"):
        load_detector(tmp_path / "faster")


def test_a_network_without_such_maps_says_so(bundle: Path) -> None:
    with pytest.raises(SettingsError, match="a Colours is not cut"):
        ImageMap(Colours(3))


def test_an_added_class_is_looked_for_in_all_regions(
    faster: Path, voc: Path, tmp_path: Path
) -> None:
    report = fit_classes(
        voc, tmp_path / "mugs", add=["mug"], split="train", bundle=faster, crops=200
    )
    assert "the pre-scorer does not know the new classes" in report.warnings[0]
    detect = load_detector(tmp_path / "mugs")
    image = read_image(voc / "JPEGImages/0.png")
    assert len(detect.propose(image)) == len(Grid()(image))
    # It is still there for whoever asks for it.
    fewer = load_detector(tmp_path / "mugs", settings={"prescore": 20})
    assert len(fewer.propose(image)) == 20


def test_joined_bundles_have_none_and_a_training_asks_for_none(
    faster: Path, voc: Path, tmp_path: Path
) -> None:
    model = build_model("googlenet", 3, generator=torch.Generator().manual_seed(1), **NARROW)
    manifest = read_manifest(faster).model_copy(
        update={"prescorer": None, "thresholds": DetectionSettings()}
    )
    save_bundle(tmp_path / "other", manifest, [model.state_dict()])
    joined = join_bundles([faster, tmp_path / "other"], tmp_path / "joined")
    assert (joined.prescorer, joined.thresholds.prescore) == (None, None)
    assert load_detector(tmp_path / "joined", members=2).prescorer is None
    config = {"data": [{"path": "x"}], "thresholds": {"prescore": 50}}
    with pytest.raises(SettingsError, match="fit one afterwards with inception-rcnn fit"):
        validate(RegionTrainingConfig, config, "config")
