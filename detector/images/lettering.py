"""Fonts for class names in any script: a system font that has the letters, or a number instead of
the name.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

_FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts",
    "/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_PLAIN = ("regular", "sans", "gothic", "hei")
_FANCY = ("bold", "italic", "oblique", "black", "thin", "light", "mono", "serif", "condensed")
# Letters of the scores, which are drawn in the same font.
_WITH_NAMES = " 0123456789."


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names in drawable form, and the names that no font can draw: those become their number as
    in category_id (#1 is the first).
    """
    missing = [name for name in names if _reversed(name) or file_for(name) is None]
    shown = [f"#{number}" if name in missing else name for number, name in enumerate(names, 1)]
    return shown, missing


def remark_on(undrawable: Sequence[str]) -> str | None:
    """A sentence about names that are drawn as numbers; None if there are none."""
    if not undrawable:
        return None
    few = ", ".join(undrawable[:3]) + (", ..." if len(undrawable) > 3 else "")
    return (
        f"no font of this system can draw {few}: pictures show the category_id (#1, #2, ...) in"
        " place of such a name; install a font that has the letters, such as Noto Sans CJK"
    )


def font_of(text: str, size: int) -> Any:
    """A font with the letters of `text`: Pillow's own for Western ones, else DejaVu, which
    matplotlib brings, else one of the system.
    """
    from PIL import ImageFont

    file = file_for(text)
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size=size)


def file_for(text: str) -> str | None:
    """The file of a font that has the letters; "" for Pillow's own, None if there is none."""
    return _file_for(frozenset(text + _WITH_NAMES))


def runs_from_the_right(text: str) -> bool:
    """True if the text has letters of Arabic, Hebrew and the like."""
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def _reversed(text: str) -> bool:
    # Without Raqm and FriBiDi Pillow draws from the wrong end, with unjoined letters.
    if not runs_from_the_right(text):
        return False
    from PIL import features

    return not (features.check("raqm") and features.check("fribidi"))


@lru_cache(maxsize=4096)
def _file_for(letters: frozenset[str]) -> str | None:
    try:
        "".join(letters).encode("latin-1")  # the letters of Pillow's own font
    except UnicodeEncodeError:
        return next((file for file in _files() if _has(file, letters)), None)
    return ""


@lru_cache(maxsize=1)
def _files() -> tuple[str, ...]:
    import matplotlib

    dejavu = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return (dejavu, *sorted(_of_the_system(), key=_order))


def _of_the_system() -> Iterator[str]:
    for root in _FOLDERS:
        for folder, _, names in os.walk(os.path.expanduser(root)):
            for name in names:
                if name.lower().endswith(_SUFFIXES):
                    yield os.path.join(folder, name)


def _order(file: str) -> tuple[int, str]:
    # Plain faces first, then by name, so that a system always gives the same one.
    name = Path(file).stem.lower()
    return sum(word in name for word in _FANCY) - sum(word in name for word in _PLAIN), file


def _has(file: str, letters: frozenset[str]) -> bool:
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        face = FT2Font(file)
        if not all(face.get_char_index(ord(letter)) for letter in letters):
            return False
        ImageFont.truetype(file, 20)  # the library that draws must open it too
    except (OSError, RuntimeError, ValueError):  # damaged, or of fixed sizes
        return False
    return True
