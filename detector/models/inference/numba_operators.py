"""Compiled max-pool and response normalisation for a CPU, on channels-last maps that follow a ReLU.

Maps are passed as the bits of their numbers: int16 for bfloat16, int32 for float32, and uint8 for
8-bit steps, which need no such trick. Where no number is negative, numbers sort as their bits do
when read as signed integers (and minus zero sorts below all), so a maximum is an integer maximum,
which the processor computes for 32 numbers at once. torch's own pool takes 5 to 14 times as long in
bfloat16, its response normalisation 3 to 7.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types

from detector.jit import kernel
from detector.structures import Array

intrinsic: Any = extending.intrinsic
_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()


@intrinsic
def _larger(_context: Any, a: Any, b: Any) -> Any:
    # One select instruction: Python's max is compiled to branches, which SIMD does not have.
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        compare = builder.icmp_signed if a.signed else builder.icmp_unsigned
        return builder.select(compare(">", *args), *args)

    return a(a, b), generate


@intrinsic
def _number(_context: Any, bits: Any) -> Any:
    """Reinterpret int32, or the int16 of a bfloat16, as float32."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        value = args[0]
        if bits == types.int16:
            value = builder.shl(builder.zext(value, _I32), _I32(16))
        return builder.bitcast(value, _F32)

    return types.float32(bits), generate


@intrinsic
def _bits(_context: Any, number: Any, like: Any) -> Any:
    """Reinterpret a float32 as the integer type of `like`; bfloat16 rounds to nearest even."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        value = builder.bitcast(args[0], _I32)
        if like == types.int32:
            return value
        # Half of the last bit that stays, less one unless that bit is odd: nearest even.
        odd = builder.and_(builder.lshr(value, _I32(16)), _I32(1))
        value = builder.add(builder.add(value, _I32(0x7FFF)), odd)
        return builder.trunc(builder.lshr(value, _I32(16)), _I16)

    return like(number, like), generate


@kernel
def pool_in_place_of(x: Array, out: Array) -> None:
    """Max-pool 3x3 at stride 1 with padding 1: bits (N, H, W, C) to the same shape."""
    batch, height, width, channels = x.shape
    length = width * channels
    column = np.zeros(length + 2 * channels, x.dtype)  # a row's vertical maxima, between two zeros
    left = column[:length]
    centre = column[channels : channels + length]
    right = column[2 * channels :]
    for n in range(batch):
        for i in range(height):
            above = x[n, max(i - 1, 0)].reshape(length)
            here = x[n, i].reshape(length)
            below = x[n, min(i + 1, height - 1)].reshape(length)
            for k in range(length):
                centre[k] = _larger(_larger(above[k], here[k]), below[k])
            row = out[n, i].reshape(length)
            for k in range(length):
                row[k] = _larger(_larger(left[k], centre[k]), right[k])


@kernel
def pool_halving(x: Array, out: Array) -> None:
    """Max-pool 3x3 at stride 2; where `out` is larger, windows extend beyond the edge."""
    batch, height, width, channels = x.shape
    length = width * channels
    # Zeros behind a row, for windows beyond the edge: after a ReLU no maximum is below them.
    column = np.zeros((2 * out.shape[2] + 1) * channels, x.dtype)
    for n in range(batch):
        for i in range(out.shape[1]):
            first = x[n, 2 * i].reshape(length)
            second = x[n, min(2 * i + 1, height - 1)].reshape(length)
            third = x[n, min(2 * i + 2, height - 1)].reshape(length)
            for k in range(min(length, len(column))):
                column[k] = _larger(_larger(first[k], second[k]), third[k])
            for j in range(out.shape[2]):
                start = 2 * j * channels
                left = column[start : start + channels]
                centre = column[start + channels : start + 2 * channels]
                right = column[start + 2 * channels : start + 3 * channels]
                pixel = out[n, i, j]
                for k in range(channels):
                    pixel[k] = _larger(_larger(left[k], centre[k]), right[k])


@partial(kernel, fastmath=True)
def response_norm(x: Array, out: Array, scale: float) -> None:
    """Response norm x (1 + scale * sum of five squares) ** -0.75 along rows of bits (P, C)."""
    pixels, channels = x.shape
    value = np.empty(channels, np.float32)
    square = np.zeros(channels + 4, np.float32)
    a, b, c = square[:channels], square[1 : channels + 1], square[2 : channels + 2]
    d, e = square[3 : channels + 3], square[4:]
    unit, factor = np.float32(1), np.float32(scale)
    for p in range(pixels):
        source, target = x[p], out[p]
        for k in range(channels):
            number = _number(source[k])
            value[k] = number
            c[k] = number * number
        for k in range(channels):
            # y ** 0.75 as two square roots, which the processor has.
            root = np.sqrt(unit + factor * (a[k] + b[k] + c[k] + d[k] + e[k]))
            target[k] = _bits(value[k] / (root * np.sqrt(root)), source[k])


@partial(kernel, fastmath=True)
def response_norm_in_steps(
    x: Array, out: Array, scale: float, step: float, out_step: float
) -> None:
    """Response norm of (P, C) uint8 in units of `step`, to uint8 in units of `out_step`."""
    pixels, channels = x.shape
    value = np.empty(channels, np.float32)
    square = np.zeros(channels + 4, np.float32)
    a, b, c = square[:channels], square[1 : channels + 1], square[2 : channels + 2]
    d, e = square[3 : channels + 3], square[4:]
    unit, half, top = np.float32(1), np.float32(0.5), np.float32(255)
    factor, gain = np.float32(scale * step * step), np.float32(step / out_step)
    for p in range(pixels):
        source, target = x[p], out[p]
        for k in range(channels):
            number = np.float32(source[k])
            value[k] = number * gain
            c[k] = number * number
        for k in range(channels):
            root = np.sqrt(unit + factor * (a[k] + b[k] + c[k] + d[k] + e[k]))
            # By int32: processors convert floats to it for many numbers at once, not to uint8.
            target[k] = np.uint8(np.int32(min(value[k] / (root * np.sqrt(root)) + half, top)))


@partial(kernel, fastmath=True)
def to_steps(x: Array, gain: Array, offset: Array, out: Array) -> None:
    """Quantise rows (R, L) float32 to uint8: x * gain + offset, rounded, clipped to 0..255."""
    rows, length = x.shape
    zero, half, top = np.float32(0), np.float32(0.5), np.float32(255)
    for r in range(rows):
        source, target = x[r], out[r]
        for k in range(length):
            number = source[k] * gain[k] + offset[k] + half
            target[k] = np.uint8(np.int32(min(max(number, zero), top)))
