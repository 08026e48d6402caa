"""The readable pipeline from one image to a hierarchy: the reference for engine.py, far slower."""

import numpy as np

from detector.proposals.selective_search import colour, filters, grouping, segmentation, similarity
from detector.proposals.selective_search.grouping import Hierarchy
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.strategies import Strategy
from detector.structures import Array


def hierarchy(image: Array, strategy: Strategy, settings: SelectiveSearchSettings) -> Hierarchy:
    """Hierarchy of one strategy on (H, W, 3) uint8 RGB, at the image's own size."""
    space = colour.SPACES[strategy.colour]
    planes = colour.planes(image, strategy.colour)
    labels = superpixels(planes, space.hue, strategy, settings)
    leaves = similarity.Regions(
        sizes=np.bincount(labels.ravel()),
        boxes=segmentation.bounding_boxes(labels),
        colour=similarity.colour_histogram(planes, labels),
        texture=similarity.texture_histogram(planes, labels, space.hue),
    )
    pairs = segmentation.neighbours(labels)
    return grouping.group(strategy.terms, leaves, pairs, labels.size)


def superpixels(
    planes: Array, hue: bool, strategy: Strategy, settings: SelectiveSearchSettings
) -> Array:
    """Segment (C, H, W) uint8 planes into (H, W) int32 labels."""
    kernel = filters.gaussian(settings.sigma)
    smoothed = np.stack(
        [
            filters.smooth(plane, kernel, filters.SMOOTH_BITS, hue and i == 0)
            for i, plane in enumerate(planes)
        ]
    )
    weights = segmentation.edge_weights(smoothed, hue)
    return segmentation.segment(
        weights, settings.scaled_k(strategy), settings.least_pixels(strategy)
    )
