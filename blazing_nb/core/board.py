"""Tables and diagrams as HTML text: bars, a grid of numbers, flows between statuses. Pure; escapes what users wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from blazing_nb.core.palette import MARK

Bar = tuple[str, Sequence[int], str, str]
"""(name, parts, what is wrong with it, a note such as its head's age)."""

_NOTE = "font-size:12px;white-space:nowrap;text-align:left"
_CUT = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
_TITLE = f"font-weight:400;max-width:8em;{_CUT}"
_COLUMNS = "".join(f'<col style="width:{width}">' for width in ("36%", "auto", "56px", "124px"))


def bars(rows: Sequence[Bar], parts: Sequence[tuple[str, str]]) -> str:
    """A row each: its name, its parts as one bar, their sum, the note. `parts` are (name, colour)."""
    top = max((sum(values) for _, values, *_ in rows), default=0) or 1
    legend = " ".join(
        f'<span style="display:inline-block;width:11px;height:11px;background:var(--{color})"></span> '
        f"{escape(name)}&nbsp; "
        for name, color in parts
    )
    drawn = "".join(_bar(row, parts, top) for row in rows)
    table = f'<table style="width:100%;table-layout:fixed;margin:4px 0">{_COLUMNS}{drawn}</table>'
    nothing = '<div class="bz-muted">no operations yet: step.enqueue(...) and step.map(...) send some</div>'
    return f'<div style="font-size:12px" class="bz-muted">{legend}</div>{table if rows else nothing}'


def _bar(row: Bar, parts: Sequence[tuple[str, str]], top: int) -> str:
    name, values, mark, note = row
    wrong = f'<b style="color:var(--failed)">! {escape(mark)}</b> ' if mark else ""
    cells = "".join(
        f'<span class="bz-{escape(part)}" title="{escape(part)} {n:,}" style="display:inline-block;height:12px;'
        f'background:var(--{color});width:{100 * n / top:.2f}%"></span>'
        for (part, color), n in zip(parts, values, strict=True)
        if n
    )
    called = f'style="{_CUT};text-align:left" title="{escape(name)}"'
    return (
        f'<tr class="bz-row"><td class="bz-name" {called}>{escape(name)}</td>'
        f'<td style="white-space:nowrap;font-size:0;text-align:left">{cells}</td>'
        f'<td style="text-align:right">{sum(values):,}</td>'
        f'<td class="bz-muted" style="{_NOTE}">{wrong}{escape(note)}</td></tr>'
    )


def grid(rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], tuple[int, str]]) -> str:
    """Numbers as a heat map, on a log scale; a cell is (number, mark)."""
    most = math.log1p(max((n for n, _ in cells.values()), default=0)) or 1.0

    def cell(row: str, column: str) -> str:
        n, mark = cells.get((row, column), (0, ""))
        shade = 0.5 * math.log1p(n) / most
        ring = ";outline:2px solid var(--failed);outline-offset:-2px" if mark else ""
        said = f"{row} x {column}: {n:,}{' ' + mark if mark else ''}"
        return (
            f'<td title="{escape(said)}" style="text-align:right;background:rgba(var(--heat),{shade:.2f}){ring}">'
            f"{f'{n:,}' if n else '·'}{' !' if mark else ''}</td>"
        )

    def title(name: str) -> str:
        return f'<th style="{_TITLE}" title="{escape(name)}">{escape(name)}</th>'

    head = "".join(map(title, columns))
    body = "".join(f"<tr>{title(row)}{''.join(cell(row, column) for column in columns)}</tr>" for row in rows)
    return f'<div style="overflow-x:auto"><table class="bz-grid"><tr><th></th>{head}</tr>{body}</table></div>'


# Where each status stands in the diagram: the middle of its box.
_PLACES = {
    "PENDING": (150, 40),
    "SCHEDULED": (150, 100),
    "RETRYING": (150, 160),
    "CLAIMED": (360, 100),
    "SUCCEEDED": (590, 25),
    "FAILED": (590, 65),
    "CANCELLED": (590, 105),
    "EXPIRED": (590, 145),
    "LOST": (590, 185),
}
_BOX = 106
_HALO = 'text-anchor="middle" paint-order="stroke" stroke="var(--card)" stroke-width="4" style="fill:var(--fg)"'


def flow(edges: Mapping[tuple[str, str], float]) -> str:
    """Counts a second between statuses; "" is where operations come from. An edge is as thick as it is busy."""
    top = max(edges.values(), default=0) or 1
    paths = "".join(_edge(*pair, count, top) for pair, count in edges.items())
    boxes = "".join(_box(name) for name in _PLACES)
    return (
        '<svg viewBox="0 0 720 212" role="img" aria-label="operations a second between statuses" font-size="11" '
        f'font-family="system-ui,sans-serif" fill="var(--muted)">{paths}{boxes}</svg>'
    )


def _box(name: str) -> str:
    x, y = _PLACES[name]
    mark = next(mark for status, mark in MARK.items() if status == name)
    return (
        f'<rect x="{x - _BOX / 2}" y="{y - 13}" width="{_BOX}" height="26" rx="5" fill="var(--well)" '
        f'stroke="var(--{name.lower()})" stroke-width="2"/>'
        f'<text x="{x}" y="{y + 4}" text-anchor="middle" font-size="10" style="fill:var(--fg)">{mark} {name}</text>'
    )


def _edge(source: str, target: str, count: float, top: float) -> str:
    tx, ty = _PLACES[target]
    sx, sy = _PLACES[source] if source else (20, ty)
    back = sx > tx
    x1, x2 = (sx - _BOX / 2, tx + _BOX / 2) if back else (sx + (_BOX / 2 if source else 0), tx - _BOX / 2)
    if back:
        sy, ty = sy + 8, ty + 8
    middle = (x1 + x2) / 2
    path = f"M{x1} {sy}C{middle} {sy} {middle} {ty} {x2} {ty}"
    width = 1 + 9 * math.sqrt(count / top) if count else 0.7
    color = target.lower() if count else "grid"
    # Written near the end where the edges have parted.
    at = 0.5 if not source else 0.72 if source == "CLAIMED" else 0.3
    lx, ly = x1 + (x2 - x1) * at, sy + (ty - sy) * (3 * at**2 - 2 * at**3) - 4
    label = f"{count:,.0f}/s" if count >= 10 else f"{count:.1f}/s"
    text = f'<text x="{lx:.0f}" y="{ly:.0f}" {_HALO}>{label}</text>' if count else ""
    said = f"<title>{escape(source or 'enqueued')} to {escape(target)}: {label}</title>"
    style = f'fill="none" stroke="var(--{color})" stroke-width="{width:.1f}" opacity=".75"'
    return f'<path d="{path}" {style}>{said}</path>{text}'
