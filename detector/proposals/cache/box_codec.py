"""A set of boxes and its order in 24 bits a box for 2,000 boxes: an adaptive arithmetic coder.

Region proposals grow out of each other, so most boxes share two or three sides with another one
that contains them or lies inside them. A spanning tree over the boxes, the whole image at its
root, finds these pairs; each box is then told as its parent in the tree, which sides differ, and
by how much. The order costs what a random order must (log2 N - 1.4 bits a box), less what area
says about rank.

The kernels named `_tell_...` work both ways: coding gives them the boxes, decoding has them filled.
"""

from __future__ import annotations

import numpy as np

from detector.compiled import inner, kernel
from detector.structures import Array

LARGEST_SIDE = 0xFFFF
MOST_BOXES = 20_000

# What a changed side costs in the tree, in sixteenths of a bit: about 4 bits, and more the farther
# it moved. A parent inside its child costs a little more, so that most parents are outside.
_MOVE_COST = np.append(0, np.round(16 * (4 + 0.7 * np.log2(np.arange(1, LARGEST_SIDE + 1)))))
_MOVE_COST = _MOVE_COST.astype(np.int32)
_OUTWARDS_COST = 24
_RANK_BANDS = 8
# Never reached: at most 13 symbols of 16 bits. Also what a damaged row can make the decoder read.
_MOST_BYTES_A_BOX = 64

# Slots of the coder's state, an int64 array. All arithmetic stays in 32 bits.
_LOW, _RANGE, _CODE, _AT, _DECODING = range(5)
_TOP, _BOTTOM, _WORD = 1 << 24, 1 << 16, (1 << 32) - 1


def pack(boxes: Array, frame: tuple[int, int]) -> bytes:
    """(N, 4) whole xyxy numbers in rank order, no two rows equal, in a frame (height, width)."""
    root = np.array([[0, 0, frame[1], frame[0]]])
    whole = np.flatnonzero((boxes == root).all(1))
    nodes = np.concatenate([root, np.delete(boxes, whole, axis=0)]).astype(np.int64)
    walk, parent = _breadth_first(nodes, _spanning_tree(nodes, _MOVE_COST))
    nodes, rank = nodes[walk], walk[1:] - 1
    data = np.zeros(_MOST_BYTES_A_BOX * (len(nodes) + 1), np.uint8)
    coder = _new_coder()
    _tell_boxes(nodes, parent, coder, data)
    _tell_ranks(_smallest_first(nodes[1:]), rank, coder, data)
    _finish(coder, data)
    # The frame is the tree's root; what remains to be told of it is its rank, if it has one.
    rank_of_whole = int(whole[0]) if len(whole) else len(boxes)
    return rank_of_whole.to_bytes(2, "little") + data[: coder[_AT]].tobytes()


def unpack(data: bytes, count: int, frame: tuple[int, int]) -> Array:
    """The (N, 4) int64 boxes that `pack` was given, N being `count`.

    Raises ValueError where no packed boxes can have this frame or be so many; damaged data give
    other boxes.
    """
    if max(frame) > LARGEST_SIDE or count > MOST_BOXES:
        raise ValueError(f"{count} boxes on a grid of {frame[0]} x {frame[1]}")
    whole = int.from_bytes(data[:2], "little")
    padded = np.frombuffer(data[2:] + bytes(_MOST_BYTES_A_BOX * (count + 2)), np.uint8).copy()
    coder = _new_coder()
    _start_decoding(coder, padded)
    others = count - (whole < count)
    nodes, rank = np.zeros((others + 1, 4), np.int64), np.zeros(others, np.int64)
    nodes[0, 2:] = frame[1], frame[0]
    _tell_boxes(nodes, np.zeros(others + 1, np.int64), coder, padded)
    _tell_ranks(_smallest_first(nodes[1:]), rank, coder, padded)
    boxes = np.empty((others, 4), np.int64)
    boxes[rank] = nodes[1:]
    return boxes if others == count else np.insert(boxes, whole, nodes[0], axis=0)


def _smallest_first(boxes: Array) -> Array:
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.argsort(area, kind="stable")


def _new_coder() -> Array:
    coder = np.zeros(5, np.int64)
    coder[_RANGE] = _WORD
    return coder


def _start_decoding(coder: Array, data: Array) -> None:
    coder[_CODE] = int.from_bytes(data[:4].tobytes(), "big")
    coder[_AT], coder[_DECODING] = 4, 1


