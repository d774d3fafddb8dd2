"""Charts over time as inline SVG text: lines or areas, heat maps of histograms, spans. Pure; what is frozen is drawn
here, what is live by `notebook/static/`. Rows begin with a moment in server milliseconds; colours are names of
`core/palette`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from blazing_nb.core.chart import round_up
from blazing_nb.core.palette import STATUS

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 52, 8, 24, 22
_TEXT = 'fill="var(--muted)" font-size="11" font-family="system-ui,sans-serif"'
Row = Sequence[float | None]
Spread = tuple[float, float, Sequence[Sequence[tuple[int, float]]]]
Span = tuple[str, float, float, str, str]
"""(lane, begin ms, end ms, status, what it says)."""
SPAN_HEIGHT, SPAN_LEVELS = 9, 8
SPANS, TITLED = 600, 200
_Point = tuple[float, float | None]
POINTS = 240
SHADES = 8
TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


class _Axis:
    """Time along x."""

    def __init__(self, start: float, end: float, height: int) -> None:
        self.start, self.end, self.height = start, max(end, start + 1000), height
        self.bottom = height - BOTTOM

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - self.start) / (self.end - self.start)

    def ticks(self) -> str:
        seconds = (self.end - self.start) / 1000
        step = next((s for s in TICKS_S if seconds / s <= 6), TICKS_S[-1]) * 1000
        first = math.ceil(self.start / step)
        marks = []
        for i in range(first, first + 8):
            if i * step < self.end and self.x(i * step) < WIDTH - RIGHT - 22:
                text = f"{datetime.fromtimestamp(i * step / 1000, UTC):%H:%M:%S}"
                marks.append(
                    f'<text x="{self.x(i * step):.0f}" y="{self.height - 6}" text-anchor="middle">{text}</text>'
                )
        return "".join(marks) + f'<text x="4" y="{self.height - 6}">UTC</text>'

    def level(self, y: float, text: str) -> str:
        return (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>'
            f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        )


def series(
    rows: Sequence[Row], names: Sequence[str], colors: Sequence[str], *, title: str, stacked: bool, log: bool = False
) -> str:
    """Lines, or areas one above the other, with a legend; at most 240 points of each."""
    rows = rows[:: math.ceil(len(rows) / POINTS)] if len(rows) > POINTS else rows
    if len(rows) < 2:
        return ""
    axis = _Axis(rows[0][0] or 0, rows[-1][0] or 0, 190)
    tops = _heaped(rows) if stacked else [list(row[1:]) for row in rows]
    y, levels = _scale(axis, max((v for row in tops for v in row if v is not None), default=0.0), log)
    shown = [k for k in range(len(names)) if not stacked or any(row[k + 1] for row in rows)]
    parts = [axis.ticks(), levels, _legend([names[k] for k in shown], [colors[k] for k in shown])]
    xs = [axis.x(row[0] or 0) for row in rows]
    for k in reversed(shown) if stacked else shown:
        line = [(x, None if (v := row[k]) is None else y(v)) for x, row in zip(xs, tops, strict=True)]
        parts.append(_area(line, colors[k], axis.bottom) if stacked else _line(line, colors[k], k))
    return _svg(parts, axis.height, title)


def _heaped(rows: Sequence[Row]) -> list[list[float | None]]:
    made: list[list[float | None]] = []
    for row in rows:
        total, heap = 0.0, list[float | None]()
        for value in row[1:]:
            total += value or 0
            heap.append(total)
        made.append(heap)
    return made


def _scale(axis: _Axis, peak: float, log: bool) -> tuple[Callable[[float], float], str]:
    """Where a value lies, and the levels drawn."""
    span = axis.bottom - TOP
    if log:
        high = max(10.0, 10.0 ** math.ceil(math.log10(peak or 1)))

        def on_log(value: float) -> float:
            return axis.bottom - span * math.log10(max(value, 0.1) / 0.1) / math.log10(high / 0.1)

        powers = [10.0**e for e in range(-1, round(math.log10(high)) + 1)]
        return on_log, "".join(axis.level(on_log(v), f"{v:,.10g}") for v in powers)
    tick = round_up(max(peak, 0.5) / 4)
    count = math.ceil(max(peak, 0.5) / tick)

    def linear(value: float) -> float:
        return axis.bottom - span * value / (tick * count)

    return linear, "".join(axis.level(linear(i * tick), f"{i * tick:,.10g}") for i in range(count + 1))


def _straightened(points: Iterable[_Point]) -> list[_Point]:
    """Without what lies between two neighbours of the same height: most of what is recorded stands still."""
    kept: list[_Point] = []
    for x, y in points:
        if len(kept) > 1 and kept[-1][1] == kept[-2][1] == y:
            kept.pop()
        kept.append((x, y))
    return kept


def _area(points: Sequence[_Point], color: str, bottom: int) -> str:
    """Down to the axis. The highest is drawn first: the next covers its foot."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in _straightened(points))
    foot = f"{points[-1][0]:.1f},{bottom} {points[0][0]:.1f},{bottom}"
    return f'<polygon points="{path} {foot}" fill="var(--{color})"/>'


