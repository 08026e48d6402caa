"""Names in annotations: what is kept of them, and which cannot be used."""

import unicodedata

# Results of one class have its name in a file's name, which may have 255.
MAX_NAME_BYTES = 200


def class_name(text: str) -> str:
    """Spell a class name in one way: composed accents, and one blank for blanks, line breaks and
    control characters; none at the ends.
    """
    text = "".join(
        " " if unicodedata.category(character) == "Cc" else character for character in text
    )
    return unicodedata.normalize("NFC", " ".join(text.split()))


def fault_of_class(name: str) -> tuple[str, str] | None:
    """Find the rule that a class name breaks, and how; or None."""
    if not name:
        return "missing-field", "the name is empty"
    if not is_unicode(name):
        return "unusable-name", f"the name {plain(name[:50])} holds half a character"
    if len(name.encode()) > MAX_NAME_BYTES:
        return "unusable-name", f"the name {name[:20]!r}... has over {MAX_NAME_BYTES} bytes"
    return None


def is_unicode(text: str) -> bool:
    """True of text that can be written to a file: no half of a pair of surrogates, no raw bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def plain(text: str) -> str:
    """Write `\\ud83d` for half a character, which no file and no terminal takes."""
    return text.encode(errors="backslashreplace").decode()
