"""`display` and figures in a worker: what a cell shows goes, as mime bundles, where its output goes.

IPython's own functions print where there is no shell. Here they are replaced, once a process, by ones that ask whose
operation runs; outside of one they do what they did.
"""

from __future__ import annotations

import base64
import functools
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

from blazing_nb.core.output import CLEARED, SHOWN, Display
from blazing_nb.worker.current import running
from blazing_nb.worker.output import show

DISPLAY_LIMIT = 4 << 20
"""Bytes of one bundle; of a larger one only its plain text is kept."""
FIGURE_DPI = 100
_BACKEND = "module://matplotlib_inline.backend_inline"


def display(
    *objects: Any,
    include: Any = None,
    exclude: Any = None,
    metadata: dict[str, Any] | None = None,
    transient: dict[str, Any] | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
    **ignored: Any,
) -> Any:
    """As `IPython.display.display`, for the operation that runs."""
    if clear:
        clear_output()
    name = uuid.uuid4().hex if display_id is True else str(display_id or (transient or {}).get("display_id", ""))
    if display_id and not objects:
        _show(Display({}, {}, name))
    for value in objects:
        data, about = (dict(value), {}) if raw else bundle(value, include, exclude)
        if data:
            _show(Display(data, {**about, **(metadata or {})}, name, update))
    if display_id:
        from IPython.core.display_functions import DisplayHandle

        return DisplayHandle(name)  # type: ignore[no-untyped-call]
    return None


def publish(
    data: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    transient: dict[str, Any] | None = None,
    update: bool = False,
    **ignored: Any,
) -> None:
    """As `IPython.display.publish_display_data`."""
    _show(Display(dict(data), metadata or {}, (transient or {}).get("display_id", ""), update))


def clear_output(wait: bool = False) -> None:
    """As `IPython.display.clear_output`; always without a flicker."""
    show(CLEARED, "")


def bundle(value: Any, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A value's mime bundle and its metadata; empty where it has displayed itself."""
    if type(value).__module__ == "matplotlib.figure":
        return {"image/png": _png(value), "text/plain": repr(value)}, {}
    data, metadata = _formatter().format(value, include=include, exclude=exclude)
    return data, metadata


def figures() -> set[int]:
    """Numbers of the figures that pyplot holds, where it is loaded."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set() if pyplot is None else set(pyplot.get_fignums())


def show_figures(before: set[int]) -> None:
    """Show pyplot's figures that came since, as a notebook does at the end of a cell, and close them."""
    for number in sorted(figures() - before):
        pyplot = sys.modules["matplotlib.pyplot"]
        figure = pyplot.figure(number)
        if figure.axes or figure.lines:
            display(figure)
        pyplot.close(figure)


@functools.cache
def install() -> None:
    """Replace IPython's functions, and have matplotlib and plotly draw through them. Once a process."""
    os.environ["MPLBACKEND"] = _BACKEND
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    import IPython.display
    from IPython.core import display_functions

    for name, ours in (("display", display), ("publish_display_data", publish), ("clear_output", clear_output)):
        replacement = _routed(ours, getattr(display_functions, name))
        for module in (display_functions, IPython.display, sys.modules.get("matplotlib_inline.backend_inline")):
            if module is not None:
                setattr(module, name, replacement)


def _routed(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(theirs)
    def either(*args: Any, **kwargs: Any) -> Any:
        return (theirs if running.get() is None else ours)(*args, **kwargs)

    return either


def _show(shown: Display) -> None:
    data = {kind: _text(value) for kind, value in shown.data.items()}
    text = shown._replace(data=data).encode()
    if len(text) > DISPLAY_LIMIT:
        plain = f"{data.get('text/plain', '')} [shown as text: it has {len(text)} of at most {DISPLAY_LIMIT} bytes]"
        text = shown._replace(data={"text/plain": plain}, metadata={}).encode()
    if not show(SHOWN, text):
        print(data.get("text/plain", ""))


def _text(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _png(figure: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=FIGURE_DPI, bbox_inches="tight")
    return buffer.getvalue()


@functools.cache
def _formatter() -> Any:
    from IPython.core.formatters import DisplayFormatter

    return DisplayFormatter()
