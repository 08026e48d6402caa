"""Outside weights give the outside network's answers, and what does not fit is refused by name."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from detector.errors import WeightsError
from detector.models.googlenet import GoogLeNet
from detector.models.input_normalisation import FILL_MEAN, HALF, IMAGENET, Normalisation
from detector.models.weights.outside import (
    CAFFE_LAYERS,
    load_bvlc_googlenet,
    load_torchvision_inception,
)
from detector.models.weights.pretrained import fit, read_tensors

BVLC = "bvlc_googlenet.safetensors"


def centre_crop(path: Path) -> Tensor:
    """(3, 224, 224) as all crops come: pixel / 255 less the fill mean."""
    image = Image.open(path).convert("RGB")
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    image = image.crop((left, top, left + 224, top + 224))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(224, 224, 3)
    return pixels.permute(2, 0, 1) / 255 - torch.tensor(FILL_MEAN).view(3, 1, 1)


def hits(model: nn.Module, sample: Path, chosen: slice) -> tuple[int, int, int]:
    """Top-1 hits, top-5 hits and pictures; folders are the 1,000 synsets in sorted order."""
    pictures = [next(folder.iterdir()) for folder in sorted(sample.iterdir()) if folder.is_dir()]
    labels = list(range(len(pictures)))[chosen]
    first = five = 0
    for start in range(0, len(labels), 16):
        batch = labels[start : start + 16]
        with torch.no_grad():
            top = model(torch.stack([centre_crop(pictures[i]) for i in batch])).topk(5).indices
        right = top == torch.tensor(batch)[:, None]
        first, five = first + int(right[:, 0].sum()), five + int(right.any(1).sum())
    return first, five, len(labels)


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter and statistic made different from its neutral start."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
    return model


def test_bvlc_googlenet_recognises_thirty_pictures(shared_data, shared_weights):
    model = load_bvlc_googlenet(read_tensors(shared_weights / BVLC)).eval()
    first, five, count = hits(model, shared_data / "imagenet_sample", slice(None, None, 34))
    assert count == 30
    assert first >= 21
    assert five >= 25


@pytest.mark.slow
def test_bvlc_googlenet_reproduces_its_measured_accuracy(shared_data, shared_weights):
    model = load_bvlc_googlenet(read_tensors(shared_weights / BVLC)).eval()
    first, five, count = hits(model, shared_data / "imagenet_sample", slice(None))
    assert count == 1000
    assert first / 10 == pytest.approx(73.9, abs=0.3)
    assert five / 10 == pytest.approx(91.3, abs=0.3)


def test_bvlc_equals_its_own_convention(shared_weights):
    """The folded first layer on centred RGB equals the stored one on BGR less (104, 117, 123)."""
    stored = load_file(shared_weights / BVLC)
    model = load_bvlc_googlenet(stored)
    rgb = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    caffe = rgb.flip(1) - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    ours = rgb / 255 - torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    weight, bias = (stored[f"conv1/7x7_s2.{kind}"].float() for kind in ("weight", "bias"))
    expected = nn.functional.conv2d(caffe, weight, bias, stride=2, padding=3)
    torch.testing.assert_close(model.conv1.conv(ours), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_torchvision_googlenet_gives_torchvisions_logits(auxiliary):
    from torchvision.models import GoogLeNet as Theirs

    theirs = randomised(Theirs(7, aux_logits=auxiliary, init_weights=False)).eval()
    ours = load_torchvision_inception("torchvision_googlenet", theirs.state_dict()).eval()
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        for ours_head, theirs_head, width in (("4a", "aux1", 512), ("4d", "aux2", 528)):
            if auxiliary:
                y = torch.randn(2, width, 14, 14, generator=torch.Generator().manual_seed(3))
                expected = getattr(theirs, theirs_head)(y)
                torch.testing.assert_close(ours.auxiliary[ours_head](y), expected)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_torchvision_inception_v3_gives_torchvisions_logits(auxiliary):
    from torchvision.models import Inception3 as Theirs

    theirs = randomised(Theirs(7, aux_logits=auxiliary, init_weights=False)).eval()
    shuffled = dict(sorted(theirs.state_dict().items()))  # a file may list them in any order
    ours = load_torchvision_inception("inception_v3", shuffled).eval()
    x = torch.randn(2, 3, 107, 107, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
        if auxiliary:
            y = torch.randn(2, 768, 17, 17, generator=torch.Generator().manual_seed(3))
            expected = theirs.AuxLogits(y)
            torch.testing.assert_close(ours.auxiliary["6e"](y), expected, rtol=1e-4, atol=1e-4)


def test_half_normalisation_is_torchvisions_transform_input():
    from torchvision.models import GoogLeNet as Theirs

    theirs = Theirs(2, aux_logits=False, init_weights=False, transform_input=True)
    pixels = torch.rand(1, 3, 4, 4)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
    expected = theirs._transform_input((pixels - mean) / std)
    crops = pixels - torch.tensor(FILL_MEAN).view(1, 3, 1, 1)
    torch.testing.assert_close(HALF(crops), expected, rtol=1e-5, atol=1e-5)


def test_normalisation_by_hand():
    crops = torch.zeros(1, 3, 1, 1)
    assert Normalisation()(crops) is crops
    assert HALF(crops)[0, 0, 0, 0].item() == pytest.approx((123 / 255 - 0.5) / 0.5)


def bvlc_with(change, tmp_path: Path) -> Path:
    """A synthetic file in Caffe's layout, spoiled by `change`."""
    ours = GoogLeNet(1000).state_dict()
    tensors = {
        f"{caffe}.{kind}": ours[f"{layer}.{kind}"].half()
        for layer, caffe in CAFFE_LAYERS.items()
        for kind in ("weight", "bias")
    }
    change(tensors)
    save_file(tensors, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def _nan(tensors):
    tensors["inception_3a/5x5.bias"][3] = float("nan")


def _too_large(tensors):
    tensors["inception_3a/5x5.bias"] = torch.full((32,), 1e300, dtype=torch.float64)


def _wrong_shape(tensors):
    tensors["inception_3a/5x5.weight"] = torch.zeros(32, 16, 3, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("inception_4e/1x1.weight"), "inception_4e/1x1.weight is missing"),
        (_wrong_shape, r"inception.3a.five.conv.weight has shape \(32, 16, 3, 3\)"),
        (_nan, "inception.3a.five.conv.bias has values that are not finite"),
        (_too_large, "inception.3a.five.conv.bias has values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_file_and_tensor(change, words, tmp_path):
    path = bvlc_with(change, tmp_path)
    with pytest.raises(WeightsError, match=words) as caught:
        load_bvlc_googlenet(read_tensors(path), str(path))
    assert str(path) in str(caught.value)


def test_integers_in_place_of_numbers_are_refused():
    state = nn.Linear(2, 3).state_dict() | {"bias": torch.tensor([1, 2, 3])}
    with pytest.raises(
        WeightsError, match=r"bias is of type torch\.int64, expected torch\.float32"
    ):
        fit(nn.Linear(2, 3), state, "file")


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        read_tensors(tmp_path / "nothing.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            read_tensors(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="list"):
        read_tensors(tmp_path / "list.pth")


def test_a_state_dict_round_trips_through_pth(tmp_path):
    model = GoogLeNet(2, form="torchvision")
    torch.save(model.state_dict(), tmp_path / "a.pth")
    assert read_tensors(tmp_path / "a.pth").keys() == model.state_dict().keys()
