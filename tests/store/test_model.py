"""The same random histories through the pure queue and through the scripts on a real server: the same state after each
step (failures.md W1-W3, W7, W8, W10, W14, W15, W17, C1, C6; P7, P9, P10, P12; I1-I9, I11, I13, I15, I19)."""

from __future__ import annotations

import itertools
import os

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from blazing_nb.core.dependency import Members
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.effect import Effect
from blazing_nb.core.entry import PARKED, Dot, Limit, Row
from blazing_nb.core.join import Tally
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.queue import Queue
from blazing_nb.errors import SegmentFull
from blazing_nb.store.join import Join, suspend_body
from blazing_nb.store.request import Chunk, Follow, Group
from blazing_nb.store.store import Store

T0 = 1_800_000_000_000
LEASE = 1000
STEPS = ["f", "g"]
NODES = ["n1", "n2"]
LIMITS = [Limit(), Limit(3), Limit(0, 100.0, 2), Limit(5, 40.0, 1)]
EXAMPLES = int(os.environ.get("BLAZING_EXAMPLES", "60"))
_apps = itertools.count(1)
BODY = msgspec.msgpack.encode([T0, T0, 5, 7, 1, b"\0\xc0"])
EMPTY_FAILURE = msgspec.msgpack.encode(["E", "no", "", None])


