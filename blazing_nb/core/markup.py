"""Small pieces of markup that reprs and progress share. Pure; every text is escaped and made one line here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from blazing_nb.core.palette import MARK, badge, color, framed
from blazing_nb.core.status import Status
from blazing_nb.core.tally import Tally
from blazing_nb.core.text import one_line

SHOWN = 20
"""Rows of a table in a repr."""
SOON_S = 0.2
_BAR = "display:inline-block;height:10px;vertical-align:middle"


def drawn(method: Callable[[Any], str]) -> Callable[[Any], str]:
    """Of a `_repr_html_`: where it fails, the output says why, and the cell goes on."""

    @functools.wraps(method)
    def draw(thing: Any) -> str:
        try:
            return method(thing)
        except Exception as error:
            return card(type(thing).__name__, "cannot be drawn", [("", f"{type(error).__name__}: {one_line(error)}")])

    return draw


class Html(str):
    """Markup that is safe already; everything else is escaped."""

    __slots__ = ()


def status_cell(status: Status | str) -> Html:
    """A status with its mark and colour."""
    return Html(badge(status))


def tagged(word: str, like: Status, mark: str) -> Html:
    """A word that is no status, in the colour of one, with a mark of its own."""
    return Html(f'<span class="bz-badge" style="--of:{color(like)}">{cell(mark)} {cell(word)}</span>')


def card(kind: str, name: str, facts: Iterable[tuple[str, object]] = (), *more: Html) -> str:
    """An object as an output: what it is, its name, facts as `label value`, and further pieces."""
    said = "".join(f' <span class="bz-muted">{cell(label)}</span> {cell(value)}' for label, value in facts)
    head = f"<div><strong>{cell(kind)}</strong> <code>{cell(name)}</code>{said}</div>"
    return framed(head + "".join(more), f"bz-{kind.lower()}")


def line(thing: object) -> str:
    """An object of which its one-line text says enough."""
    return framed(f"<code>{cell(repr(thing))}</code>", f"bz-{type(thing).__name__.lower()}")


def table(head: Sequence[str], rows: Sequence[Sequence[object]], total: int | None = None) -> Html:
    """The first rows, and how many there are beyond them. A column of which nothing is known is left out."""
    said = [at for at in range(len(head)) if any(row[at] not in ("", None) for row in rows[:SHOWN])]
    head, rows = [head[at] for at in said], [[row[at] for at in said] for row in rows]
    top = "".join(f"<th>{cell(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows[:SHOWN])
    beyond = (len(rows) if total is None else total) - SHOWN
    rest = f'<div class="bz-muted">and {beyond:,} more</div>' if beyond > 0 else ""
    return Html(f"<table><tr>{top}</tr>{body}</table>{rest}") if rows else Html("")


def bar(done: float, failed: float, total: float, width: int = 240) -> Html:
    """A progress bar: what succeeded, what did not, what is left. Colours are not alone: the title says it too."""
    whole = max(total, done, 1)
    parts = ((Status.SUCCEEDED, done - failed), (Status.FAILED, failed))
    spans = "".join(
        f'<span style="{_BAR};width:{width * n / whole:.1f}px;background:{color(status)}"></span>'
        for status, n in parts
        if n > 0
    )
    title = f"{done:,g} of {total:,g} done, {failed:,g} failed"
    return Html(
        f'<span role="progressbar" aria-valuemin="0" aria-valuemax="{whole:g}" aria-valuenow="{done:g}" '
        f'title="{title}" style="{_BAR};width:{width}px;background:var(--well);font-size:0;overflow:hidden;'
        f'white-space:nowrap;border-radius:3px">{spans}</span>'
    )


def progress_html(tally: Tally) -> str:
    """A tally as an output."""
    failed = f" {badge(Status.FAILED)} {tally.failed:,}" if tally.failed else ""
    said = f"{' · '.join(_facts(tally))}{failed}"
    note = f' <span class="bz-muted">{cell(tally.note)}</span>' if tally.note else ""
    drawn = bar(tally.done, tally.failed, tally.total)
    drawing = f"<div>{tally.drawing}</div>" if tally.drawing else ""
    return framed(f"<strong>{cell(tally.name)}</strong> {drawn} {said}{note}{drawing}", "bz-progress")


def progress_text(tally: Tally, width: int = 24) -> str:
    """A tally in one line of a terminal."""
    full = round(width * tally.share)
    failed = f" {MARK[Status.FAILED]} {tally.failed:,} failed" if tally.failed else ""
    note = f" {one_line(tally.note, 60)}" if tally.note else ""
    drawn = "█" * full + "░" * (width - full)
    return f"{one_line(tally.name, 40)} {drawn} {' · '.join(_facts(tally))}{failed}{note}"


def cell(value: object) -> str:
    """A value as text of a page."""
    return value if isinstance(value, Html) else escape(one_line(value))


def duration(seconds: float) -> str:
    """`9 s`, `3:07`, `2:03:07`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{hours}:{minutes % 60:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def span(seconds: float) -> str:
    """How long something took, with the unit that fits: `0.427 ms`, `12 ms`, `3.2 s`."""
    return f"{1000 * seconds:.3g} ms" if seconds < 0.1 else f"{seconds:.3g} s" if seconds < 60 else duration(seconds)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def _facts(tally: Tally) -> list[str]:
    facts = [f"{tally.done:,g}/{tally.total:,g}", f"{tally.share:.0%}"]
    if tally.finished and tally.elapsed_s < SOON_S:
        return facts  # nobody saw how long it took
    if tally.finished:
        return [*facts, f"in {duration(tally.elapsed_s)}", _rate(tally.rate)]
    if tally.left_s is not None:
        facts += [_rate(tally.rate), f"about {duration(tally.left_s)} left"]
    else:
        facts += [f"{duration(tally.elapsed_s)} so far"]
    return facts
