"""Reader of MATLAB files of version 5 to 7, limited to numeric arrays, texts and cells of them.

SciPy's reader crashes the process on some damaged files; this one checks every length before it
uses it. The format is MathWorks' "MAT-File Format", level 5.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

HEADER = 128
MAX_UNPACKED = 2**31  # bytes of one decompressed variable
DEEPEST = 4  # cells nested in cells; every level is a call

# Codes of the format's data types, and below of its elements and array classes.
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32", 1: "latin1", 2: "latin1", 4: "utf-16"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHAR, _NUMERIC = 1, 4, range(6, 16)
_COMPLEX = 0x08


class _Element(NamedTuple):
    kind: int
    data: memoryview


class _File(NamedTuple):
    order: Literal["<", ">"]  # of bytes
    wanted: frozenset[str]


def read_mat(data: bytes, wanted: Sequence[str]) -> dict[str, Any]:
    """Read the variables of these names: arrays, texts, and object arrays for cells.

    Raises ValueError for anything that is not such a file; NotImplementedError for version 7.3.
    """
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:19] == b"MATLAB 7.3 MAT-file":
        raise NotImplementedError("version 7.3")
    orders: dict[bytes, Literal["<", ">"]] = {b"IM": "<", b"MI": ">"}
    if len(data) < HEADER or data[126:128] not in orders:
        raise ValueError("not a MATLAB file of version 5 to 7")
    file = _File(orders[data[126:128]], frozenset(wanted))
    variables: dict[str, Any] = {}
    for element in _elements(file, memoryview(data)[HEADER:]):
        if element.kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            try:
                # Never unpacked further than that, whatever the file claims.
                inner = unpacker.decompress(element.data, MAX_UNPACKED)
            except zlib.error as error:
                raise ValueError(f"a variable cannot be unpacked ({error})") from None
            if unpacker.unconsumed_tail:
                raise ValueError(f"a variable unpacks to more than {MAX_UNPACKED} bytes")
            element = next(_elements(file, memoryview(inner)), _Element(0, memoryview(b"")))
        if element.kind == _MATRIX and len(element.data):
            name, value = _matrix(file, element.data, 0)
            if name in file.wanted:
                variables[name] = value
    return variables


def _elements(file: _File, data: memoryview) -> Iterator[_Element]:
    at = 0
    while at + 8 <= len(data):
        first, size = struct.unpack_from(f"{file.order}II", data, at)
        if first >> 16:  # a small element: its size and up to four bytes are in the tag
            size, start, end = first >> 16, at + 4, at + 8
            first &= 0xFFFF
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        else:
            start = at + 8
            # Elements are padded to eight bytes, all but compressed ones.
            end = start + size if first == _COMPRESSED else start + (size + 7) // 8 * 8
        if start + size > len(data):
            raise ValueError("it ends in the middle of a variable")
        yield _Element(first, data[start : start + size])
        at = end


def _matrix(file: _File, data: memoryview, depth: int) -> tuple[str, Any]:
    if not len(data):
        return "", np.zeros((0, 0))
    if depth > DEEPEST:
        raise ValueError(f"cells lie more than {DEEPEST} deep in each other")
    parts = _elements(file, data)
    flags, sizes, name = (next(parts, None) for _ in range(3))
    if flags is None or sizes is None or name is None or len(flags.data) != 8:
        raise ValueError("a variable without its head")
    word = struct.unpack_from(f"{file.order}I", flags.data)[0]
    kind = word & 0xFF
    shape = tuple(_numbers(file, sizes).astype(np.int64).tolist())
    if not shape or min(shape) < 0 or len(shape) > 32:  # NumPy 1 has 32 dimensions at most
        raise ValueError(f"a variable of shape {shape[:4]}")
    label = bytes(name.data).decode("latin1")
    if depth == 0 and label not in file.wanted:  # it may be of a kind that is not read
        return label, None
    if kind == _CELL:
        return label, _cells(file, parts, shape, depth)
    value = next(parts, _Element(9, memoryview(b"")))
    if kind == _CHAR:
        return label, _text(file, value)
    if kind not in _NUMERIC or word >> 8 & _COMPLEX:
        raise ValueError(f"{label or 'a cell'} is neither numbers, a text nor cells")
    numbers = _numbers(file, value)
    if len(numbers) != math.prod(shape):
        raise ValueError(f"{len(numbers)} numbers for an array of {math.prod(shape)}")
    return label, numbers.reshape(shape, order="F")  # MATLAB counts down the columns


def _cells(file: _File, parts: Iterator[_Element], shape: tuple[int, ...], depth: int) -> Any:
    cells = [_matrix(file, part.data, depth + 1)[1] for part in parts if part.kind == _MATRIX]
    if len(cells) != math.prod(shape):
        raise ValueError(f"{len(cells)} cells for an array of {math.prod(shape)}")
    # One by one: np.array would join cells of equal shape to one array.
    values = np.empty(len(cells), object)
    for index, cell in enumerate(cells):
        values[index] = cell
    return values.reshape(shape, order="F")


def _numbers(file: _File, element: _Element) -> Any:
    if element.kind not in _NUMBERS:
        raise ValueError(f"numbers of an unknown type ({element.kind})")
    kind = np.dtype(_NUMBERS[element.kind]).newbyteorder(file.order)
    if len(element.data) % kind.itemsize:
        raise ValueError("numbers that are cut")
    return np.frombuffer(element.data, kind).astype(kind.newbyteorder("="))


def _text(file: _File, element: _Element) -> str:
    if element.kind not in _TEXTS:
        raise ValueError(f"a text of an unknown type ({element.kind})")
    coding = _TEXTS[element.kind]
    if coding in ("utf-16", "utf-32"):
        coding += "-le" if file.order == "<" else "-be"
    return bytes(element.data).decode(coding)
