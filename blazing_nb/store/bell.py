"""The bell: one blocking pop on the wake-up lists, as a file descriptor that a loop can wait on."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from blazing_nb.store.connection import TRANSIENT, Connection, packed, refusal

log = logging.getLogger(__name__)
WAIT_S, LATE_S = 1.0, 2.0
"""How long the server waits, and how late its answer may be; with a short socket timeout less. See `Bell`."""
FAILED_S = 0.1
"""A bell that could not be asked is left alone for so long: whoever waits looks by itself meanwhile."""


class Bell:
    """One waiter: `listen` asks, `fileno` is readable when somebody rang (or after a second).

    A connection that is alive but silent is given up within one and a half socket timeouts (three seconds at most).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._raw: Any = None
        self._asked_at = self._failed_at = 0.0
        self._keys: frozenset[str] = frozenset()
        self._told = False
        self._wait_s = min(WAIT_S, connection.timeout_s / 2)
        self._given_s = self._wait_s + min(LATE_S, connection.timeout_s)
        self.broken = False
        """Whether the last answer was that the connection is gone."""
        self.missed = False
        """Whether a token may have been taken that nobody heard of."""

    @property
    def listening(self) -> bool:
        return self._raw is not None

    @property
    def patience_s(self) -> float:
        """After how long `listen` is to be called again, answer or not."""
        now = time.monotonic()
        if self._raw is None:
            left_s = self._failed_at + FAILED_S - now
            return left_s if left_s > 0 else WAIT_S
        return max(0.0, self._asked_at + self._given_s - now)

    def listen(self, keys: Sequence[str]) -> bool:
        """Ask for a token of any of `keys`, unless asked for them already; False where the store cannot be reached."""
        if self._raw is not None and self.patience_s > 0 and self._keys.issuperset(keys):
            return True
        self.missed |= self.listening
        if self._raw is not None and self.patience_s == 0:
            self._connection.doubt(silent=True)
        self.forget()
        if time.monotonic() - self._failed_at < FAILED_S:
            return False
        try:
            raw = self._connection.open("BLPOP", *keys)
            raw.send_packed_command(packed(raw, ("BLPOP", *keys, self._wait_s)), check_health=False)
        except TRANSIENT as error:
            self._fail(error)
            return False
        self._raw, self._asked_at, self._keys = raw, time.monotonic(), frozenset(keys)
        return True

    def fileno(self) -> int:
        return int(self._raw._sock.fileno())

    def answer(self) -> str | None:
        """Read the reply that `fileno` announced; the key of the token that came, or None."""
        raw, self._raw, self.broken = self._raw, None, False
        try:
            reply = raw.read_response()
            return None if reply is None else str(reply[0].decode())
        except TRANSIENT as error:
            problem: Exception = error
        except ResponseError as error:
            problem = refusal(error, ())
            if not self._told:
                log.warning(
                    "no bell is heard: work is looked for once a second, news of steps and cancels wait: %s", problem
                )
            self._told = True
        raw.disconnect()
        self._fail(problem)
        return None

    def _fail(self, error: Exception) -> None:
        log.info("bell: %s", error)
        self._failed_at, self.broken, self.missed = time.monotonic(), True, True
        self._connection.doubt()

    def forget(self) -> None:
        """Drop an unanswered question with its socket: its answer can never be read as another's."""
        if self._raw is not None:
            self._raw.disconnect()
            self._raw = None
