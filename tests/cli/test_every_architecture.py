"""Every architecture is trained by the shortest command, and detects; what it is follows from its
start.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from toy_regions import settings, write_squares

from detector.detection.load import load_detector
from detector.errors import SettingsError, WeightsError
from detector.models import ARCHITECTURES, build_model
from detector.models.input_normalisation import HALF
from detector.models.traits import TRAITS, traits_of
from detector.models.weights.classifier_file import save_classifier
from detector.models.weights.start import load_start
from detector.training.engine.network import MemberConfig, following_start
from detector.training.engine.state import freeze, gather_statistics

TORCHVISION = {
    "torchvision_googlenet": "googlenet", "inception_v3": "inception_v3", "alexnet": "alexnet",
    "vgg16": "vgg16", "resnet50": "resnet50", "densenet121": "densenet121",
}  # fmt: skip
"""Ours, and theirs."""
QUICK = {"nin"}
"""The others take half a minute, some of them gigabytes."""


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_what_follows_from_an_architecture_fits_it(name: str):
    traits = TRAITS[name]  # a new architecture needs a row
    with torch.device("meta"):
        model = build_model(name, 3)
        freeze(model, traits.first)
        learns = [one.requires_grad for one in model.parameters()]
        assert 0 < sum(learns) < len(learns)
        assert not learns[0]
        for side in (traits.min_side, traits.side):
            assert model.eval()(torch.zeros(1, 3, side, side)).shape == (1, 3)


def test_the_table_of_traits_has_no_architecture_that_is_gone():
    assert set(TRAITS) == set(ARCHITECTURES)


def names_of(theirs: str, **options: object) -> dict[str, torch.Tensor]:
    """The names of a torchvision network's tensors, each of one number."""
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, theirs)(weights=None, **options)
    return {name: torch.zeros(1) for name in model.state_dict()}


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("torchvision_googlenet", "googlenet", {"init_weights": False, "aux_logits": True}),
        ("torchvision_googlenet", "googlenet", {"init_weights": False, "aux_logits": False}),
        ("inception_v3", "inception_v3", {"init_weights": False}),
        ("alexnet", "alexnet", {}),
        ("vgg16", "vgg16", {"init_weights": False}),
        ("resnet50", "resnet50", {}),
        ("densenet121", "densenet121", {}),
    ],
)
def test_torchvisions_files_tell_what_they_are(tmp_path: Path, ours, theirs, options):
    torch.save(names_of(theirs, **options), tmp_path / "x.pth")
    member = following_start(MemberConfig(weights="x.pth"), tmp_path)
    assert member.architecture == ours
    assert member.input_size == (299 if ours == "inception_v3" else 224)
    assert member.freeze == traits_of(ours).first
    # What is set stays as it is.
    asked = MemberConfig(weights="x.pth", input_size=96, freeze=())
    chosen = following_start(asked, tmp_path)
    assert (chosen.architecture, chosen.input_size, chosen.freeze) == (ours, 96, ())


def test_a_relative_of_a_known_network_is_not_taken_for_it(tmp_path: Path):
    torch.save(names_of("resnet101"), tmp_path / "x.pth")
    assert following_start(MemberConfig(weights="x.pth"), tmp_path).architecture == "googlenet"


def test_another_architecture_than_the_files_is_refused_with_the_cure(tmp_path: Path):
    torch.save(names_of("inception_v3", init_weights=False), tmp_path / "x.pth")
    member = following_start(MemberConfig(weights="x.pth", architecture="googlenet"), tmp_path)
    assert (member.architecture, member.input_size) == ("googlenet", 224)
    with pytest.raises(WeightsError, match="leave the architecture out"):
        load_start(tmp_path / "x.pth", "googlenet", 3, {})


def test_without_a_start_nothing_is_frozen_and_the_size_is_the_architectures():
    member = following_start(MemberConfig(architecture="inception_v3"))
    assert (member.input_size, member.freeze) == (299, ())
    with pytest.raises(SettingsError, match="input_size is 40; inception_v2 needs 75"):
        following_start(MemberConfig(architecture="inception_v2", input_size=40))


def test_our_own_file_tells_options_size_and_normalisation(tmp_path: Path):
    options = {"dropout": 0.1}
    model = build_model("nin", 2, **options)
    save_classifier(
        tmp_path / "own.safetensors", model.state_dict(), architecture="nin", options=options,
        input_size=96, classes=("a", "b"), normalisation=HALF,
    )  # fmt: skip
    member = following_start(MemberConfig(weights="own.safetensors"), tmp_path)
    assert (member.architecture, member.options, member.input_size) == ("nin", options, 96)
    loaded = load_start(tmp_path / "own.safetensors", "nin", 5, options)
    assert loaded.normalisation == HALF


def start_file(folder: Path, name: str) -> Path:
    """Random weights, in torchvision's layout where it has the network, else in our own file."""
    torch.manual_seed(0)
    if name in TORCHVISION:
        import torchvision

        state = getattr(torchvision.models, TORCHVISION[name])(weights=None).state_dict()
        torch.save(state, folder / "start.pth")
        return folder / "start.pth"
    save_classifier(
        folder / "start.safetensors", build_model(name, 2).state_dict(), architecture=name,
        options={}, input_size=traits_of(name).min_side, classes=("a", "b"),
    )  # fmt: skip
    return folder / "start.safetensors"


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in ARCHITECTURES
    ],
)
def test_three_steps_by_the_shortest_command_and_a_detection(name: str, tmp_path: Path):
    from small_classifiers import exit_code

    from detector.cli import train_regions

    toy = write_squares(tmp_path / "toy")
    tiny = settings("sampling.positives_per_batch=2", "sampling.background_per_batch=2")
    min_side = traits_of(name).min_side
    ways = {
        "start": ["--start", start_file(tmp_path, name)],
        "random": settings(f"member.architecture={name}", f"member.input_size={min_side}"),
    }
    for way, words in ways.items():
        out = tmp_path / way
        common = ["--data", toy, "--split", "train", "--steps", 3, "--device", "cpu", "--quiet"]
        cache = ["--set", f"run.cache={tmp_path / 'proposals.sqlite'}", "--set", "run.threads=1"]
        assert exit_code(train_regions.main, *common, *words, *tiny, *cache, "--out", out) == 0
        config = yaml.safe_load((out / "config.yaml").read_text())
        member = config["member"]
        side = traits_of(name).side if way == "start" and name in TORCHVISION else min_side
        assert (member["architecture"], member["input_size"]) == (name, side)
        # Where the maps of the lower layers are stored, these are frozen without being named.
        frozen = traits_of(name).first if way == "start" and not config["bank"] else ()
        assert tuple(member["freeze"]) == frozen
        detector = load_detector(out / "bundle", device="cpu")
        with Image.open(toy / "JPEGImages" / "000000.jpg") as image:
            found = detector(np.asarray(image))
        assert np.isfinite(found.scores).all()
        for path in out.glob("*.safetensors"):
            path.unlink()  # of a large network they are gigabytes


def test_statistics_are_fixed_where_there_are_some_and_gathered_where_there_are_none():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    )
    network[1](torch.randn(2, 4, 3, 3))  # as a trained network's
    freeze(network, [])
    gather_statistics(network)
    assert [network[1].training, network[2].training] == [False, True]
