"""`reassert`: a worker commits again what a store that went back has lost; never over an outcome or another's claim."""

from __future__ import annotations

import msgspec
import pytest

from blazing_nb.core.dot import OperationId
from blazing_nb.core.effect import Effect
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.errors import ScriptRefused
from blazing_nb.store.reply import Reasserted
from blazing_nb.store.request import Follow, Group
from tests.store.test_script import BODY, T0, Bench, bench, ids  # noqa: F401


def again(
    bench: Bench,  # noqa: F811
    worker: str,
    *done: tuple[str, int],
    body: bytes = BODY,
    segment: str = "f:n:n1",
    follows: list[Follow] | None = None,
    **options: object,
) -> Reasserted:
    n = len(done)
    group = Group(segment, n, 60_000, [i for i, _ in done], [c for _, c in done], [7] * n, [T0] * n, follows or [])
    return bench.store.reassert(worker, bench.workers[worker], [group], [body] * n, now_ms=bench.now, **options)  # type: ignore[arg-type]


def token(bench: Bench, counter: int = 1) -> str:  # noqa: F811
    (row,) = bench.store.status([OperationId("f", "n", "n1", bench.node, counter)])
    return row.record[: row.record.index(b";")].decode() if row.record else row.status


def totals(bench: Bench) -> tuple[int, int, int, int]:  # noqa: F811
    step = bench.totals()
    flight = bench.store.connection().call("HGET", f"{bench.store.keys.prefix}stats:f", "flight")
    return step["enqueued"], step["succeeded"], int(flight or 0), bench.store.snapshot(now_ms=bench.now).waiting


def test_what_waits_again_ends_with_the_outcome_that_it_had(bench: Bench) -> None:  # noqa: F811
    bench.enqueue(3)
    row = (f"{bench.node}-2", 1)
    assert again(bench, bench.a, row) == Reasserted(1, 0, [])
    assert token(bench, 2) == f"S{bench.workers[bench.a]}-1"
    assert again(bench, bench.a, row) == Reasserted(0, 0, [])
    assert totals(bench) == (3, 1, 0, 2)
    assert ids(bench.claim(bench.b)) == [(f"{bench.node}-1", 1), (f"{bench.node}-3", 1)]


def test_what_the_worker_still_holds_is_committed_under_that_claim(bench: Bench) -> None:  # noqa: F811
    bench.enqueue(2)
    rows = ids(bench.claim(bench.a))
    assert again(bench, bench.a, *rows).accepted == 2
    assert totals(bench) == (2, 2, 0, 0)


def test_what_another_holds_is_left_to_it(bench: Bench) -> None:  # noqa: F811
    bench.enqueue(1)
    (row,) = ids(bench.claim(bench.b))
    for claims in (1, 2):
        assert again(bench, bench.a, (row[0], claims)) == Reasserted(0, 0, [f"f:n:n1:{row[0]}"])
    assert bench.turn(bench.b, [row]).accepted == 1
    assert token(bench) == f"S{bench.workers[bench.b]}-1"


def test_no_outcome_is_overwritten(bench: Bench) -> None:  # noqa: F811
    bench.enqueue(1)
    (row,) = ids(bench.claim(bench.b))
    bench.turn(bench.b, [row])
    for claims in (1, 2):
        assert again(bench, bench.a, (row[0], claims)).lost == [f"f:n:n1:{row[0]}"]
    assert token(bench) == f"S{bench.workers[bench.b]}-1"


def test_what_is_parked_ends_where_there_was_no_claim_of_that_number(bench: Bench) -> None:  # noqa: F811
    bench.enqueue(2)
    rows = ids(bench.claim(bench.b))
    bench.store.release(bench.b, [("f:n:n1", [i for i, _ in rows], [1, 1])], delay_ms=500, now_ms=bench.now)
    (first, _), (second, _) = rows
    assert again(bench, bench.a, (first, 1)).lost == [f"f:n:n1:{first}"]
    assert again(bench, bench.a, (second, 2)).accepted == 1
    parked = f"{bench.store.keys.prefix}parked:f"
    assert bench.store.connection().call("ZRANGE", parked, 0, -1) == [f"f:n:n1|{first}".encode()]
    bench.now += 600
    assert ids(bench.claim(bench.b)) == [(first, 2)]
    assert totals(bench) == (2, 1, 1, 0)
    bench.store.release(bench.b, [("f:n:n1", [first], [2])], now_ms=bench.now)
    assert again(bench, bench.a, (first, 1)).lost == [f"f:n:n1:{first}"]


