"""Building blocks of a page: escaped text, figures, bars, tables, curves as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from detector.progress.messages import escape_controls

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 8, 38
CURVES = ("curve", "curve second", "curve third")


class Bar(NamedTuple):
    """One row of a bar chart: `share` of the full width, and its labels."""

    name: str
    share: float
    value: str
    note: str = ""
    pale: bool = False


class Curve(NamedTuple):
    """A line through points (x, y), y from 0 to 1."""

    name: str
    points: Sequence[tuple[float, float]]


def text(value: object) -> str:
    """Any value as HTML text; control characters and broken letters become visible."""
    return html.escape(escape_controls(str(value)), quote=True)


def points(share: float) -> str:
    """A share in per cent; a dash for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def figure(title: str, note: str, body: str, command: str, shape: str = "") -> str:
    """A card with a title; `body` is HTML, everything else text. The command that makes it can be
    unfolded.

    shape  "wide" spans the page; others stand in columns
    """
    kind = f' class="{shape}"' if shape else ""
    return (
        f'<figure{kind}><h2>{text(title)}</h2><p class="note">{text(note)}</p>{body}'
        f"<details><summary>command</summary><code>{text(command)}</code></details></figure>\n"
    )


def bars(rows: Iterable[Bar]) -> str:
    """A bar chart."""
    cells = []
    for row in rows:
        width = 100 * min(max(row.share, 0.0), 1.0) if math.isfinite(row.share) else 0.0
        pale = ' class="pale"' if row.pale else ""
        note = f" <small>{text(row.note)}</small>" if row.note else ""
        cells.append(
            f'<div>{text(row.name)}</div><div><i{pale} style="width:{width:.1f}%"></i></div>'
            f"<span>{text(row.value)}{note}</span>"
        )
    return f'<div class="bars">{"".join(cells)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text cells."""
    top = "".join(f"<th>{text(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def small_curve(curve: Curve) -> str:
    """A panel without labels: the unit square, its quarters, the curve and the area under it."""
    width, height = 150, 110
    corners = [(width * x, height * (1 - y)) for x, y in curve.points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    lines = "".join(f"M0 {height * k / 4:g}H{width}M{width * k / 4:g} 0V{height}" for k in range(5))
    area = f"0,{height} {line} {corners[-1][0]:.1f},{height}" if corners else ""
    return (
        f'<svg viewBox="-2 -2 {width + 4} {height + 4}" role="img" aria-label="{text(curve.name)}">'
        f'<path class="grid" d="{lines}"/><polygon class="area" points="{area}"/>'
        f'<polyline class="curve" points="{line}"/></svg>'
    )


def chart(
    name: str,
    curves: Sequence[Curve],
    x_label: str,
    x_ticks: Sequence[float],
    *,
    logarithmic: bool = False,
    columns: Sequence[tuple[float, float, float]] = (),
    ideal: bool = False,
) -> str:
    """Curves over a horizontal axis that spans `x_ticks`; the vertical axis is 0 to 1.

    columns  (from, to, height) drawn under the curves;  ideal  also draws the diagonal
    """

    def across(x: float) -> float:
        low, high = x_ticks[0], x_ticks[-1]
        if logarithmic:
            low, high, x = math.log(low), math.log(high), math.log(x)
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - low) / ((high - low) or 1)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(name)}">']
    for level in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="grid" d="M{LEFT} {up(level):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{up(level) + 4:.1f}" text-anchor="end">{level:g}</text>'
        )
    for tick in x_ticks:
        anchor = "end" if tick == x_ticks[-1] else "middle"  # nothing beyond the picture
        parts.append(
            f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">'
            f"{tick:g}</text>"
        )
    for low, high, value in columns:
        parts.append(
            f'<rect class="bar" x="{across(low) + 1:.1f}" y="{up(value):.1f}"'
            f' width="{across(high) - across(low) - 2:.1f}" height="{up(0) - up(value):.1f}"/>'
        )
    if ideal:
        ends = f"M{across(x_ticks[0]):.1f} {up(0):.1f}L{across(x_ticks[-1]):.1f} {up(1):.1f}"
        parts.append(f'<path class="ideal" d="{ends}"/>')
    for index, curve in enumerate(curves):
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve.points)
        if len(curve.points) == 1:  # a dot: the same point twice, with round ends
            line = f"{line} {line}"
        parts.append(f'<polyline class="{CURVES[index % len(CURVES)]}" points="{line}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle:g}" y="{HEIGHT - 6}" text-anchor="middle">{text(x_label)}</text></svg>'
    )
    return "".join(parts)
