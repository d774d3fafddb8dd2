"""Waits that take longer than two seconds show how far they are, where somebody looks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from blazing_nb.client.batch import Batch
    from blazing_nb.client.gathering import Gathered
    from blazing_nb.client.operation import Operation

PATIENCE_S = 2.0


class Shown(Protocol):
    """What is awaited, with its bar: `for` gives operations as they finish.

    Examples:
        >>> bar = double.map(range(3)).progress()
        >>> len(bar), sorted(finished.result() for finished in bar)
        (3, [0, 2, 4])
    """

    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are final; False where `timeout` seconds were not enough.

        Examples:
            >>> double.map(range(3)).progress().wait(timeout=10)
            True
        """


def show(handle: Batch | Operation | Gathered, timeout: float | None, wanted: bool | None = True) -> bool:
    """Wait until it is done; False where `timeout` seconds were not enough. Shows progress after two seconds.

    Args:
        wanted: None: where somebody looks, that is in a notebook's or terminal's main thread.
    """
    __tracebackhide__ = True
    try:
        return _shown(handle, timeout, wanted)
    except KeyboardInterrupt as stop:
        stop.add_note("Only the waiting was interrupted: the work goes on. Wait again, or cancel() it.")
        raise


def _shown(handle: Batch | Operation | Gathered, timeout: float | None, wanted: bool | None) -> bool:
    patience = PATIENCE_S if timeout is None else min(PATIENCE_S, timeout)
    if handle.wait(patience):
        return True
    left = None if timeout is None else timeout - patience
    if wanted or (wanted is None and somebody_looks()):
        return progress(handle, patience=0.0).wait(left)
    return handle.wait(left)


def progress(handle: Batch | Operation | Gathered, patience: float = PATIENCE_S) -> Shown:
    """Crosses the layers: what is drawn is the notebook's."""
    from blazing_nb.notebook.bar import Progress

    return Progress(handle, patience=patience)


def somebody_looks() -> bool:
    """In the main thread of a notebook's kernel or of a terminal: nothing is drawn from other threads."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return in_kernel() or sys.stderr.isatty()


def in_kernel() -> bool:
    """Whether this is a notebook's kernel; imports nothing."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
