"""What is asked of the queue in a wide simulation, and how operations end there: joins, flows, deadlines, effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blazing_nb.client.node import Call
from blazing_nb.core.dependency import Members
from blazing_nb.core.dot import Range
from blazing_nb.core.effect import Effect
from blazing_nb.core.outcome import encode_body
from blazing_nb.store.join import Join, suspend_body
from blazing_nb.worker.job import Finished, Job, Next
from tests.fault.awaited import Awaited

if TYPE_CHECKING:
    from tests.fault.world import World

CODE = b"\0" * 32
STEPS = ["f", "g", "j", "m", "s", "x", "z"]
"""f has effects, g limits, j waits for others, m is a flow's first stage and z its second, s is ticked, x expires."""
CAP = 8
DEADLINE_MS = 1500
FAIL, SUSPEND = 0.05, 0.06
KINDS = {"f": 4, "g": 1, "j": 4, "m": 2, "x": 2}


def wish(world: World, prepared: list[Any]) -> Call:
    """One node's next call."""
    [step] = world.odd.choices(list(KINDS), list(KINDS.values()))
    if step == "j":
        joins = tuple(Join(groups, at) for at in range(len(prepared)) if (groups := _groups(world)))
        return Call(step, CODE, prepared, prio="d", delay_ms=world.odd.randrange(500), joins=joins)
    return Call(step, CODE, prepared, cap=CAP if step == "f" else 0, expires_ms=DEADLINE_MS if step == "x" else 0)


def _groups(world: World) -> tuple[Members, ...]:
    """Of what was acknowledged; now and then of what never was."""
    groups = []
    for _ in range(world.odd.randrange(3)):
        ranges = world.odd.sample(world.ranges, min(len(world.ranges), 1 + world.odd.randrange(2)))
        if world.odd.random() < 0.1:
            ranges.append(Range("f", "n", "never", 7, 1, 2))
        if ranges:
            total = sum(map(len, ranges))
            needed = total if world.odd.random() < 0.6 else 1 + world.odd.randrange(total)
            rule = world.odd.choice([("S", "F"), ("*", ""), ("S", "C"), ("S", "")])
            groups.append(Members(tuple(ranges), needed, *rule))
    return tuple(groups)


def end(world: World, job: Job, body: bytes, payload: bytes) -> Finished:
    """How it ends: as `body` says, failed for good, or waiting for others; with what is done beside."""
    step, draw = job.operation.partition(":")[0], world.odd.random()
    effects = (Effect("incr", f"e:{job.operation}", 1),) if step == "f" else ()
    follows = (Next("z", "n", b"after " + job.entry[1][1][:40], 1, "", 0, 0),) if step == "m" else ()
    if body[:1] == b"S" and world.stormy and draw < FAIL:
        body = b"F" + encode_body(int(job.entry[1][3]), job.claimed_ms, 0, 1, job.attempt, payload)
    elif body[:1] == b"S" and world.stormy and draw < FAIL + SUSPEND and (join := _earlier(world, job)):
        world.suspends[job.operation, job.claim.claims] = Awaited(join.heads(), join.rows())
        return Finished(job, suspend_body(join, job.claimed_ms), 1)
    return Finished(job, body, 1, follows=follows, effects=effects)


def _earlier(world: World, job: Job) -> Join | None:
    """Some that were acknowledged before it, so that nobody waits for himself."""
    mine = world.order.get(job.operation, 0)
    before = [range_ for range_ in world.ranges if world.order.get(range_.at(len(range_) - 1).text, mine) < mine]
    if not before or job.operation.partition(":")[0] == "x":
        return None
    chosen = world.odd.choice(before)
    few = Range(
        chosen.step, chosen.prio, chosen.node, chosen.incarnation, chosen.first, min(chosen.last, chosen.first + 2)
    )
    return Join((Members.of([few], ending=world.odd.choice(["F", "C", ""])),))
