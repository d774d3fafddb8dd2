"""The browser's side of a view, as a widget: small ES modules joined into one text, nothing fetched, nothing built."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import anywidget
import traitlets

from blazing_nb.core.palette import CSS

STATIC = Path(__file__).parent / "static"


@cache
def module(names: tuple[str, ...]) -> str:
    """The canvas and what a view needs beside it, as one ES module."""
    parts = [(STATIC / f"{name}.js").read_text(encoding="utf-8") for name in ("canvas", *names)]
    return "\n".join([*parts, "export default { render: live };"])


class Canvas(anywidget.AnyWidget):
    """Receives {"type": "snapshot" | "state" | "answer", ...}; asks {"type": "hello"} when it (re)connects."""

    _css = CSS + (STATIC / "view.css").read_text(encoding="utf-8")
    shown_ms = traitlets.Float().tag(sync=True)

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(_esm=module(names), shown_ms=time.time() * 1000)


def widget(names: tuple[str, ...]) -> Canvas:
    return Canvas(names)
