"""AlexNet, VGG-16, ResNet-50 and DenseNet-121 as region classifiers, built from torchvision.

The layers, their names and their weights are torchvision's; only the last linear layer is ours.
"""

import torch
from torch import Tensor, nn

from detector.models.input_normalisation import IMAGENET, Normalisation

# The name of the last linear layer in torchvision's module.
LAST_LAYER = {
    "alexnet": "classifier.6",
    "vgg16": "classifier.6",
    "resnet50": "fc",
    "densenet121": "classifier",
}


class ZooNetwork(nn.Module):
    """Crops (N, 3, S, S) to logits (N, num_outputs); S is 224 in the papers, at least 64."""

    def __init__(
        self, name: str, num_outputs: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        import torchvision

        # Only VGG of the four has this option; weights are drawn below or loaded.
        plain = {"init_weights": False} if name == "vgg16" else {}
        self.normalisation: Normalisation = IMAGENET
        self.trunk: nn.Module = getattr(torchvision.models, name)(weights=None, **plain)
        last = self.trunk.get_submodule(LAST_LAYER[name])
        assert isinstance(last, nn.Linear)
        self.trunk.set_submodule(LAST_LAYER[name], nn.Identity())
        self.classifier = nn.Linear(last.in_features, num_outputs)
        if generator is not None:
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)

    def features(self, x: Tensor) -> Tensor:
        """Input of the last layer: (N, F) float32."""
        pooled: Tensor = self.trunk(x)
        return pooled.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
