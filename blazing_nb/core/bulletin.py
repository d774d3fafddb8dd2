"""What a worker says of itself with each heartbeat, for views: lanes, memory, what runs, what failed."""

from __future__ import annotations

import msgspec


class LaneLoad(msgspec.Struct, frozen=True, array_like=True):
    """One lane: operations held, places, and how many executed on average since the last heartbeat."""

    name: str
    held: int
    slots: int
    executing: float


class Ongoing(msgspec.Struct, frozen=True, array_like=True):
    """An operation that runs. `progress`, if it said any: done, total (-1: not known), text."""

    operation: str
    attempt: int
    for_s: float
    progress: tuple[float, float, str] | None = None
    claim: int = 0


class Setback(msgspec.Struct, frozen=True, array_like=True):
    """An attempt that failed, `at_s` seconds since 1970 on the worker's clock."""

    operation: str
    at_s: float
    error: str


class Bulletin(msgspec.Struct, frozen=True, array_like=True):
    """All of it. `rss` in bytes; at most `SHOWN` operations and failures."""

    rss: int = 0
    lanes: list[LaneLoad] = []
    ongoing: list[Ongoing] = []
    failures: list[Setback] = []


SHOWN = 8
TEXT_LIMIT = 200
_decode = msgspec.json.Decoder(Bulletin).decode


def encode_bulletin(bulletin: Bulletin) -> str:
    return msgspec.json.encode(bulletin).decode()


def decode_bulletin(text: str) -> Bulletin:
    """An empty one where the text is none: an older worker says nothing, and a view must not fail for it."""
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return Bulletin()
