"""For mkdocs.yml: columns in a docstring, "name  what it is", become a list on the page."""

import re
from typing import Any

import griffe

ROW = re.compile(r"^(?P<name>[\w, ]*\w)  +(?P<text>\S.*)$")


class Columns(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_list(obj.docstring.value)


def as_list(text: str) -> str:
    """Rows become items of a list; indented lines below a row go on in its item."""
    lines: list[str] = []
    in_rows = False
    for line in text.splitlines():
        row = ROW.match(line)
        if row:
            if not in_rows:
                lines.append("")
            lines.append(f"- `{row['name']}`: {row['text']}")
            in_rows = True
        elif in_rows and line.startswith("  "):
            lines.append(f"  {line.strip()}")
        else:
            in_rows = False
            lines.append(line)
    return "\n".join(lines)
