"""How a good file becomes a bad one."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Rng = np.random.Generator

BYTES = (0, 1, 0x20, 0x22, 0x3C, 0x5B, 0x7B, 0x7F, 0x80, 0xFE, 0xFF)
NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"255", b"256", b"65536", b"2147483648", b"-2147483649",
    b"9223372036854775808", b"1e999", b"-1e999", b"1e-999", b"NaN", b"inf", b"0x10", b"1_0",
    b"9" * 400, b"", b"null", b'""', b"[]", b"{}", b"true",
)  # fmt: skip
WORDS = (
    b"../../x", b"/etc/passwd", b"\0", b"\xff\xfe", "\u202e".encode(), b"%s%n", b"!!python/object:",
    b"&a [*a]", b"<!ENTITY a 'b'>", b"&a;", b"]]>", b"\r\n\r\n", b"#", b"'", b'"',
)  # fmt: skip


def damaged(seed: bytes, others: Sequence[bytes], rng: Rng) -> bytes:
    """One to six changes of one good file."""
    data = seed
    for _ in range(int(rng.integers(1, 7))):
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        data = change(data, others, rng)[:2_000_000]
    return data


def _place(data: bytes, rng: Rng) -> int:
    return int(rng.integers(0, len(data) + 1))


def _span(data: bytes, rng: Rng) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + int(2 ** rng.uniform(0, 10)))


def _flip_bit(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    if not data:
        return data
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]


def _set_bytes(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    at, count = _place(data, rng), int(rng.integers(1, 9))
    value = BYTES[int(rng.integers(len(BYTES)))]
    return data[:at] + bytes([value]) * count + data[at + count :]


def _insert_noise(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]


def _insert_word(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    at = _place(data, rng)
    return data[:at] + WORDS[int(rng.integers(len(WORDS)))] + data[at:]


def _drop(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 200)) + data[end:]


def _cut(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    return data[: _place(data, rng)]


def _splice(data: bytes, others: Sequence[bytes], rng: Rng) -> bytes:
    other = others[int(rng.integers(len(others)))]
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _change_number(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[:100_000]))
    if not found:
        return data
    one = found[int(rng.integers(len(found)))]
    return data[: one.start()] + NUMBERS[int(rng.integers(len(NUMBERS)))] + data[one.end() :]


def _nest(data: bytes, _: Sequence[bytes], rng: Rng) -> bytes:
    at = _place(data, rng)
    bracket = (b"[", b"{", b"<a>", b'{"a":', b"- ")[int(rng.integers(5))]
    return data[:at] + bracket * int(rng.integers(2, 5000)) + data[at:]


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], Any], bytes], ...] = (
    _flip_bit, _flip_bit, _set_bytes, _insert_noise, _insert_word, _drop, _repeat, _cut, _splice,
    _change_number, _change_number, _change_number, _nest,
)  # fmt: skip
