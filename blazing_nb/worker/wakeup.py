"""What wakes the turn loop: a socket that it sleeps on beside its bells, and that any thread may write to."""

from __future__ import annotations

import logging
import socket

log = logging.getLogger(__name__)


class Wakeup:
    """Costs nothing while the loop is awake: it says when it sleeps."""

    def __init__(self) -> None:
        self.heard, self._told = socket.socketpair()
        self.heard.setblocking(False)
        self._told.setblocking(False)
        self.waiting = False

    def wake(self) -> None:
        if self.waiting:
            self.waiting = False
            try:
                self._told.send(b"1")
            except OSError:
                log.debug("the turn loop is awake already, or has ended")

    def clear(self) -> None:
        """It was heard."""
        self.heard.recv(4096)

    def close(self) -> None:
        self.heard.close()
        self._told.close()
