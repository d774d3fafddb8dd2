"""Joins on a real server: an operation starts when those that it waits for are final, once; every script run twice."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from blazing_nb.core.dependency import Members
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.errors import ScriptRefused
from blazing_nb.store.join import Join, register, suspend_body
from blazing_nb.store.request import Chunk, Follow, Group
from blazing_nb.store.store import Store
from tests.store.test_script import BODY, LEASE, T0, Bench, ids

FAILURE = b"F" + msgspec.msgpack.encode([T0, T0, 5, 7, 1, b"no"])
HOUR, DAY = 3_600_000, 86_400_000


class JoinBench(Bench):
    """Members are of step f; what waits is of step g."""

    def members(self, n: int) -> Range:
        first = self.counter + 1
        assert self.enqueue(n) == "added"
        return Range("f", "n", "n1", self.node, first, first + n - 1)

    def waiting(self, *joins: Join, **options: object) -> Chunk:
        first = self.counter + 1
        self.counter += len(joins)
        placed = [msgspec.structs.replace(join, at=at) for at, join in enumerate(joins)]
        payloads = [b"w"] * len(joins)
        return Chunk("g", "d", "n1", self.node, first, payloads, joins=placed, **options)  # type: ignore[arg-type]

    def wait_for(self, *groups: Members, **options: object) -> OperationId:
        chunk = self.waiting(Join(groups), **options)
        op = OperationId("g", "d", "n1", self.node, chunk.first)
        register(self.store, op.text, chunk.joins[0], now_ms=self.now)
        assert self.store.enqueue(chunk, now_ms=self.now) == "added"
        return op

    def finish(self, *counters: int, letter: str = "S", worker: str = "") -> None:
        """A worker claims all that waits, and commits these."""
        worker = worker or self.a
        self.store.turn(worker, self.workers[worker], [], [], [(256, ["f"])], now_ms=self.now)
        self.commit(worker, [(f"{self.node}-{counter}", 1) for counter in counters], letter)

    def commit(self, worker: str, rows: list[tuple[str, int]], letter: str = "S", segment: str = "f:n:n1") -> int:
        group = Group(
            segment, 1000, 60_000, [i for i, _ in rows], [c for _, c in rows], [7] * len(rows), [T0] * len(rows)
        )
        bodies = [BODY if letter == "S" else FAILURE] * len(rows)
        turn = self.store.turn(worker, self.workers[worker], [group], bodies, [], now_ms=self.now)
        return turn.accepted

    def started(self, budget: int = 100) -> list[tuple[str, int]]:
        reply = self.store.turn(self.b, self.workers[self.b], [], [], [(budget, ["g"])], now_ms=self.now)
        return ids(reply.claims)

    def status_of(self, op: OperationId) -> str:
        row = self.store.status([op])[0]
        return row.record[:1].decode() if row.record else row.status

    def stats(self, step: str) -> dict[str, int]:
        flat = self.store.connection().call("HGETALL", f"{self.store.keys.prefix}stats:{step}")
        return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}

    def waited_for(self) -> list[str]:
        return [*self.keys("next:*"), *self.keys("awaited"), *self.keys("settled")]

    def keys(self, pattern: str) -> list[str]:
        prefix = self.store.keys.prefix
        found = self.store.connection().call("KEYS", prefix + pattern)
        return sorted(key.decode().removeprefix(prefix) for key in found)


@pytest.fixture
def bench(url: str, app_id: str) -> Iterator[JoinBench]:
    store = Store(app_id, url)
    yield JoinBench(store)
    store.close()


def all_of(*ranges: Range, counts: str = "S", ending: str = "F") -> Members:
    return Members.of(ranges, counts=counts, ending=ending)


def test_it_starts_when_all_are_final_and_once(bench: JoinBench) -> None:
    op = bench.wait_for(all_of(bench.members(3)))
    assert (bench.status_of(op), bench.started()) == ("SCHEDULED", [])
    bench.finish(1, 3)
    assert bench.started() == []
    bench.finish(2)
    assert bench.started() == [(op.entry, 1)]
    assert bench.started() == []
    assert bench.waited_for() == bench.keys("settled") == []


def test_members_that_are_final_already_are_counted(bench: JoinBench) -> None:
    members = bench.members(3)
    bench.finish(1, 2)
    op = bench.wait_for(all_of(members))
    bench.finish(3)
    assert bench.started() == [(op.entry, 1)]
    assert bench.wait_for(all_of(members)).entry in dict(bench.started())


def test_a_commit_repeated_counts_its_members_once(bench: JoinBench) -> None:
    bench.wait_for(all_of(bench.members(2)))
    bench.finish(1)
    bench.finish(1)
    bench.commit(bench.a, [(f"{bench.node}-1", 1)])
    assert bench.started() == []


def test_an_enqueue_with_a_join_repeated_is_stored_once(bench: JoinBench) -> None:
    members = bench.members(2)
    chunk = bench.waiting(Join((all_of(members),)))
    assert [bench.store.enqueue(chunk, now_ms=T0) for _ in range(2)] == ["added", "known"]
    bench.finish(1)
    assert bench.store.enqueue(chunk, now_ms=T0) == "known"
    bench.finish(2)
    assert len(bench.started()) == 1
    assert bench.store.enqueue(chunk, now_ms=T0) == "known"
    assert bench.commit(bench.b, [(f"{bench.node}-{chunk.first}", 1)], segment="g:d:n1") == 1
    assert bench.store.enqueue(chunk, now_ms=T0) == "known"
    assert (bench.started(), bench.keys("join:*"), bench.keys("joins")) == ([], [], [])


def test_join_repeated_registers_once_and_many_members_are_registered_in_parts(bench: JoinBench) -> None:
    ranges = [bench.members(1000) for _ in range(3)]
    bench.finish(5)
    chunk = bench.waiting(Join((all_of(*ranges),)))
    [join], op = chunk.joins, f"g:d:n1:{bench.node}-{chunk.first}"
    first = (op, 0, 0, join.heads(), join.rows(0, 1024))
    done = [bench.store.join(*first, now_ms=T0) for _ in range(3)]
    assert len(set(done)) == 1
    assert 1024 - 128 <= done[0] <= 1024 + 128
    register(bench.store, op, join, now_ms=T0)
    assert bench.store.enqueue(chunk, now_ms=T0) == "added"
    assert bench.store.join(*first, now_ms=T0) == 3000
    register(bench.store, op, join, now_ms=T0)
    for start in range(0, 3000, 250):
        assert bench.started() == []
        bench.finish(*(counter for counter in range(start + 1, start + 251) if counter != 5))
    assert len(bench.started()) == 1
    assert bench.waited_for() == []


def test_an_operation_whose_members_are_not_registered_is_refused_before_anything_is_written(bench: JoinBench) -> None:
    join = Join((all_of(bench.members(200)),))
    chunk = bench.waiting(join)
    with pytest.raises(ScriptRefused, match="BZJOIN registered=0 total=200"):
        bench.store.enqueue(chunk, now_ms=T0)
    op = f"g:d:n1:{bench.node}-{chunk.first}"
    assert bench.store.join(op, 0, 0, join.heads(), join.rows(0, 100), now_ms=T0) == 100
    with pytest.raises(ScriptRefused, match="BZJOIN registered=100 total=200"):
        bench.store.enqueue(chunk, now_ms=T0)
    assert "seg:g:d:n1" not in bench.keys("seg:*")
    register(bench.store, op, join, now_ms=T0)
    assert bench.store.enqueue(chunk, now_ms=T0) == "added"


def test_what_was_never_sealed_expires(bench: JoinBench) -> None:
    join = Join((all_of(bench.members(200)),))
    register(bench.store, f"g:d:n1:{bench.node}-900", join, now_ms=T0)
    key = f"{bench.store.keys.prefix}join:g:d:n1:{bench.node}-900"
    assert 0 < bench.store.connection().call("PTTL", key) <= HOUR
    bench.store.connection().call("DEL", key)
    bench.finish(*range(1, 201))
    assert bench.waited_for() == bench.keys("settled") == []


def test_a_failed_member_ends_it_at_once_and_is_named(bench: JoinBench) -> None:
    op = bench.wait_for(all_of(bench.members(3)))
    bench.finish(2, letter="F")
    row = bench.store.status([op])[0]
    assert row.record[:1] == b"F"
    assert f"f:n:n1:{bench.node}-2 ended FAILED".encode() in row.record
    bench.finish(1, 3)
    assert bench.started() == []
    assert (bench.waited_for(), bench.keys("join:*"), bench.keys("parked:g")) == ([], [], [])
    assert (bench.store.snapshot(now_ms=T0).segments[-1].parked, bench.stats("g")["failed"]) == (0, 1)


def test_a_member_that_failed_before_ends_it_with_its_enqueue(bench: JoinBench) -> None:
    members = bench.members(2)
    bench.finish(2, letter="F")
    assert bench.status_of(bench.wait_for(all_of(members))) == "F"
    assert bench.status_of(bench.wait_for(all_of(members, ending="C"))) == "C"


@pytest.mark.parametrize("letter", "SF")
def test_members_that_end_while_many_are_registered_are_decided_on_with_the_enqueue(
    bench: JoinBench, letter: str
) -> None:
    join = Join((all_of(bench.members(200)),))
    chunk = bench.waiting(join)
    op = OperationId("g", "d", "n1", bench.node, chunk.first)
    register(bench.store, op.text, join, now_ms=T0)
    bench.finish(*range(1, 200))
    bench.commit(bench.a, [(f"{bench.node}-200", 1)], letter)
    assert bench.store.enqueue(chunk, now_ms=T0) == "added"
    assert bench.status_of(op) == ("SCHEDULED" if letter == "S" else "F")
    assert bench.started() == ([(op.entry, 1)] if letter == "S" else [])


@pytest.mark.parametrize(("ending", "status", "story"), [("F", "F", b"DependencyFailed"), ("C", "C", b"skipped: ")])
def test_cancelled_lost_expired_and_unknown_members_count_as_failures_with_their_reason(
    bench: JoinBench, ending: str, status: str, story: bytes
) -> None:
    members = bench.members(2)
    waits = bench.wait_for(all_of(members, ending=ending))
    bench.store.cancel([OperationId("f", "n", "n1", bench.node, 2)], now_ms=bench.now)
    unknown = bench.wait_for(all_of(Range("f", "n", "n1", bench.node, 99, 99), ending=ending))
    rows = bench.store.status([waits, unknown])
    assert [row.record[:1].decode() for row in rows] == [status, status]
    assert all(story in row.record for row in rows)
    assert f"{bench.node}-2 ended CANCELLED".encode() in rows[0].record
    assert f"{bench.node}-99 is not in the store".encode() in rows[1].record


def test_failures_may_be_collected(bench: JoinBench) -> None:
    op = bench.wait_for(all_of(bench.members(2), Range("f", "n", "n1", bench.node, 99, 99), counts="*", ending=""))
    bench.finish(1, letter="F")
    assert bench.started() == []
    bench.finish(2)
    assert bench.started() == [(op.entry, 1)]


def test_the_first_k_are_enough_and_are_recorded(bench: JoinBench) -> None:
    op = bench.wait_for(Members((bench.members(5),), 2))
    bench.finish(4, letter="F")
    bench.finish(3)
    assert bench.started() == []
    bench.finish(5)
    assert bench.started() == [(op.entry, 1)]
    bench.finish(1, 2)
    assert bench.started() == []
    kept = bench.store.connection().call("HGET", f"{bench.store.keys.prefix}join:{op.text}", "k1")
    assert kept.decode().split() == [f"f:n:n1:{bench.node}-{counter}" for counter in (3, 5)]


def test_too_few_that_can_still_be_good_end_it(bench: JoinBench) -> None:
    op = bench.wait_for(Members((bench.members(3),), 2))
    bench.finish(1, letter="F")
    assert bench.status_of(op) == "SCHEDULED"
    bench.finish(2, letter="F")
    assert bench.status_of(op) == "F"


def test_every_group_must_be_decided(bench: JoinBench) -> None:
    many, one = bench.members(4), bench.members(1)
    op = bench.wait_for(Members((many,), 1), Members((one,), 1), Members((), 0))
    bench.finish(1)
    bench.finish(2, 3)
    assert bench.started() == []
    bench.finish(5)
    assert bench.started() == [(op.entry, 1)]


def test_nothing_to_wait_for_starts_at_once(bench: JoinBench) -> None:
    op = bench.wait_for(Members((), 0))
    assert bench.started() == [(op.entry, 1)]


def test_a_delay_holds_beside_the_join(bench: JoinBench) -> None:
    op = bench.wait_for(all_of(bench.members(1)), delay_ms=2000)
    bench.finish(1)
    assert bench.started() == []
    bench.pass_ms(2000, bench.a, bench.b)
    assert bench.started() == [(op.entry, 1)]


def test_what_waits_past_its_deadline_expires(bench: JoinBench) -> None:
    op = bench.wait_for(all_of(bench.members(1)), expires_ms=500)
    bench.pass_ms(600, bench.a, bench.b)
    assert (bench.started(), bench.status_of(op)) == ([], "X")
    bench.finish(1)
    assert (bench.started(), bench.keys("join:*"), bench.waited_for()) == ([], [], [])


def test_what_waits_can_be_cancelled(bench: JoinBench) -> None:
    op = bench.wait_for(all_of(bench.members(1)))
    assert bench.store.cancel([op, op], now_ms=T0) == ["CANCELLED", "FINAL"]
    bench.finish(1)
    assert (bench.started(), bench.keys("join:*"), bench.keys("joins")) == ([], [], [])


def test_what_waits_for_what_waits(bench: JoinBench) -> None:
    first = bench.wait_for(all_of(bench.members(1)))
    chain = [first]
    for _ in range(3):
        last = chain[-1]
        chain.append(bench.wait_for(all_of(Range("g", "d", "n1", bench.node, last.counter, last.counter))))
    bench.finish(1, letter="F")
    assert [bench.status_of(op) for op in chain] == ["F"] * 4


def test_thousands_that_wait_for_one_are_woken_in_bounded_steps_each_once(bench: JoinBench) -> None:
    members = bench.members(1)
    for _ in range(10):
        bench.store.enqueue(bench.waiting(*[Join((all_of(members),))] * 100), now_ms=T0)
    bench.finish(1)
    assert bench.store.connection().call("ZCARD", f"{bench.store.keys.prefix}next:n1:{bench.node}:0") == 1000 - 128
    seen: list[tuple[str, int]] = []
    for _ in range(20):
        seen += bench.started(256)
    assert len(seen) == len(set(seen)) == 1000


def test_of_a_flow_the_last_stage_is_waited_for(bench: JoinBench) -> None:
    members = bench.members(3)
    op = bench.wait_for(all_of(members))
    bench.finish(1, 2)
    bench.claim(bench.a)
    follow = Follow(1, 1, "f", "n", 1, "", 0, 0)
    group = Group("f:n:n1", 100, 60_000, [f"{bench.node}-3"], [1], [7], [T0], [follow])
    body = b"S\x97" + BODY[2:]
    turn = bench.store.turn(bench.a, bench.workers[bench.a], [group], [body], [(9, ["f"])], payloads=[b"y"], now_ms=T0)
    assert (turn.accepted, bench.started()) == (1, [])
    late = bench.wait_for(all_of(members))
    [claim] = turn.claims
    assert bench.commit(bench.a, ids([claim]), segment=claim.segment) == 1
    assert bench.started() == [(op.entry, 1), (late.entry, 1)]
    assert bench.waited_for() == []


def test_members_of_other_nodes_and_keyed_ones(bench: JoinBench) -> None:
    other = bench.store.open_node("n2", now_ms=T0)
    assert bench.store.enqueue(Chunk("f", "n", "n2", other, 1, [b"x"]), now_ms=T0) == "added"
    keyed = OperationId.parse(bench.store.enqueue(Chunk("f", "n", "", 0, 0, [b"x"], key="once"), now_ms=T0))
    op = bench.wait_for(
        all_of(
            Range("f", "n", "n2", other, 1, 1),
            Range("f", "n", keyed.node, keyed.incarnation, keyed.counter, keyed.counter),
        )
    )
    bench.finish()
    assert bench.commit(bench.a, [(f"{other}-1", 1)], segment="f:n:n2") == 1
    assert bench.started() == []
    assert bench.commit(bench.a, [(keyed.entry, 1)], segment=keyed.segment) == 1
    assert bench.started() == [(op.entry, 1)]


def test_outcomes_are_kept_while_somebody_waits(bench: JoinBench) -> None:
    members = bench.members(2)
    op = bench.wait_for(all_of(members))
    bench.finish(1)
    key = bench.store.keys.out("n1", bench.node, 1)
    call = bench.store.connection().call
    assert call("PTTL", key) > DAY / 2
    call("PEXPIRE", key, 5000)
    bench.pass_ms(LEASE, bench.a, bench.b)
    assert call("PTTL", key) <= 5000
    call("ZADD", f"{bench.store.keys.prefix}joins", bench.now - DAY, op.text)
    bench.beat(bench.a)
    assert call("PTTL", key) > DAY / 2


class TestSuspended:
    """From a worker's commit: what runs gives itself back until others are final."""

    def suspend(self, bench: JoinBench, claims: int, join: Join) -> int:
        group = Group("f:n:n1", 100, 60_000, [f"{bench.node}-1"], [claims], [7], [T0])
        reply = bench.store.turn(
            bench.a, bench.workers[bench.a], [group], [suspend_body(join, T0)], [], now_ms=bench.now
        )
        return reply.accepted

    def claim_first(self, bench: JoinBench) -> None:
        assert ids(bench.claim(bench.a, 1)) == [(f"{bench.node}-1", 1)]

    def test_it_runs_again_when_they_are_final_and_each_round_is_its_own(self, bench: JoinBench) -> None:
        bench.members(5)
        self.claim_first(bench)
        me = OperationId("f", "n", "n1", bench.node, 1)
        some = Members((Range("f", "n", "n1", bench.node, 2, 4),), 1)
        assert self.suspend(bench, 1, Join((some,))) == 1
        assert self.suspend(bench, 1, Join((some,))) == 0
        assert bench.status_of(me) == "SCHEDULED"
        bench.finish(2, worker=bench.b)
        assert ids(bench.claim(bench.a)) == [(f"{bench.node}-1", 2)]
        # The first round's other members end while the second round waits for another: they are not its own.
        assert self.suspend(bench, 2, Join((all_of(Range("f", "n", "n1", bench.node, 5, 5)),))) == 1
        bench.finish(3, 4, worker=bench.b)
        assert bench.claim(bench.a) == []
        bench.finish(5, worker=bench.b)
        assert ids(bench.claim(bench.a)) == [(f"{bench.node}-1", 3)]
        row = bench.store.status([me])[0]
        assert (row.claims, row.deaths, row.releases, row.waits) == (3, 0, 0, 2)
        assert bench.commit(bench.a, [(f"{bench.node}-1", 3)]) == 1
        assert (bench.keys("join:*"), bench.waited_for(), bench.keys("parked:*")) == ([], [], [])

    def test_a_worker_that_lost_its_claim_suspends_nothing(self, bench: JoinBench) -> None:
        bench.members(2)
        self.claim_first(bench)
        bench.pass_ms(LEASE + 300, bench.b)
        assert self.suspend(bench, 1, Join((all_of(Range("f", "n", "n1", bench.node, 2, 2)),))) == 0
        assert (bench.keys("join:*"), bench.waited_for()) == ([], [])

    def test_one_whose_cancelling_was_asked_for_ends_instead(self, bench: JoinBench) -> None:
        bench.members(2)
        self.claim_first(bench)
        me = OperationId("f", "n", "n1", bench.node, 1)
        assert bench.store.cancel([me], now_ms=bench.now) == ["ASKED"]
        assert self.suspend(bench, 1, Join((all_of(Range("f", "n", "n1", bench.node, 2, 2)),))) == 1
        assert bench.status_of(me) == "C"

    def test_it_can_be_cancelled_while_it_waits(self, bench: JoinBench) -> None:
        bench.members(2)
        self.claim_first(bench)
        assert self.suspend(bench, 1, Join((all_of(Range("f", "n", "n1", bench.node, 2, 2)),))) == 1
        assert bench.store.cancel([OperationId("f", "n", "n1", bench.node, 1)], now_ms=bench.now) == ["CANCELLED"]
        bench.finish(2, worker=bench.b)
        assert (bench.claim(bench.a), bench.keys("join:*"), bench.waited_for()) == ([], [], [])

    def test_many_children_are_registered_before_the_commit(self, bench: JoinBench) -> None:
        bench.members(400)
        self.claim_first(bench)
        join = Join((all_of(Range("f", "n", "n1", bench.node, 2, 400), counts="*", ending=""),))
        assert self.suspend(bench, 1, join) == 1  # nobody has registered them: it runs again at once
        assert (f"{bench.node}-1", 2) in ids(bench.claim(bench.a))
        register(bench.store, f"f:n:n1:{bench.node}-1", join, round_=2, now_ms=bench.now)
        assert self.suspend(bench, 2, join) == 1
        for _ in range(2):
            rows = [row for row in ids(bench.claim(bench.b, 256)) if row[1] == 1]
            assert bench.commit(bench.b, rows) == len(rows)
        bench.commit(bench.a, [(f"{bench.node}-{counter}", 1) for counter in range(2, 103)])
        assert ids(bench.claim(bench.a)) == [(f"{bench.node}-1", 3)]

    def test_an_earlier_round_registers_nothing_any_more(self, bench: JoinBench) -> None:
        bench.members(400)
        join = Join((all_of(Range("f", "n", "n1", bench.node, 2, 400)),))
        register(bench.store, f"f:n:n1:{bench.node}-1", join, round_=2, now_ms=bench.now)
        with pytest.raises(ScriptRefused, match="round=1 stored=2"):
            register(bench.store, f"f:n:n1:{bench.node}-1", join, round_=1, now_ms=bench.now)

    def test_one_under_which_two_workers_died_waits_and_runs_again_alone_and_once(self, bench: JoinBench) -> None:
        bench.members(2)
        bench.store.cancel([OperationId("f", "n", "n1", bench.node, 2)], now_ms=bench.now)
        for claims in (1, 2):
            assert ids(bench.claim(bench.open("v"))) == [(f"{bench.node}-1", claims)]
            bench.pass_ms(3 * LEASE, bench.a, bench.b)
        assert ids(bench.claim(bench.a)) == [(f"{bench.node}-1", 3)]
        after = bench.members(1)
        assert self.suspend(bench, 3, Join((all_of(after),))) == 1
        bench.finish(after.first, worker=bench.b)
        assert bench.keys("parked:*") == []
        assert ids(bench.claim(bench.a)) == [(f"{bench.node}-1", 4)]
        assert bench.claim(bench.b) == []
