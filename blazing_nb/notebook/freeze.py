"""A view as script-free HTML with inline SVG: what stays in a saved notebook. Pure; never raises on odd text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from blazing_nb.core.chart import stacked
from blazing_nb.core.snapshot import Segment, Snapshot

_WRAP = (
    "--a:#0072b2;--b:#e69f00;--c:#009e73;--grid:var(--jp-border-color2,#d8dde3);--muted:var(--jp-ui-font-color2,#5b6470);"
    "font:13px/1.5 system-ui,sans-serif;color:var(--jp-ui-font-color1,inherit);max-width:720px"
)
PARTS = (("waiting", "--a"), ("parked", "--b"), ("claimed", "--c"))
History = Sequence[tuple[int, int, int, int]]


def freeze(snapshot: Snapshot, history: History) -> str:
    """Bars of every segment and the depths over time; `history` has (at_ms, waiting, parked, claimed)."""
    top = max((s.waiting + s.parked + s.claimed for s in snapshot.segments), default=0) or 1
    rows = "".join(_row(segment, top) for segment in snapshot.segments)
    return (
        f'<div class="bz-frozen" data-testid="bz-depth-frozen" style="{_WRAP}"><b>Segment depths of '
        f"{escape(snapshot.app)}</b> <span style='color:var(--muted)'>{escape(summary(snapshot))}</span>"
        f'<table style="border-collapse:collapse;width:100%;margin:6px 0">{rows}</table>{_chart(history)}</div>'
    )


def text(snapshot: Snapshot, width: int = 30) -> str:
    """The same for a terminal."""
    top = max((s.waiting + s.parked + s.claimed for s in snapshot.segments), default=0) or 1
    lines = [f"Segment depths of {snapshot.app}: {summary(snapshot)}"]
    for s in snapshot.segments:
        bar = "".join(
            mark * round(width * n / top) for mark, n in (("#", s.waiting), ("=", s.parked), (">", s.claimed))
        )
        lines.append(f"  {_clean(name(s)):<32} {bar:<{width + 2}} {s.waiting} / {s.parked} / {s.claimed}")
    return "\n".join(lines)


def name(segment: Segment) -> str:
    """How a segment is called in a view."""
    return f"{segment.step} · {segment.node}" + ("" if segment.prio == "n" else f" · {segment.prio}")


def summary(snapshot: Snapshot) -> str:
    workers = len(snapshot.workers)
    return (
        f"{snapshot.waiting:,} waiting, {snapshot.parked:,} parked, {snapshot.claimed:,} claimed, "
        f"{snapshot.finished:,} finished, {workers} worker{'' if workers == 1 else 's'}"
    )


def _row(segment: Segment, top: int) -> str:
    bars = "".join(
        f'<span title="{label} {n:,}" style="display:inline-block;height:12px;background:var({color});'
        f'width:{100 * n / top:.2f}%"></span>'
        for (label, color), n in zip(PARTS, (segment.waiting, segment.parked, segment.claimed), strict=True)
        if n
    )
    total = segment.waiting + segment.parked + segment.claimed
    cell = "padding:2px 8px;border:0;background:none"
    return (
        f'<tr style="background:none"><td style="{cell};text-align:left;white-space:nowrap">'
        f"{escape(name(segment))}</td>"
        f'<td style="{cell};width:60%;text-align:left;white-space:nowrap;font-size:0">{bars}</td>'
        f'<td style="{cell};text-align:right">{total:,}</td></tr>'
    )


def _chart(history: History) -> str:
    if len(history) < 2:
        return ""
    seconds = [(row[0] - history[0][0]) / 1000 for row in history]
    return stacked(seconds, {label: [row[i + 1] for row in history] for i, (label, _) in enumerate(PARTS)})


def _clean(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value)
