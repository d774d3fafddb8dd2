"""Joins as the store takes them: what an operation waits for, and the registration of many members in bounded calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from blazing_nb.core.dot import OperationId, Range

if TYPE_CHECKING:
    from blazing_nb.store.store import Store

INLINE = 128
"""Members that travel with the enqueue or the commit; more are registered before."""
A_CALL = 1024


class Members(msgspec.Struct, frozen=True):
    """One group of members. It is decided as soon as `needed` of them are good, or can no longer be.

    Attributes:
        ranges: who they are.
        needed: how many must be good.
        counts: "S": good are those that succeeded; "*": all that are final.
        ending: how the waiting operation ends at once where too few can be good: "F" FAILED, "C" CANCELLED; "": it
            goes on when all are final.
    """

    ranges: tuple[Range, ...]
    needed: int
    counts: str = "S"
    ending: str = "F"

    @classmethod
    def of(cls, ranges: Iterable[Range], *, counts: str = "S", ending: str = "F") -> Members:
        """All of them are needed."""
        kept = tuple(ranges)
        return cls(kept, sum(map(len, kept)), counts, ending)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))


class Join(msgspec.Struct, frozen=True):
    """What one operation waits for: every group. At the place `at` of its chunk."""

    groups: tuple[Members, ...]
    at: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def heads(self) -> list[list[object]]:
        return [[group.needed, len(group), group.counts, group.ending] for group in self.groups]

    def rows(self, skip: int = 0, limit: int | None = None) -> list[list[object]]:
        """Members from the one after the first `skip`, at most `limit`: [group, segment, incarnation, first, last]."""
        rows: list[list[object]] = []
        left = len(self) if limit is None else limit
        for number, group in enumerate(self.groups, 1):
            for r in group.ranges:
                first, skip = r.first + min(skip, len(r)), max(0, skip - len(r))
                last = min(r.last, first + left - 1)
                if first <= last:
                    rows.append([number, f"{r.step}:{r.prio}:{r.node}", str(r.incarnation), first, last])
                    left -= last - first + 1
        return rows

    def inline(self) -> list[list[object]]:
        """What travels with the call itself: nothing where it was registered before."""
        return self.rows() if len(self) <= INLINE else []


def register(store: Store, op: str, joins: Join, *, round_: int = 0, now_ms: int | None = None) -> None:
    """Register the members of a large join, in bounded calls. Repeatable; a small one needs none."""
    done = 0 if len(joins) > INLINE else len(joins)
    while done < len(joins):
        done = store.join(op, round_, done, joins.heads(), joins.rows(done, A_CALL), now_ms=now_ms)


def ranges_of(operations: Sequence[OperationId]) -> tuple[Range, ...]:
    """Consecutive ones as ranges, in order."""
    found: list[Range] = []
    for op in operations:
        last = found[-1] if found else None
        if last is not None and (last.step, last.prio, last.node, last.incarnation, last.last + 1) == (
            op.step,
            op.prio,
            op.node,
            op.incarnation,
            op.counter,
        ):
            found[-1] = msgspec.structs.replace(last, last=op.counter)
        else:
            found.append(Range(op.step, op.prio, op.node, op.incarnation, op.counter, op.counter))
    return tuple(found)
