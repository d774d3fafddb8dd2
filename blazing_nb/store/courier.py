"""A call under way, as a file descriptor: a worker's loop goes on while the store works, or is far."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from blazing_nb.store.connection import TRANSIENT, Argument, Connection, Reply, packed

log = logging.getLogger(__name__)


class Courier:
    """Carries one call at a time: `send`, then `answer` once `fileno` is readable. It never tries again:
    what it could not carry may have arrived, and whoever sent it decides."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._raw: Any = None
        self.overdue_s = 0.0
        """The monotonic moment after which no answer is to be expected."""

    @property
    def away(self) -> bool:
        """Whether a call is under way."""
        return self._raw is not None

    def send(self, *words: Argument, unless: Callable[[], bool] = lambda: False) -> bool:
        """Send one command; False where the store could not be reached, or where `unless` says so once there is a
        socket, which is kept."""
        try:
            raw = self.connection.open(*words)
            if unless():
                return False
            raw.send_packed_command(packed(raw, words), check_health=False)
        except TRANSIENT as error:
            self._fail(error)
            return False
        self._raw, self.overdue_s = raw, time.monotonic() + self.connection.timeout_s
        return True

    def fileno(self) -> int:
        return int(self._raw._sock.fileno())

    def answer(self) -> Reply | None:
        """The reply, waited for until it is overdue; None where none came, or the store refused."""
        raw, self._raw = self._raw, None
        done = False
        try:
            reply = raw.read_response(timeout=max(0.0, self.overdue_s - time.monotonic()))
            done = True
            return reply
        except (*TRANSIENT, ResponseError) as error:
            self._fail(error)
            return None
        finally:
            if not done:
                raw.disconnect()

    def _fail(self, error: Exception) -> None:
        log.info("a turn did not come back: %s", error)
        self.connection.doubt()

    def forget(self) -> None:
        """Drop a call under way with its socket: its answer can never be read as another's."""
        if self._raw is not None:
            self._raw.disconnect()
            self._raw = None
