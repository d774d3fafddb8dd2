"""The demo's page: self-contained HTML with inline SVG; no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from blazing_nb.core.chart import bars, stacked, steps
from blazing_nb.core.snapshot import Snapshot

_STYLE = """
:root{--bg:#fff;--fg:#1b1f24;--muted:#5b6470;--grid:#e3e7ec;--card:#f7f9fb;
--a:#0072b2;--b:#e69f00;--c:#009e73;--d:#cc79a7}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e8ebef;--muted:#9aa4b0;--grid:#2b3138;--card:#1b2026;
--a:#56b4e9;--b:#f0b840;--c:#2fc79b;--d:#e09ac4}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1080px;padding:32px 24px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}h1{font-size:26px;margin:0}h2{font-size:16px;margin:0 0 8px}
p{color:var(--muted);margin:4px 0 20px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:12px;margin:20px 0}
.tile,.card{background:var(--card);border:1px solid var(--grid);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:24px;font-variant-numeric:tabular-nums}.tile span{color:var(--muted);font-size:13px}
.card{margin:0 0 16px}.two{display:grid;grid-template-columns:1fr 1fr;gap:16px}
@media (max-width:760px){.two{grid-template-columns:1fr}}
svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}td,th{padding:4px 8px;text-align:left;
border-bottom:1px solid var(--grid);overflow-wrap:anywhere}.n{text-align:right}
"""


def write_page(path: Path, history: Sequence[Snapshot], findings: dict[str, Any], figures: dict[str, Any]) -> None:
    """Write the page; replaces a file of that name."""
    path.write_text(_page(history, findings, figures), encoding="utf-8")


def _page(history: Sequence[Snapshot], findings: dict[str, Any], figures: dict[str, Any]) -> str:
    start = history[0].at_ms
    seconds = [(snapshot.at_ms - start) / 1000 for snapshot in history]
    nodes = sorted({segment.node for snapshot in history for segment in snapshot.segments})
    depths = {node: [_depth(snapshot, node) for snapshot in history] for node in nodes}
    latency = figures["latency_ms"]
    quantiles = [(f"{kind} {label}", ms or 0.0) for kind in latency for label, ms in latency[kind].items()]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>blazing_nb: {escape(figures["name"])}</title><style>{_STYLE}</style>
<h1>The standard library, parsed on {figures["workers"]} workers</h1>
<p>Run <code>{escape(figures["name"])}</code>: one operation a file,
enqueued by {figures["nodes"]} nodes into a segment each, collected in the client.</p>
<div class="tiles">{_tiles(findings, figures)}</div>
{_card("Segment depths: operations not finished, by node", stacked(seconds, depths))}
<div class="two">{_card("Throughput: operations finished per second", steps(*_rate(seconds, history)))}
{_card("Latency: milliseconds, on a log scale", bars(quantiles, "ms"))}</div>
<div class="two">{_card("The longest functions", _table(("lines", "function", "file"), findings["longest"]))}
{_card("The most imported modules", _table(("module", "files"), findings["imports"]))}</div>
</html>"""


def _tiles(findings: dict[str, Any], figures: dict[str, Any]) -> str:
    tiles = (
        (f"{findings['files']:,}", "files"),
        (f"{figures['operations_per_s']:,.0f}/s", "files parsed"),
        (f"{findings['lines']:,}", "lines"),
        (f"{findings['functions']:,}", "functions"),
        (f"{findings['classes']:,}", "classes"),
        (f"{findings['unparsable']:,}", "broken on purpose"),
        (f"{figures['lost']:,}", "lost"),
    )
    return "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in tiles)


def _depth(snapshot: Snapshot, node: str) -> int:
    return sum(s.waiting + s.parked + s.claimed for s in snapshot.segments if s.node == node)


def _rate(seconds: list[float], history: Sequence[Snapshot]) -> tuple[list[float], list[float]]:
    """Operations per second between samples about half a second apart."""
    edges, rates = [seconds[0]], []
    counted = history[0].finished
    for index, (at, snapshot) in enumerate(zip(seconds, history, strict=True)):
        if at - edges[-1] >= 0.5 or (index == len(history) - 1 and at > edges[-1]):
            rates.append((snapshot.finished - counted) / (at - edges[-1]))
            edges.append(at)
            counted = snapshot.finished
    return edges, rates


def _card(title: str, body: str) -> str:
    return f'<div class="card"><h2>{escape(title)}</h2>{body}</div>'


def _table(names: tuple[str, ...], rows: list[list[Any]]) -> str:
    def cell(tag: str, value: Any, like: Any) -> str:
        return f"<{tag}{' class=n' if isinstance(like, int) else ''}>{escape(str(value))}</{tag}>"

    likes = rows[0] if rows else [""] * len(names)
    head = "".join(cell("th", name, like) for name, like in zip(names, likes, strict=True))
    body = "".join("<tr>" + "".join(cell("td", value, value) for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
