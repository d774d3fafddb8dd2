"""Zombie commits: a worker that holds other live claims in the same segment commits what is not its own any more.

python -m tests.fault.zombie --commits 10000 --json
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import msgspec

from benchmarks.server import server
from blazing_nb.core.dot import OperationId
from blazing_nb.store.request import Chunk, Group
from blazing_nb.store.store import Store

EACH = 100
ALIVE = 10
LEASE_MS = 3_600_000
SEGMENT = "f:n:n1"
BODY = b"S" + msgspec.msgpack.encode([1, 1, 5, 7, 1, b"\0\xc0"])
Rows = list[tuple[str, int]]


class Zombies:
    """Worker `a` claims and gives back; `b` claims the same; `a` holds ten others and commits those of `b`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.node = store.open_node("n1")
        self.first = 1
        self.workers = {name: store.open_worker(name, LEASE_MS) for name in "ab"}
        self.refused = self.applied = self.accepted = 0

    def claim(self, name: str, n: int) -> Rows:
        reply = self.turn(name, [], n)
        return [(entry[0].decode(), claim.claims) for claim in reply.claims for entry in claim.entries]

    def turn(self, name: str, rows: Rows, budget: int = 0, held: int = ALIVE):  # type: ignore[no-untyped-def]
        incarnation = self.workers[name]
        rows = sorted(rows, key=lambda row: int(row[0].split("-")[1]))
        group = Group(
            SEGMENT, held, 60_000, [i for i, _ in rows], [c for _, c in rows], [7] * len(rows), [1] * len(rows)
        )
        lanes = [(budget, ["f"])] if budget else []
        worker = f"{name}.{incarnation}"
        return self.store.turn(worker, incarnation, [group] if rows else [], [BODY] * len(rows), lanes)

    def round(self) -> None:
        self.store.enqueue(Chunk("f", "n", "n1", self.node, self.first, [b"x"] * EACH))
        self.first += EACH
        old = self.claim("a", EACH)
        self.store.release(f"a.{self.workers['a']}", [(SEGMENT, [i for i, _ in old], [c for _, c in old])])
        taken: Rows = []
        while len(taken) < EACH:
            taken += self.claim("b", EACH)
        self.store.enqueue(Chunk("f", "n", "n1", self.node, self.first, [b"x"] * ALIVE))
        self.first += ALIVE
        alive = self.claim("a", ALIVE)
        for zombies in (old, taken):  # with the claim number that it had, and with the one that is right for b
            reply = self.turn("a", zombies)
            self.refused += len(reply.lost)
            self.applied += reply.accepted
        self.accepted += self.turn("b", taken, held=EACH).accepted + self.turn("a", alive).accepted

    def report(self) -> dict[str, int]:
        ids = [OperationId("f", "n", "n1", self.node, counter) for counter in range(1, self.first)]
        mine = str(self.workers["b"]).encode()
        rows = self.store.status(ids)
        by_b = sum(row.record[1:].startswith(mine) for row in rows)
        return {
            "zombie_commits": self.refused + self.applied,
            "refused": self.refused,
            "applied": self.applied,
            "accepted": self.accepted,
            "operations": len(ids),
            "committed_by_their_holder": by_b,
        }


def run(url: str, app: str, commits: int) -> dict[str, int]:
    store = Store(app, url)
    zombies = Zombies(store)
    while zombies.refused + zombies.applied < commits:
        zombies.round()
    report = zombies.report()
    store.close()
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with server(aof=False) as (url, _):
        report = run(url, f"zombies-{os.getpid()}", args.commits)
    print(json.dumps(report) if args.json else report)
    return 1 if report["applied"] or report["refused"] < args.commits else 0


if __name__ == "__main__":
    sys.exit(main())
