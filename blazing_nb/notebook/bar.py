"""A progress bar for what is awaited. Drawn by whoever waits, in their thread; `core/tally` counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TextIO

from blazing_nb.client.batch import Batch
from blazing_nb.client.gathering import Gathered, Handle, as_they_complete
from blazing_nb.client.operation import Operation
from blazing_nb.client.progress import PATIENCE_S, in_kernel
from blazing_nb.core.markup import progress_html, progress_text
from blazing_nb.core.tally import Tally
from blazing_nb.errors import BlazingError

TURN_S = 0.2
ASK_S = 1.0
LINE_S = 10.0
"""A log file gets a line so often; a terminal and a notebook are drawn anew in their place."""


class Canvas(Protocol):
    """Where a tally is drawn, again and again."""

    def draw(self, tally: Tally) -> None: ...
    def close(self, tally: Tally) -> None: ...


class Progress:
    """What is awaited, with a bar that appears after two seconds and stays as it was in the end.

    Iterating gives a batch's operations, or the handles, as they finish; `wait()` waits for all.

    Args:
        handles: an operation, a batch, what `gather` returns, or several of these.
        patience: seconds until the bar appears.
        timeout: seconds for an iteration; then `OperationTimeout`.

    Examples:
        >>> sorted(operation.result() for operation in Progress(double.map([1, 2]), timeout=10))
        [2, 4]
    """

    def __init__(
        self,
        handles: Handle | Gathered | Iterable[Handle],
        *,
        patience: float = PATIENCE_S,
        timeout: float | None = None,
    ) -> None:
        self._one = handles if isinstance(handles, Operation | Batch) else None
        whole = Gathered([handles]) if isinstance(handles, Operation | Batch) else handles
        self._whole = whole if isinstance(whole, Gathered) else Gathered(whole)
        self._patience = patience
        self._timeout = timeout
        self._canvas: Canvas | None = None
        self._asked_at = -ASK_S
        name = self._one.name if isinstance(self._one, Batch) else None
        self.tally = Tally(name or self._kind(), 1, _now_ms())
        self._count()

    def __repr__(self) -> str:
        return f"<Progress {progress_text(self._counted())}>"

    def _repr_html_(self) -> str:
        return progress_html(self._counted())

    def __len__(self) -> int:
        return len(self._one) if isinstance(self._one, Batch) else len(self._whole)

    def __iter__(self) -> Iterator[Any]:
        """As they finish. The bar is drawn between them and while the next one is awaited."""
        finished: Iterator[Any]
        if isinstance(self._one, Batch):
            finished = self._one._as_completed(self._timeout, self._turn)
        else:
            finished = as_they_complete(self._whole.handles, self._timeout, self._turn)
        try:
            for handle in finished:
                self._turn()
                yield handle
        finally:
            self.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are final; False where `timeout` seconds were not enough.

        Examples:
            >>> Progress(double.map([1, 2])).wait(timeout=10)
            True
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._whole.wait(TURN_S if end is None else max(0.0, min(TURN_S, end - time.monotonic()))):
                self._turn()
                if end is not None and time.monotonic() >= end:
                    return False
            return True
        finally:
            self.close()

    def close(self) -> None:
        """Draw it for the last time. Repeatable.

        Examples:
            >>> bar = Progress(double.map([1, 2]))
            >>> bar.wait(timeout=10)
            True
            >>> bar.close()
        """
        canvas, self._canvas = self._canvas, None
        if canvas is not None:
            self.tally.note = ""
            canvas.close(self._counted())

    def _turn(self) -> None:
        if self._canvas is None and _now_ms() - self.tally.began_ms >= self._patience * 1000:
            self._canvas = _canvas()
        if self._canvas is not None:
            self._ask()
            self._canvas.draw(self._counted())

    # -- counting ----------------------------------------------------------------------------------------------------

    def _counted(self) -> Tally:
        self._count()
        return self.tally

    def _count(self) -> None:
        done = failed = total = 0
        for handle in self._whole.handles:
            results = handle._results
            if isinstance(handle, Batch):
                counts = len(handle), handle.done_count, handle.failed_count
            else:
                record = results.records[handle._slot]
                counts = 1, int(record is not None), int(record is not None and record[:1] != b"S")
            total, done, failed = total + counts[0], done + counts[1], failed + counts[2]
        self._report = None if self.done() else self._report
        reached, of = self._report or (done, total)
        self.tally.count(reached, failed, of, _now_ms())
        if isinstance(self._one, Batch):
            self.tally.drawing = self._one.drawing()

    _report: tuple[float, float] | None = None
    """What the only operation said last of itself, while it runs."""

    def done(self) -> bool:
        return self._whole.done()

    def _ask(self) -> None:
        """Ask the store, at most once a second, why nothing comes."""
        now = time.monotonic()
        if now - self._asked_at < ASK_S:
            return
        self._asked_at = now
        try:
            self.tally.note = self._explain()
        except BlazingError as error:
            self.tally.note = f"{type(error).__name__}: {error}"

    def _explain(self) -> str:
        app = self._whole.handles[0]._app
        if self.tally.rate == 0 and not app.snapshot().workers:
            return "no workers: app.workers.start(2)"
        if isinstance(self._one, Batch):
            return self._one.whereabouts()
        if not isinstance(self._one, Operation) or self._one.done():
            return ""
        said = self._one.progress
        if said is None:
            return str(self._one.status)
        reached, total, text = said
        if total:
            self._report = reached, total
            return text
        return f"{reached:g} {text}"

    def _kind(self) -> str:
        return self._one.op.step if isinstance(self._one, Operation) else "operations"


def progress(handles: Handle | Gathered | Iterable[Handle], *, timeout: float | None = None) -> Progress:
    """Iterate handles as they finish, with a bar after two seconds: `for operation in progress(batch): ...`.

    Examples:
        >>> sorted(operation.result() for operation in progress(double.map([1, 2])))
        [2, 4]
    """
    return Progress(handles, timeout=timeout)


class NotebookCanvas:
    """An output of the cell that waits, drawn anew in its place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, tally: Tally) -> None:
        from IPython.display import display

        data = {"text/html": progress_html(tally), "text/plain": progress_text(tally)}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, raw=True)

    close = draw


class TerminalCanvas:
    """One line, drawn over itself."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._width = 0

    def draw(self, tally: Tally, end: str = "") -> None:
        line = progress_text(tally)
        self._out.write(f"\r{line.ljust(self._width)}{end}")
        self._out.flush()
        self._width = len(line)

    def close(self, tally: Tally) -> None:
        self.draw(tally, "\n")


class LogCanvas:
    """Lines of a file or a pipe, few."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn_at = -LINE_S

    def draw(self, tally: Tally) -> None:
        if time.monotonic() - self._drawn_at >= LINE_S:
            self._drawn_at = time.monotonic()
            self.close(tally)

    def close(self, tally: Tally) -> None:
        self._out.write(f"{progress_text(tally)}\n")
        self._out.flush()


def _canvas() -> Canvas:
    if in_kernel():
        return NotebookCanvas()
    return TerminalCanvas(sys.stderr) if sys.stderr.isatty() else LogCanvas(sys.stderr)


def _now_ms() -> int:
    return round(time.monotonic() * 1000)
