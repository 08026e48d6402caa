"""Bad and odd image files, made by hand: what people have and what enemies send."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 36


def scene(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Image.Image:
    """(H, W) of coloured blocks."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((size[1], size[0]), Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def truncated() -> Iterator[tuple[str, bytes]]:
    """Seven kinds of file, each cut at five places."""
    whole = {
        "baseline.jpg": encoded(scene(1), "JPEG"),
        "progressive.jpg": encoded(scene(1), "JPEG", progressive=True),
        "cut.png": encoded(scene(1), "PNG"),
        "cut.webp": encoded(scene(1), "WEBP"),
        "raw.tif": encoded(scene(1), "TIFF"),
        "deflate.tif": encoded(scene(1), "TIFF", compression="tiff_adobe_deflate"),
        "cut.gif": encoded(scene(1), "GIF"),
    }
    for name, data in whole.items():
        for place, end in enumerate((3, 20, len(data) // 2, len(data) * 9 // 10, len(data) - 1)):
            yield f"cut{place}-{name}", data[:end]


def misnamed() -> Iterator[tuple[str, bytes]]:
    """Files that are not what their names say."""
    yield "png-as.jpg", encoded(scene(2), "PNG")
    yield "jpeg-as.png", encoded(scene(2), "JPEG")
    yield "gif-as.tif", encoded(scene(2), "GIF")
    yield "text.jpg", b"this is not a picture\n"
    yield "page.png", b"<!DOCTYPE html><title>404</title>"
    yield "paper.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
    yield "archive.png", b"PK\x05\x06" + bytes(18)
    yield "script.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield "vector.webp", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "empty.jpg", b""
    yield "zeros.png", bytes(4096)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """An RGB PNG whose header may lie."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(data, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def icon(picture: bytes) -> bytes:
    """An .ico that announces 16 x 16 pixels, whatever is in it."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


def tiled_tiff(width: int, height: int, tile: int, body: bytes) -> bytes:
    """A grey, deflated TIFF of one tile of `tile` x `tile` pixels."""
    start = 8 + 2 + 11 * 12 + 4
    tags = [
        (256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (284, 1), (322, tile),
        (323, tile), (324, start), (325, len(body)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head + body


def huge_gif(side: int) -> bytes:
    """A GIF whose screen and first frame have `side` x `side` pixels, nearly all of them absent."""
    size = struct.pack("<HH", side, side)
    colours = b"\x80\0\0\0\0\0\xff\xff\xff"
    return b"GIF89a" + size + colours + b",\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0;"


def jpeg_of_passes(side: int, passes: int) -> bytes:
    """A progressive JPEG whose last pass is there `passes` times more."""
    data = encoded(Image.new("RGB", (side, side), (200, 10, 10)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))  # with its table
    return data[:-2] + data[last:-2] * passes + data[-2:]


def bombs(*, filled: bool = False) -> Iterator[tuple[str, bytes]]:
    """Small files that ask for much; every one must be refused. `filled` ones, which take a second
    to make, hold all that they announce: to believe them costs memory and time.
    """
    pixels, tile = (8_000 * 24_004, 9_000 * 9_000) if filled else (0, 0)
    yield "huge.png", png(60_000, 60_000)
    yield "just-over.png", png(8_001, 8_000)
    yield "line.png", png(2**31 - 1, 1)
    yield "huge.gif", huge_gif(65_535)
    yield "huge.bmp", b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 30_000, 30_000, 1, 24,
                                          0, 0, 0, 0, 0, 0)  # fmt: skip
    yield "huge.ppm", b"P6 100000 100000 255\n"
    yield "header-in.ico", icon(png(60_000, 60_000))
    yield "whole-in.ico", icon(png(8_001, 8_000, bytes(pixels)))
    yield "bitmap-in.ico", icon(struct.pack("<IiiHHIIIIII", 40, 20_000, 40_000, 1, 24, *[0] * 6))
    yield "tile.tif", tiled_tiff(16, 16, 9_000, zlib.compress(bytes(tile), 1))
    yield "passes.jpg", jpeg_of_passes(2_000 if filled else 100, 2_000)


def modes() -> Iterator[tuple[str, bytes]]:
    """Every way of storing pixels; each must be a result."""
    grey16 = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 30
    yield "sixteen.png", encoded(Image.fromarray(grey16), "PNG")
    yield "sixteen.tif", encoded(Image.fromarray(grey16), "TIFF")
    yield "integers.tif", encoded(Image.fromarray(grey16.astype(np.int32) * 999), "TIFF")
    yield "floats.tif", encoded(Image.fromarray(grey16.astype(np.float32) / 65535), "TIFF")
    yield "nan.tif", encoded(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF")
    yield "infinite.tif", encoded(Image.fromarray(np.full((9, 9), np.inf, np.float32)), "TIFF")
    for mode in ("1", "L", "P", "LA", "RGBA"):
        yield f"mode-{mode}.png", encoded(scene(3).convert(mode), "PNG")
    yield "see-through.png", encoded(scene(3).convert("P"), "PNG", transparency=0)
    yield "see-through.gif", encoded(scene(3).convert("P"), "GIF", transparency=0)
    yield "cmyk.jpg", encoded(scene(3).convert("CMYK"), "JPEG")
    yield "cmyk.tif", encoded(scene(3).convert("CMYK"), "TIFF")
    yield "lab.tif", encoded(Image.new("LAB", (WIDTH, HEIGHT), (120, 9, 200)), "TIFF")
    yield "grey.jpg", encoded(scene(3).convert("L"), "JPEG")
    yield "old.bmp", encoded(scene(3).convert("P"), "BMP")
    yield "old.tga", encoded(scene(3).convert("RGBA"), "TGA")
    yield "bits.pbm", encoded(scene(3).convert("1"), "PPM")
    yield "good.ico", encoded(scene(3, (32, 32)), "ICO")
    yield "tiles.tif", tiled_tiff(16, 16, 16, zlib.compress(bytes(256)))


def frames() -> Iterator[tuple[str, bytes]]:
    """Animations and pages; each must be a result with a warning."""
    more = [scene(5), scene(6)]
    for name, kind in (("a.gif", "GIF"), ("a.apng", "PNG"), ("a.webp", "WEBP"), ("a.tif", "TIFF")):
        yield f"moving-{name}", encoded(scene(4), kind, save_all=True, append_images=more)


def turned() -> Iterator[tuple[str, bytes]]:
    """Every EXIF orientation in four formats, and one that does not exist."""
    for kind, suffix in (("JPEG", "jpg"), ("TIFF", "tif"), ("PNG", "png"), ("WEBP", "webp")):
        for orientation in (*range(1, 9), 99):
            exif = Image.Exif()
            exif[0x0112] = orientation
            yield f"exif{orientation}.{suffix}", encoded(scene(7), kind, exif=exif)


def shapes() -> Iterator[tuple[str, bytes]]:
    """Tiny, thin and empty-looking images; each must be a result."""
    for width, height in ((1, 1), (1, 300), (300, 1), (9, 2), (2, 9), (9, 9), (500, 4), (4, 500)):
        yield f"{width}x{height}.png", encoded(scene(8, (height, width)), "PNG")
    for level in (0, 128, 255):
        yield f"constant{level}.png", encoded(Image.new("RGB", (40, 30), (level,) * 3), "PNG")
    noise = np.random.default_rng(9).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    yield "noise.png", encoded(Image.fromarray(noise), "PNG")


def write_all(folder: Path, *, filled: bool = False) -> dict[str, set[str]]:
    """The whole corpus below `folder`; the names of those that must be results, and errors."""
    sound = dict([*modes(), *frames(), *turned(), *shapes()])
    broken = dict(bombs(filled=filled))
    for name, data in [*sound.items(), *broken.items(), *misnamed(), *truncated()]:
        (folder / name).write_bytes(data)
    special = _write_special(folder)
    return {"results": set(sound), "errors": set(broken) | special}


def _write_special(folder: Path) -> set[str]:
    """What is no regular file, is too large or has a trying name: all errors."""
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "nowhere.jpg").symlink_to(folder / "nothing-there")
    (folder / "device.jpg").symlink_to("/dev/zero")
    with (folder / "large.jpg").open("wb") as file:
        file.truncate(65 * 1024 * 1024)
    trying = ["line\nbreak.png", "-dash.png", "x" * 251 + ".png", "\udcff.png", "\x1b[31m.png"]
    for name in trying:
        (folder / name).write_bytes(b"no picture")
    names = ["folder.jpg", "pipe.jpg", "loop.jpg", "nowhere.jpg", "device.jpg", "large.jpg"]
    return {*names, *trying}


def damages(data: bytes, rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """A file with one bit turned, one byte lost or one byte more, anywhere in it."""
    for number in range(count):
        at, changed = int(rng.integers(len(data))), bytearray(data)
        if number % 3 == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif number % 3 == 1:
            del changed[at]
        else:
            changed.insert(at, int(rng.integers(256)))
        yield bytes(changed)


def with_chunks(data: bytes, count: int) -> bytes:
    """A PNG with so many small texts before its pixels."""
    body = b"tEXta\0b"
    chunk = struct.pack(">I", 3) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk * count + data[33:]


def with_blocks(data: bytes, blocks: bytes) -> bytes:
    """A GIF with these bytes before its first frame."""
    start = data.index(b",", 13 + (3 << (data[10] & 7) + 1))
    return data[:start] + blocks + data[start:]


def tiff_of_pages(pages: int) -> bytes:
    """Pages of 8 x 8 pixels that all show the same."""
    tags = [
        (256, 8),
        (257, 8),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 8),
        (279, 64),
    ]
    entries = struct.pack("<H", len(tags))
    entries += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    length = len(entries) + 4
    ends = [8 + length * page for page in range(1, pages)] + [0]
    return struct.pack("<2sHI", b"II", 42, 8) + b"".join(
        entries + struct.pack("<I", e) for e in ends
    )


def tiff_of_strips(count: int, order: str = "<", *, big: bool = False) -> bytes:
    """A grey TIFF of one column in which every row is a strip, all at the same place."""
    long, entry = ("Q", "HHQQ") if big else ("I", "HHII")
    head = struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 8)))
    first = 16 if big else 8
    after = first + (8 if big else 2) + 9 * struct.calcsize(order + entry) + struct.calcsize(long)
    offsets = struct.pack(f"{order}{count}{long}", *[8] * count)
    lengths = struct.pack(f"{order}{count}{long}", *[1] * count)
    kind = 16 if big else 4
    ones = [(tag, 1, 1) for tag in (256, 259, 262, 277, 278)]
    many = [(273, count, after), (279, count, after + len(offsets))]
    tags = sorted([*ones, *many, (257, 1, count), (258, 1, 8)])
    entries = b"".join(struct.pack(order + entry, tag, kind, n, value) for tag, n, value in tags)
    number = struct.pack(order + ("Q" if big else "H"), len(tags))
    name = b"II" if order == "<" else b"MM"
    return name + head + number + entries + bytes(struct.calcsize(long)) + offsets + lengths
