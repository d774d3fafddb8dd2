"""Three small charts as inline SVG text. Pure; numbers in, markup out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 260, 52, 34, 26, 12
_TEXT = 'fill="var(--muted)" font-size="12" font-family="system-ui,sans-serif"'
COLORS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")


def stacked(seconds: Sequence[float], series: Mapping[str, Sequence[float]]) -> str:
    """Areas over time, one above the other, with a legend."""
    base = [0.0] * len(seconds)
    tops = []
    for values in series.values():
        base = [low + value for low, value in zip(base, values, strict=True)]
        tops.append(base)
    frame = _Frame(max(seconds, default=1.0), max((max(top, default=0) for top in tops), default=1.0))
    parts, below = [frame.axes("s", "operations")], [0.0] * len(seconds)
    for index, (name, top) in enumerate(zip(series, tops, strict=True)):
        points = [frame.at(t, v) for t, v in zip(seconds, top, strict=True)]
        points += [frame.at(t, v) for t, v in zip(reversed(seconds), reversed(below), strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polygon points="{path}" fill="{_color(index)}" fill-opacity=".85"/>')
        parts.append(_legend(index, name))
        below = top
    return _svg(parts, "operations not finished over time, by node")


def steps(edges: Sequence[float], values: Sequence[float]) -> str:
    """Bars between edges in seconds."""
    frame = _Frame(max(edges, default=1.0), max(values, default=1.0))
    parts = [frame.axes("s", "per second")]
    for start, end, value in zip(edges, edges[1:], values, strict=False):
        x, y = frame.at(start, value)
        right, bottom = frame.at(end, 0)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.0, right - x - 1):.1f}" '
            f'height="{bottom - y:.1f}" fill="var(--a)"/>'
        )
    return _svg(parts, "operations finished per second")


def bars(rows: Sequence[tuple[str, float]], unit: str) -> str:
    """Horizontal bars on a log scale, the value beside each."""
    top = max((value for _, value in rows), default=1.0) or 1.0
    low = min((value for _, value in rows if value > 0), default=top) / 2
    span = math.log(top / low) or 1.0
    height = (HEIGHT - 10) / max(1, len(rows))
    parts = []
    for index, (name, value) in enumerate(rows):
        y = 5 + index * height
        width = 0.0 if value <= 0 else (WIDTH - 230) * math.log(max(value, low) / low) / span
        parts.append(f'<text x="96" y="{y + height * 0.65:.1f}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect x="104" y="{y + 3:.1f}" width="{max(width, 1):.1f}" height="{height - 6:.1f}" rx="2" '
            f'fill="{_color(index // 3)}"/>'
        )
        parts.append(f'<text x="{112 + width:.1f}" y="{y + height * 0.65:.1f}">{value:,.2f} {escape(unit)}</text>')
    return _svg(parts, "latency quantiles")


class _Frame:
    """Maps (seconds, value) to the drawing, and draws the axes with round ticks."""

    def __init__(self, seconds: float, top: float) -> None:
        self.seconds = seconds or 1.0
        self.tick = round_up(max(top, 1.0) / 4)
        self.top = self.tick * math.ceil(max(top, 1.0) / self.tick)

    def at(self, seconds: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds
        return x, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / self.top

    def axes(self, x_unit: str, y_unit: str) -> str:
        parts = [f'<text x="{LEFT}" y="14">{escape(y_unit)}</text>']
        for i in range(round(self.top / self.tick) + 1):
            _, y = self.at(0, i * self.tick)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{i * self.tick:,.0f}</text>')
        tick = round_up(self.seconds / 6)
        for i in range(int(self.seconds / tick) + 1):
            x, y = self.at(i * tick, 0)
            parts.append(f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">{i * tick:g} {x_unit}</text>')
        return "".join(parts)


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _legend(index: int, name: str) -> str:
    x = WIDTH - RIGHT - 110 * (index + 1)
    return (
        f'<rect x="{x}" y="5" width="11" height="11" rx="2" fill="{_color(index)}"/>'
        f'<text x="{x + 16}" y="15">{escape(name[:14])}</text>'
    )


def _svg(parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" {_TEXT}>{"".join(parts)}</svg>'
