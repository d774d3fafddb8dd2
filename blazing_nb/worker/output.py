"""What running steps print: caught per operation, capped, and handed to the worker, which stores it."""

from __future__ import annotations

import io
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from blazing_nb.worker.current import running

LIMIT = 64 << 10
CUT = "\n[the rest of the output was cut off]\n"
Rows = list[tuple[str, int, int, str]]


class Catcher:
    """Output by operation and claim, as it comes. `take` empties it; `on_news` is called when it was empty."""

    def __init__(self, on_news: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._parts: dict[tuple[str, int], list[str]] = {}
        self._numbers = itertools.count(1)
        self._on_news = on_news

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, operation: str, claim: int, text: str) -> None:
        with self._lock:
            news = not self._parts
            self._parts.setdefault((operation, claim), []).append(text)
        if news:
            self._on_news()

    def take(self) -> Rows:
        """(operation, claim number, number of the text, text) of everything since the last time."""
        with self._lock:
            parts, self._parts = self._parts, {}
        return [(*key, next(self._numbers), "".join(texts)) for key, texts in parts.items()]


class Stream(io.TextIOBase):
    """Stands for stdout or stderr: what a step writes goes to its operation, everything else where it went before."""

    def __init__(self, through: TextIO, catcher: Catcher) -> None:
        self._through = through
        self._catcher = catcher

    def write(self, text: str) -> int:
        execution = running.get()
        if execution is None:
            return self._through.write(text)
        left = LIMIT - execution.printed
        if left > 0:
            execution.printed += len(text)
            cut = text if len(text) <= left else text[:left] + CUT
            self._catcher.add(execution.operation, execution.claim, cut)
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


def catch(catcher: Catcher) -> None:
    """From now on what steps print in this process goes to `catcher`."""
    sys.stdout, sys.stderr = Stream(sys.stdout, catcher), Stream(sys.stderr, catcher)


def release() -> None:
    """Undo `catch`, as often as it was done."""
    while isinstance(sys.stdout, Stream):
        sys.stdout = sys.stdout._through
    while isinstance(sys.stderr, Stream):
        sys.stderr = sys.stderr._through
