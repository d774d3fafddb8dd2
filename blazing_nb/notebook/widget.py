"""The browser's side of a view, as a widget: a small ES module, nothing fetched."""

from __future__ import annotations

from pathlib import Path

import anywidget

STATIC = Path(__file__).parent / "static"


class DepthWidget(anywidget.AnyWidget):
    """Receives {"type": "snapshot" | "state", ...} and asks {"type": "hello"} when it (re)connects."""

    _esm = (STATIC / "depth.js").read_text(encoding="utf-8")
    _css = (STATIC / "depth.css").read_text(encoding="utf-8")
