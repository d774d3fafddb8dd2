"""Draining an app: nothing new comes in, what is there is finished."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

TURN_S = 0.1


class Drained(NamedTuple):
    """How a drain ended: operations that were not final by then, and the seconds that it took.

    Examples:
        >>> with Blazing("drained") as aside:
        ...     aside.drain(timeout=30)
        <Drained drained is empty after ... s; it accepts nothing until it is resumed>
    """

    app: str
    left: int
    seconds: float

    @property
    def empty(self) -> bool:
        """Whether none was left.

        Examples:
            >>> with Blazing("drained") as aside:
            ...     aside.drain(timeout=30).empty
            True
        """
        return self.left == 0

    def __repr__(self) -> str:
        return f"<Drained {self}>"

    def __str__(self) -> str:
        state = "is empty" if self.empty else f"has {self.left} operations left"
        return f"{self.app} {state} after {self.seconds:.1f} s; it accepts nothing until it is resumed"


def drain(app: Blazing, timeout: float) -> Drained:
    """Refuse new operations from now on, of every node; wait until none is left."""
    app.store.drain(True)
    began = time.monotonic()
    while True:
        now = app.snapshot()
        left, seconds = now.waiting + now.parked + now.claimed, time.monotonic() - began
        if not left or seconds >= timeout:
            return Drained(app.app_id, left, seconds)
        time.sleep(min(TURN_S, timeout - seconds))
