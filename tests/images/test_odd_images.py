"""A hundred and forty bad and odd files: a result or a typed error for each, and no more memory
than its pixels need.
"""

import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odd_images
import pytest
from PIL import Image, ImageOps

from detector.errors import ImageError
from detector.images import decoding as images
from detector.images import decoding_limits
from detector.images.decoding import decode, read_image
from detector.images.decoding_limits import icon_sizes, jpeg_parts, tile_pixels


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
    assert found.warnings == ("more than one frame or page; only the first was used",)
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
    assert jpeg_parts(odd_images.encoded(odd_images.scene(0), "JPEG"))[1] == 1
    assert jpeg_parts(odd_images.jpeg_of_passes(16, 5))[1] == 15
    assert jpeg_parts(odd_images.jpeg_of_passes(16, 100))[1] == 65


def test_pictures_inside_and_behind_a_jpeg_are_no_passes():
    """A thumbnail in its EXIF data, and a film behind its end, as telephones write them."""
    small = odd_images.jpeg_of_passes(8, 100)
    segment = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    data = odd_images.encoded(odd_images.scene(0), "JPEG")
    data = data[:2] + segment + data[2:] + b"\xff\xda\0\2" * 100
    assert jpeg_parts(data)[1] == 1
    assert decode(data, "x").size == (36, 48)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0II*\0\x08\0\0\0\0\0"])
def test_a_png_with_one_damaged_bit_or_byte_is_never_an_image(
    exif: bytes, rng: np.random.Generator
):
    """Where there is no EXIF data, Pillow loads the pixels to look for it behind them."""
    data = odd_images.encoded(odd_images.scene(1), "PNG", exif=exif)
    for changed in odd_images.damages(data, rng, 200):
        with pytest.raises(ImageError):
            decode(changed, "x")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP", "JPEG"])
def test_an_error_of_the_pixels_is_heard_before_anything_else_is_asked(
    kind: str, monkeypatch: pytest.MonkeyPatch
):
    from PIL import ImageFile

    def load(*_: object) -> None:
        raise OSError("the pixels are damaged")

    data = odd_images.encoded(odd_images.scene(1), kind)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageError, match="the pixels are damaged"):
        decode(data, "x")


def test_a_damaged_png_inside_an_icon_is_refused(rng: np.random.Generator):
    data = odd_images.encoded(odd_images.scene(1, (16, 16)), "PNG")
    assert decode(odd_images.icon(data), "x").size == (16, 16)
    for changed in odd_images.damages(data, rng, 30):
        if changed.startswith(b"\x89PNG\r\n\x1a\n"):
            with pytest.raises(ImageError):
                decode(odd_images.icon(changed), "x")


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
def test_a_webp_that_lost_or_gained_a_byte_is_refused(
    options: dict[str, Any], rng: np.random.Generator
):
    data = odd_images.encoded(odd_images.scene(1), "WEBP", **options)
    for number, changed in enumerate(odd_images.damages(data, rng, 60)):
        if number % 3:
            with pytest.raises(ImageError):
                decode(changed, "x")


