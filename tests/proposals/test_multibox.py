"""MultiBox as a network, as a file and as a proposer."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_multibox import priors_on, small

from detector.errors import ImageError, SettingsError, WeightsError
from detector.models import build_model
from detector.models.split import Trunk, map_shape
from detector.proposals.both import Both
from detector.proposals.cache.stored import describe, settings_hash
from detector.proposals.calibration import Calibration
from detector.proposals.engines import build_engine, names_a_file, parse_engine
from detector.proposals.multibox.predict import MultiBox
from detector.proposals.multibox.weights import load_multibox, save_multibox
from detector.proposals.selective_search import SelectiveSearch

LINE = Calibration(slope=1.0, offset=0.0)


def picture(height: int = 90, width: int = 120) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 120, (height, width, 3), dtype=np.uint8)
    pixels[20:60, 30:80] = (220, 30, 30)
    return pixels


@pytest.mark.parametrize(("grids", "count"), [((), 50), ((2, 1), 56), ((8, 6, 4, 3, 2), 1420)])
def test_an_untrained_network_says_its_priors_and_that_nothing_is_there(grids, count):
    trained = small(grids)
    with torch.inference_mode():
        location, logits = trained.network(torch.zeros(2, 3, 64, 64))
    assert location.shape == (2, count, 4)
    assert logits.shape == (2, count)
    assert location.abs().max() < 1  # within a deviation
    assert torch.sigmoid(logits).max() < 0.05


def test_each_cell_of_a_grid_speaks_for_its_own_priors():
    """What changes in the lower right corner of the map changes the logits of the cells there."""
    heads = small((4,)).network.heads.eval()
    maps = torch.rand(1, 60, 8, 8)
    changed = maps.clone()
    changed[..., 6:, 6:] += 3
    with torch.inference_mode():
        moved = (heads(changed)[1] - heads(maps)[1])[0, :176].abs().view(4, 4, 11).amax(2)
    assert moved[:2, :2].max() == 0
    assert moved[2:, 2:].min() > 0


@pytest.mark.parametrize("architecture", ["googlenet", "bn_googlenet", "torchvision_googlenet"])
def test_the_trunk_ends_at_its_module_without_the_pool(architecture):
    whole = build_model(architecture, 1, width=0.125)
    assert map_shape(Trunk(whole, "3b", pool_behind=False), 64) == (60, 8, 8)
    assert map_shape(Trunk(whole, "4e", pool_behind=False), 64) == (104, 4, 4)


def test_other_trunks_go_by_name_or_are_refused():
    assert map_shape(Trunk(build_model("bn_inception", 1), "3a", pool_behind=False), 64)[1:] == (
        8,
        8,
    )
    with pytest.raises(SettingsError, match="choose googlenet"):
        Trunk(build_model("nin", 1), "4e", pool_behind=False)
    with pytest.raises(SettingsError, match="not cut after '9z'"):
        Trunk(build_model("googlenet", 1, width=0.125), "9z", pool_behind=False)


@pytest.mark.parametrize(("stored_as", "reach"), [("float32", 0), ("float16", 1e-3), ("int8", 0.1)])
def test_a_file_gives_back_the_network(tmp_path: Path, stored_as, reach):
    trained = small(stored_as=stored_as)
    path = tmp_path / "multibox.safetensors"
    save_multibox(path, trained.calibrated({"multibox": LINE}))
    found = load_multibox(path)
    assert found.header.calibration == {"multibox": LINE}
    assert np.array_equal(found.priors.boxes, trained.priors.boxes)
    crops = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, theirs = trained.network(crops)[0], found.network(crops)[0]
    assert torch.allclose(ours, theirs, rtol=0, atol=reach)


def test_a_file_that_is_no_multibox_is_refused(tmp_path: Path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"classifier.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(WeightsError, match="inception-rcnn train multibox"):
        load_multibox(path)
    broken = small()
    save_multibox(path, replace(broken, priors=priors_on(())))
    with pytest.raises((WeightsError, SettingsError), match="priors"):
        load_multibox(path)
    with pytest.raises(WeightsError, match="no such file"):
        load_multibox(tmp_path / "none.safetensors")


def test_proposals_are_ranked_inside_the_image_and_the_image_itself_is_among_them():
    found = MultiBox(small(), keep=20)(picture())
    assert len(found) <= 20
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes.max(0) <= [120, 90, 120, 90]).all()
    assert [0, 0, 120, 90] in found.boxes.tolist()


def test_the_prepared_proposer_says_what_the_network_says():
    trained = small()
    found = MultiBox(trained, keep=100, near_duplicates=None)._predict(picture())
    from detector.crops.warp import crop_batch

    crops = crop_batch(picture(), np.array([[0, 0, 120, 90]]), 64, context=0)
    with torch.inference_mode():
        location, logits = trained.network(crops)
    boxes = np.clip(location[0].numpy() * trained.priors.deviation + trained.priors.boxes, 0, 1)
    assert found[0] == pytest.approx(boxes * [120, 90, 120, 90], abs=1e-3)
    assert found[1] == pytest.approx(torch.sigmoid(logits[0]).numpy(), abs=1e-5)


def test_near_duplicates_go_and_threads_and_history_change_nothing():
    all_boxes = MultiBox(small(), keep=200, near_duplicates=None)(picture())
    thinned = MultiBox(small(), keep=200, near_duplicates=0.3)
    first = thinned(picture())
    assert len(first) < len(all_boxes)
    thinned(picture(50, 50))
    other = MultiBox(small(), keep=200, near_duplicates=0.3, threads=3)(picture())
    assert np.array_equal(first.boxes, thinned(picture()).boxes)
    assert np.array_equal(first.boxes, other.boxes)


def test_parts_of_the_image_add_smaller_boxes_but_none_that_they_cut_off():
    found = [MultiBox(small(), keep=5000, near_duplicates=None, scales=n) for n in (1, 2)]
    one, two = (propose._predict(picture())[0] for propose in found)
    assert len(one) == 56
    assert 56 < len(two) <= 5 * 56
    cut = np.isclose(two[56:, 2], 80, atol=1) & (two[56:, 0] < 40)  # where left parts end
    assert not cut.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (300, 2)])
def test_odd_images_are_processed(shape):
    found = MultiBox(small())(np.full((*shape, 3), 9, np.uint8))
    assert [0, 0, shape[1], shape[0]] in found.boxes.tolist()


def test_wrong_images_and_settings_are_typed_errors():
    with pytest.raises(ImageError, match="uint8"):
        MultiBox(small())(np.zeros((5, 5), np.uint8))
    with pytest.raises(SettingsError, match=r"unknown setting boxes.*known: engine"):
        MultiBox(small(), boxes=3)
    with pytest.raises(SettingsError, match="keep"):
        MultiBox(small(), keep=0)
    with pytest.raises(SettingsError, match="not calibrated"):
        Both(SelectiveSearch(threads=1), MultiBox(small()))


def test_both_hold_the_regions_of_either_once_and_a_budget_takes_the_surest_first():
    sure = Calibration(slope=0.0, offset=9.0)
    unsure = Calibration(slope=1.0, offset=-50.0)
    search = SelectiveSearch(threads=1, min_box_side=5)
    ours = MultiBox(small(), keep=30)(picture())
    theirs = search.proposals_with_scores(picture())
    for first, second, expected in ((sure, unsure, ours), (unsure, sure, theirs)):
        trained = small().calibrated({"multibox": first, "selective-search": second})
        found = Both(search, MultiBox(trained, keep=30))(picture())
        corners = {tuple(box) for box in np.round(found.boxes).tolist()}
        wanted = {tuple(box) for box in np.round(np.concatenate([ours.boxes, theirs.boxes]))}
        assert corners == wanted
        assert len(corners) == len(found)
        best = {tuple(box) for box in np.round(expected.boxes).tolist()}
        assert tuple(np.round(found.boxes[0]).tolist()) in best
        assert tuple(np.round(found.boxes[2]).tolist()) in best


def test_the_most_boxes_of_both_are_the_first_of_the_whole_join():
    line = {"multibox": LINE, "selective-search": LINE}
    every, few = (
        Both(SelectiveSearch(threads=1, max_boxes=most), MultiBox(small().calibrated(line)))
        for most in (None, 9)
    )
    found = few(picture())
    assert len(found) == 9
    assert found.boxes[:8].tolist() == every(picture()).boxes[:8].tolist()


def changed_file(path: Path, stored_as: str, header: dict, tensors: dict) -> Path:
    """A good file with another header and other tensors (None: without)."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    save_multibox(path, small(stored_as=stored_as))
    with safe_open(path, framework="pt") as file:
        said = json.loads(file.metadata()["multibox"])
    held = {k: v for k, v in {**load_file(path), **tensors}.items() if v is not None}
    save_file(held, path, metadata={"multibox": json.dumps({**said, **header})})
    return path


