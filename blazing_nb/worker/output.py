"""What running steps print, log and show: caught per operation, capped, and handed to the worker, which stores it."""

from __future__ import annotations

import io
import itertools
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from blazing_nb.core.output import JOINED, LOG, STDERR, STDOUT
from blazing_nb.worker.current import Running, running

CUT = "\n[the rest of the output was cut off]\n"
Rows = list[tuple[str, int, int, str, str]]


class Catcher:
    """Output by operation and claim, as it comes, until it is told; `on_news` is called when there was none."""

    def __init__(self, on_news: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._parts: dict[tuple[str, int], list[tuple[str, str]]] = {}
        self._untold: Rows = []
        self._telling = threading.Lock()
        self._numbers = itertools.count(1)
        self._on_news = on_news

    def __bool__(self) -> bool:
        return bool(self._parts or self._untold)

    def add(self, execution: Running, stream: str, text: str) -> None:
        """Of one attempt, up to its limit over all streams."""
        left = execution.printable - execution.printed
        if left <= 0:
            return
        execution.printed += len(text)
        self._add(execution, stream, text if len(text) <= left else text[:left] + CUT)

    def show(self, execution: Running, stream: str, text: str) -> None:
        """A piece that stays whole, and does not count as printed."""
        self._add(execution, stream, text)

    def _add(self, execution: Running, stream: str, text: str) -> None:
        with self._lock:
            news = not self._parts
            self._parts.setdefault((execution.operation, execution.claim), []).append((stream, text))
        if news:
            self._on_news()

    def tell(self, log: Callable[[Rows], None]) -> None:
        """Hand over (operation, claim number, number of the text, stream, text) of everything since the last time. What
        could not be is handed over again, under its numbers, so that whoever reads knows it."""
        with self._telling:
            self._untold += self._take()
            if self._untold:
                log(self._untold)
                self._untold = []

    def _take(self) -> Rows:
        with self._lock:
            parts, self._parts = self._parts, {}
        rows: Rows = []
        for key, texts in parts.items():
            for stream, group in itertools.groupby(texts, key=lambda part: part[0]):
                pieces = [text for _, text in group]
                for text in ["".join(pieces)] if stream in JOINED else pieces:
                    rows.append((*key, next(self._numbers), stream, text))
        return rows


class Stream(io.TextIOBase):
    """Stands for stdout or stderr: what a step writes goes to its operation, everything else where it went before."""

    def __init__(self, through: TextIO, catcher: Catcher, name: str) -> None:
        self._through = through
        self.catcher = catcher
        self._name = name

    def write(self, text: str) -> int:
        execution = running.get()
        if execution is None:
            return self._through.write(text)
        self.catcher.add(execution, self._name, text)
        return len(text)

    def flush(self) -> None:
        if running.get() is None:
            self._through.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._through.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._through.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._through, name)


class Records(logging.Handler):
    """Log records that a step emits go to its operation too, beside the process's log."""

    def __init__(self, catcher: Catcher) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._catcher = catcher

    def emit(self, record: logging.LogRecord) -> None:
        execution = running.get()
        if execution is not None:
            self._catcher.add(execution, LOG, self.format(record) + "\n")


def catch(catcher: Catcher) -> None:
    """From now on what steps print and log in this process goes to `catcher`."""
    sys.stdout, sys.stderr = Stream(sys.stdout, catcher, STDOUT), Stream(sys.stderr, catcher, STDERR)
    if logging.root.handlers:  # else Python's last resort prints warnings to stderr, which is caught
        logging.root.addHandler(Records(catcher))


def show(stream: str, text: str) -> bool:
    """Add a piece to what the running operation shows; False where nothing is caught here."""
    execution, caught = running.get(), sys.stdout
    if execution is None or not isinstance(caught, Stream):
        return False
    caught.catcher.show(execution, stream, text)
    return True


def release() -> None:
    """Undo `catch`, as often as it was done."""
    for handler in [handler for handler in logging.root.handlers if isinstance(handler, Records)]:
        logging.root.removeHandler(handler)
    while isinstance(sys.stdout, Stream):
        sys.stdout = sys.stdout._through
    while isinstance(sys.stderr, Stream):
        sys.stderr = sys.stderr._through
