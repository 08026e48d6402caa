"""Fonts for names in any script: one that is on the system and has the letters, or a number in the
place of the name.
"""

from __future__ import annotations

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
_WITH_NAMES = " 0123456789."
"""A score stands beside a name, in the same font."""


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names as they can be drawn, and those that cannot: each is its number, as category_id
    counts them (#1 is the first).
    """
    found = [has_font(name) for name in names]
    shown = [
        name if ok else f"#{place}"
        for place, (name, ok) in enumerate(zip(names, found, strict=True), 1)
    ]
    return shown, [name for name, ok in zip(names, found, strict=True) if not ok]


def remark_on(undrawable: Sequence[str]) -> str | None:
    """A sentence about names that are drawn as numbers; None where there are none."""
    if not undrawable:
        return None
    few = ", ".join(undrawable[:3]) + (", ..." if len(undrawable) > 3 else "")
    return (
        f"no font of this system can draw {few}: pictures show the category_id (#1, #2, ...) in"
        " place of such a name; install a font that has the letters, such as Noto Sans CJK"
    )


def has_font(text: str) -> bool:
    """Whether the text can be drawn in its own letters, in their order."""
    return not _reversed(text) and _file_for(frozenset(text + _WITH_NAMES)) is not None


def font_of(text: str, size: int) -> Any:
    """Pillow's own letters, which are Western; else those of a font that has them: DejaVu's, which
    matplotlib brings, or one of the system's.
    """
    from PIL import ImageFont

    file = _file_for(frozenset(text + _WITH_NAMES))
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size=size)


def file_for(text: str) -> str | None:
    """The file of a font that has the letters; "" is Pillow's own, None where there is none."""
    return _file_for(frozenset(text + _WITH_NAMES))


def runs_from_the_right(text: str) -> bool:
    """Whether it has letters of Arabic, Hebrew and their like."""
    return any(unicodedata.bidirectional(one) in ("R", "AL") for one in text)


def _reversed(text: str) -> bool:
    """Whether Pillow would draw the text from the wrong end, with letters that do not join."""
    if not runs_from_the_right(text):
        return False
    from PIL import features

    return not (features.check("raqm") and features.check("fribidi"))


@lru_cache(maxsize=4096)
def _file_for(letters: frozenset[str]) -> str | None:
    try:
        "".join(letters).encode("latin-1")
    except UnicodeEncodeError:
        return next((one for one in _files() if _has(one, letters)), None)
    return ""


@lru_cache(maxsize=1)
def _files() -> tuple[str, ...]:
    import matplotlib

    own = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return (own, *sorted(_of_the_system(), key=_order))


def _of_the_system() -> Iterator[str]:
    for place in _FOLDERS:
        for folder, _, names in os.walk(os.path.expanduser(place)):
            for name in names:
                if name.lower().endswith(_SUFFIXES):
                    yield os.path.join(folder, name)


def _order(file: str) -> tuple[int, str]:
    """Plain faces first; by name, so that a system always gives the same one."""
    name = Path(file).stem.lower()
    return sum(one in name for one in _FANCY) - sum(one in name for one in _PLAIN), file


def _has(file: str, letters: frozenset[str]) -> bool:
    """Whether a file is a font of outlines with all letters. Its name may be anything."""
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        face = FT2Font(file)
        if not all(face.get_char_index(ord(one)) for one in letters):
            return False
        ImageFont.truetype(file, 20)
    except (OSError, RuntimeError, ValueError):  # damaged, or of fixed sizes
        return False
    return True