class Machine(RuleBasedStateMachine):
    """Rules are verbs; what a rule answers on the server must be what it answers in the model."""

    url = ""
    app = ""
    chunks = Bundle("chunks")
    held = Bundle("held")

    @initialize()
    def begin(self) -> None:
        self.store = Store(f"{self.app}-{next(_apps)}", self.url)
        self.model = Queue()
        self.now = T0
        self.nodes: dict[str, int] = {}
        self.counters: dict[str, int] = {}
        self.workers: dict[str, int] = {}
        self.dots: list[Dot] = []
        for node in NODES:
            self.restart_node(node)
        for _ in range(2):
            self.start_worker()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    # -- time and registration

    @rule(ms=st.sampled_from([1, 40, 200, 450, 700, 2500]))
    def time_passes(self, ms: int) -> None:
        """A long while is an outage of the store, which kills nobody."""
        self.now += ms

    @rule(ms=st.sampled_from([10, 5000]))
    def the_clock_steps_back(self, ms: int) -> None:
        """W12: scripts never go below what they have seen."""
        self.now -= ms

    @rule(node=st.sampled_from(NODES))
    def restart_node(self, node: str) -> None:
        self.nodes[node] = self.store.open_node(node, now_ms=self.now)
        self.model.clock(self.now)
        self.counters[node] = 0

    @rule()
    def start_worker(self) -> None:
        incarnation = self.store.open_worker("w", LEASE, now_ms=self.now)
        self.workers[f"w.{incarnation}"] = incarnation
        self.model.open_worker(f"w.{incarnation}", LEASE, self.now)

    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        self.beat_one(self.some_worker(data))

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        worker = self.some_worker(data)
        known = self.store.retire(worker, now_ms=self.now)
        assert known == self.model.retire(worker, self.now)
        if known:
            self.model.rescue(self.model.seen_ms)

    @rule(target=held, budget=st.integers(2, 20), deaths=st.integers(1, 3))
    def die_holding(self, budget: int, deaths: int) -> object:
        """Workers claim and die, one after the other, while the others beat (W2, W4, W14)."""
        rows: list[tuple[str, Dot, int]] = []
        for _ in range(deaths):
            self.start_worker()
            victim = max(self.workers)
            self.now += 400
            rows += self.claimed(self.turn(victim, [], budget, STEPS))
            for _ in range(6):
                self.now += 300
                for worker in sorted(self.model.leases):
                    if worker != victim:
                        self.beat_one(worker)
        return multiple(*rows)

    @staticmethod
    def claimed(result: object) -> list[tuple[str, Dot, int]]:
        return list(getattr(result, "values", ()))

    def beat_one(self, worker: str) -> None:
        assert self.store.heartbeat(worker, LEASE, now_ms=self.now) == self.model.heartbeat(worker, LEASE, self.now)

    def some_worker(self, data: st.DataObject) -> str:
        """Any that ever started; more often one that lives."""
        living = sorted(self.model.leases)
        pool = living if living and data.draw(st.integers(0, 3)) else sorted(self.workers)
        return data.draw(st.sampled_from(pool))

    # -- the node's side

    @rule(
        target=chunks,
        step=st.sampled_from(STEPS),
        node=st.sampled_from(NODES),
        prio=st.sampled_from("hnnld"),
        n=st.integers(1, 6),
        cap=st.sampled_from([0, 0, 8]),
        delay_ms=st.sampled_from([0, 300, 2000]),
        expires_ms=st.sampled_from([0, 0, 500]),
    )
    def enqueue(self, step: str, node: str, prio: str, n: int, cap: int, delay_ms: int, expires_ms: int) -> Chunk:
        first = self.counters[node] + 1
        self.counters[node] += n
        payloads = [b"x"] * n
        chunk = Chunk(step, prio, node, self.nodes[node], first, payloads, cap, "", 0, delay_ms, 0, expires_ms)
        self.send(chunk)
        return chunk

    @rule(
        target=chunks,
        step=st.sampled_from(STEPS),
        node=st.sampled_from(NODES),
        data=st.data(),
        n=st.integers(1, 3),
        delay_ms=st.sampled_from([0, 0, 300]),
        expires_ms=st.sampled_from([0, 0, 500]),
    )
    def enqueue_with_dependencies(
        self, step: str, node: str, data: st.DataObject, n: int, delay_ms: int, expires_ms: int
    ) -> object:
        """I11: on what is not final, is final, or was never stored."""
        if not self.dots:
            return multiple()
        first = self.counters[node] + 1
        self.counters[node] += n
        joins = [Join(self.some_groups(data), at) for at in range(n)]
        payloads = [b"x"] * n
        chunk = Chunk(
            step, "d", node, self.nodes[node], first, payloads, 0, "", 0, delay_ms, 0, expires_ms, joins=joins
        )
        self.send(chunk)
        return chunk

    def some_groups(self, data: st.DataObject) -> tuple[Members, ...]:
        unknown = Dot("f:n:n1", self.nodes["n1"], 1_000_000)
        pool = [*self.dots[-12:], *self.dots[-12:], unknown]
        groups = []
        for _ in range(data.draw(st.integers(1, 2))):
            members = sorted(data.draw(st.sets(st.sampled_from(pool), min_size=1, max_size=4)))
            needed = data.draw(st.integers(1, len(members)))
            counts, ending = data.draw(st.sampled_from([("S", "F"), ("S", "C"), ("*", ""), ("S", "")]))
            groups.append(Members(tuple(_op(dot).range for dot in members), needed, counts, ending))
        return tuple(groups)

    @rule(row=held, data=st.data())
    def suspend(self, row: tuple[str, Dot, int], data: st.DataObject) -> None:
        """A worker gives back what waits for others."""
        worker, dot, claims = row
        if self.dots:
            groups = tuple(group for group in self.some_groups(data) if dot not in map(_dot, group.ranges))
            self.turn(worker, [Row(dot, claims, "J", groups=_tallies(groups))], 0, STEPS, groups)

    @rule(chunk=chunks)
    def enqueue_again(self, chunk: Chunk) -> None:
        """C1: its reply was lost. C6: or its node came back meanwhile."""
        self.send(chunk)

    def send(self, chunk: Chunk) -> None:
        segment = f"{chunk.step}:{chunk.prio}:{chunk.node}"
        dots = [Dot(segment, chunk.incarnation, chunk.first + i) for i in range(len(chunk.payloads))]
        delay = chunk.delay_ms if chunk.prio == "d" else None
        joins = {dots[join.at]: _tallies(join.groups) for join in chunk.joins}
        expected = self.model.enqueue(
            dots, self.now, cap=chunk.cap, delay_ms=delay, expires_ms=chunk.expires_ms, joins=joins
        )
        try:
            answer = self.store.enqueue(chunk, now_ms=self.now)
        except SegmentFull:
            answer = "full"
        assert answer == expected
        if answer == "added":
            self.dots += dots

    # -- the worker's side

    @rule(target=held, data=st.data(), budget=st.integers(1, 9), steps=st.permutations(STEPS))
    def claim_again(self, data: st.DataObject, budget: int, steps: list[str]) -> object:
        return self.turn(self.some_worker(data), [], budget, steps)

    @rule(target=held, data=st.data(), budget=st.integers(1, 9), steps=st.permutations(STEPS))
    def claim(self, data: st.DataObject, budget: int, steps: list[str]) -> object:
        return self.turn(self.some_worker(data), [], budget, steps)

    @rule(
        target=held,
        rows=st.lists(held, max_size=9, unique_by=lambda row: row[1]),
        letter=st.sampled_from("SSFR"),
        delay_ms=st.sampled_from([0, 700]),
        budget=st.sampled_from([0, 4]),
        next_step=st.sampled_from(["", "f", "g"]),
    )
    def commit(
        self, rows: list[tuple[str, Dot, int]], letter: str, delay_ms: int, budget: int, next_step: str
    ) -> object:
        """By whoever claimed it once: in time, again (W7), or as a zombie (W8)."""
        if not rows:
            return multiple()
        worker = rows[0][0]
        follows = next_step if letter == "S" else ""
        mine = [Row(dot, claims, letter, delay_ms, follows) for owner, dot, claims in rows if owner == worker]
        return self.turn(worker, mine, budget, STEPS)

    @rule(target=held, row=consumes(held), other=held, budget=st.sampled_from([0, 3]))
    def commit_anothers(self, row: tuple[str, Dot, int], other: tuple[str, Dot, int], budget: int) -> object:
        """A worker commits what another one holds, beside its own."""
        rows = {dot: claims for _, dot, claims in (other, row)}
        return self.turn(row[0], [Row(dot, claims, "S") for dot, claims in rows.items()], budget, STEPS)

    @rule(
        rows=st.lists(held, max_size=6, unique_by=lambda row: row[1]),
        letter=st.sampled_from("SF"),
        more=st.integers(0, 2),
        next_step=st.sampled_from(["", "", "g"]),
    )
    def reassert(self, rows: list[tuple[str, Dot, int]], letter: str, more: int, next_step: str) -> None:
        """By whoever claimed it once, or under a later claim that the store has forgotten (I3, I4)."""
        follows = next_step if letter == "S" else ""
        worker = rows[0][0] if rows else ""
        mine = [
            Row(dot, claims + more, letter, 0, follows)
            for owner, dot, claims in rows
            if owner == worker and ":@" not in dot.segment
        ]
        if mine:
            self.send_reassert(worker, mine)

    @rule(
        data=st.data(),
        step=st.sampled_from(STEPS),
        node=st.sampled_from(NODES),
        prio=st.sampled_from("nnd"),
        n=st.integers(1, 3),
    )
    def reassert_ahead(self, data: st.DataObject, step: str, node: str, prio: str, n: int) -> None:
        """Before its producer sends it again."""
        segment, first = f"{step}:{prio}:{node}", self.counters[node] + data.draw(st.integers(1, 3))
        dots = [Dot(segment, self.nodes[node], first + i) for i in range(n)]
        self.send_reassert(self.some_worker(data), [Row(dot, 1, "S") for dot in dots])

    def send_reassert(self, worker: str, rows: list[Row]) -> None:
        groups, bodies, payloads = list[Group](), list[bytes](), list[bytes]()
        rows = sorted(rows, key=lambda row: (row[0].segment, row[0].incarnation, row[0].counter))
        for segment, members in itertools.groupby(rows, key=lambda row: row[0].segment):
            part = list(members)
            follows = []
            for index, row in enumerate(part, 1):
                if row.next_step:
                    payloads.append(b"next")
                    follows.append(Follow(index, len(payloads), row.next_step, "n", 1, "", 0, 0))
            ids = [f"{dot.incarnation}-{dot.counter}" for dot, *_ in part]
            claims = [row.claims for row in part]
            groups.append(Group(segment, 100, 60_000, ids, claims, [7] * len(part), [T0] * len(part), follows))
            bodies += [_body(row) for row in part]
        known = [row.dot.member for row in rows if row.dot in self.dots]
        effects = {member.replace("|", ":"): [Effect("incr", f"did:{member}", 1)] for member in known}
        accepted, remembered, lost = self.model.reassert(worker, self.workers[worker], rows, self.now)
        self.dots += [dot for dot in self.model.follows.values() if dot not in self.dots]
        found = self.store.reassert(
            worker, self.workers[worker], groups, bodies, payloads=payloads, effects=effects, now_ms=self.now
        )
        assert (found.accepted, found.remembered) == (accepted, remembered)
        assert sorted(found.lost) == sorted(f"{d.segment}:{d.incarnation}-{d.counter}" for d in lost)

    def turn(
        self, worker: str, rows: list[Row], budget: int, steps: list[str], waits: tuple[Members, ...] = ()
    ) -> object:
        groups, bodies, payloads = [], [], list[bytes]()
        rows = sorted(rows, key=lambda row: (row[0].segment, row[0].incarnation, row[0].counter))
        for segment, members in itertools.groupby(rows, key=lambda row: row[0].segment):
            part = list(members)
            ids = [f"{dot.incarnation}-{dot.counter}" for dot, *_ in part]
            claims = [row.claims for row in part]
            follows = []
            for index, row in enumerate(part, 1):
                if row.next_step:
                    payloads.append(b"next")
                    follows.append(Follow(index, len(payloads), row.next_step, "n", 1, "", 0, 0))
            groups.append(Group(segment, 100, 60_000, ids, claims, [7] * len(part), [T0] * len(part), follows))
            bodies += [suspend_body(Join(waits), T0) if row.letter == "J" else _body(row) for row in part]
        lanes = [(budget, steps)] if budget else []
        accepted, lost, taken = self.model.turn(
            worker, self.workers[worker], rows, budget, steps if budget else [], self.now, self.python(worker)
        )
        self.dots += [dot for dot in self.model.follows.values() if dot not in self.dots]
        keeps = sum(entry.owner == worker for dot, entry in self.model.live.items() if dot not in taken)
        # I10: each operation counts its own commits.
        effects = {r.dot.member.replace("|", ":"): [Effect("incr", f"did:{r.dot.member}", 1)] for r in rows}
        reply = self.store.turn(
            worker,
            self.workers[worker],
            groups,
            bodies,
            lanes,
            held=keeps,
            payloads=payloads,
            effects=effects,
            python=self.python(worker),
            now_ms=self.now,
        )
        got = [
            (Dot(claim.segment, *map(int, entry[0].decode().split("-"))), claim.claims)
            for claim in reply.claims
            for entry in claim.entries
        ]
        assert reply.accepted == accepted
        assert sorted(reply.lost) == sorted(f"{d.segment}:{d.incarnation}-{d.counter}" for d in lost)
        assert reply.lease_lost == (worker not in self.model.leases)
        assert got == [(dot, self.model.live[dot].claims) for dot in taken]
        return multiple(*((worker, dot, claims) for dot, claims in got))

    @staticmethod
    def python(worker: str) -> str:
        """Of two kinds, by the worker's incarnation."""
        return "3.11" if int(worker.rpartition(".")[2]) % 2 else "3.12"

    @rule(row=held, delay_ms=st.sampled_from([0, 400]), need=st.sampled_from(["", "", "3.11", "3.12"]))
    def release(self, row: tuple[str, Dot, int], delay_ms: int, need: str) -> None:
        worker, dot, claims = row
        group = (dot.segment, [f"{dot.incarnation}-{dot.counter}"], [claims])
        expected = self.model.release(worker, [(dot, claims)], self.now, delay_ms, need)
        assert self.store.release(worker, [group], delay_ms=delay_ms, need=need, now_ms=self.now) == expected

    @rule(data=st.data(), often=st.integers(0, 3), waiting=st.booleans())
    def cancel(self, data: st.DataObject, often: int, waiting: bool) -> None:
        """W17: whichever comes first wins."""
        if self.dots and not often:
            dot = data.draw(st.sampled_from(self.dots))
            found = self.store.cancel([_op(dot)], waiting=waiting, now_ms=self.now)
            assert found == [self.model.cancel(dot, self.now, waiting=waiting)]

    @rule(step=st.sampled_from(STEPS), paused=st.booleans())
    def pause(self, step: str, paused: bool) -> None:
        self.store.pause(step, paused, now_ms=self.now)
        self.model.clock(self.now)
        (self.model.paused.add if paused else self.model.paused.discard)(step)

    @rule(
        step=st.sampled_from(STEPS), limit=st.sampled_from([Limit(), Limit(3), Limit(0, 100.0, 2), Limit(5, 40.0, 1)])
    )
    def limit(self, step: str, limit: Limit) -> None:
        text = f"{limit.in_flight};{limit.interval_ms:.6f};{limit.burst}" if limit != Limit() else ""
        self.store.define(step, b"h", b"", b"", text, now_ms=self.now)
        self.model.clock(self.now)
        self.model.limits[step] = limit

    # -- everything that can be seen

    def _work_off(self) -> None:
        """A call settles at most 128 groups; what is left is the next call's, here of one that does nothing else."""
        while self.store.connection().call("EXISTS", f"{self.store.keys.prefix}settled"):
            self.store.run("cancel", [], b"", now_ms=self.now)

    @invariant()
    def the_same_state(self) -> None:
        if not hasattr(self, "store"):
            return
        self._work_off()
        rows = self.store.status([_op(dot) for dot in self.dots])
        for dot, row in zip(self.dots, rows, strict=True):
            assert (row.status, row.claims, row.deaths, row.releases) == self.model.status(dot), dot
            if row.record:
                token = row.record[: row.record.index(b";")].decode()
                assert token == self.model.final[dot], dot
                follows = self.model.follows.get(dot)
                assert decode_outcome(row.record).place == (f"1|{_op(follows).text}" if follows else ""), dot

    @invariant()
    def accounts_and_registers_agree(self) -> None:
        """I9, I19: what waits is in `active`, what is parked has its due time, nothing is counted twice."""
        if not hasattr(self, "store"):
            return
        self._work_off()
        call, prefix = self.store.connection().call, self.store.keys.prefix
        for dot in self.dots:
            did = call("HGET", f"{prefix}did:{dot.member}", "p:0")
            assert int(did or 0) == self.model.done.get(dot, 0) <= 1, dot
        for segment in self.store.snapshot(now_ms=self.now).segments:
            name = f"{segment.step}:{segment.prio}:{segment.node}"
            owners = [entry.owner for dot, entry in self.model.live.items() if dot.segment == name]
            parked, waiting = owners.count(PARKED), owners.count("")
            assert (segment.waiting, segment.parked, segment.claimed) == (
                waiting,
                parked,
                len(owners) - parked - waiting,
            )
            if waiting and segment.prio != "d":
                assert call("ZSCORE", f"{prefix}active:{segment.step}:{segment.prio}", name) is not None
        for step in STEPS:
            assert int(call("HGET", f"{prefix}stats:{step}", "flight") or 0) == self.model.claims.flight(step)
        needs = [f"{python}:{step}" for python in ("3.11", "3.12") for step in STEPS]
        parked_keys = [*(f"parked:{step}" for step in STEPS), "solo", *(f"need:{need}" for need in needs)]
        listed = {field.decode() for field in call("HKEYS", f"{prefix}needs")}
        assert listed >= {need for need in needs if call("EXISTS", f"{prefix}need:{need}")}
        members = {m.decode() for key in parked_keys for m in call("ZRANGE", prefix + key, 0, -1)}
        assert not call("EXISTS", f"{prefix}settled")
        waits = {m.decode() for m in call("ZRANGE", f"{prefix}joins", 0, -1)}
        assert waits == {_op(dot).text for dot, entry in self.model.live.items() if entry.groups is not None}
        assert members == {dot.member for dot, entry in self.model.live.items() if entry.owner == PARKED}


