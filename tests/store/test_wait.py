"""Workflows in the scripts, on a real server: what a wait makes, what wakes it, what ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from blazing_nb.core.dot import OperationId
from blazing_nb.store.reply import Turn
from blazing_nb.store.request import Follow, Group
from blazing_nb.store.store import Store
from tests.store.test_script import BODY, LEASE, T0, Bench, ids


class Flowing(Bench):
    """A bench with one workflow, the operation 1 of `f`, whose calls are of the step `g`."""

    @property
    def me(self) -> str:
        return f"f:n:n1:{self.node}-1"

    def begin(self, worker: str | None = None) -> int:
        """Claim the workflow; its claim number."""
        [(entry, claims)] = ids(self.claim(worker or self.a))
        assert entry == f"{self.node}-1"
        return claims

    def wait(
        self,
        claims: int,
        calls: dict[int, str] | None = None,
        *,
        groups: list[list[int]] | None = None,
        timer_ms: int = 0,
        told: str = "",
        gone: list[int] | None = None,
        worker: str | None = None,
        delay_ms: int = 0,
    ) -> Turn:
        """Commit that it waits: for each of its calls by itself, unless `groups` says otherwise."""
        worker, calls = worker or self.a, calls or {}
        follows = [
            Follow(1, i, "g", "n", position, digest, delay_ms, 0)
            for i, (position, digest) in enumerate(calls.items(), 1)
        ]
        waited = [[position] for position in calls] if groups is None else groups
        body = b"W" + msgspec.msgpack.encode([timer_ms, told, waited, gone or [], T0])
        group = Group("f:n:n1", 100, 60_000, [f"{self.node}-1"], [claims], [7], [T0], follows)
        payloads = [b"call %d" % position for position in calls]
        return self.store.turn(worker, self.workers[worker], [group], [body], [], payloads=payloads, now_ms=self.now)

    def calls(self, worker: str | None = None) -> list[tuple[str, int]]:
        """Claim the calls that can be."""
        worker = worker or self.a
        turn = self.store.turn(worker, self.workers[worker], [], [], [(100, ["g"])], now_ms=self.now)
        return ids(turn.claims)

    def finish(self, rows: list[tuple[str, int]], letter: bytes = b"S", prio: str = "n") -> None:
        n = len(rows)
        group = Group(f"g:{prio}:@0", 100, 60_000, [i for i, _ in rows], [c for _, c in rows], [7] * n, [T0] * n)
        bodies = [letter + BODY[1:]] * n
        assert self.store.turn(self.a, self.workers[self.a], [group], bodies, [], now_ms=self.now).accepted == n

    def history(self) -> dict[str, bytes]:
        return self.store.history(self.me)

    def call_of(self, position: int) -> OperationId:
        return OperationId.parse(self.history()[str(position)].decode().rpartition("|")[0])

    def row(self) -> tuple[str, int, int, int, int]:
        found = self.store.status([OperationId.parse(self.me)])[0]
        return found.status, found.claims, found.deaths, found.waits, found.attempts

    def end(self, claims: int, letter: bytes = b"S") -> Turn:
        group = Group("f:n:n1", 100, 60_000, [f"{self.node}-1"], [claims], [7], [T0])
        return self.store.turn(self.a, self.workers[self.a], [group], [letter + BODY[1:]], [], now_ms=self.now)

    def exists(self, key: str) -> bool:
        return bool(self.store.connection().call("EXISTS", f"{self.store.keys.prefix}{key}"))

    def ttl(self, key: str) -> int:
        return int(self.store.connection().call("PTTL", f"{self.store.keys.prefix}{key}"))


@pytest.fixture
def bench(url: str, app_id: str) -> Iterator[Flowing]:
    store = Store(app_id, url)
    made = Flowing(store)
    made.enqueue(1)
    yield made
    store.close()


def test_a_wait_makes_its_calls_and_the_last_one_of_a_group_wakes_it(bench: Flowing) -> None:
    bench.wait(bench.begin(), {1: "aa", 2: "bb"}, groups=[[1, 2]], told="5;")
    assert bench.row() == ("SCHEDULED", 1, 0, 1, 1)
    history = bench.history()
    assert history["!1"] == b"5;"
    assert [history[str(i)].decode().rpartition("|")[2] for i in (1, 2)] == ["aa", "bb"]
    rows = bench.calls()
    assert [entry for entry, _ in rows] == [bench.call_of(i).entry for i in (1, 2)]
    bench.finish(rows[:1])
    assert bench.claim(bench.a) == []
    bench.finish(rows[1:], b"F")
    [claim] = bench.claim(bench.a)
    assert (claim.claims, claim.spent) == (2, 1)
    history = bench.history()
    assert (history["=1"][:1], history["=2"][:1]) == (b"S", b"F")


def test_a_repeated_wait_makes_nothing_more(bench: Flowing) -> None:
    claims = bench.begin()
    first, again = (bench.wait(claims, {1: "aa"}) for _ in range(2))
    assert (first.accepted, again.accepted, again.lost) == (1, 0, [])
    assert len(bench.calls()) == 1
    assert bench.row()[3] == 1


def test_a_fenced_wait_makes_nothing(bench: Flowing) -> None:
    claims = bench.begin()
    bench.pass_ms(2 * LEASE, bench.b)
    assert bench.begin(bench.b) == 2
    assert bench.wait(claims, {1: "aa"}).accepted == 0
    assert (bench.history(), bench.calls(bench.b)) == ({}, [])


def test_any_of_several_groups_wakes_it_and_each_wait_is_its_own(bench: Flowing) -> None:
    bench.wait(bench.begin(), {1: "", 2: "", 3: ""}, groups=[[1, 2], [3]])
    rows = bench.calls()
    bench.finish(rows[2:])
    assert bench.begin() == 2
    bench.wait(2, groups=[[1, 2]])
    bench.finish(rows[:1])
    assert bench.claim(bench.a) == []
    bench.finish(rows[1:2])
    assert bench.begin() == 3


def test_what_it_waited_for_before_does_not_wake_it(bench: Flowing) -> None:
    bench.wait(bench.begin(), {1: "", 2: "", 3: ""})
    rows = bench.calls()
    bench.finish(rows[2:])
    bench.wait(bench.begin(), groups=[[1]])
    bench.finish(rows[1:2])
    assert bench.claim(bench.a) == []


def test_what_came_while_it_ran_wakes_it_at_once(bench: Flowing) -> None:
    bench.wait(bench.begin(), {1: "", 2: ""})
    rows = bench.calls()
    bench.finish(rows[:1])
    assert bench.begin() == 2
    bench.finish(rows[1:])
    bench.wait(2, groups=[[2]])
    assert bench.begin() == 3


def test_a_timer_wakes_it_when_it_is_due_and_not_before(bench: Flowing) -> None:
    bench.wait(bench.begin(), timer_ms=bench.now + 500)
    assert bench.claim(bench.a) == []
    bench.pass_ms(499, bench.a)
    assert bench.claim(bench.a) == []
    bench.pass_ms(1, bench.a)
    assert bench.begin() == 2


def test_waits_are_no_attempts_and_progress_forgives_deaths(bench: Flowing) -> None:
    """Two workers die under each of three runs, and it is not lost: between them it went on."""
    for run in range(3):
        for _ in range(2):
            victim = bench.open("victim")
            bench.pass_ms(3000, bench.b, victim)
            turn = bench.store.turn(victim, bench.workers[victim], [], [], [(9, ["f"])], now_ms=bench.now)
            assert len(ids(turn.claims)) == 1
            bench.pass_ms(4 * LEASE, bench.b)
        assert bench.row() == ("RETRYING", 3 * run + 2, 2, 3 * run, 0)
        bench.pass_ms(3000, bench.b)
        [claim] = bench.claim(bench.b)
        assert claim.claims - claim.spent == 1
        bench.wait(claim.claims, timer_ms=bench.now + 1, worker=bench.b)
        assert bench.row() == ("SCHEDULED", 3 * run + 3, 0, 3 * run + 3, 1)


def test_its_end_cancels_what_nobody_awaits_and_its_history_ends_with_it(bench: Flowing) -> None:
    bench.wait(bench.begin(), {1: "", 2: ""}, groups=[[1]])
    rows = bench.calls()
    bench.finish(rows[:1])
    assert bench.ttl(f"hist:{bench.me}") == -1
    assert bench.end(bench.begin()).accepted == 1
    assert not bench.exists(f"wait:{bench.me}")
    assert 0 < bench.ttl(f"hist:{bench.me}") <= 60_000
    asked = bench.store.connection().call("HGET", f"{bench.store.keys.prefix}live:{bench.call_of(2).text}", "cancel")
    assert asked == b"1"  # it was claimed: its worker was asked
    bench.finish(rows[1:])
    assert bench.history()["=2"][:1] == b"S"


@pytest.mark.parametrize("how", ["cancel", "lost", "expired by its worker"])
def test_however_it_ends_its_calls_end_too(bench: Flowing, how: str) -> None:
    bench.wait(bench.begin(), {1: "", 2: ""}, delay_ms=90_000, timer_ms=bench.now + 10)
    calls = [bench.call_of(1), bench.call_of(2)]
    if how == "cancel":
        assert bench.store.cancel([OperationId.parse(bench.me)], now_ms=bench.now) == ["CANCELLED"]
    elif how == "lost":
        for _ in range(3):
            victim = bench.open("victim")
            bench.pass_ms(3000, bench.b, victim)
            bench.store.turn(victim, bench.workers[victim], [], [], [(9, ["f"])], now_ms=bench.now)
            bench.pass_ms(4 * LEASE, bench.b)
    else:
        bench.pass_ms(10, bench.a)
        bench.end(bench.begin(), b"F")
    assert [row.record[:1] for row in bench.store.status(calls)] == [b"C", b"C"]
    assert bench.store.connection().call("ZCARD", f"{bench.store.keys.prefix}parked:g") == 0


def test_a_cancel_that_came_while_it_ran_ends_it_instead(bench: Flowing) -> None:
    claims = bench.begin()
    assert bench.store.cancel([OperationId.parse(bench.me)], now_ms=bench.now) == ["ASKED"]
    assert bench.wait(claims, {1: ""}).accepted == 1
    assert (bench.row()[0], bench.history(), bench.calls()) == ("FINAL", {}, [])


def test_a_call_that_it_gave_up_is_cancelled(bench: Flowing) -> None:
    bench.wait(bench.begin(), {1: "", 2: ""}, delay_ms=90_000, timer_ms=bench.now + 10)
    bench.pass_ms(10, bench.a)
    bench.wait(bench.begin(), groups=[[2]], gone=[1])
    assert [row.record[:1] for row in bench.store.status([bench.call_of(1), bench.call_of(2)])] == [b"C", b""]
    assert bench.history()["=1"][:1] == b"C"
    assert bench.claim(bench.a) == []


def test_a_claim_whose_reply_was_lost_knows_its_waits(bench: Flowing) -> None:
    bench.wait(bench.begin(), timer_ms=bench.now + 1)
    bench.pass_ms(1, bench.a)
    bench.begin()
    [claim] = bench.store.recover(bench.a, [], now_ms=bench.now)
    assert (claim.claims, claim.spent) == (2, 1)
