"""A flow as inline SVG: its stages in order, with what each holds. Pure; numbers in, markup out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

BOX, GAP, HEIGHT, TEXT_LIMIT = 132, 34, 78, 16
_COLORS = (("here", "#0072b2"), ("done", "#009e73"), ("ended", "#d55e00"))


class StageCounts(msgspec.Struct, frozen=True):
    """One stage at one moment: operations that are `here` (waiting, parked or running), `done` (they succeeded), and
    `ended` without success.

    Examples:
        >>> items = (double >> positive).map([1, 2])
        >>> items.wait(timeout=10), items.stages()[0]
        (True, StageCounts(name='double', here=0, done=2, ended=0))
    """

    name: str
    here: int = 0
    done: int = 0
    ended: int = 0


def pipeline(stages: Sequence[StageCounts], label: str = "a flow") -> str:
    """Boxes from left to right; beneath each name its counts, and a bar of their shares."""
    width = len(stages) * BOX + (len(stages) - 1) * GAP + 2
    parts = [_arrow(i) for i in range(len(stages) - 1)]
    parts += [_box(i, stage) for i, stage in enumerate(stages)]
    head = f'<svg viewBox="0 0 {width} {HEIGHT}" width="{width}" role="img" aria-label="{escape(label)}" '
    style = 'style="max-width:100%" fill="currentColor" font-size="12" font-family="system-ui,sans-serif">'
    return head + style + "".join(parts) + "</svg>"


def _arrow(index: int) -> str:
    x, y = index * (BOX + GAP) + BOX + 1, HEIGHT / 2
    return (
        f'<path d="M{x + 4} {y}H{x + GAP - 8}" stroke="currentColor" fill="none"/>'
        f'<path d="M{x + GAP - 4} {y}l-7 -4v8z"/>'
    )


def _box(index: int, stage: StageCounts) -> str:
    x = index * (BOX + GAP) + 1
    name = stage.name if len(stage.name) <= TEXT_LIMIT else stage.name[: TEXT_LIMIT - 1] + "…"
    counts = f"{stage.here:,} here, {stage.done:,} done" + (f", {stage.ended:,} ended" if stage.ended else "")
    return (
        f"<g><title>{escape(stage.name)}: {counts}</title>"
        f'<rect x="{x}" y="1" width="{BOX}" height="{HEIGHT - 2}" rx="6" '
        'fill="none" stroke="currentColor" stroke-opacity=".4"/>'
        f'<text x="{x + 10}" y="22" font-weight="600">{escape(name)}</text>'
        f'<text x="{x + 10}" y="42" font-size="11">{stage.here:,} here · {stage.done:,} done</text>'
        f"{_ended(x, stage)}{_bar(x, stage)}</g>"
    )


def _ended(x: int, stage: StageCounts) -> str:
    if not stage.ended:
        return ""
    return f'<text x="{x + 10}" y="57" font-size="11" fill="{_COLORS[2][1]}">{stage.ended:,} without success</text>'


def _bar(x: int, stage: StageCounts) -> str:
    total = stage.here + stage.done + stage.ended
    parts, at = [], float(x + 10)
    for field, color in _COLORS:
        width = (BOX - 20) * getattr(stage, field) / total if total else 0
        if width:
            parts.append(f'<rect x="{at:.1f}" y="64" width="{width:.1f}" height="5" fill="{color}"/>')
        at += width
    return "".join(parts)
