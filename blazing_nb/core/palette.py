"""The colours of everything that is drawn: one hue a status, after Okabe and Ito, so that colour-blind eyes tell them
apart, each in a shade for light and one for dark themes. Pure; markup out. A colour never says alone what it means.
"""

from __future__ import annotations

from html import escape

from blazing_nb.core.status import Status

# What one status is called in a style: (light theme, dark theme).
STATUS: dict[Status, tuple[str, str]] = {
    Status.PENDING: ("#4aa3df", "#56b4e9"),
    Status.SCHEDULED: ("#6a6f78", "#7f858e"),
    Status.CLAIMED: ("#0072b2", "#2f8fd0"),
    Status.RUNNING: ("#00466e", "#a6d8f7"),
    Status.RETRYING: ("#e69f00", "#f0b840"),
    Status.SUCCEEDED: ("#009e73", "#2fc79b"),
    Status.FAILED: ("#d55e00", "#f2803a"),
    Status.CANCELLED: ("#cc79a7", "#e09ac4"),
    Status.LOST: ("#1b1f24", "#ffffff"),
    Status.EXPIRED: ("#e3d400", "#f0e442"),
}
MARK: dict[Status, str] = {
    Status.PENDING: "○",
    Status.SCHEDULED: "◷",
    Status.CLAIMED: "◐",
    Status.RUNNING: "▶",
    Status.RETRYING: "↻",
    Status.SUCCEEDED: "✓",
    Status.FAILED: "✗",
    Status.CANCELLED: "⊘",
    Status.LOST: "†",
    Status.EXPIRED: "⇥",
}
# What is not a status: latencies, and the ground.
PART: dict[str, tuple[str, str]] = {
    **{status.lower(): pair for status, pair in STATUS.items()},
    "wait": ("#e69f00", "#f0b840"),
    "run": ("#009e73", "#2fc79b"),
    "total": ("#0072b2", "#56b4e9"),
}
_GROUND = {
    "fg": ("var(--jp-ui-font-color1,#1b1f24)", "var(--jp-ui-font-color1,#e8ebef)"),
    "muted": ("var(--jp-ui-font-color2,#5b6470)", "var(--jp-ui-font-color2,#9aa4b0)"),
    "grid": ("#d8dde3", "#3a4149"),
    "card": ("var(--jp-layout-color1,#ffffff)", "var(--jp-layout-color1,#14171b)"),
    "well": ("#eef1f4", "#262b31"),
    "heat": ("0,114,178", "86,180,233"),
}


def color(status: Status | str) -> str:
    """The style's variable of a status, for inside of an element of class `bz`."""
    return f"var(--{Status(status).lower()})"


def badge(status: Status | str) -> str:
    """A status as a word with its mark and colour; needs `STYLE` in the same output."""
    known = Status(status)
    return f'<span class="bz-badge" style="--of:{color(known)}">{MARK[known]} {escape(known)}</span>'


def _variables(shade: int) -> str:
    names = {**PART, **_GROUND}
    scheme = f"color-scheme:{('light', 'dark')[shade]};"  # of fields, lists and clocks that the browser draws
    return "".join(f"--{name}:{pair[shade]};" for name, pair in names.items()) + scheme


_LIGHT, _DARK = _variables(0), _variables(1)
# Outside of Jupyter the browser's preference decides; inside, the theme that is chosen there.
CSS = (
    f".bz{{{_LIGHT}font:13px/1.5 system-ui,sans-serif;color:var(--fg);max-width:760px}}"
    f"@media (prefers-color-scheme:dark){{.bz{{{_DARK}}}}}"
    f"[data-jp-theme-light=true] .bz,body.vscode-light .bz{{{_LIGHT}}}"
    f"[data-jp-theme-light=false] .bz,body.vscode-dark .bz,html.theme-dark .bz{{{_DARK}}}"
    ".bz-badge{border-left:4px solid var(--of);padding:0 6px;border-radius:3px;background:var(--well);"
    "white-space:nowrap;font-size:12px}"
    ".bz svg{width:100%;height:auto;display:block}.bz .bz-muted{color:var(--muted)}"
    ".bz table{border-collapse:collapse;font-variant-numeric:tabular-nums;color:inherit}"
    ".bz td,.bz th{padding:2px 8px;border:0;background:none;text-align:left;color:inherit}"
    ".bz tr{background:none!important}"
)
STYLE = f"<style>{CSS}</style>"


def framed(body: str, name: str) -> str:
    """Markup as an output of its own: the style, and an element of class `bz` that a test finds by its name."""
    return f'{STYLE}<div class="bz" data-testid="{escape(name)}">{body}</div>'
