"""A network cut in two gives what it gave whole."""

import pytest
import torch

from detector.errors import SettingsError
from detector.models import build_model
from detector.models.inference.prepare import prepare_for_inference
from detector.models.split import Top, Trunk


@pytest.mark.parametrize("after", ["3b", "4a", "4e", "5a"])
@pytest.mark.parametrize("architecture", ["googlenet", "torchvision_googlenet", "bn_inception"])
def test_the_top_on_the_trunk_is_the_whole_network(architecture: str, after: str):
    torch.manual_seed(0)
    whole = build_model(architecture, 4).eval()
    crops = torch.randn(2, 3, 64, 64)
    trunk, top = Trunk(whole, after), Top(whole, after)
    with torch.inference_mode():
        assert torch.equal(top.eval()(trunk.eval()(crops)), whole(crops))


def test_the_two_states_are_the_state_of_the_whole():
    whole = build_model("googlenet", 4)
    trunk, top = Trunk(whole, "4e").state_dict(), Top(whole, "4e").state_dict()
    assert not trunk.keys() & top.keys()
    assert (trunk | top).keys() == whole.state_dict().keys()


def test_a_prepared_trunk_gives_the_same_maps():
    torch.manual_seed(0)
    whole = build_model("googlenet", 4).eval()
    trunk = Trunk(whole, "4a").eval()
    crops = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        fast = prepare_for_inference(trunk)(crops)
        assert torch.allclose(fast, trunk(crops), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "options", "after", "message"),
    [
        ("googlenet", {}, "5b", "choose one of"),
        ("googlenet", {"auxiliary": True}, "4e", "auxiliary"),
        ("nin", {}, "4e", "choose googlenet"),
    ],
)
def test_what_cannot_be_cut_says_so(architecture: str, options, after: str, message: str):
    with pytest.raises(SettingsError, match=message):
        Top(build_model(architecture, 4, **options), after)
