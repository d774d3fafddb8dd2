"""Effects in the commit's script: if and only if the commit is accepted, and once."""

from __future__ import annotations

import pytest

from blazing_nb.core.effect import Effect
from blazing_nb.store import sharing
from blazing_nb.store.reply import Turn
from blazing_nb.store.request import Group
from tests.store.test_script import BODY, T0, Bench, ids
from tests.store.test_script import bench as bench

COUNTER = "shared:main:c:n"
EFFECTS = [
    Effect("incr", COUNTER, by=5),
    Effect("incr", COUNTER, by=-2),
    Effect("set", "shared:main:r:x", value=b"\xffone"),
    Effect("set", "shared:main:r:x", value=b"two"),
    Effect("append", "shared:main:l:log", value=b"line", origin="op#0"),
    Effect("publish", "chan:news", value=b"\0news", origin="op#1"),
]


def commit(bench: Bench, worker: str, done: list[tuple[str, int]], body: bytes = BODY) -> Turn:
    """Each operation with all the effects."""
    rows = Group("f:n:n1", 100, 60_000, [i for i, _ in done], [c for _, c in done], [7] * len(done), [T0] * len(done))
    effects = {f"f:n:n1:{i}": EFFECTS for i, _ in done}
    bodies = [body] * len(done)
    return bench.store.turn(worker, bench.workers[worker], [rows], bodies, [], effects=effects, now_ms=bench.now)


def seen(bench: Bench) -> tuple[dict[bytes, bytes], dict[bytes, bytes], list[bytes], list[bytes]]:
    """Counter, register, log and channel."""
    app, store = bench.store.keys.app, bench.store
    return (
        sharing.state(store, sharing.key_of(app, COUNTER)),
        sharing.state(store, sharing.key_of(app, "shared:main:r:x")),
        [row.payload for row in sharing.entries(store.connection(), sharing.key_of(app, "shared:main:l:log"), "0-0")],
        [row.payload for row in sharing.entries(store.connection(), sharing.key_of(app, "chan:news"), "0-0")],
    )


NOTHING: object = ({}, {}, [], [])
ONCE = ({b"p:0": b"5", b"n:0": b"2"}, {b"v:": b"2 0 two"}, [b"line"], [b"\0news"])


def test_effects_are_done_with_the_commit_and_once(bench: Bench) -> None:
    bench.enqueue(1)
    done = ids(bench.claim(bench.a))
    assert seen(bench) == NOTHING
    assert commit(bench, bench.a, done).accepted == 1
    assert seen(bench) == ONCE
    again = commit(bench, bench.a, done)  # W7: its reply was lost
    assert (again.accepted, again.lost) == (0, [])
    assert seen(bench) == ONCE
    assert bench.totals().get("broken", 0) == 0


def test_a_fenced_commit_does_nothing(bench: Bench) -> None:
    bench.enqueue(2)
    done = ids(bench.claim(bench.a))
    bench.pass_ms(2 * LEASE_MS, bench.b)
    taken = ids(bench.claim(bench.b))
    assert [claims for _, claims in taken] == [2, 2]
    assert len(commit(bench, bench.a, done).lost) == 2
    assert seen(bench) == NOTHING
    commit(bench, bench.b, taken[:1])
    assert seen(bench) == ONCE


LEASE_MS = 1000


@pytest.mark.parametrize("letter", [b"F", b"C"])
def test_what_did_not_succeed_has_no_effects(bench: Bench, letter: bytes) -> None:
    bench.enqueue(1)
    done = ids(bench.claim(bench.a))
    assert commit(bench, bench.a, done, letter + BODY[1:]).accepted == 1
    assert seen(bench) == NOTHING


def test_effects_of_one_operation_of_a_batch_are_its_own(bench: Bench) -> None:
    bench.enqueue(3)
    done = ids(bench.claim(bench.a))
    group = Group("f:n:n1", 100, 60_000, [i for i, _ in done], [1] * 3, [7] * 3, [T0] * 3)
    effects = {f"f:n:n1:{done[1][0]}": EFFECTS[:1]}
    bench.store.turn(bench.a, bench.workers[bench.a], [group], [BODY] * 3, [], effects=effects, now_ms=T0)
    assert seen(bench)[0] == {b"p:0": b"5"}


def test_a_counter_that_is_full_is_counted_as_broken_and_breaks_no_commit(bench: Bench) -> None:
    key = sharing.key_of(bench.store.keys.app, COUNTER)
    bench.store.connection().call("HSET", key, "p:0", str(2**63 - 1))
    bench.enqueue(1)
    assert commit(bench, bench.a, ids(bench.claim(bench.a))).accepted == 1
    assert bench.store.connection().call("HGET", bench.store.keys.prefix + "stats:f", "broken") == b"1"
    assert seen(bench)[2:] == ONCE[2:]


def test_a_key_of_another_type_is_counted_as_broken_and_breaks_no_commit(bench: Bench) -> None:
    call, app = bench.store.connection().call, bench.store.keys.app
    for rest in (COUNTER, "shared:main:r:x", "shared:main:l:log", "chan:news"):
        call("SET", sharing.key_of(app, rest), "not what it should be")
    bench.enqueue(1)
    assert commit(bench, bench.a, ids(bench.claim(bench.a))).accepted == 1
    assert bench.totals()["broken"] == 6
    assert "6 times a segment or an effect of f met a key" in bench.store.snapshot(now_ms=bench.now).alarms[0]
    assert bench.status(1) == "FINAL"
