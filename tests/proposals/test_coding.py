"""What goes into a cache row comes out of it bit for bit, in rank order, and takes few bytes."""

from __future__ import annotations

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


@pytest.mark.parametrize("size", [(375, 500), (1, 1), (1, 65535), (65535, 1), (3000, 4000)])
@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 400])
def test_whole_boxes_come_back_exactly_and_in_order(size, count, rng):
    boxes = random_boxes(rng, count, *size)
    proposals = Proposals(boxes, size)
    assert same(coding.decode(coding.encode(proposals)), proposals)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 700), st.booleans())
def test_any_boxes_on_any_grid_come_back_exactly(seed, height, width, scored):
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 5000)), int(rng.integers(1, 5000)))
    boxes = coding.from_grid(random_boxes(rng, 60, height, width), size, (height, width))
    scores = np.sort(rng.random(len(boxes)))[::-1] if scored else None
    proposals = Proposals(boxes, size, scores)
    assert same(coding.decode(coding.encode(proposals)), proposals)


def test_the_grid_of_a_scaled_image_is_found_again():
    # Computed at 500 x 375, reported in a 1333 x 1000 photograph: 1333 / 500 is no whole number.
    whole = random_boxes(np.random.default_rng(1), 300, 375, 500)
    boxes = coding.from_grid(whole, (1000, 1333), (375, 500))
    assert coding.find_grid(boxes, (1000, 1333)) == (375, 500)
    row = coding.encode(Proposals(boxes, (1000, 1333)))
    assert len(row) < 6 * len(boxes)  # floats would take 16 bytes


def test_a_coarse_grid_of_whole_pixels_is_told_in_its_own_steps():
    assert coding.find_grid(np.array([[0.0, 8, 16, 24], [8, 8, 40, 32]]), (32, 40)) == (4, 5)


@pytest.mark.parametrize(
    "boxes",
    [
        [[0.1, 0.2, 3.14159, 4.7], [1.5, 2.2718, 3.75, 4.1234]],  # on no grid
        [[-3, -2, 4, 5], [0, 0, 30, 40]],  # outside the image
    ],
)
def test_boxes_that_fit_no_grid_keep_their_floats(boxes):
    proposals = Proposals(boxes, (10, 10), [0.5, 0.25])
    assert coding.find_grid(proposals.boxes, (10, 10)) is None
    assert same(coding.decode(coding.encode(proposals)), proposals)


def test_boxes_may_repeat_and_hold_the_whole_image():
    proposals = Proposals(
        np.array([[0, 0, 9, 7], [1, 1, 5, 5], [0, 0, 9, 7], [1, 1, 5, 5]]), (7, 9)
    )
    assert coding.find_grid(proposals.boxes, (7, 9)) == (7, 9)
    assert same(coding.decode(coding.encode(proposals)), proposals)


def test_no_boxes_at_all_are_proposals_too():
    proposals = Proposals(np.zeros((0, 4)), (4, 6))
    assert same(coding.decode(coding.encode(proposals)), proposals)


def test_a_forged_row_of_a_grid_without_cells_is_refused():
    row = coding.encode(Proposals(np.array([[0, 0, 4, 6]]), (6, 4)))
    assert row[4:6] == b"\x01\x01"
    forged = row[:4] + b"\x00\x00" + row[6:-4]
    with pytest.raises(ProposalError, match="cannot be decoded"):
        coding.decode(forged + zlib.crc32(forged).to_bytes(4, "little"))


@pytest.mark.parametrize("count", [0, 1, 4000, 1 << 18, (1 << 18) + 1])
def test_the_dictionary_is_no_larger_than_the_data_ask_for(count, rng, monkeypatch):
    used = []
    compress = coding.lzma.compress

    def watched(data: bytes, **options: object) -> bytes:
        used.append(options["filters"][0].get("dict_size"))
        return compress(data, **options)

    monkeypatch.setattr(coding.lzma, "compress", watched)
    values = np.round(rng.random(count) * 500).astype(np.float32)
    row = coding._squeeze(values, "<f4")
    assert used == [1 << 20 if count <= 1 << 18 else None]
    whole = compress(values.tobytes(), format=coding.lzma.FORMAT_RAW, filters=coding._LZMA)
    assert row == whole
    assert np.array_equal(coding._unsqueeze(row, count, "<f4"), values)


def test_every_single_damaged_byte_is_noticed(rng):
    row = coding.encode(Proposals(random_boxes(rng, 40, 60, 80), (60, 80)))
    for place in range(len(row)):
        damaged = bytearray(row)
        damaged[place] ^= 0x40
        with pytest.raises(ProposalError, match="damaged"):
            coding.decode(bytes(damaged))


def test_a_row_cut_short_is_noticed(rng):
    row = coding.encode(Proposals(random_boxes(rng, 40, 60, 80), (60, 80)))
    for length in (0, 1, 7, 12, len(row) - 1):
        with pytest.raises(ProposalError, match="damaged"):
            coding.decode(row[:length])


def test_a_forged_row_with_a_right_checksum_is_an_error_and_never_a_crash(rng):
    row = coding.encode(Proposals(random_boxes(rng, 40, 60, 80), (60, 80)))[:-4]
    for _ in range(300):
        forged = bytearray(row)
        for place in rng.integers(0, len(row), 3):
            forged[place] = rng.integers(256)
        whole = bytes(forged) + zlib.crc32(bytes(forged)).to_bytes(4, "little")
        try:
            found = coding.decode(whole)
        except ProposalError:
            continue
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_a_row_of_another_kind_is_refused():
    row = b"\x21" + bytes(30)
    with pytest.raises(ProposalError, match="of kind 0x21"):
        coding.decode(row + zlib.crc32(row).to_bytes(4, "little"))


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 16384, 2**32])
def test_numbers_of_seven_bits_a_byte(number):
    data = coding._varint(number)
    assert len(data) == max(1, -(-number.bit_length() // 7))
    assert coding._read_varint(data, 0) == (number, len(data))


def test_a_real_image_needs_at_most_four_bytes_a_box(shared_data):
    """docs/proposal_cache.md states the mean over many."""
    from detector.images.decoding import read_image
    from detector.proposals.selective_search import SelectiveSearch

    path = shared_data / "voc2012_sample" / "JPEGImages" / "2007_003101.jpg"
    found = SelectiveSearch(preset="fast", superpixel_scale=1.0)(read_image(path))
    assert len(found) > 2000
    assert len(coding.encode(found)) <= 4 * len(found)
    assert same(coding.decode(coding.encode(found)), found)
