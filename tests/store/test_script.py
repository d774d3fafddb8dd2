"""The scripts on a real server: every verb, run twice, and every refusal. Time is an argument."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from blazing_nb.core.dot import OperationId
from blazing_nb.errors import AppDraining, BatchExists, RolledBack, ScriptRefused, SegmentFull, StoreRestored
from blazing_nb.store.reply import Claim, Turn
from blazing_nb.store.request import Chunk, Group
from blazing_nb.store.store import Store

T0 = 1_800_000_000_000
LEASE = 1000
BODY = b"S" + msgspec.msgpack.encode([T0, T0, 5, 7, 1, b"\0\xc0"])


class Bench:
    """A node, two workers and a clock that the test moves."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = T0
        self.node = store.open_node("n1", now_ms=T0)
        self.counter = 0
        self.workers: dict[str, int] = {}
        for name in ("a", "b"):
            self.open(name)

    def open(self, name: str) -> str:
        incarnation = self.store.open_worker(name, LEASE, now_ms=self.now)
        self.workers[f"{name}.{incarnation}"] = incarnation
        return f"{name}.{incarnation}"

    @property
    def a(self) -> str:
        return next(iter(self.workers))

    @property
    def b(self) -> str:
        return list(self.workers)[1]

    def chunk(self, n: int, **options: object) -> Chunk:
        first = self.counter + 1
        self.counter += n
        return Chunk("f", "n", "n1", self.node, first, [b"x%d" % i for i in range(n)], **options)  # type: ignore[arg-type]

    def enqueue(self, n: int, **options: object) -> str:
        return self.store.enqueue(self.chunk(n, **options), now_ms=self.now)

    def claim(self, worker: str, budget: int = 100) -> list[Claim]:
        return self.turn(worker, [], budget).claims

    def turn(self, worker: str, done: list[tuple[str, int]], budget: int = 0, held: int = 100) -> Turn:
        group = Group(
            "f:n:n1", held, 60_000, [i for i, _ in done], [c for _, c in done], [7] * len(done), [T0] * len(done)
        )
        lanes = [(budget, ["f"])] if budget else []
        return self.store.turn(
            worker, self.workers[worker], [group] if done else [], [BODY] * len(done), lanes, now_ms=self.now
        )

    def beat(self, worker: str) -> bool:
        return self.store.heartbeat(worker, LEASE, now_ms=self.now)

    def pass_ms(self, ms: int, *alive: str) -> None:
        """Time passes in steps below half a lease, with heartbeats of those alive."""
        end = self.now + ms
        while self.now < end:
            self.now = min(end, self.now + LEASE // 4)
            for worker in alive:
                self.beat(worker)

    def status(self, counter: int) -> str:
        return self.store.status([OperationId("f", "n", "n1", self.node, counter)])[0].status

    def totals(self) -> dict[str, int]:
        self.store.define("f", b"h", b"", b"")
        snapshot = self.store.snapshot(now_ms=self.now)
        return msgspec.to_builtins(snapshot.steps[0])


@pytest.fixture
def bench(url: str, app_id: str) -> Iterator[Bench]:
    store = Store(app_id, url)
    yield Bench(store)
    store.close()


def ids(claims: list[Claim]) -> list[tuple[str, int]]:
    return [(entry[0].decode(), claim.claims) for claim in claims for entry in claim.entries]


def test_incarnations_grow_and_are_given_once(bench: Bench) -> None:
    seen = [bench.store.open_node("n1", now_ms=T0 - 5000) for _ in range(20)]
    assert seen == sorted(set(seen))
    assert seen[0] > bench.node
    assert bench.node >= T0 << 11


def test_enqueue_repeated_is_stored_once(bench: Bench) -> None:
    chunk = bench.chunk(5, batch="run")
    assert [bench.store.enqueue(chunk, now_ms=T0) for _ in range(3)] == ["added", "known", "known"]
    segment = bench.store.snapshot(now_ms=T0).segments[0]
    assert (segment.waiting, segment.claimed) == (5, 0)
    assert [len(r) for r in bench.store.batch("run")] == [5]


def test_enqueue_repeated_after_its_commit_stays_final(bench: Bench) -> None:
    chunk = bench.chunk(2)
    bench.store.enqueue(chunk, now_ms=T0)
    bench.turn(bench.a, ids(bench.claim(bench.a)))
    assert bench.store.enqueue(chunk, now_ms=T0) == "known"
    assert bench.claim(bench.b) == []


def test_an_old_incarnation_is_fenced_and_what_it_stored_is_known(bench: Bench) -> None:
    stored, late = bench.chunk(2), bench.chunk(2)
    bench.store.enqueue(stored, now_ms=T0)
    newer = bench.store.open_node("n1", now_ms=T0)
    assert bench.store.enqueue(Chunk("f", "n", "n1", newer, 1, [b"y"]), now_ms=T0) == "added"
    assert bench.store.enqueue(late, now_ms=T0) == "fenced"
    assert bench.store.enqueue(stored, now_ms=T0) == "known"
    assert len(ids(bench.claim(bench.a))) == 3


def test_an_enqueue_behind_what_is_gone_is_refused_and_writes_nothing(bench: Bench) -> None:
    def send(first: int, n: int = 1, *, node: int = bench.node, before: int = 0) -> str:
        return bench.store.enqueue(Chunk("f", "n", "n1", node, first, [b"p"] * n, before=before), now_ms=T0)

    for _ in range(2):
        with pytest.raises(RolledBack) as caught:
            send(8, before=7)
        assert caught.value.missing == 7
    assert bench.store.snapshot(now_ms=T0).waiting == 0
    assert send(1, 4) == "added"
    with pytest.raises(RolledBack) as caught:
        send(8, before=7)
    assert caught.value.missing == 3
    assert send(5, 3) == "added"
    assert [send(8, before=7) for _ in range(2)] == ["added", "known"]
    assert send(1, node=bench.store.open_node("n1", now_ms=T0)) == "added"
    assert send(9, before=8) == "fenced"


def test_a_full_segment_refuses_before_anything_is_written(bench: Bench) -> None:
    bench.enqueue(8)
    with pytest.raises(SegmentFull) as caught:
        bench.enqueue(3, cap=10)
    assert (caught.value.depth, caught.value.cap) == (8, 10)
    assert len(ids(bench.claim(bench.a))) == 8


def test_a_batch_continues_only_at_its_end(bench: Bench) -> None:
    bench.enqueue(3, batch="run")
    with pytest.raises(BatchExists):
        bench.enqueue(3, batch="run", offset=0)
    assert bench.enqueue(2, batch="run", offset=3) == "added"
    assert sum(len(r) for r in bench.store.batch("run")) == 5


def test_a_call_without_operations_is_refused(bench: Bench) -> None:
    with pytest.raises(ScriptRefused, match="BZARG"):
        bench.store.enqueue(Chunk("f", "n", "n1", bench.node, 1, []), now_ms=T0)


def test_two_workers_never_claim_the_same_operation(bench: Bench) -> None:
    bench.enqueue(50)
    got = [i for _ in range(10) for w in (bench.a, bench.b) for i, _ in ids(bench.claim(w, 4))]
    assert len(got) == len(set(got)) == 50


def test_a_commit_repeated_changes_nothing(bench: Bench) -> None:
    bench.enqueue(3)
    mine = ids(bench.claim(bench.a))
    assert [bench.turn(bench.a, mine).accepted for _ in range(2)] == [3, 0]
    assert bench.turn(bench.a, mine).lost == []
    assert bench.totals()["succeeded"] == 3


@pytest.mark.parametrize("held", [9, 50, 100], ids=["exact", "dense", "sparse"])
def test_a_commit_of_anothers_operation_is_refused_whatever_else_the_worker_holds(bench: Bench, held: int) -> None:
    bench.enqueue(10)
    mine, theirs = ids(bench.claim(bench.a, 9)), ids(bench.claim(bench.b))
    turn = bench.turn(bench.a, [*mine[:7], *theirs], held=held)
    assert (turn.accepted, turn.lost) == (7, [f"f:n:n1:{theirs[0][0]}"])
    assert bench.status(10) == "CLAIMED"
    assert bench.totals()["fenced"] == 1
    assert bench.turn(bench.b, theirs).accepted == 1


@pytest.mark.parametrize("held", [1, 100], ids=["sparse", "dense"])
def test_a_commit_with_an_older_claim_number_is_refused(bench: Bench, held: int) -> None:
    bench.enqueue(1)
    old = ids(bench.claim(bench.a))
    bench.pass_ms(1300, bench.b)
    assert bench.store.release(bench.b, [("f:n:n1", [old[0][0]], [1])], now_ms=bench.now) == 0
    new = ids(bench.claim(bench.b))
    assert new == [(old[0][0], 2)]
    assert bench.turn(bench.b, old, held=held).lost == [f"f:n:n1:{old[0][0]}"]
    assert bench.turn(bench.b, new, held=held).accepted == 1


def test_a_dead_workers_claims_are_given_back_once_and_its_zombie_is_fenced(bench: Bench) -> None:
    bench.enqueue(5)
    mine = ids(bench.claim(bench.a))
    bench.pass_ms(1300, bench.b)
    again = ids(bench.claim(bench.b))
    assert again == [(i, 2) for i, _ in mine]
    zombie = bench.turn(bench.a, mine, budget=5)
    assert (zombie.accepted, len(zombie.lost), zombie.lease_lost, zombie.claims) == (0, 5, True, [])
    assert not bench.beat(bench.a)
    assert bench.turn(bench.b, again).accepted == 5


def test_a_dead_worker_that_held_more_than_one_step_of_rescue_loses_nothing(bench: Bench) -> None:
    bench.enqueue(600)
    for _ in range(3):
        bench.claim(bench.a, 200)
    bench.pass_ms(1300, bench.b)
    again = [i for _ in range(9) for i, _ in ids(bench.claim(bench.b, 256))]
    assert len(again) == len(set(again)) == 600


def test_the_third_death_ends_as_lost_with_its_story(bench: Bench) -> None:
    bench.enqueue(1)
    keeper = bench.b
    for _ in range(3):
        victim = bench.open("v")
        bench.pass_ms(3000, keeper, victim)
        assert len(ids(bench.claim(victim))) == 1
        bench.pass_ms(1500, keeper)
    row = bench.store.status([OperationId("f", "n", "n1", bench.node, 1)])[0]
    assert row.status == "FINAL"
    assert row.record.startswith(b"L")
    assert b"died under it 3 times" in row.record
    assert bench.totals()["lost"] == 1


def test_an_outage_kills_no_worker(bench: Bench) -> None:
    bench.enqueue(2)
    mine = ids(bench.claim(bench.a))
    bench.now += 20 * LEASE
    assert bench.beat(bench.b)
    assert bench.turn(bench.a, mine).accepted == 2


def test_what_needs_another_python_goes_to_its_workers_only(bench: Bench) -> None:
    bench.store.define("f", b"h" * 12, b"record", b"options", now_ms=bench.now)
    bench.enqueue(4)
    ids = [entry[0].decode() for claim in bench.claim(bench.a) for entry in claim.entries]
    for _ in range(2):  # said twice, it counts once
        bench.store.release(bench.a, [("f:n:n1", ids, [1] * 4)], need="3.99", reason="why", now_ms=bench.now)

    def turn(python: str) -> list[tuple[str, int, int]]:
        claims = bench.store.turn(
            bench.b, bench.workers[bench.b], [], [], [(10, ["f"])], python=python, now_ms=bench.now
        ).claims
        return [(entry[0].decode(), claim.claims, claim.spent) for claim in claims for entry in claim.entries]

    [need] = bench.store.snapshot(now_ms=bench.now).needs
    assert (need.python, need.step, need.operations, need.since_ms) == ("3.99", "f", 4, bench.now)
    assert (turn(""), turn("3.11")) == ([], [])
    [parked] = bench.store.status([OperationId.parse(f"f:n:n1:{ids[0]}")])
    assert (parked.status, parked.due_ms, parked.releases) == ("RETRYING", bench.now, 1)
    for _ in range(2):
        bench.store.cancel([OperationId.parse(f"f:n:n1:{ids[0]}")], now_ms=bench.now)
    assert turn("3.99") == [(entry, 2, 1) for entry in ids[1:]]
    assert bench.store.snapshot(now_ms=bench.now).needs == []
    # One fails there, and waits for its moment: its worker is told when that is, and does not ask all the time.
    group = Group("f:n:n1", 3, 60_000, [ids[1]], [2], [7], [T0])
    bench.store.turn(bench.b, bench.workers[bench.b], [group], [b"R700;0;0;E: e"], [], now_ms=bench.now)
    asked = bench.store.turn(
        bench.b, bench.workers[bench.b], [], [], [(10, ["f"])], held=2, python="3.99", now_ms=bench.now
    )
    assert (asked.claims, asked.due_ms) == ([], bench.now + 700)
    bench.now += 700
    assert turn("3.11") == []
    assert turn("3.99") == [(ids[1], 3, 1)]
    assert bench.store.connection().call("EXISTS", f"{bench.store.keys.prefix}needs") == 0


def test_a_release_is_neither_a_death_nor_a_failure(bench: Bench) -> None:
    bench.enqueue(2)
    mine = ids(bench.claim(bench.a))
    groups = [("f:n:n1", [i for i, _ in mine], [c for _, c in mine])]
    assert bench.store.release(bench.a, groups, now_ms=bench.now) == 2
    assert bench.store.release(bench.a, groups, now_ms=bench.now) == 0
    claims = bench.claim(bench.b)
    assert [(c.claims, c.spent) for c in claims] == [(2, 1), (2, 1)]


def test_a_lost_claim_reply_is_recovered_without_a_new_claim_number(bench: Bench) -> None:
    bench.enqueue(3)
    mine = ids(bench.claim(bench.a))
    found = bench.store.recover(bench.a, [f"f:n:n1:{mine[0][0]}"], now_ms=bench.now)
    assert ids(found) == mine[1:]
    assert bench.turn(bench.a, mine).accepted == 3


def test_retire_gives_back_and_drops_the_consumer(bench: Bench) -> None:
    bench.enqueue(2)
    bench.claim(bench.a)
    assert bench.store.retire(bench.a)
    assert not bench.store.retire(bench.a)
    assert len(bench.store.snapshot(now_ms=bench.now).workers) == 1
    assert len(ids(bench.claim(bench.b))) == 2


def test_the_clock_never_goes_back(bench: Bench) -> None:
    bench.enqueue(1)
    bench.claim(bench.a)
    bench.pass_ms(900, bench.a, bench.b)
    # A step back below what counts as an outage: the lease that is renewed then must not end earlier for it.
    bench.now -= 200
    assert bench.beat(bench.a)
    bench.now += 200
    bench.pass_ms(900, bench.b)
    assert bench.status(1) == "CLAIMED"
    assert bench.beat(bench.a)


def test_a_flooded_segment_leaves_the_others_their_share(bench: Bench) -> None:
    bench.enqueue(1000)
    for node in ("n2", "n3"):
        incarnation = bench.store.open_node(node, now_ms=T0)
        bench.store.enqueue(Chunk("f", "n", node, incarnation, 1, [b"z"] * 5), now_ms=T0)
    got = {claim.segment: len(claim.entries) for claim in bench.claim(bench.a, 30)}
    assert got["f:n:n2"] == got["f:n:n3"] == 5
    assert 10 <= got["f:n:n1"] <= 20


def test_accounting_holds_in_a_snapshot(bench: Bench) -> None:
    bench.enqueue(20)
    mine = ids(bench.claim(bench.a, 12))
    bench.turn(bench.a, mine[:5])
    bench.store.release(bench.a, [("f:n:n1", [mine[5][0]], [1])], now_ms=bench.now)
    segment = bench.store.snapshot(now_ms=bench.now).segments[0]
    assert (segment.waiting, segment.parked, segment.claimed) == (8, 1, 6)
    assert segment.waiting + segment.parked + segment.claimed + bench.totals()["succeeded"] == 20


# -- limits, suspects, retries, retention -----------------------------------------------------------------------------


def member(bench: Bench, key: str) -> list[bytes]:
    found: list[bytes] = bench.store.connection().call("ZRANGE", bench.store.keys.prefix + key, 0, -1)
    return found


def exists(bench: Bench, key: str) -> bool:
    return bool(bench.store.connection().call("EXISTS", bench.store.keys.prefix + key))


def flight(bench: Bench) -> int:
    return int(bench.store.connection().call("HGET", bench.store.keys.prefix + "stats:f", "flight") or 0)


def test_a_cap_in_flight_holds_over_all_workers_and_follows_every_way_out(bench: Bench) -> None:
    bench.store.define("f", b"h", b"", b"", "3;0;1")
    bench.enqueue(20)
    mine, theirs = ids(bench.claim(bench.a, 2)), ids(bench.claim(bench.b, 2))
    assert (len(mine), len(theirs), ids(bench.claim(bench.b))) == (2, 1, [])
    assert len(ids(bench.turn(bench.a, mine, budget=9).claims)) == 2  # a commit frees its places in the same turn
    bench.store.release(bench.b, [("f:n:n1", [theirs[0][0]], [1])], now_ms=bench.now)
    assert len(ids(bench.claim(bench.b))) == 1
    bench.pass_ms(1300, bench.b)  # a dies with two
    again = ids(bench.claim(bench.b))
    assert (len(again), flight(bench)) == (2, 3)
    bench.turn(bench.b, [*again, *theirs[:0]])
    segment = bench.store.snapshot(now_ms=bench.now).segments[0]
    assert flight(bench) == segment.claimed == 1


def test_a_rate_gives_a_burst_and_then_one_by_one(bench: Bench) -> None:
    bench.store.define("f", b"h", b"", b"", "0;100.000000;2")  # ten a second, two at once
    bench.enqueue(40)
    first = bench.turn(bench.a, [], budget=30)
    assert len(ids(first.claims)) == 2
    assert first.due_ms == T0 + 100
    taken = 0
    for _ in range(20):
        bench.now += 50
        taken += len(ids(bench.claim(bench.b, 30)))
    assert taken == 10
    bench.store.define("f", b"h", b"", b"")
    assert len(ids(bench.claim(bench.a, 30))) == 28


def test_a_paused_step_is_not_claimed(bench: Bench) -> None:
    bench.enqueue(2)
    assert bench.store.pause("f", True)
    assert bench.claim(bench.a) == []
    assert bench.store.pause("f", False)
    assert len(ids(bench.claim(bench.a))) == 2


def test_an_instruction_said_twice_is_heard_once_and_only_by_registered_workers(bench: Bench) -> None:
    assert [bench.store.instruct("drain", [bench.a, "gone.1"], now_ms=T0) for _ in range(2)] == [1, 1]
    assert bench.turn(bench.a, []).cancels == ["@drain"]
    assert bench.turn(bench.b, []).cancels == []
    assert bench.store.instruct("close 5", now_ms=T0) == 2
    assert [bench.turn(worker, []).cancels for worker in (bench.a, bench.b)] == [["@close 5"]] * 2
    with pytest.raises(ScriptRefused, match="BZARG text="):
        bench.store.instruct("", now_ms=T0)


def test_a_dismissal_said_twice_is_one_and_a_later_one_is_later(bench: Bench) -> None:
    store = bench.store
    assert (store.dismissed_ms(), store.dismiss(0, now_ms=T0), store.dismiss(0, now_ms=T0)) == (0, T0, T0)
    assert store.dismiss(T0, now_ms=T0) == T0 + 1, "later, though in the same millisecond"
    assert [store.dismiss(T0, now_ms=T0 + 9), store.dismiss(T0 + 1, now_ms=T0 + 9)] == [T0 + 1, T0 + 9]
    assert store.dismissed_ms() == T0 + 9
    with pytest.raises(ScriptRefused, match="BZARG known_ms="):
        store.dismiss(-1, now_ms=T0)


def test_a_drained_app_refuses_what_is_new_and_knows_what_was_stored(bench: Bench) -> None:
    chunk = bench.chunk(2)
    assert bench.store.enqueue(chunk, now_ms=bench.now) == "added"
    assert (bench.store.drain(True), bench.store.drain(True)) == (True, False)
    with pytest.raises(AppDraining):
        bench.enqueue(1)
    assert bench.store.enqueue(chunk, now_ms=bench.now) == "known"
    assert len(ids(bench.claim(bench.a))) == 2
    assert (bench.store.drain(False), bench.store.drain(False)) == (True, False)
    bench.enqueue(1)


def test_an_operation_past_its_deadline_is_not_given_out(bench: Bench) -> None:
    bench.enqueue(2, expires_ms=50)
    bench.enqueue(1)
    bench.now += 60
    assert len(ids(bench.claim(bench.a))) == 1
    assert bench.totals()["expired"] == 2
    assert [bench.status(counter) for counter in (1, 2, 3)] == ["FINAL", "FINAL", "CLAIMED"]


def test_a_failed_attempt_that_was_cancelled_ends(bench: Bench) -> None:
    bench.enqueue(1)
    mine = ids(bench.claim(bench.a))
    assert bench.store.cancel([OperationId("f", "n", "n1", bench.node, 1)], now_ms=bench.now) == ["ASKED"]
    group = Group("f:n:n1", 1, 60_000, [mine[0][0]], [1], [7], [T0])
    bench.store.turn(bench.a, bench.workers[bench.a], [group], [b"R0;1;2;no"], [], now_ms=bench.now)
    assert bench.status(1) == "FINAL"
    assert (bench.totals()["cancelled"], bench.claim(bench.b)) == (1, [])


def die_with(bench: Bench, n: int) -> None:
    """A fresh worker claims `n` and is given up."""
    victim = bench.open("v")
    bench.pass_ms(5000, bench.b, victim)
    assert len(ids(bench.claim(victim, 2 * n))) == n
    bench.pass_ms(1500, bench.b)


def test_what_was_to_be_cancelled_ends_so_where_its_worker_gives_it_back(bench: Bench) -> None:
    """It ran again, although its cancel was asked: found by the simulation (wide, seed 34)."""
    bench.enqueue(2)
    ids_ = [id_ for id_, _ in ids(bench.claim(bench.a))]
    op = OperationId("f", "n", "n1", bench.node, 1)
    assert bench.store.cancel([op], now_ms=bench.now) == ["ASKED"]
    group = ("f:n:n1", ids_, [1, 1])
    assert [bench.store.release(bench.a, [group], now_ms=bench.now) for _ in range(2)] == [1, 0]
    [row] = bench.store.status([op])
    assert row.record.startswith(b"C0-1;")
    assert [id_ for id_, _ in ids(bench.claim(bench.b))] == ids_[1:]
    totals = bench.totals()
    assert (totals["cancelled"], totals["released"]) == (1, 1)
    assert bench.store.connection().call("HGET", f"{bench.store.keys.prefix}stats:f", "flight") == b"1"


def test_what_runs_alone_and_needs_a_python_is_given_to_no_other(bench: Bench) -> None:
    bench.enqueue(1)
    [(id_, claim)] = ids(bench.claim(bench.a))
    bench.store.release(bench.a, [("f:n:n1", [id_], [claim])], need="3.99", now_ms=bench.now)
    for _ in range(2):
        name = bench.open("c")
        taken = bench.store.turn(name, bench.workers[name], [], [], [(1, ["f"])], python="3.99", now_ms=bench.now)
        assert [id_ for id_, _ in ids(taken.claims)] == [id_]
        bench.store.retire(name, now_ms=bench.now)
        bench.now += 5000
    assert len(member(bench, "solo")) == 1
    for python, given in (("", 0), ("3.11", 0), ("3.99", 1)):
        name = bench.open(f"p{python}")
        turn = bench.store.turn(name, bench.workers[name], [], [], [(1, ["f"])], python=python, now_ms=bench.now)
        assert (len(turn.claims), turn.alone) == (given, bool(given))


def test_an_operation_under_which_two_workers_died_runs_alone(bench: Bench) -> None:
    """W14: the third death is then its own, and no neighbour's."""
    bench.enqueue(3)
    die_with(bench, 3)
    die_with(bench, 3)
    bench.enqueue(2)
    bench.pass_ms(2000, bench.b)
    alone = bench.turn(bench.b, [], budget=50)
    assert (len(ids(alone.claims)), alone.alone) == (1, True)
    # Who holds something drains for the next one; one worker at a time, the others go on.
    held = bench.store.turn(bench.b, bench.workers[bench.b], [], [], [(50, ["f"])], held=1, now_ms=bench.now)
    assert (held.claims, held.alone) == ([], True)
    other = bench.open("c")
    beside = bench.store.turn(other, bench.workers[other], [], [], [(50, ["f"])], held=1, now_ms=bench.now)
    assert (len(ids(beside.claims)), beside.alone) == (2, False)
    # What waits for nothing but a free worker is still SCHEDULED or RETRYING, and can be cancelled.
    assert sorted(bench.status(counter) for counter in (1, 2, 3)) == ["CLAIMED", "RETRYING", "RETRYING"]
    rest = [OperationId("f", "n", "n1", bench.node, counter) for counter in (1, 2, 3)]
    assert sorted(bench.store.cancel(rest, now_ms=bench.now)) == ["ASKED", "CANCELLED", "CANCELLED"]
    assert member(bench, "solo") == []


def fail(bench: Bench, n: int) -> list[OperationId]:
    """Enqueue and fail."""
    first = bench.counter + 1
    bench.enqueue(n)
    mine = ids(bench.claim(bench.a))
    group = Group("f:n:n1", n, 60_000, [i for i, _ in mine], [c for _, c in mine], [7] * n, [T0] * n)
    body = b"F" + BODY[1:]
    turn = bench.store.turn(bench.a, bench.workers[bench.a], [group], [body] * n, [], now_ms=bench.now)
    assert turn.accepted == n
    return [OperationId("f", "n", "n1", bench.node, counter) for counter in range(first, first + n)]


def test_a_retry_is_another_operation_and_made_once(bench: Bench) -> None:
    failed = fail(bench, 2)
    assert len(member(bench, "failed:f")) == 2
    made = bench.store.retry(failed, now_ms=bench.now)
    assert bench.store.retry(failed, now_ms=bench.now) == made
    assert len(set(made)) == 2
    claims = bench.claim(bench.b)
    assert sorted(entry[1][1] for claim in claims for entry in claim.entries) == [b"x0", b"x1"]
    origins = sorted(entry[1][5].decode() for claim in claims for entry in claim.entries)
    assert origins == sorted(op.text for op in failed)
    assert (member(bench, "failed:f"), [bench.status(op.counter) for op in failed]) == ([], ["FINAL", "FINAL"])
    bench.enqueue(1)
    assert bench.store.retry([OperationId("f", "n", "n1", bench.node, 3)], now_ms=bench.now) == [None]


def test_what_is_forgotten_is_gone_and_does_not_come_back(bench: Bench) -> None:
    failed = fail(bench, 3)
    chunk = bench.chunk(1, batch="run")
    bench.store.enqueue(chunk, now_ms=bench.now)
    waiting = OperationId("f", "n", "n1", bench.node, 4)
    assert [bench.store.forget([*failed, waiting], "run", now_ms=bench.now) for _ in range(2)] == [3, 0]
    assert [bench.status(counter) for counter in (1, 2, 3, 4)] == ["ABSENT", "ABSENT", "ABSENT", "PENDING"]
    assert (bench.store.batch("run"), member(bench, "failed:f"), member(bench, "chunks")) == ([], [], [])
    old = Chunk("f", "n", "n1", bench.node, 1, [b"x"])
    assert bench.store.enqueue(old, now_ms=bench.now) == "known"
    assert len(ids(bench.claim(bench.b))) == 1


def test_an_empty_segment_of_a_gone_node_disappears_but_not_its_last_id(bench: Bench) -> None:
    bench.enqueue(2)
    bench.turn(bench.a, ids(bench.claim(bench.a)))
    waiting = bench.store.open_node("n2", now_ms=bench.now)
    bench.store.enqueue(Chunk("f", "n", "n2", waiting, 1, [b"w"]), now_ms=bench.now)
    bench.pass_ms(62_000, bench.a, bench.b)
    assert [segment.node for segment in bench.store.snapshot(now_ms=bench.now).segments] == ["n2"]
    assert not exists(bench, "seg:f:n:n1")
    assert bench.store.enqueue(Chunk("f", "n", "n1", bench.node, 1, [b"x", b"x"]), now_ms=bench.now) == "known"
    bench.counter = 2
    assert bench.enqueue(1) == "added"
    assert len(ids(bench.claim(bench.a))) == 2


def test_a_repeated_commit_of_a_segment_that_is_gone_keeps_no_other_from_its_commit(bench: Bench) -> None:
    """The store was away for longer than an empty segment stays: found by the simulation (seed 1191)."""
    bench.enqueue(1)
    claim = ids(bench.claim(bench.a))
    bench.turn(bench.a, claim)  # its reply is lost
    bench.pass_ms(62_000, bench.a, bench.b)
    assert not exists(bench, "seg:f:n:n1")
    other = bench.store.open_node("n2", now_ms=bench.now)
    bench.store.enqueue(Chunk("f", "n", "n2", other, 1, [b"w"]), now_ms=bench.now)
    late = ids(bench.claim(bench.a))
    rows = [("f:n:n1", claim), ("f:n:n2", late)]
    groups = [Group(name, 2, 60_000, [row[0][0]], [1], [7], [T0]) for name, row in rows]
    done = bench.store.turn(bench.a, bench.workers[bench.a], groups, [BODY] * 2, [], now_ms=bench.now)
    assert (done.accepted, done.lost) == (1, [])
    assert bench.store.release(bench.a, [(name, [row[0][0]], [1]) for name, row in rows], now_ms=bench.now) == 0


def test_a_segment_with_waiting_operations_is_not_pruned(bench: Bench) -> None:
    bench.enqueue(2)
    bench.pass_ms(70_000, bench.a, bench.b)
    assert len(ids(bench.claim(bench.a))) == 2


def test_chunks_leave_their_registers_with_their_retention(bench: Bench) -> None:
    fail(bench, 2)
    bench.now += 61_000
    bench.enqueue(1)
    bench.turn(bench.a, ids(bench.claim(bench.a)))
    # Both commits are in the same chunk here: it lives as long as the longer retention in it, and a sixteenth beyond.
    assert len(member(bench, "chunks")) == len(member(bench, "expiring")) == 1
    bench.now += 64_000
    other = bench.store.open_node("n2", now_ms=bench.now)
    bench.store.enqueue(Chunk("f", "n", "n2", other, 1, [b"w"]), now_ms=bench.now)
    claim = ids(bench.claim(bench.a))
    group = Group("f:n:n2", 1, 60_000, [claim[0][0]], [1], [7], [T0])
    bench.store.turn(bench.a, bench.workers[bench.a], [group], [BODY], [], now_ms=bench.now)
    assert [title.split(b":")[0] for title in member(bench, "chunks")] == [b"n2"]


def test_progress_is_kept_of_ones_own_claims_only_and_goes_with_the_operation(bench: Bench) -> None:
    bench.enqueue(1)
    [(entry, claim)] = ids(bench.claim(bench.a))
    op = OperationId("f", "n", "n1", bench.node, 1)
    bench.store.heartbeat(bench.b, LEASE, {}, [("f:n:n1", entry, claim, "9;9;no")], now_ms=bench.now)
    bench.store.heartbeat(bench.a, LEASE, {}, [("f:n:n1", entry, claim + 1, "8;9;no")], now_ms=bench.now)
    assert bench.store.story(op) == {}
    bench.store.heartbeat(bench.a, LEASE, {}, [("f:n:n1", entry, claim, "1;9;yes")], now_ms=bench.now)
    assert bench.store.story(op) == {"progress": "1;9;yes"}
    bench.turn(bench.a, [(entry, claim)])
    left = bench.store.connection().call("PTTL", f"{bench.store.keys.prefix}live:{op.text}")
    assert 0 < left <= 60_000
    assert not exists(bench, "marks")


def test_a_status_is_not_running_for_a_longer_number_that_begins_alike(bench: Bench) -> None:
    bench.enqueue(12)
    bench.claim(bench.a)
    bench.store.heartbeat(bench.a, LEASE, {"running": f"f:n:n1:{bench.node}-12"}, now_ms=bench.now)
    assert (bench.status(1), bench.status(12)) == ("CLAIMED", "RUNNING")


def test_a_worker_that_holds_more_than_it_knows_is_not_fenced(bench: Bench) -> None:
    """W3: the reply of a claim was lost, and it commits what it knows of before it has recovered the rest."""
    bench.enqueue(20)
    bench.claim(bench.a, 12)
    known = ids(bench.claim(bench.a, 8))
    first = [(f"{bench.node}-1", 1)]
    assert bench.turn(bench.a, [*first, *known], held=9).accepted == 9


def test_what_is_due_does_not_take_every_claim_of_one(bench: Bench) -> None:
    bench.enqueue(12)
    given_back = ids(bench.claim(bench.a, 6))
    groups = [("f:n:n1", [i for i, _ in given_back], [c for _, c in given_back])]
    bench.store.release(bench.a, groups, now_ms=bench.now)
    numbers = [ids(bench.claim(bench.b, 1))[0][1] for _ in range(8)]
    assert (numbers.count(1), numbers.count(2)) == (4, 4)


def test_an_enqueue_rings(bench: Bench) -> None:
    bench.enqueue(3)
    call, key = bench.store.connection().call, bench.store.keys.bell("f")
    assert call("LLEN", key) == 1
    bench.claim(bench.a, 2)
    assert call("LLEN", key) >= 1  # what is left rings for the next
    bench.claim(bench.a, 2)
    assert call("LLEN", key) == 0


def test_completions_stay_until_their_reader_drops_them(bench: Bench) -> None:
    bench.enqueue(3)
    mine = ids(bench.claim(bench.a))
    for row in mine:
        bench.turn(bench.a, [row])
    assert bench.store.connection().call("XLEN", bench.store.keys.done("n1", bench.node)) == 3


def test_an_operation_that_a_commit_brings_twice_counts_once(bench: Bench) -> None:
    """Its worker claimed it again, with the same number, after the store had fallen back."""
    bench.enqueue(2)
    [one, two] = ids(bench.claim(bench.a))
    answer = bench.turn(bench.a, [one, one, two])
    assert (answer.accepted, answer.lost) == (2, [])
    totals = bench.totals()
    assert (totals["succeeded"], totals["fenced"]) == (2, 0)


def test_while_an_older_state_is_not_decided_on_nothing_is_enqueued_or_claimed_and_commits_pass(bench: Bench) -> None:
    stored = bench.chunk(2)
    bench.store.enqueue(stored, now_ms=bench.now)
    (row,) = ids(bench.claim(bench.a, 1))
    call, meta = bench.store.connection().call, bench.store.keys.meta
    call("HSET", meta, "restored", "1;old")
    with pytest.raises(StoreRestored):
        bench.enqueue(1)
    assert bench.store.enqueue(stored, now_ms=bench.now) == "known"
    assert bench.claim(bench.a) == []
    assert bench.turn(bench.a, [row]).accepted == 1
    call("HDEL", meta, "restored")
    assert len(ids(bench.claim(bench.a))) == 1
