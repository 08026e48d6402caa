"""What goes into a cache row comes out of it bit for bit, in rank order, and takes few bytes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.errors import ProposalError
from detector.proposals.cache import box_codec, coding
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


def grown_boxes(rng: np.random.Generator, leaves: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes as grouping makes them: some leaves, and again and again the hull of two neighbours."""
    alive = random_boxes(rng, leaves, size[0] // 8, size[1] // 8)
    alive = alive + np.tile(
        rng.integers(0, [size[1] * 7 // 8, size[0] * 7 // 8], (len(alive), 2)), 2
    )
    found = list(alive)
    while len(alive) > 1:
        centre = alive[:, :2] + alive[:, 2:]
        first = int(rng.integers(len(alive)))
        distance = np.abs(centre - centre[first]).sum(1)
        distance[first] = 1 << 30
        other = int(distance.argmin())
        hull = np.r_[
            np.minimum(alive[first], alive[other])[:2], np.maximum(alive[first], alive[other])[2:]
        ]
        alive = np.concatenate([np.delete(alive, [first, other], axis=0), [hull]])
        found.append(hull)
    boxes = np.unique(found, axis=0)
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


def test_the_whole_image_may_stand_at_any_rank_or_nowhere():
    boxes = np.array([[0, 0, 5, 5], [0, 0, 9, 7], [2, 2, 9, 7]])
    for order in ([0, 1, 2], [1, 0, 2], [2, 0, 1], [0, 2], [1]):
        packed = box_codec.pack(boxes[order], (7, 9))
        assert box_codec.unpack(packed, len(order), (7, 9)).tolist() == boxes[order].tolist()


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
        [[1, 1, 5, 5], [1, 1, 5, 5]],  # the same twice
        [[-3, -2, 4, 5], [0, 0, 30, 40]],  # outside the image
    ],
)
def test_boxes_that_fit_no_grid_keep_their_floats(boxes):
    proposals = Proposals(boxes, (10, 10), [0.5, 0.25])
    assert coding.find_grid(proposals.boxes, (10, 10)) is None
    assert same(coding.decode(coding.encode(proposals)), proposals)


def test_no_boxes_at_all_are_proposals_too():
    proposals = Proposals(np.zeros((0, 4)), (4, 6))
    assert same(coding.decode(coding.encode(proposals)), proposals)


def test_more_boxes_than_the_codec_takes_are_still_exact(monkeypatch, rng):
    monkeypatch.setattr(box_codec, "MOST_BOXES", 10)
    proposals = Proposals(random_boxes(rng, 50, 40, 40), (40, 40))
    assert same(coding.decode(coding.encode(proposals)), proposals)


@pytest.mark.parametrize(("count", "frame"), [(2, (2**40, 9)), (2, (9, 2**40)), (20_001, (9, 9))])
def test_a_forged_row_cannot_make_the_decoder_leave_its_tables(count, frame):
    """Found by tools/fuzz.py: such a row killed the process."""
    with pytest.raises(ValueError, match="on a grid of"):
        box_codec.unpack(b"\xff" * 100, count, frame)


def test_a_forged_row_of_a_grid_without_cells_is_refused():
    row = coding.encode(Proposals(np.array([[0, 0, 4, 6]]), (6, 4)))
    assert row[4:6] == b"\x01\x01"
    forged = row[:4] + b"\x00\x00" + row[6:-4]
    with pytest.raises(ProposalError, match="cannot be decoded"):
        coding.decode(forged + zlib.crc32(forged).to_bytes(4, "little"))


def test_two_thousand_grown_boxes_in_random_order_take_little_more_than_their_order():
    rng = np.random.default_rng(3)
    boxes = np.concatenate([grown_boxes(rng, 270, (375, 500)) for _ in range(4)])
    boxes = boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])][:2000]
    row = coding.encode(Proposals(boxes, (375, 500)))
    bits = 8 * len(row) / len(boxes)
    order = np.log2(np.arange(1, len(boxes) + 1)).sum() / len(boxes)
    assert len(boxes) > 1900
    assert order == pytest.approx(9.5, abs=0.1)
    assert bits < order + 22, bits  # made-up boxes share fewer sides than real ones
    assert bits < 8 * len(lzma_of(boxes)) / len(boxes) - 6


@pytest.mark.parametrize("count", [0, 1, 4000, 1 << 18, (1 << 18) + 1])
def test_the_dictionary_is_no_larger_than_the_data_ask_for(count, rng, monkeypatch):
    used = []
    compress = coding.lzma.compress

    def watched(data: bytes, **options: object) -> bytes:
        used.append(options["filters"][0].get("dict_size"))
        return compress(data, **options)

    monkeypatch.setattr(coding.lzma, "compress", watched)
    values = np.round(rng.random(count) * 500).astype(np.float32)
    row = coding._squeeze(values)
    assert used == [1 << 20 if count <= 1 << 18 else None]
    whole = compress(values.tobytes(), format=coding.lzma.FORMAT_RAW, filters=coding._LZMA)
    assert row == whole
    assert np.array_equal(coding._unsqueeze(row, count), values)


def lzma_of(boxes: np.ndarray) -> bytes:
    """The outside authority: what a general compressor makes of the same columns."""
    import lzma

    return lzma.compress(boxes.T.astype("<u2").tobytes(), format=lzma.FORMAT_ALONE, preset=9)


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
    import zlib

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


def test_a_row_of_another_format_is_refused():
    import zlib

    row = b"\x01" + bytes(30)
    with pytest.raises(ProposalError, match="format"):
        coding.decode(row + zlib.crc32(row).to_bytes(4, "little"))


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 16384, 2**32])
def test_numbers_of_seven_bits_a_byte(number):
    data = coding._varint(number)
    assert len(data) == max(1, -(-number.bit_length() // 7))
    assert coding._read_varint(data, 0) == (number, len(data))


def test_a_real_image_needs_at_most_three_bytes_a_box(shared_data):
    """Measured: 2.96 on this one; README states the mean over many."""
    from detector.images import read_image
    from detector.proposals.selective_search import SelectiveSearch

    path = shared_data / "voc2012_sample" / "JPEGImages" / "2007_003101.jpg"
    found = SelectiveSearch(preset="fast", superpixel_scale=1.0)(read_image(path))
    assert len(found) > 2000
    assert len(coding.encode(found)) <= 3 * len(found)
    assert same(coding.decode(coding.encode(found)), found)