def _finish(coder: Array, data: Array) -> None:
    last = int(coder[_LOW]).to_bytes(4, "big")
    data[coder[_AT] : coder[_AT] + 4] = np.frombuffer(last, np.uint8)
    coder[_AT] += 4


def _breadth_first(nodes: Array, parent: Array) -> tuple[Array, Array]:
    """The tree's nodes, parents before children, brothers together; and each one's parent."""
    changed = (nodes != nodes[parent]) @ np.array([1, 2, 4, 8])
    brothers = np.lexsort((changed, parent))
    first = np.searchsorted(parent[brothers], np.arange(len(nodes) + 1)).tolist()
    children = brothers.tolist()
    walk, places = [0], [0]
    for place, node in enumerate(walk):
        below = children[first[node] : first[node + 1]]
        walk += below
        places += [place] * len(below)
    return np.array(walk), np.array(places)


@kernel
def _spanning_tree(nodes: Array, move_cost: Array) -> Array:
    """(N,) parents by Prim's algorithm, -1 for node 0; of child and parent one holds the other."""
    count = nodes.shape[0]
    parent = np.zeros(count, np.int64)
    parent[0] = -1
    # The nodes outside the tree, in a row without gaps: their sides, numbers, and nearest inside.
    left, top = nodes[1:, 0].astype(np.int32), nodes[1:, 1].astype(np.int32)
    right, bottom = nodes[1:, 2].astype(np.int32), nodes[1:, 3].astype(np.int32)
    number, over = np.arange(1, count), np.zeros(count - 1, np.int64)
    cheapest = np.full(count - 1, 1 << 30, np.int32)
    newest = 0
    for rest in range(count - 1, 0, -1):
        x1, y1, x2, y2 = nodes[newest, 0], nodes[newest, 1], nodes[newest, 2], nodes[newest, 3]
        closest, nearest = np.int32((1 << 31) - 1), 0
        for i in range(rest):
            a, b, c, d = left[i] - x1, top[i] - y1, x2 - right[i], y2 - bottom[i]
            inwards = (a | b | c | d) >= 0
            if inwards or (a <= 0 and b <= 0 and c <= 0 and d <= 0):
                cost = move_cost[abs(a)] + move_cost[abs(b)] + move_cost[abs(c)] + move_cost[abs(d)]
                cost += 0 if inwards else _OUTWARDS_COST
                if cost < cheapest[i]:
                    cheapest[i], over[i] = cost, newest
            if cheapest[i] < closest:
                closest, nearest = cheapest[i], i
        newest = number[nearest]
        parent[newest] = over[nearest]
        last = rest - 1
        left[nearest], top[nearest] = left[last], top[last]
        right[nearest], bottom[nearest] = right[last], bottom[last]
        number[nearest], over[nearest] = number[last], over[last]
        cheapest[nearest] = cheapest[last]
    return parent


@kernel
def _tell_boxes(nodes: Array, parent: Array, coder: Array, data: Array) -> None:
    """All nodes but the first, which is known; `parent` never decreases."""
    count = nodes.shape[0]
    # Frequencies that adapt: which sides changed after which brother; in or out; how far.
    sides = np.full((17, 16), 5, np.int64)
    directions = np.full((16, 2), 16, np.int64)
    lengths = np.full((2, 17, 17), 16, np.int64)
    # A side is twice as likely to move to where another box has one already.
    places = np.full((4, LARGEST_SIDE + 1), 1, np.int64)
    told = 1
    for node in range(count):
        last = 16
        while told < count:
            changed, outwards = 0, 0
            if parent[told] == node:
                for side in range(4):
                    moved = (nodes[told, side] - nodes[node, side]) * (1 if side < 2 else -1)
                    changed |= (moved != 0) << side
                    outwards |= moved < 0
            changed = _adaptive(coder, data, sides[last], changed)
            if changed == 0:
                break
            outwards = _adaptive(coder, data, directions[changed], outwards)
            for side in range(4):
                near, far = nodes[node, side], nodes[node, (side + 2) % 4]
                if changed >> side & 1:
                    table = lengths[outwards, min(16, _bits(abs(far - near)))]
                    sign = 1 if (side < 2) != (outwards == 1) else -1
                    near = _move(coder, data, table, places[side], near, sign, nodes[told, side])
                nodes[told, side] = near
                places[side, near] = 2
            parent[told] = node
            last = changed
            told += 1


