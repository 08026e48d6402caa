"""Rows of the cache: proposals come out bit for bit, in rank order, and take few bytes."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.errors import ProposalError
from detector.proposals.cache import coding
from detector.structures import Proposals


def same(one: Proposals, other: Proposals) -> bool:
    scores = (one.scores is None) == (other.scores is None)
    if one.scores is not None and other.scores is not None:
        scores = np.array_equal(one.scores, other.scores)
    return np.array_equal(one.boxes, other.boxes) and one.size == other.size and bool(scores)


def random_boxes(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    x = np.sort(rng.choice(width + 1, (count, 2)), axis=1)
    y = np.sort(rng.choice(height + 1, (count, 2)), axis=1)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    boxes = np.unique(boxes, axis=0)
    return boxes[rng.permutation(len(boxes))]


def with_checksum(row: bytes) -> bytes:
    return row + zlib.crc32(row).to_bytes(4, "little")


@pytest.mark.parametrize("size", [(375, 500), (1, 1), (1, 65535), (3000, 4000)])
@pytest.mark.parametrize("count", [1, 2, 17, 400])
def test_whole_boxes_come_back_exactly_and_in_order(size, count, rng):
    proposals = Proposals(random_boxes(rng, count, *size), size)
    assert same(coding.decode(coding.encode(proposals)), proposals)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 700), st.booleans())
def test_any_boxes_with_and_without_scores_come_back_exactly(seed, height, width, scored):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 60, height, width) * rng.uniform(0.1, 9)
    scores = np.sort(rng.random(len(boxes)))[::-1] if scored else None
    proposals = Proposals(boxes, (9 * height, 9 * width), scores)
    assert same(coding.decode(coding.encode(proposals)), proposals)


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros((0, 4)),
        [[0, 0, 9, 7], [1, 1, 5, 5], [0, 0, 9, 7], [1, 1, 5, 5]],
        [[-3, -2, 4, 5], [0, 0, 30, 40]],  # outside the image
    ],
)
def test_boxes_may_repeat_lie_outside_or_be_none(boxes):
    proposals = Proposals(boxes, (7, 9))
    assert same(coding.decode(coding.encode(proposals)), proposals)


def test_every_single_damaged_byte_and_every_cut_is_noticed(rng):
    row = coding.encode(Proposals(random_boxes(rng, 40, 60, 80), (60, 80)))
    damaged = [row[:length] for length in (0, 1, 7, 12, len(row) - 1)]
    damaged += [row[:at] + bytes([row[at] ^ 0x40]) + row[at + 1 :] for at in range(len(row))]
    for one in damaged:
        with pytest.raises(ProposalError, match="damaged"):
            coding.decode(one)


def test_a_forged_row_with_a_right_checksum_is_an_error_and_never_a_crash(rng):
    row = coding.encode(Proposals(random_boxes(rng, 40, 60, 80), (60, 80)))[:-4]
    for _ in range(300):
        forged = bytearray(row)
        for place in rng.integers(0, len(row), 3):
            forged[place] = rng.integers(256)
        try:
            found = coding.decode(with_checksum(bytes(forged)))
        except ProposalError:
            continue
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


@pytest.mark.parametrize("row", [b"", b"\0\1", coding._HEAD.pack(False, 2**32 - 1, 9, 9)])
def test_a_row_that_is_none_is_refused(row):
    with pytest.raises(ProposalError, match="cannot be decoded"):
        coding.decode(with_checksum(row))


def test_a_real_image_needs_at_most_five_bytes_a_box(shared_data):
    """docs/proposal_cache.md states the mean over many."""
    from detector.images.decoding import read_image
    from detector.proposals.selective_search import SelectiveSearch

    path = shared_data / "voc2012_sample" / "JPEGImages" / "2007_003101.jpg"
    found = SelectiveSearch(preset="fast", superpixel_scale=1.0)(read_image(path))
    assert len(found) > 2000
    assert len(coding.encode(found)) <= 5 * len(found)
    assert same(coding.decode(coding.encode(found)), found)
