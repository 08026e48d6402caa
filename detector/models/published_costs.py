"""The costs that were published of each network, and the numbers behind every difference."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from detector.models import build_model
from detector.models.costs import Published


class NetworkRow(NamedTuple):
    """One architecture with options, at the input size of its published figures."""

    architecture: str
    published: Published
    input_size: int = 224
    options: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The architecture and what differs from its defaults."""
        return ", ".join([self.architecture, *(f"{k}={v}" for k, v in self.options.items())])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a crop."""
        return (3, self.input_size, self.input_size)

    def build(self, num_outputs: int = 1000) -> nn.Module:
        """The network with `num_outputs` logits."""
        return build_model(self.architecture, num_outputs, **self.options)


_TABLE1 = "arXiv 1409.4842, columns of Table 1 added up (K is 1024 there)"
_TABLE3 = "arXiv 1512.00567, Table 3"
_TORCHVISION = "torchvision's meta data"
NETWORKS = (
    NetworkRow("googlenet", Published(
        6797.7 * 1024, 1.502e9, _TABLE1,
        "2.7K and 34M, Table 1's conv1, are the cost of a separable one: the plain 7x7 does 118M",
    )),
    NetworkRow("googlenet", Published(6797.7 * 1024, 1.502e9, _TABLE1),
               options={"separable_first": True}),
    NetworkRow("wide_googlenet", Published(
        None, None, "", "the wider network of the ensemble; 5/4 of all widths is our choice",
    )),
    NetworkRow("bn_googlenet", Published(
        None, 1.5e9, _TABLE3, "1.499G with separable_first=True",
    )),
    NetworkRow("torchvision_googlenet", Published(6_624_904, 1.498e9, _TORCHVISION)),
    NetworkRow("bn_googlenet", Published(
        13.6e6, None, "arXiv 1502.03167, section 4.2",
        "our reading of its text, by this count: two 3x3 of up to 128 filters, with both heads",
    ), options={"auxiliary": True, "separable_first": True, "double_three": True}),
    NetworkRow("bn_inception", Published(
        13.6e6, 2.0e9, "arXiv 1502.03167 (parameters), 1512.00567 (operations)",
        "13.6M is the network of the text, a row above; figure 5, this one, adds up to 11.26M"
        " weights and has up to 256 filters there; 2.0G is printed with two digits",
    )),
    NetworkRow("bn_inception", Published(
        None, 3.8e9, _TABLE3 + ", its \"Inception-v2\"",
    ), 299),
    NetworkRow("inception_v2", Published(
        None, 3.8e9, _TABLE3,
        "the layers of Table 1, whose stem alone, printed in full, costs 1.63G; 3.8G is what"
        " bn_inception costs at 299 pixels, stem 0.86G",
    ), 299),
    NetworkRow("inception_v3", Published(
        23_834_568, 5.713e9, _TORCHVISION + " (parameters less the auxiliary head)",
        "the paper says 4.8G (Table 3) and 5G (abstract)",
    ), 299),
    NetworkRow("nin", Published(7.6e6, None, "Caffe model zoo, a 29 MB file of float32")),
    NetworkRow("alexnet", Published(61_100_840, 0.714e9, _TORCHVISION)),
    NetworkRow("vgg16", Published(138_357_544, 15.47e9, _TORCHVISION)),
    NetworkRow("resnet50", Published(25_557_032, 4.089e9, _TORCHVISION)),
    NetworkRow("densenet121", Published(7_978_856, 2.834e9, _TORCHVISION)),
)  # fmt: skip
