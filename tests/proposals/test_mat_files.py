"""MATLAB's files: read as SciPy reads them; whatever is wrong with one is a ValueError."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from detector.proposals.interchange.mat_files import read_mat

BOXES = [np.array([[1.0, 2, 3, 4], [5, 6, 7, 8.5]]), np.zeros((0, 4)), np.array([[9, 9, 12, 12]])]


def cells(values: list[Any]) -> np.ndarray:
    found = np.empty((1, len(values)), object)
    for place, value in enumerate(values):
        found[0, place] = value
    return found


def saved(compress: bool = False, **variables: Any) -> bytes:
    data = io.BytesIO()
    savemat(data, variables, do_compression=compress)
    return data.getvalue()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", ["f8", "f4", "u1", "i2", "u2", "i4", "u4", "i8"])
def test_cells_of_numbers_are_what_scipy_finds(compress: bool, kind: str):
    boxes = [one.astype(kind) for one in BOXES]
    data = saved(compress, boxes=cells(boxes), other=np.arange(5), images=cells(["a", "ähm", "c"]))
    found = read_mat(data, ["boxes", "images"])
    theirs = loadmat(io.BytesIO(data))
    assert found.keys() == {"boxes", "images"}
    assert found["boxes"].shape == theirs["boxes"].shape
    for ours, other in zip(found["boxes"].ravel(), theirs["boxes"].ravel(), strict=True):
        assert ours.shape == other.shape
        assert (ours == other).all()
    assert found["images"].ravel().tolist() == ["a", "ähm", "c"]


def test_a_plain_array_keeps_its_columns():
    array = np.arange(24.0).reshape(2, 3, 4)
    assert (read_mat(saved(boxes=array), ["boxes"])["boxes"] == array).all()


def test_cells_may_lie_in_cells():
    inner = cells([np.eye(2), "x"])
    found = read_mat(saved(boxes=cells([inner, inner])), ["boxes"])["boxes"]
    assert found[0, 1][0, 1] == "x"
    nested: Any = np.eye(2)
    for _ in range(7):
        nested = cells([nested])
    with pytest.raises(ValueError, match="deep"):
        read_mat(saved(boxes=nested), ["boxes"])


def test_the_other_order_of_bytes():
    def element(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body)) + body + bytes(-len(body) % 8)

    numbers = element(9, struct.pack(">4d", 1, 2, 3, 4))
    head = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">2i", 2, 2))
    matrix = element(14, head + element(1, b"boxes") + numbers)
    data = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x0100) + b"MI" + matrix
    assert read_mat(data, ["boxes"])["boxes"].tolist() == [[1, 3], [2, 4]]


WHOLE = saved(boxes=cells(BOXES))
PACKED = saved(True, boxes=cells(BOXES))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not a MATLAB file"),
        (b"x" * 200, "not a MATLAB file"),
        (WHOLE[:300], "middle"),
        (PACKED[:-10], "middle"),
        (PACKED[:140] + b"\xff" * 20 + PACKED[160:], "unpacked"),
        (WHOLE.replace(struct.pack("<2i", 2, 4), struct.pack("<2i", 2, 9)), "8 numbers"),
        (WHOLE.replace(struct.pack("<2i", 2, 4), struct.pack("<2i", -2, 4)), "shape"),
        (WHOLE.replace(struct.pack("<2i", 1, 3), struct.pack("<2i", 1, 4)), "3 cells"),
        (saved(boxes=np.eye(2) * 1j), "neither numbers"),
        (saved(boxes={"a": 1}), "neither numbers"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, word: str):
    with pytest.raises(ValueError, match=word):
        read_mat(data, ["boxes"])


def test_version_7_3_is_another_format():
    with pytest.raises(NotImplementedError):
        read_mat(b"\x89HDF\r\n\x1a\n" + bytes(200), ["boxes"])


def test_a_variable_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("detector.proposals.interchange.mat_files.MAX_UNPACKED", 1000)
    data = saved(True, boxes=np.zeros((100, 100)))
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        read_mat(data, ["boxes"])


CRASH = (
    b"x\xda\xf3u\x0c\xf1qtR0\xd53P\xf0u\x0c\xd1M\xcb\xccIU\x08\xc8"
    b"I,I\xcb/\xca\xb5R(\xc8/\xce\xac\xd0Qp.JM,IMQ\xc8"
    b"\xcf\xb3R\x08)MU\xf0\xcb/S02Q0\xb4\xb026\xb321S0"
    b"202c \x030z\xfa\xf2\x81i\x06\x066 \xc5\x01a\x82\x01+\x12\x9f"
    b"\tJ\x83\xc4\x92\xf2+R\x8b\x814H_\x01\x03B\x1f\x1b\x9a>\x90\x1e\x16$"
    b"\xf38\x81\xd8\x01n\xf1\x07{4\x978\xa0r\x95\xa0|\x0b\x07T\xbe\x91\x03\xc8"
    b"\xde\x00<\xf62\xa2\xd9;R\xc5Fn\x8c\x83\xecU\xc0\xb4\x17\xcd\\%\xb0\xb9"
    b"\x0b\x18p\x87\x03,\x0c\x18\xa1j2s\x13\xd3A\x01\x01\xd2g\x80\xa4\x8f\x05\x8b"
    b"{\x18\x91\xcc\x13\x00\xb2\x12\x19\xc8\xd3\x97\x04\xa4\x01\x80(,8"
)


def test_a_file_that_crashed_scipy_is_refused():
    """Found by fuzzing."""
    data = zlib.decompress(CRASH)
    with pytest.raises(ValueError, match="unknown type"):
        read_mat(data, ["boxes", "images"])
