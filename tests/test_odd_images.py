"""A hundred and forty bad and odd files: a result or a typed error for each, and no more memory
than its pixels need.
"""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import odd_images
import pytest
from PIL import Image, ImageOps

from detector import images
from detector.errors import ImageError
from detector.image_claims import icon_sizes, scans, tile_pixels
from detector.images import decode, read_image


def test_each_is_a_result_or_an_error_that_names_its_file(tmp_path: Path):
    expected = odd_images.write_all(tmp_path)
    results, errors = {}, {}
    for path in tmp_path.iterdir():
        try:
            results[path.name] = read_image(path)
        except ImageError as error:
            errors[path.name] = str(error)
    assert len(results) + len(errors) >= 140
    assert expected["results"] <= results.keys()
    assert expected["errors"] <= errors.keys()
    for pixels in results.values():
        assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
    for name, said in errors.items():
        assert said.startswith(str(tmp_path / name))
    for name in ("whole-in.ico", "tile.tif", "huge.gif"):
        assert "limit of 64" in errors[name]
    assert "passes" in errors["passes.jpg"]


@pytest.mark.parametrize(("name", "data"), list(odd_images.frames()))
def test_of_frames_and_pages_the_first_is_taken_with_a_warning(name: str, data: bytes):
    found = decode(data, name)
    assert found.warnings == ("3 frames or pages; only the first was used",)
    assert np.abs(found.pixels.astype(int) - np.asarray(odd_images.scene(4))).mean() < 30


@pytest.mark.parametrize(("name", "data"), list(odd_images.turned()))
def test_every_orientation_is_undone_once_in_every_format(name: str, data: bytes):
    """Pillow turns a TIFF by itself, and the others not."""
    found = decode(data, name)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert (found.pixels == expected).all()
    assert found.raw_size == (36, 48)
    assert found.size == ((48, 36) if 5 <= found.orientation <= 8 else (36, 48))
    if "99" in name:
        assert (found.orientation, "99" in found.warnings[0]) == (1, True)
    else:
        assert found.orientation == int(name[4])


def test_a_long_animation_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "_COUNTED_BYTES", 100)
    found = decode(dict(odd_images.frames())["moving-a.gif"], "x")
    assert found.warnings == ("several frames or pages; only the first was used",)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_bands_of_rows_change_no_pixel(mode: str, monkeypatch: pytest.MonkeyPatch):
    image = odd_images.scene(1).convert("F" if mode in ("I;16", "I") else mode)
    if mode in ("I;16", "I"):
        kind = np.uint16 if mode == "I;16" else np.int32
        image = Image.fromarray(np.asarray(image).astype(kind) * 200 - (mode == "I") * 7)
    kind = "TIFF" if mode in ("CMYK", "I", "F") else "PNG"
    data = odd_images.encoded(image, kind)
    whole = decode(data, "x").pixels
    monkeypatch.setattr(images, "_BAND_PIXELS", 5 * odd_images.WIDTH)  # 36 rows: seven of 5, one 1
    assert (decode(data, "x").pixels == whole).all()


@pytest.mark.parametrize(
    "made",
    [
        lambda: Image.new("RGBA", (500, 500), (9, 9, 9, 9)),
        lambda: Image.fromarray(np.full((500, 500), 0.5, np.float32)),
    ],
)
def test_a_conversion_needs_little_more_than_its_result(
    made: Callable[[], Image.Image], monkeypatch: pytest.MonkeyPatch
):
    """A quarter of a million pixels are 0.75 MB; all at once, the sums would take over 6 MB."""
    data = odd_images.encoded(made(), "TIFF", compression="tiff_adobe_deflate")
    monkeypatch.setattr(images, "_BAND_PIXELS", 10_000)
    tracemalloc.start()
    try:
        decode(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 2.5e6
    finally:
        tracemalloc.stop()


def test_what_a_file_claims_is_read_without_decoding_it():
    assert list(icon_sizes(odd_images.icon(odd_images.png(300, 200)))) == [(300, 200)]
    assert list(icon_sizes(b"\0\0\1\0\xff\xff")) == []
    assert list(icon_sizes(b"BM" + bytes(99))) == []
    assert tile_pixels({322: 16, 323: 32}) == 512
    assert tile_pixels({322: (16, 16), 323: 32}) == 0
    assert tile_pixels({}) == 0
    assert scans(odd_images.encoded(odd_images.scene(0), "JPEG")) == 1
    assert scans(odd_images.jpeg_of_passes(16, 5)) == 15
    assert scans(odd_images.jpeg_of_passes(16, 100)) == 65


def test_pictures_inside_and_behind_a_jpeg_are_no_passes():
    """A thumbnail in its EXIF data, and a film behind its end, as telephones write them."""
    small = odd_images.jpeg_of_passes(8, 100)
    segment = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    data = odd_images.encoded(odd_images.scene(0), "JPEG")
    data = data[:2] + segment + data[2:] + b"\xff\xda\0\2" * 100
    assert scans(data) == 1
    assert decode(data, "x").size == (36, 48)
