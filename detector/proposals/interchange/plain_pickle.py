"""Safe reader of pickled arrays: a file can neither run code nor crash the process.

NumPy's own `__setstate__` trusts the file: a type with a field at offset 2^30, or with an object in
the middle of bytes, makes it read foreign memory. So a pickle is given stand-ins for NumPy's
classes, which accept plain numbers only and check every length.
"""

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from detector.errors import ProposalError
from detector.structures import Array

_PLAIN = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_OBJECT = re.compile(r"\|?O[48]?")


def load(data: bytes) -> Any:
    """Load arrays (as stand-ins that NumPy converts), lists, dictionaries, texts and numbers.

    Raises ProposalError for a pickle of anything else.
    """
    try:
        # latin1: the bytes of Python 2's arrays come as texts, and each is one letter then.
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except MemoryError:  # a few damaged bytes may ask for a table of gigabytes
        raise ProposalError("the pickle asks for more memory than there is") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "BoxMode" and module.startswith("detectron2."):
            return int  # an enumeration of whole numbers
        if (module, name) not in _KNOWN:
            raise ProposalError(
                f"the pickle asks for {module}.{name}; only arrays, lists, dictionaries, texts and"
                " numbers are read, since anything else could run code"
            )
        return _KNOWN[module, name]


class _Callable:
    """A function that a pickle may call; unlike a class it cannot be subclassed or changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ProposalError("the pickle gives a state to something that has none")


class _Type:
    """Stand-in for `numpy.dtype` of plain numbers; `plain` is None for the type of objects."""

    def __init__(self, code: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not (_PLAIN.fullmatch(code) or _OBJECT.fullmatch(code)):
            raise ProposalError(f"an array of type {str(code)[:20]!r}, expected plain numbers")
        self.plain = np.dtype(code) if _PLAIN.fullmatch(code) else None

    def __setstate__(self, state: Any) -> None:
        """Take (version, byte order, None, None, None, ...); the rest belongs to other types."""
        # No subtype, names or fields, by which NumPy's own loader is led into foreign memory.
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise ProposalError("an array whose type has fields, expected plain numbers")
        order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ProposalError("an array with an unknown byte order")
        if self.plain is not None:
            self.plain = self.plain.newbyteorder(order)


class _Array:
    """Stand-in for `numpy.ndarray`, empty until its state is set."""

    def __init__(self, values: Array | None = None) -> None:
        self.values: Array | list[Any] = np.zeros(0) if values is None else values

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, type, Fortran order, bytes or list of objects)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ProposalError("an array without shape, type, order and content")
        shape, kind, fortran, data = state[-4:]
        if fortran not in (False, True):
            raise ProposalError("an array whose order is neither C's nor Fortran's")
        if isinstance(kind, _Type) and kind.plain is None:
            if not isinstance(data, list) or shape != (len(data),):
                raise ProposalError("an array of objects that is not a list of them")
            self.values = data
        else:
            self.values = _values(data, kind, shape, "F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.values, dtype)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


def _values(data: Any, kind: Any, shape: Any, order: Literal["C", "F"]) -> Array:
    """Array of the numbers in `data`, whose length must agree with the shape."""
    if isinstance(data, str):
        data = data.encode("latin1")  # Python 2's
    if (
        not isinstance(kind, _Type)
        or kind.plain is None
        or not isinstance(data, (bytes, bytearray))
    ):
        raise ProposalError("an array whose content is not the bytes of plain numbers")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ProposalError("an array whose shape is not one")
    if len(data) != math.prod(shape) * kind.plain.itemsize:
        raise ProposalError(f"an array of shape {shape} with {len(data)} bytes")
    return np.frombuffer(bytes(data), kind.plain).reshape(shape, order=order)


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    if order not in ("C", "F"):
        raise ProposalError("an array whose order is neither C's nor Fortran's")
    return _Array(_values(data, kind, shape, order))


def _scalar(kind: Any, data: Any) -> Any:
    return _values(data, kind, (), "C").item()


def _empty_bytes() -> bytes:
    return b""


def _latin_bytes(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Callable(lambda code, align=False, copy=True: _Type(code)),
    ("numpy", "ndarray"): None,  # only ever an argument of _reconstruct
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "bytes"): _Callable(_empty_bytes),
    ("builtins", "bytes"): _Callable(_empty_bytes),
    ("_codecs", "encode"): _Callable(_latin_bytes),  # how pickles of protocol 2 write bytes
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _Callable(lambda kind, shape, code: _Array())
    _KNOWN[f"{_core}.multiarray", "scalar"] = _Callable(_scalar)
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _Callable(_from_buffer)