@inner
def _move(
    coder: Array, data: Array, table: Array, places: Array, old: int, sign: int, new: int
) -> int:
    """Where a side went: how many bits the distance has, by `table`; then the place, by weight."""
    length = _adaptive(coder, data, table, _bits(abs(new - old)))
    shortest = 1 << max(0, length - 1)
    one, other = old + sign * shortest, old + sign * (2 * shortest - 1)
    low = min(LARGEST_SIDE, max(0, min(one, other)))
    high = min(LARGEST_SIDE, max(0, max(one, other)))
    return low + _symbol(coder, data, places[low : high + 1], new - low)


@inner
def _bits(number: int) -> int:
    length = 0
    while number > 0:
        number >>= 1
        length += 1
    return length


@kernel
def _tell_ranks(smallest_first: Array, rank: Array, coder: Array, data: Array) -> None:
    """For each box the band of its rank, given that of its area; then which free rank in it."""
    count = rank.shape[0]
    free = np.zeros((_RANK_BANDS, count // _RANK_BANDS + 1), np.int64)
    left = np.zeros(_RANK_BANDS, np.int64)
    for r in range(count):
        band = r * _RANK_BANDS // count
        free[band, left[band]] = r
        left[band] += 1
    seen = np.full((_RANK_BANDS, _RANK_BANDS), 4, np.int64)
    weights = np.zeros(_RANK_BANDS, np.int64)
    for i in range(count):
        box, size_band = smallest_first[i], i * _RANK_BANDS // count
        _rank_weights(seen[size_band], left, weights)
        band = _symbol(coder, data, weights, rank[box] * _RANK_BANDS // count)
        place = 0
        if coder[_DECODING] == 0:
            while free[band, place] != rank[box]:
                place += 1
        place = _uniform(coder, data, left[band], place)
        rank[box] = free[band, place]
        left[band] -= 1
        free[band, place] = free[band, left[band]]
        for near in range(max(0, size_band - 1), min(_RANK_BANDS, size_band + 2)):
            seen[near, band] += 16 >> abs(near - size_band)


@inner
def _rank_weights(seen: Array, left: Array, weights: Array) -> None:
    total = 0
    for band in range(_RANK_BANDS):
        total += seen[band] * left[band]
    for band in range(_RANK_BANDS):
        share = 60000 * seen[band] * left[band] // total
        weights[band] = share + (1 if left[band] else 0)


@inner
def _adaptive(coder: Array, data: Array, table: Array, symbol: int) -> int:
    """Code by a table of frequencies that learns: what was told often becomes cheap."""
    symbol = _symbol(coder, data, table, symbol)
    table[symbol] += 32
    total = 0
    for frequency in table:
        total += frequency
    if total > 1 << 15:
        for other in range(len(table)):
            table[other] = (table[other] + 1) // 2
    return symbol


@inner
def _symbol(coder: Array, data: Array, weights: Array, symbol: int) -> int:
    total, start = 0, 0
    for weight in weights:
        total += weight
    if coder[_DECODING]:
        target, symbol = _target(coder, total), 0
        while start + weights[symbol] <= target:
            start += weights[symbol]
            symbol += 1
    else:
        for before in range(symbol):
            start += weights[before]
    _narrow(coder, data, start, weights[symbol], total)
    return symbol


@inner
def _uniform(coder: Array, data: Array, total: int, value: int) -> int:
    """One of `total` (at most 65,536) equally likely values."""
    if coder[_DECODING]:
        value = _target(coder, total)
    _narrow(coder, data, value, 1, total)
    return value


@inner
def _target(coder: Array, total: int) -> int:
    return min((coder[_CODE] - coder[_LOW] & _WORD) // (coder[_RANGE] // total), total - 1)


@inner
def _narrow(coder: Array, data: Array, start: int, weight: int, total: int) -> None:
    """Subbotin's carry-less range coder: keep [start, start + weight) of `total`."""
    share = coder[_RANGE] // total
    coder[_LOW] = coder[_LOW] + start * share & _WORD
    coder[_RANGE] = weight * share
    while True:
        if coder[_LOW] ^ (coder[_LOW] + coder[_RANGE] & _WORD) >= _TOP:
            if coder[_RANGE] >= _BOTTOM:
                break
            coder[_RANGE] = -coder[_LOW] & _BOTTOM - 1
        if coder[_DECODING]:
            coder[_CODE] = (coder[_CODE] << 8 | data[coder[_AT]]) & _WORD
        else:
            data[coder[_AT]] = coder[_LOW] >> 24
        coder[_AT] += 1
        coder[_LOW] = coder[_LOW] << 8 & _WORD
        coder[_RANGE] = coder[_RANGE] << 8 & _WORD