def test_what_was_rescued_from_this_very_claim_ends(bench: Bench) -> None:  # noqa: F811
    """Its worker was thought dead, and had committed it before the store went back."""
    bench.enqueue(1)
    a = bench.a
    (row,) = ids(bench.claim(a))
    bench.pass_ms(1500, bench.b)
    assert token(bench) == "RETRYING"
    assert again(bench, bench.b, row).accepted == 0
    assert again(bench, a, row).accepted == 1
    assert totals(bench) == (1, 1, 0, 0)


@pytest.mark.parametrize("delay", [{}, {"prio": "d"}])
def test_what_is_not_enqueued_yet_ends_when_it_is(bench: Bench, delay: dict[str, str]) -> None:  # noqa: F811
    chunk = bench.chunk(3)
    segment = "f:n:n1"
    if delay:
        chunk, segment = msgspec.structs.replace(chunk, prio="d", delay_ms=50), "f:d:n1"
    row = (f"{bench.node}-2", 2)
    for _ in range(2):
        assert again(bench, bench.a, row, segment=segment) == Reasserted(0, 1, [])
    assert [bench.store.enqueue(chunk, now_ms=bench.now) for _ in range(2)] == ["added", "known"]
    (found,) = bench.store.status([OperationId("f", segment[2], "n1", bench.node, 2)])
    assert found.record.startswith(b"S%d-2;" % bench.workers[bench.a])
    bench.now += 100
    assert [i for i, _ in ids(bench.claim(bench.b))] == [f"{bench.node}-1", f"{bench.node}-3"]
    assert totals(bench) == (3, 1, 2, 0)
    assert again(bench, bench.a, row, segment=segment) == Reasserted(0, 0, [])


def test_its_effects_and_what_follows_come_with_it_once(bench: Bench) -> None:  # noqa: F811
    bench.enqueue(1)
    op = f"f:n:n1:{bench.node}-1"
    effects = {op: [Effect("incr", "shared:s:counter:n", 2)]}
    follows = [Follow(1, 1, "g", "n", 0, "", 0, 0)]
    body = b"S\x97" + BODY[2:]
    for n in (1, 0):
        found = again(
            bench, bench.a, (f"{bench.node}-1", 1), body=body, follows=follows, payloads=[b"next"], effects=effects
        )
        assert found == Reasserted(n, 0, [])
    (row,) = bench.store.status([OperationId("f", "n", "n1", bench.node, 1)])
    follower = OperationId.parse(decode_outcome(row.record).place.partition("|")[2])
    assert bench.store.status([follower])[0].status == "PENDING"
    assert bench.store.connection().call("HGET", f"{bench.store.keys.prefix}shared:s:counter:n", "p:0") == b"2"
    assert [s.waiting for s in bench.store.snapshot(now_ms=bench.now).segments if s.step == "g"] == [1]


def test_what_would_come_without_its_effects_is_not_remembered(bench: Bench) -> None:  # noqa: F811
    """It is executed again when it is enqueued again, and its effects are done then."""
    row, op = (f"{bench.node}-1", 1), f"f:n:n1:{bench.node}-1"
    effects = {op: [Effect("incr", "shared:s:counter:n", 2)]}
    assert again(bench, bench.a, row, effects=effects) == Reasserted(0, 0, [op])
    follows = [Follow(1, 1, "g", "n", 0, "", 0, 0)]
    assert again(bench, bench.a, row, body=b"S\x97" + BODY[2:], follows=follows, payloads=[b""]).lost == [op]
    bench.enqueue(1)
    assert ids(bench.claim(bench.b)) == [row]


def test_what_must_not_be_committed_again_is_refused_before_anything_is_written(bench: Bench) -> None:  # noqa: F811
    bench.enqueue(2)
    rows = [(f"{bench.node}-1", 1), (f"{bench.node}-2", 1)]
    for body in (b"R0;1;2;no", b"W", b"J", b"L", b""):
        with pytest.raises(ScriptRefused, match="BZARG letter="):
            again(bench, bench.a, *rows, body=body)
    with pytest.raises(ScriptRefused, match="BZARG segment=f:n:@0"):
        again(bench, bench.a, *rows, segment="f:n:@0")
    with pytest.raises(ScriptRefused, match="BZARG worker="):
        bench.store.reassert("", 1, [], [])
    assert totals(bench) == (2, 0, 0, 2)