@pytest.mark.parametrize(("name", "data"), list(odd_images.frames()))
def test_whatever_happens_to_later_frames_the_first_is_taken(
    name: str, data: bytes, rng: np.random.Generator
):
    """Cut off, overwritten or with bytes too few, from the second frame on."""
    whole = decode(data, name).pixels
    second = {
        "gif": lambda: data.index(b"\0\x21\xf9", 400) + 1,
        "apng": lambda: data.index(b"fcTL", data.index(b"IDAT")) - 4,
        "webp": lambda: data.index(b"ANMF", data.index(b"ANMF") + 4),
        "tif": lambda: struct.unpack_from("<I", data, _end_of_first_page(data))[0],
    }[name.rsplit(".", 1)[1]]()
    later = data[second:]
    for cut in (len(later) // 3, len(later) // 2, len(later) - 3):
        for damaged in (later[:cut], later[:cut] + later[cut + 2 :], later[:cut] + bytes(50)):
            found = decode(data[:second] + damaged, name)
            assert (found.pixels == whole).all()
            assert found.warnings[0].startswith("more than one frame or page")


def _end_of_first_page(data: bytes) -> int:
    start = struct.unpack_from("<I", data, 4)[0]
    return start + 2 + 12 * struct.unpack_from("<H", data, start)[0]


def test_pages_are_not_counted(monkeypatch: pytest.MonkeyPatch):
    from PIL import TiffImagePlugin

    looked_at: list[int] = []
    seek = TiffImagePlugin.TiffImageFile._seek

    def counted(image: Any, frame: int) -> None:
        looked_at.append(frame)
        seek(image, frame)

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_seek", counted)
    found = decode(odd_images.tiff_of_pages(500), "x")
    assert found.warnings == ("more than one frame or page; only the first was used",)
    assert set(looked_at) == {0}


def test_a_file_of_more_parts_than_anyone_writes_is_refused(monkeypatch: pytest.MonkeyPatch):
    """And one of as many as allowed is not; where a decoder does not look, they do not count."""
    monkeypatch.setattr(decoding_limits, "MAX_PARTS", 40)
    png, gif, jpeg = (
        odd_images.encoded(odd_images.scene(1), kind) for kind in ("PNG", "GIF", "JPEG")
    )
    many = {
        "chunks": odd_images.with_chunks(png, 38),
        "blocks": odd_images.with_blocks(gif, b"!\xfe" + b"\1a" * 50 + b"\0"),
        "blocks ": odd_images.with_blocks(gif, b"!\xfe\1a\0" * 50),
        " blocks": odd_images.with_blocks(gif, b"x" * 50),
        "segments": jpeg[:2] + b"\xff\xfe\0\2" * 50 + jpeg[2:],
        " segments": jpeg[:2] + b"\xff" * 50 + jpeg[2:],
    }
    for kind, data in many.items():
        with pytest.raises(ImageError, match=f"over 40 {kind.strip()}; save it as another image"):
            decode(data, "x")
    for sound in (png, gif, jpeg, odd_images.with_chunks(png, 37), gif[:-1] + b"!\xfe\1a\0" * 50):
        assert decode(sound, "x").size == (36, 48)


def test_a_long_run_of_filling_is_searched_once():
    """A pattern that repeats would begin anew at each of a million bytes."""
    assert decoding_limits.jpeg_parts(b"\xff\xd8" + b"\xff" * 3_000_000 + b"\0")[1] == 0


@pytest.mark.parametrize(("kind", "most"), [(5, 100), (5, 4095), (6, 1), (6, 200), (6, 40_000)])
def test_numbers_up_to_any_limit_are_read_at_once_as_pillow_reads_them(
    kind: int, most: int, rng: np.random.Generator
):
    """In Python, a number after the other: seconds for a photograph of twelve bits."""
    stored = np.dtype(np.uint8 if most < 256 else ">u2")
    values = rng.integers(0, most + 1, 20 * 30 * (3 if kind == 6 else 1)).astype(stored)
    values[:1] = np.iinfo(stored).max  # beyond the limit
    data = b"P%d # a remark\n30 20\n%d\n" % (kind, most) + values.tobytes()
    with Image.open(io.BytesIO(data)) as slow:
        expected = np.asarray(slow)
    if kind == 5 and most > 255:
        expected = np.round(expected / 257).astype(np.uint8)
    found = decode(data, "x").pixels
    assert (found == (expected if kind == 6 else expected[:, :, None])).all()
    with pytest.raises(ImageError, match="truncated"):
        decode(data[:-1], "x")


def test_what_would_be_decoded_in_python_is_refused_where_it_is_large(
    monkeypatch: pytest.MonkeyPatch,
):
    bitmap = bytearray(odd_images.encoded(odd_images.scene(1).convert("P"), "BMP"))
    bitmap[30] = 1  # run-length codes
    plain = b"P3 30 20 255\n" + b"7 " * 1800
    assert (decode(plain, "x").pixels == 7).all()
    monkeypatch.setattr(decoding_limits, "MAX_SLOW", 1000)
    for data, said in (
        (bytes(bitmap), "run-length"),
        (odd_images.icon(bytes(bitmap[14:])), "run-length"),
        (plain, "written out"),
        (b"P6\n" + b"#\n" * 40_000 + b"30 20 255\n" + bytes(1800), "no header"),
        (b"P6\n30 20\n" + b"#\n" * 40_000 + b"255\n" + bytes(1800), "no header"),
    ):
        with pytest.raises(ImageError, match=said):
            decode(data, "x")


def test_the_header_of_a_png_is_read_without_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not even to look for EXIF data behind them; where there are some, they count."""
    from PIL import PngImagePlugin

    from detector.datasets.image_files import is_turned, upright_size

    exif = Image.Exif()
    exif[0x0112] = 6
    plain, early = (odd_images.encoded(odd_images.scene(1), "PNG", exif=e) for e in (b"", exif))
    start = early.index(b"eXIf") - 4
    chunk = early[start : start + 12 + int.from_bytes(early[start : start + 4], "big")]
    files = {"plain": plain, "early": early, "late": plain[:-12] + chunk + plain[-12:]}
    for name, data in files.items():
        (tmp_path / f"{name}.png").write_bytes(data)
        turned = name != "plain"
        assert upright_size(tmp_path / f"{name}.png") == ((48, 36) if turned else (36, 48))
        assert decode(data, name).size == ((48, 36) if turned else (36, 48))

    def load(*_: object) -> None:
        raise AssertionError("the pixels were loaded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    assert not is_turned(tmp_path / "plain.png")
    assert is_turned(tmp_path / "early.png")


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
def test_a_tiff_of_very_many_strips_is_refused(
    order: str, big: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decoding_limits, "MAX_STRIPS", 40)
    if order == "<" or not big:  # older Pillows take no big TIFF of the other order
        assert decode(odd_images.tiff_of_strips(40, order, big=big), "x").size == (40, 1)
    with pytest.raises(ImageError, match="over 40 strips or tiles"):
        decode(odd_images.tiff_of_strips(41, order, big=big), "x")
