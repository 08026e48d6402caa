"""Decoding: every kind of file becomes upright RGB uint8, or a typed error that names it."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import ImageError
from detector.images.decoding import decode, read_bytes, read_image

GRADIENT = np.linspace(0, 255, 12 * 16 * 3).reshape(12, 16, 3).astype(np.uint8)


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_png_comes_back_exactly():
    assert (decode(_encoded(Image.fromarray(GRADIENT)), "x").pixels == GRADIENT).all()


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (100, 0), (255, 255, 255)),  # transparent shows the white behind
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 257 * 90, (90, 90, 90)),
        ("I", 257 * 200, (200, 200, 200)),
    ],
)
def test_modes_become_rgb(mode, value, expected):
    image = Image.new(mode, (4, 3), value)
    pixels = decode(_encoded(image, "TIFF" if mode == "I" else "PNG"), "x").pixels
    assert pixels.shape == (3, 4, 3)
    assert (pixels == expected).all()


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 128), (200.0, 200), (float("nan"), 0), (1.0, 255)]
)
def test_floats_have_a_documented_range(value, expected):
    image = Image.fromarray(np.full((3, 4), value, np.float32))
    assert (decode(_encoded(image, "TIFF"), "x").pixels == expected).all()


def test_integers_beyond_16_bits_are_stretched():
    image = Image.fromarray(np.array([[0, 1_000_000]], np.int32))
    assert decode(_encoded(image, "TIFF"), "x").pixels[0, :, 0].tolist() == [0, 255]


def test_a_palette_with_transparency_lies_over_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0] + [0] * 765)
    assert (decode(_encoded(image, transparency=0), "x").pixels == 255).all()


def test_cmyk_is_converted():
    pixels = decode(_encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"), "x").pixels
    assert np.abs(pixels.astype(int) - [0, 255, 255]).max() <= 3


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (9, 2), (4000, 20)])
def test_tiny_and_extreme_images_are_images(size):
    assert decode(_encoded(Image.new("RGB", size)), "x").pixels.shape == (size[1], size[0], 3)


def _png_of(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    whole = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + whole + b"\0\0\0\0IEND\xaeB`\x82"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"just a text", "not an image"),
        (b"\xff\xd8\xff\xe0 no more", "not an image|damaged"),
        (_png_of(20_000, 20_000), "megapixels"),
        (_png_of(9_000, 9_000), "megapixels"),
        (_png_of(10, 10), "damaged"),
        (_encoded(Image.fromarray(GRADIENT), "JPEG")[:-40], "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing; save it as"),
    ],
)
def test_bad_files_are_typed_errors_that_name_them(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        decode(data, "holiday.jpg")
    assert str(caught.value).startswith("holiday.jpg")
    assert "\n" not in str(caught.value)


def test_every_truncation_of_every_format_is_an_image_or_a_typed_error():
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"):
        data = _encoded(Image.fromarray(GRADIENT), kind)
        for end in range(0, len(data), max(1, len(data) // 25)):
            try:
                assert decode(data[:end], "x").pixels.dtype == np.uint8
            except ImageError:
                continue


def test_random_mutations_are_images_or_typed_errors(rng):
    sources = [_encoded(Image.fromarray(GRADIENT), kind) for kind in ("JPEG", "PNG", "TIFF", "GIF")]
    for _ in range(300):
        data = bytearray(sources[rng.integers(4)])
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        try:
            decode(bytes(data), "x", max_pixels=1_000_000)
        except ImageError:
            continue


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "empty.jpg").touch()
    for name, message in [
        ("absent.jpg", "cannot be opened"),
        ("", "not a regular file|cannot be"),
        ("pipe.jpg", "not a regular file"),
        ("loop.jpg", "cannot be opened"),
        ("empty.jpg", "empty"),
        ("x" * 300 + ".jpg", "cannot be opened"),
        ("nul\0.jpg", "file name"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / name)


def test_devices_are_refused():
    with pytest.raises(ImageError, match="not a regular file"):
        read_image("/dev/zero")


def test_large_files_are_refused_before_they_are_read(tmp_path: Path):
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(ImageError, match="MB"):
        read_bytes(path)


def test_decoders_side_by_side_leave_the_filters_of_warnings_alone():
    import warnings

    from detector.images import decoding as images

    before = list(warnings.filters)
    first, second = images._quiet(), images._quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # the one that came first also leaves first
    second.__exit__(None, None, None)
    assert list(warnings.filters) == before


def _sixteen_bits(low: float, high: float, kind: str = "PNG") -> bytes:
    """A ramp of so many of 65,536 levels, in grey."""
    ramp = np.linspace(low, high, 40 * 50).round().astype(np.uint16).reshape(40, 50)
    return _encoded(Image.fromarray(ramp), kind)


def _sixteen_bit_colours(low: float, high: float) -> bytes:
    import cv2

    ramp = np.linspace(low, high, 40 * 50 * 3).round().astype(np.uint16).reshape(40, 50, 3)
    return bytes(cv2.imencode(".png", ramp)[1])


def _with_dead_pixel() -> bytes:
    ramp = np.linspace(30_000, 31_000, 40 * 50).round().astype(np.uint16).reshape(40, 50)
    ramp[7, 7] = 65535
    return _encoded(Image.fromarray(ramp))


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (_sixteen_bits(0, 4095), 17),
        (_sixteen_bits(0, 1023, "TIFF"), 5),
        (_sixteen_bits(21_845, 22_359), 3),
        (_sixteen_bit_colours(0, 4095), 16),
        (_with_dead_pixel(), 5),
        (_encoded(Image.fromarray(np.linspace(20, 41, 2000, dtype=np.float32).reshape(40, 50)),
                  "TIFF"), 22),
    ],
)  # fmt: skip
def test_a_deep_picture_that_loses_its_levels_is_told_with_the_cure(data: bytes, levels: int):
    (remark,) = decode(data, "x").warnings
    assert f"fills {levels} of 256 levels" in remark
    assert "stretch it to 8 bits" in remark


@pytest.mark.parametrize(
    "data",
    [
        _sixteen_bits(0, 65535),
        _sixteen_bits(20_000, 50_000),
        _sixteen_bit_colours(0, 65535),
        _sixteen_bits(300, 300),  # flat in the file, too
        _encoded(Image.fromarray(np.eye(60, dtype=np.uint16) * 65535)),  # a mask
        _encoded(Image.fromarray(GRADIENT // 20)),  # dark, but of 8 bits
    ],
)
def test_a_picture_that_loses_nothing_has_no_remark_on_levels(data: bytes):
    assert decode(data, "x").warnings == ()
