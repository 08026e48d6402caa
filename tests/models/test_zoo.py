"""torchvision's classifiers give torchvision's logits when they are ours."""

import pytest
import torch
from test_pretrained import randomised

from detector.errors import WeightsError
from detector.models.torchvision_zoo import ZooNetwork
from detector.models.weights.outside import load_torchvision_network
from detector.models.weights.pretrained import replace_classifier

NAMES = ["alexnet", pytest.param("vgg16", marks=pytest.mark.slow), "resnet50", "densenet121"]


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_weights_give_torchvisions_logits(name):
    import torchvision

    theirs = randomised(getattr(torchvision.models, name)(weights=None)).eval()
    ours = load_torchvision_network(name, theirs.state_dict()).eval()
    x = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
        replace_classifier(ours, 3)
        assert ours(x).shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_on_crops_of_the_default_size(name):
    """224 pixels; the last linear layer is `classifier`, the only one with K + 1 outputs."""
    model = ZooNetwork(name, 6).train()
    linear = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert linear[-1] == ("classifier", model.classifier)
    logits = model(torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 5])).backward()
    assert logits.shape == (2, 6)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_weights_of_another_network_are_refused_by_tensor():
    from torchvision.models import alexnet

    state = alexnet(weights=None, num_classes=3).state_dict()
    with pytest.raises(WeightsError, match=r"file: tensor trunk\.features\.\d+\.weight"):
        load_torchvision_network("vgg16", state, "file")


def test_a_file_without_its_last_layer_is_refused():
    with pytest.raises(WeightsError, match=r"fc\.weight is missing"):
        load_torchvision_network("resnet50", {})
