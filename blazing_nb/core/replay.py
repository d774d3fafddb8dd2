"""What a step says where a workflow calls it, instead of running there and then. Pure; the worker supplies the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

from blazing_nb.core.codec import Prepared


class Invocation(msgspec.Struct, frozen=True):
    """A call of a step, checked and encoded. Durations and moments in milliseconds; 0: none."""

    app: str
    step: str
    prepared: Prepared
    prio: str = "n"
    delay_ms: int = 0
    at_ms: int = 0
    expires_ms: int = 0
    expires_at_ms: int = 0
    options: bytes = b""


class Replay(Protocol):
    """A workflow that runs, or is run again over its history."""

    def call(self, invocation: Invocation) -> Awaitable[Any]:
        """What the workflow awaits: the outcome of the operation that this call is, now or from its history."""

    def gather(self, awaitables: Sequence[Awaitable[Any]], return_exceptions: bool) -> Awaitable[list[Any]]:
        """All of them, in order."""

    def first(self, awaitables: Sequence[Awaitable[Any]], k: int) -> Awaitable[list[Any]]:
        """The first `k` values; the others are given up."""


replaying: ContextVar[Replay | None] = ContextVar("replaying", default=None)
"""The workflow that runs here; None outside of one."""
