"""Pictures that stand in two splits: copies, other sizes, mirrored, neighbours in a film."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from detector.datasets.dataset import Sample
from detector.datasets.near_duplicates import alike, difference_hash
from detector.evaluation.wrong_labels.suspects import Suspect
from detector.structures import Array

# Of 256 bits: no two different photographs differ by fewer (datasets/near_duplicates.py).
MIN_DIFFERING_BITS = 45


def across_splits(samples: Iterable[Sample], splits: Sequence[str]) -> Iterator[Suspect]:
    """Pairs of near-duplicates in different splits; the suspect is the later picture.

    splits  that of each sample. The suspicion falls from 1, where all bits of the hashes are equal,
            to 0 at the least difference of two photographs.
    """
    pictures = [
        (sample, split, bits)
        for sample, split in zip(samples, splits, strict=True)
        if (bits := difference_hash(sample.path)) is not None
    ]
    if not pictures:
        return
    for first, second in alike(np.stack([bits for _, _, bits in pictures])).tolist():
        (one, here, bits), (other, there, other_bits) = pictures[first], pictures[second]
        if here != there:
            suspicion = max(0.0, 1 - differing_bits(bits, other_bits) / MIN_DIFFERING_BITS)
            suggestion = f"{one.image_id} of {here}"
            yield Suspect(
                other.image_id, other.path, "two splits", suspicion, None, None, suggestion
            )


def differing_bits(bits: Array, other: Array) -> int:
    """Count the bits in which two hashes differ, as they are or mirrored."""
    mirrored = ~other[:, ::-1]
    return min(int((bits != other).sum()), int((bits != mirrored).sum()))
