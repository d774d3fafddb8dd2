"""Joins as the store takes them: what an operation waits for, and the registration of many members in bounded calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blazing_nb.core.dependency import Members

if TYPE_CHECKING:
    from blazing_nb.store.store import Store

INLINE = 128
"""Members that travel with the enqueue or the commit; more are registered before."""
A_CALL = 1024


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


def suspend_body(joins: Join, claimed_ms: int, due_ms: int = 0) -> bytes:
    """The body of a commit that gives an operation back until others are final; `register` before, under its claim."""
    return b"J" + msgspec.msgpack.encode([due_ms, joins.heads(), joins.inline(), claimed_ms])
