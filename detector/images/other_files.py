"""Recognition of files that are not readable images, by their first bytes, with advice."""

import io

# Bytes read from the beginning of a file.
START = 1024
_KNOWN = "JPEG, PNG, WebP, TIFF, GIF, BMP, PPM"
_UNPACK = "an archive; unpack it and give the folder"
_FRAMES = "a video; save frames as pictures first (ffmpeg -i VIDEO -vf fps=1 FOLDER/%05d.jpg)"
_PAGES = "a PDF; save its pages as pictures first (pdftoppm -png FILE FOLDER/page)"
_HEIC = "a HEIC photograph; save it as JPEG first (heif-convert FILE photo.jpg)"
_CONVERT = "; save it as JPEG or PNG first"
# Rows of (offset, bytes, kind of file and advice); the first match counts.
_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypheic", _HEIC), (4, b"ftypheix", _HEIC), (4, b"ftyphevc", _HEIC),
    (4, b"ftypheim", _HEIC), (4, b"ftypheis", _HEIC), (4, b"ftypmif1", _HEIC),
    (4, b"ftypmsf1", _HEIC), (4, b"ftypavif", "an AVIF image" + _CONVERT),
    (4, b"ftypavis", "an AVIF image" + _CONVERT), (4, b"ftypcrx ", "a raw photograph" + _CONVERT),
    (4, b"ftyp", _FRAMES), (4, b"moov", _FRAMES), (4, b"mdat", _FRAMES), (8, b"AVI ", _FRAMES),
    (0, b"\x1a\x45\xdf\xa3", _FRAMES), (0, b"FLV\x01", _FRAMES), (0, b"\0\0\1\xba", _FRAMES),
    (0, b"\0\0\1\xb3", _FRAMES), (0, b"OggS", _FRAMES), (0, b"\x30\x26\xb2\x75", _FRAMES),
    (0, b"PK\3\4", _UNPACK), (0, b"PK\5\6", _UNPACK), (0, b"\x1f\x8b", _UNPACK),
    (0, b"BZh", _UNPACK), (0, b"\xfd7zXZ\0", _UNPACK), (0, b"7z\xbc\xaf\x27\x1c", _UNPACK),
    (0, b"Rar!\x1a\7", _UNPACK), (0, b"\x28\xb5\x2f\xfd", _UNPACK), (257, b"ustar", _UNPACK),
    (0, b"%PDF", _PAGES), (0, b"\0\0\0\x0cjP", "a JPEG 2000 image" + _CONVERT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image" + _CONVERT),
    (0, b"\0\0\0\x0cJXL", "a JPEG XL image" + _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL image" + _CONVERT),
    (0, b"8BPS", "a Photoshop document" + _CONVERT), (0, b"v/1\1", "an OpenEXR image" + _CONVERT),
    (128, b"DICM", "a DICOM image" + _CONVERT),
    (0, b"FUJIFILMCCD-RAW", "a raw photograph" + _CONVERT),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file; fetch it (git lfs pull)"),
)  # fmt: skip
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "a web page; download the image itself"),
    (b"<html", "a web page; download the image itself"),
    (b"<svg", "an SVG drawing" + _CONVERT),
)


def known_as(start: bytes) -> str | None:
    """Name the kind of a file by its first bytes, with advice; None where it is unknown."""
    for at, magic, what in _BEGINNINGS:
        if start.startswith(magic, at):
            return what
    words = start[:START].lower()
    return next((what for tag, what in _TEXTS if tag in words), None)


def refusal(start: bytes) -> str:
    """Explain why a file with these first bytes is refused, with advice."""
    what = known_as(start)
    return f"not an image that can be read{f', but {what}' if what else f'; expected {_KNOWN}'}"


def may_be_image(start: bytes, formats: tuple[str, ...]) -> bool:
    """False where no decoder of these formats accepts these first bytes."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    for name in formats:
        accept = Image.OPEN[name][1]
        # Pillow passes 16 bytes; pad a shorter file, since some decoders do not check the length.
        if accept is not None and accept(start[:16].ljust(16, b"\0")) is True:
            return True
    # Formats without a signature, such as TGA.
    unmarked = [name for name in formats if Image.OPEN[name][1] is None]
    try:
        Image.open(io.BytesIO(start), formats=unmarked).close()
    except UnidentifiedImageError:
        return False
    except Exception:  # the rest of the file must decide
        return True
    return True
