"""Only the background that looks like an object is learnt from."""

import torch
from torch import nn

from detector.training.regions.loss import background_losses, select_hard_negatives


def test_all_objects_and_the_worst_half_of_the_background_are_kept():
    # Two classes and background; the "network" hands its input through as logits.
    logits = torch.tensor([[9.0, 0, 0], [0, 0, 9], [5, 0, 0], [0, 0, 5], [0, 4, 0]])
    allowed_classes = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]]).bool()
    background = torch.tensor([False, True, True, True, True])
    losses = background_losses(nn.Identity(), logits, allowed_classes, background)
    assert losses[0] == 0
    assert losses[2] > losses[4] > losses[1]
    hard = select_hard_negatives(losses, background, 0.5)
    assert hard.tolist() == [False, False, True, False, True]
    assert select_hard_negatives(losses, background, 1.0).tolist() == background.tolist()
