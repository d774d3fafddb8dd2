"""The results that an operation waited for, read where it runs: from outcome chunks, by ids, a chunk a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from blazing_nb.core.control import Cancel
from blazing_nb.core.dependency import COLLECT, FAIL, FIRST, LEFT_OUT, ONE, Dependency, groups_of, replace
from blazing_nb.core.dot import OperationId, Range, ranges_of
from blazing_nb.core.outcome import decode_outcome, goes_on
from blazing_nb.core.result import exception_of, unmet, value_of
from blazing_nb.core.signature import KeyRing
from blazing_nb.core.status import LETTER
from blazing_nb.errors import OperationUnknown
from blazing_nb.store import query
from blazing_nb.store.join import Join, register
from blazing_nb.store.store import Store


class NotYet(Exception):
    """Something that it waits for is not final (it is a retry of what failed early): it is parked until it is."""

    def __init__(self, join: Join) -> None:
        super().__init__("its dependencies are not final")
        self.join = join


class Member(NamedTuple):
    """One that was waited for. `record`: empty where the store does not know it."""

    op: OperationId
    record: bytes

    @property
    def good(self) -> bool:
        return self.record[:1] == b"S"

    @property
    def story(self) -> str:
        if not self.record:
            return f"{self.op.text} is not in the store: never stored, or its retention has passed"
        return f"{self.op.text} ended {LETTER[chr(self.record[0])]}"


class Inputs:
    """Reads dependencies of one app's operations; safe to use from many threads."""

    def __init__(self, app: str, ring: KeyRing, store: Store) -> None:
        self._app = app
        self._ring = ring
        self._store = store

    def fill(self, arguments: Any, found: Sequence[Dependency], operation: str, claim: int) -> Any:
        """The arguments with results in the places of dependencies.

        Raises:
            DependencyFailed: one of them did not succeed, and its rule is to fail.
            Cancel: one did not, its rule is to skip, and nothing can leave it out.
            NotYet: one is not final; its join is registered for this claim.
            TrustError: a result is not what this app signed.
        """
        firsts = query.firsts(self._store, operation) if any(d.kind == FIRST for d in found) else {}
        values, number = [], 0
        for dependency in found:
            number += dependency.kind == FIRST
            members = self._members(dependency, firsts.get(number, []) if dependency.kind == FIRST else [])
            if members is None:
                join = Join(groups_of(found))
                register(self._store, operation, join, round_=claim)
                raise NotYet(join)
            values.append(self._value(dependency, members))
        rest = iter(values)
        return replace(arguments, lambda item, _: next(rest) if type(item) is Dependency else item)

    def _members(self, dependency: Dependency, chosen: list[OperationId]) -> list[Member] | None:
        """Those whose outcomes count; None where that is not decided. Of a `first`, those that the store recorded, else
        (a retry has no join) the first by their ends."""
        if len(chosen) >= dependency.needed > 0:
            return self._read(ranges_of(chosen))[0]
        members, open_ = self._read(dependency.ranges)
        if dependency.kind == FIRST:
            good = [m for m in members if m.good or (dependency.rule == COLLECT and m not in open_)]
            if len(good) >= dependency.needed:
                return sorted(good, key=_end)[: dependency.needed]
        return None if open_ else members

    def _read(self, ranges: Sequence[Range]) -> tuple[list[Member], list[Member]]:
        """All members, those of flows where they are now; and those that are not final."""
        members = [Member(*row) for row in query.records(self._store, ranges)]
        while moved := {i: onto for i, member in enumerate(members) if (onto := _onto(member)) is not None}:
            there = query.records(self._store, ranges_of(moved.values()))
            for i, row in zip(moved, there, strict=True):
                members[i] = Member(*row)
        asked = [member.op for member in members if not member.record]
        rows = dict(zip(asked, self._store.status(asked), strict=True))
        members = [m if m.record else Member(m.op, rows[m.op].record) for m in members]
        return members, [m for m in members if not m.record and rows[m.op].status != "ABSENT"]

    def _value(self, dependency: Dependency, members: list[Member]) -> Any:
        bad = [member for member in members if not member.good]
        single = dependency.kind == ONE
        if bad and dependency.rule == FAIL:
            raise unmet(bad[0].story) from self._exception(bad[0])
        if bad and dependency.rule != COLLECT:
            if single and not dependency.listed:
                raise Cancel(f"skipped: {bad[0].story}")
            members = [member for member in members if member.good]
        values = [self._decoded(member) for member in members]
        if single:
            return values[0] if values else LEFT_OUT
        return values

    def _decoded(self, member: Member) -> Any:
        if member.good:
            return value_of(self._app, self._ring, member.op, member.record)
        return self._exception(member)

    def _exception(self, member: Member) -> Exception:
        if not member.record:
            return OperationUnknown(member.story + ".", operation=member.op.text)
        return exception_of(self._app, self._ring, member.op, decode_outcome(member.record))


def _onto(member: Member) -> OperationId | None:
    """Where a flow goes on from there."""
    if not member.good or not goes_on(member.record):
        return None
    return OperationId.parse(decode_outcome(member.record).place.partition("|")[2])


def _end(member: Member) -> float:
    """When it ended, in server milliseconds; what is unknown last."""
    if not member.record:
        return float("inf")
    outcome = decode_outcome(member.record)
    return outcome.claimed_ms + (outcome.queued_us + outcome.run_us) / 1000
