"""What the model of the queue (`core/queue`) holds, is given and is told. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from blazing_nb.core.join import Tally

PARKED = "@parked"


class Dot(NamedTuple):
    """(segment, incarnation, counter)."""

    segment: str
    incarnation: int
    counter: int

    @property
    def step(self) -> str:
        return self.segment.partition(":")[0]

    @property
    def member(self) -> str:
        return f"{self.segment}|{self.incarnation}-{self.counter}"


class Entry(msgspec.Struct):
    """An operation that is not final. `owner`: "" waits, `@parked`, or a worker."""

    enqueued_ms: int
    deadline_ms: int = 0
    owner: str = ""
    claims: int = 0
    deaths: int = 0
    releases: int = 0
    died: tuple[str, int] = ("", 0)
    """The worker that died under it last, and its claim."""
    due_ms: int = 0
    solo: bool = False
    need: str = ""
    """The Python whose workers alone can load it; empty where any can."""
    cancel: bool = False
    waited: int = 0
    """The last claim that gave it back until others are final."""
    groups: list[Tally[Dot]] | None = None
    """What it waits for, or waited for; and not before `after_ms`."""
    after_ms: int = 0


class Limit(NamedTuple):
    """In flight (0: any number), milliseconds between two claims (0: no rate), burst."""

    in_flight: int = 0
    interval_ms: float = 0.0
    burst: int = 1


class Row(NamedTuple):
    """One of a commit: claim number, letter, the delay of a retry, and which step follows a success ("": none)."""

    dot: Dot
    claims: int
    letter: str
    delay_ms: int = 0
    next_step: str = ""
    groups: tuple[Tally[Dot], ...] = ()
