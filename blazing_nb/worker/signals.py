"""Signals as counts that the main thread waits for on a socket. A handler does nothing but count: one that took a lock
could meet it held by the code that it interrupted."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections import Counter
from types import FrameType


class Signals:
    """Counts the signals given while it is entered; only in the main thread."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self.seen: Counter[int] = Counter()

    def __enter__(self) -> Signals:
        self._in, self._out = socket.socketpair()
        self._in.setblocking(False)
        self._out.setblocking(False)
        self._earlier = signal.set_wakeup_fd(self._out.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._count) for number in self._numbers}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._earlier)
        self._in.close()
        self._out.close()

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.seen[number] += 1

    @property
    def ends(self) -> int:
        """How often somebody asked this process to end."""
        return self.seen[signal.SIGTERM] + self.seen[signal.SIGINT]

    def wait(self, timeout: float) -> None:
        """Until a signal or `wake` came since the last wait, or for `timeout` seconds."""
        if select.select([self._in], [], [], max(0.0, timeout))[0]:
            self._in.recv(4096)

    def wake(self) -> None:
        """End the wait; from any thread."""
        with contextlib.suppress(OSError):  # it is awake already, or has ended
            self._out.send(b"\0")
