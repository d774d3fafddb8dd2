"""What must hold of one seed of the simulation in the end: its history (`checker.py`), its outcomes, what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import decode_outcome
from tests.fault.checker import Checker

if TYPE_CHECKING:
    from tests.fault.world import World

Demand = Callable[[bool, str], None]
_decode = msgspec.msgpack.Decoder(strict=False).decode


def check(world: World) -> list[str]:
    """What is violated."""
    checker = Checker()
    world.tell(checker)
    for _, fields in world.store.connection().call("XRANGE", f"{world.prefix}trace", "-", "+"):
        try:
            checker.see(_decode(fields[1]))
        except KeyError as error:
            checker.demand(False, f"I2: {error} was never enqueued")
    checker.finish()
    _accounts(world, checker.demand)
    ops = list(world.acknowledged.values())
    for op, row in zip(ops, world.store.status(ops), strict=True):
        checker.demand(bool(row.record), f"I1: {op.text} was acknowledged and is {row.status}")
        if row.record:
            _compare(world, op, row.record, checker.demand)
    if world.wide:
        _registers(world, checker)
        _heard(world, ops, checker.demand)
    return checker.violations


def _accounts(world: World, demand: Demand) -> None:
    snapshot = world.store.snapshot(now_ms=world.server_ms())
    depth = snapshot.waiting + snapshot.parked + snapshot.claimed
    demand(depth == 0, f"I9, I14: {depth} are left long after the last fault")
    for step in snapshot.steps:
        demand(step.enqueued == depth + step.finished, f"I19: {step}")


def _compare(world: World, op: OperationId, record: bytes, demand: Demand) -> None:
    letter, text = record[:1].decode(), op.text
    if letter == "S":
        demand(decode_outcome(record).payload == world.wanted[text], f"{text} has the result of another")
        demand(world.executions[text] > 0, f"I10: {text} was never executed")
    elif letter == "C":
        waited = op.step == "j" or any(who == text for who, _ in world.suspends)
        demand(waited or text in world.cancels, f"{text} ended as cancelled, and nobody asked for it")
    elif letter == "X":
        demand(op.step == "x", f"{text} expired and has no deadline")
    else:
        demand(letter == "L" or (letter == "F" and world.wide), f"{text} ended as {letter}")


def _registers(world: World, checker: Checker) -> None:
    """What a commit does beside its record is there exactly where it was accepted, and nothing stays behind."""
    call, demand = world.store.connection().call, checker.demand
    for (name, entry), op in checker.ops.items():
        text, step = f"{name}:{entry}", name.partition(":")[0]
        if op.state != "final":
            continue
        done = int(call("HGET", f"{world.prefix}e:{text}", "p:0") or 0)
        demand(
            done == (op.token[0] == "S" and step == "f"), f"I3: the effect of {text} ({op.token}) was done {done} times"
        )
        # One that was registered again by a late request was never sealed, and expires.
        demand(call("PTTL", f"{world.prefix}join:{text}") != -1, f"I11: the join of {text} outlives it")
        mourned = call("ZSCORE", f"{world.prefix}failed:{step}", text) is not None
        demand(mourned == (op.token[0] in "FLX"), f"the register of failures has {text} ({op.token}): {mourned}")


def _heard(world: World, ops: list[OperationId], demand: Demand) -> None:
    """I8: the node of each operation was told that it is final."""
    told: dict[tuple[str, int], set[int]] = {}
    for op in ops:
        node = op.node, op.incarnation
        if node not in told:
            rows = world.store.connection().call("XRANGE", world.store.keys.done(*node), "-", "+")
            told[node] = {int(counter) for _, fields in rows for counter in fields[::2] if counter.isdigit()}
        demand(op.counter in told[node], f"I8: {op.node} was never told of {op.text}")
