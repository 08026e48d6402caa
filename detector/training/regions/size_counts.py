"""Counts of objects among the proposals that a detector will judge, by size (size_prior.py)."""

from collections.abc import Mapping

import numpy as np

from detector.datasets import Dataset, Sample
from detector.detection.size_prior import SizePrior, fit_prior, sides_of
from detector.matching import IGNORE, match_to_objects
from detector.structures import Array, Proposals
from detector.training.regions.sampling import SamplingSettings


def prior_of(
    dataset: Dataset,
    proposals: Mapping[str, Proposals],
    sampling: SamplingSettings,
    most: int | None,
) -> SizePrior | None:
    """The size prior, counted in the images where all classes are annotated; None where they say
    nothing.

    most  proposals of one image that the detector will score; None is all
    """
    if not sampling.background_per_batch:
        return None
    parts = [
        _counted(sample, proposals[sample.image_id][:most], sampling.positive_iou)
        for sample in countable(dataset).samples
        if sample.image_id in proposals
    ]
    if not parts:
        return None
    sides, is_object = (np.concatenate(column) for column in zip(*parts, strict=True))
    # The background logit is raised by background_prior (outputs.py), which must not count twice.
    background = sampling.background_per_batch * sampling.background_prior
    odds_learnt = sampling.positives_per_batch / background
    return fit_prior(sides, is_object, odds_learnt)


def countable(dataset: Dataset) -> Dataset:
    """The images where every region without an object is known to be background."""
    return dataset.subset([s.image_id for s in dataset.samples if s.background_of is None])


def _counted(sample: Sample, proposals: Proposals, least: float) -> tuple[Array, Array]:
    """Return sides of the proposals, and True for those on objects."""
    which, _ = match_to_objects(proposals.boxes, sample.annotations, least)
    known = which != IGNORE  # difficult objects and crowds
    return sides_of(proposals.boxes, proposals.size)[known], which[known] >= 0