def _dot(range_: Range) -> Dot:
    return Dot(f"{range_.step}:{range_.prio}:{range_.node}", range_.incarnation, range_.first)


def _tallies(groups: tuple[Members, ...]) -> tuple[Tally[Dot], ...]:
    return tuple(Tally.begin(set(map(_dot, g.ranges)), g.needed, g.counts, g.ending) for g in groups)


def _op(dot: Dot) -> OperationId:
    step, prio, node = dot.segment.split(":")
    return OperationId(step, prio, node, dot.incarnation, dot.counter)


def _body(row: Row) -> bytes:
    if row.letter == "R":
        return b"R%d;%d;7;no" % (row.delay_ms, T0)
    return row.letter.encode() + (b"\x97" + BODY[1:] if row.next_step else BODY)


def test_the_scripts_do_what_the_model_does(url: str, app_id: str) -> None:
    class Here(Machine):
        pass

    Here.url, Here.app = url, app_id
    run_state_machine_as_test(
        Here,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=40, suppress_health_check=list(HealthCheck)),
    )


@pytest.mark.parametrize("letter", "SFCLX")
def test_final_is_absorbing_in_the_model(letter: str) -> None:
    queue, dot = Queue(), Dot("f:n:n1", 1, 1)
    assert queue.enqueue([dot], T0) == "added"
    queue.final[dot] = letter + "1-1"
    del queue.live[dot]
    assert queue.enqueue([dot], T0) == "known"
    queue.open_worker("w.2", LEASE, T0)
    assert queue.turn("w.2", 2, [Row(dot, 1, "S")], 5, ["f"], T0) == (0, [dot], [])
    assert (queue.cancel(dot, T0), queue.status(dot)[0]) == ("FINAL", "FINAL")
