"""What the scripts are given, as records and as what travels. Pure: `reply` is the other direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.effect import Effect
from blazing_nb.store.durability import MEMORY
from blazing_nb.store.join import Join

STATUS_LIMIT = 1000


class Chunk(msgspec.Struct, frozen=True):
    """One call of `enqueue`: consecutive operations of one segment, identities fixed before sending."""

    step: str
    prio: str
    node: str
    incarnation: int
    first: int
    payloads: Sequence[bytes]
    cap: int = 0
    batch: str = ""
    offset: int = 0
    delay_ms: int = 0
    at_ms: int = 0
    expires_ms: int = 0
    expires_at_ms: int = 0
    key: str = ""
    joins: Sequence[Join] = ()
    durability: str = MEMORY
    before: int = 0

    @property
    def range(self) -> Range:
        """Its operations; of one with a key only the store knows which it is."""
        return Range(self.step, self.prio, self.node, self.incarnation, self.first, self.first + len(self.payloads) - 1)


class Follow(msgspec.Struct, array_like=True):
    """An operation that a commit makes. It follows row `index` (from 1) of its group, with payload `number` (from 1) of
    the call. `root`: the flow's first operation, "" where that is the one committed."""

    index: int
    number: int
    step: str
    prio: str
    left: int
    root: str
    delay_ms: int
    deadline_ms: int


LIVE = (b"R", b"W", b"J")
"""How a commit begins after which an operation is not final."""


class Group(msgspec.Struct, array_like=True):
    """What a worker finished in one segment. Rows are ascending by id; their bodies travel beside."""

    segment: str
    held: int
    retention_ms: int
    ids: list[str]
    claims: list[int]
    run_us: list[int]
    enqueued_ms: list[int]
    follows: list[Follow] = []


def parts(operations: Sequence[OperationId]) -> Iterator[list[list[str | int]]]:
    """As the scripts take them, a bounded number a call."""
    for start in range(0, len(operations), STATUS_LIMIT):
        part = operations[start : start + STATUS_LIMIT]
        yield [[op.segment, str(op.incarnation), op.counter] for op in part]


def records(incarnation: int, groups: Sequence[Group], bodies: Sequence[bytes]) -> list[bytes]:
    """With its token in each that ends an operation; made here, since the server's time is dearer than a worker's."""
    claims = [claim for group in groups for claim in group.claims]
    tokens = {claim: b"%d-%d;" % (incarnation, claim) for claim in set(claims)}
    return [
        body if body[:1] in LIVE else body[:1] + tokens[claim] + body[1:]
        for claim, body in zip(claims, bodies, strict=True)
    ]


class TurnRequest(NamedTuple):
    """What `Store.turn` takes, as one value."""

    worker: str
    incarnation: int
    groups: Sequence[Group]
    bodies: Sequence[bytes]
    lanes: Sequence[tuple[int, Sequence[str]]]
    held: int
    python: str
    payloads: Sequence[bytes]
    effects: Mapping[str, Sequence[Effect]] | None

    def parts(self) -> tuple[dict[str, Any], list[bytes]]:
        """As the script takes it: the request, and what travels beside."""
        worker, incarnation, groups, bodies, lanes, held, python, payloads, effects = self
        request: dict[str, Any] = {"worker": worker, "incarnation": str(incarnation), "groups": groups}
        request |= {"lanes": lanes, "held": held, "python": python}
        values = add_effects(request, effects, len(bodies) + len(payloads)) if effects else []
        return request, [*records(incarnation, groups, bodies), *payloads, *values]


def add_effects(request: dict[str, Any], effects: Mapping[str, Sequence[Effect]], before: int) -> list[bytes]:
    """Into the request; their values, which travel behind `before` other arguments (ARGV[3] is the first)."""
    values: list[bytes] = []

    def row(effect: Effect) -> tuple[str, str, str | int, str]:
        if effect.verb == "incr":
            return effect.verb, effect.key, str(effect.by), ""
        values.append(effect.value)
        return effect.verb, effect.key, 2 + before + len(values), effect.origin

    request["effects"] = {operation: [row(effect) for effect in of] for operation, of in effects.items()}
    return values


def flat(info: Mapping[str, str | int]) -> list[str]:
    """Names and values, one after the other."""
    return [str(item) for pair in info.items() for item in pair]