SCALE = "trunk.conv1.conv.weight.scale"


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        ({}, {SCALE: None}, "stored in 8 bits, without"),
        ({}, {SCALE: torch.ones(3)}, "stored in 8 bits, without"),
        ({}, {"priors.boxes": torch.zeros(3, 4)}, "3 places|deviation of shape|have 56 places"),
        ({"grids": [-2, 1]}, {}, "no MultiBox"),
        ({"grids": [2, 0]}, {}, "no MultiBox"),
        ({"options": {"num_outputs": 3}}, {}, "cannot be built"),
        ({"options": {"width": 16}}, {}, "has shape"),
        ({"heads": {"priors": "grids", "width": 4096, "hidden": 8192}}, {}, "has shape"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, header, tensors, message):
    path = changed_file(tmp_path / "m.safetensors", "int8", header, tensors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=rf"m\.safetensors: .*({message})"):
        load_multibox(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_priors_in_half_precision_are_read(tmp_path: Path):
    halves = {"priors.boxes": torch.from_numpy(small().priors.boxes).bfloat16()}
    found = load_multibox(changed_file(tmp_path / "m.safetensors", "float16", {}, halves))
    assert np.allclose(found.priors.boxes, small().priors.boxes, atol=0.01)


def test_engines_are_named_with_their_settings(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    save_multibox(path, small().calibrated({"multibox": LINE, "selective-search": LINE}))
    name, options = parse_engine(f"multibox:weights={path},keep=7") or ("", {})
    one = build_engine(name, {"threads": 1, **options})
    assert one.settings.keep == 7
    other = build_engine(name, {**options, "keep": 8})
    assert settings_hash(describe(one)) != settings_hash(describe(other))
    both = build_engine("both", {"weights": str(path), "keep": 9, "superpixel_scale": 1.0})
    assert both.settings.multibox.keep == 9
    assert both.settings.search.superpixel_scale == 1
    assert len(both(picture())) > 0
    with pytest.raises(SettingsError, match="learned"):
        build_engine("both", {"weights": str(path), "ranking": "paper"})
    with pytest.raises(SettingsError, match="NAME:SETTING"):
        parse_engine("both:keep")
    assert parse_engine("folder/file.sqlite") is None


def test_a_detector_takes_an_engine_with_its_settings(tmp_path: Path):
    from detector.detection.bundle import BundleManifest, MemberManifest, Provenance, save_bundle
    from detector.detection.load import load_detector

    model = build_model("googlenet", 2, width=0.125)
    manifest = BundleManifest(
        classes=("cat",),
        members=(
            MemberManifest(architecture="googlenet", options={"width": 0.125}, input_size=32),
        ),
        proposals={"engine": "opencv"},
        provenance=Provenance(training_data="none", licence="CC0"),
    )
    save_bundle(tmp_path / "bundle", manifest, [model.state_dict()])
    path = tmp_path / "m.safetensors"
    save_multibox(path, small())
    for name in (f"multibox:weights={path},keep=9", f"multibox:weights={path}"):
        detector = load_detector(
            tmp_path / "bundle", proposals=name, settings={"max_proposals": 10}
        )
        assert 2 <= len(detector.propose(picture())) <= (9 if "keep" in name else 10)
        assert detector.predict(picture(), detector.propose(picture())).scores.shape[1] == 2
    with pytest.raises(SettingsError, match="selective-search, opencv, multibox, both"):
        load_detector(tmp_path / "bundle", proposals="magic")


@pytest.mark.parametrize(
    ("text", "is_file"),
    [("multibox", False), ("both:weights=folder/m.safetensors", False), ("cache.sqlite", True),
     ("folder/cache", True), ("magic", False)],
)  # fmt: skip
def test_an_engine_with_a_path_in_its_settings_is_no_cache_file(text, is_file):
    assert names_a_file(text) is is_file


def test_the_weights_that_ship_propose_and_join():
    from detector.images.decoding import read_image
    from detector.proposals.engines import build_engine

    root = Path(__file__).resolve().parents[2]
    image = read_image(next((root / "examples").glob("*.jpg")))
    found = build_engine("multibox", {"keep": 50})(image)
    assert len(found) == 50
    assert found.scores is not None
    assert float(found.scores[0]) > 0.3
    both = build_engine("both", {"max_boxes": 60})(image)
    assert len(both) == 60