def _line(points: Iterable[_Point], color: str, index: int) -> str:
    path, pen = [], False
    for x, y in _straightened(points):
        if y is not None:
            path.append(f"{'L' if pen else 'M'}{x:.1f} {y:.1f}")
        pen = y is not None
    dash = ("", ' stroke-dasharray="5 2"', ' stroke-dasharray="2 2"')[index % 3]
    return f'<path d="{"".join(path)}" fill="none" stroke="var(--{color})" stroke-width="1.5"{dash}/>'


def heat(rows: Sequence[Spread], which: int, *, title: str) -> str:
    """A heat map of histograms: rows (moment, span ms, [(bucket, n), ...] by kind); `which` kind."""
    rows = [row for row in rows if row[2][which]]
    if not rows:
        return ""
    axis = _Axis(min(row[0] - row[1] for row in rows), rows[-1][0], 190)
    cells: dict[tuple[int, int], float] = {}
    for at, span, kinds in rows:
        column = int((axis.x(at - span / 2) - LEFT) // 6)
        for bucket, n in kinds[which]:
            cells[column, bucket] = cells.get((column, bucket), 0) + n
    low, high, most = min(b for _, b in cells), max(b for _, b in cells) + 1, max(cells.values())
    step = (axis.bottom - TOP) / (high - low)
    parts = [axis.ticks()]
    for us in (10.0**e for e in range(11)):
        if low <= 4 * math.log2(us) <= high:
            text = f"{us:g} µs" if us < 1000 else f"{us / 1000:g} ms" if us < 1e6 else f"{us / 1e6:g} s"
            parts.append(axis.level(axis.bottom - step * (4 * math.log2(us) - low), text))
    shades: dict[int, list[str]] = {}
    for (column, bucket), n in cells.items():
        cell = f"M{LEFT + 6 * column} {axis.bottom - step * (bucket - low + 1):.1f}h6v{step:.1f}h-6z"
        shades.setdefault(math.ceil(SHADES * math.sqrt(n / most)), []).append(cell)
    for shade, drawn in sorted(shades.items()):
        opacity = 0.12 + 0.88 * shade / SHADES
        parts.append(f'<path d="{"".join(drawn)}" style="fill:rgb(var(--heat))" fill-opacity="{opacity:.2f}"/>')
    return _svg(parts, axis.height, title)


def spans(rows: Sequence[Span], *, title: str, now_ms: float) -> str:
    """Bars in lanes over time, coloured by status; the newest 600 of them. What overlaps lies below each other.

    Up to 200 say each what it is; more are drawn together, which is a fourth of the size.
    """
    rows = sorted(rows, key=lambda row: row[1])[-SPANS:]
    if not rows:
        return ""
    lanes = _lanes(rows)
    heights = [20 + SPAN_HEIGHT * (1 + max(level for level, _ in stacked)) for _, stacked in lanes]
    axis = _Axis(rows[0][1], max(now_ms, max(row[2] for row in rows)), TOP + sum(heights) + BOTTOM)
    used = sorted({status for *_, status, _ in rows}, key=[*map(str, STATUS)].index)
    parts, top = [axis.ticks(), _legend(used, [status.lower() for status in used])], TOP
    drawn: dict[tuple[str, str], list[str]] = {}
    for (lane, stacked), height in zip(lanes, heights, strict=True):
        parts.append(f'<text x="{LEFT}" y="{top + 12}">{escape(lane[:60])}</text>')
        for level, (_, begin, end, status, said) in stacked:
            width = max(1.5, axis.x(end) - axis.x(begin))
            path = f"M{axis.x(begin):.1f} {top + 15 + SPAN_HEIGHT * level}h{width:.1f}v{SPAN_HEIGHT - 1}h{-width:.1f}z"
            drawn.setdefault((status, said if len(rows) <= TITLED else status), []).append(path)
        top += height
    for (status, said), paths in drawn.items():
        fill = f'fill="var(--{escape(status.lower())})"'
        parts.append(f'<path d="{"".join(paths)}" {fill}><title>{escape(said)}</title></path>')
    return _svg(parts, axis.height, title)


def _lanes(rows: Sequence[Span]) -> list[tuple[str, list[tuple[int, Span]]]]:
    """By lane, each with the level it lies on: those that overlap lie below each other, as far as there are levels."""
    lanes: dict[str, list[tuple[int, Span]]] = {}
    ends: dict[str, list[float]] = {}
    for row in rows:
        lane, begin, end = row[:3]
        free = ends.setdefault(lane, [])
        level = next((i for i, over in enumerate(free) if over <= begin), len(free))
        if level == SPAN_LEVELS:
            level = len(lanes[lane]) % SPAN_LEVELS
        free[level : level + 1] = [end]
        lanes.setdefault(lane, []).append((level, row))
    return sorted(lanes.items())


def _legend(names: Sequence[str], colors: Sequence[str]) -> str:
    parts, x = [], LEFT
    for name, color in zip(names, colors, strict=True):
        parts.append(f'<rect x="{x}" y="5" width="10" height="10" rx="2" fill="var(--{color})"/>')
        parts.append(f'<text x="{x + 14}" y="14">{escape(name)}</text>')
        x += 24 + 7 * len(name)
    return "".join(parts)


def _svg(parts: Sequence[str], height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" {_TEXT}>{"".join(parts)}</svg>'
