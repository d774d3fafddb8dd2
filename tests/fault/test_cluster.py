"""A cluster of six on loopback: redirections, a slot that moves under load, a primary that dies (R11, R13)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from blazing_nb import Blazing
from blazing_nb.errors import ScriptRefused, StoreUnavailable, StoreUnsuitable
from blazing_nb.store import acl, script
from blazing_nb.store.connection import Connection
from tests.condition import until
from tests.deployment import HOST, NODE_TIMEOUT_S, Cluster, ask, at_work, deployed


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with deployed("cluster") as made:
        assert isinstance(made, Cluster)
        yield made


@pytest.fixture
def app(cluster: Cluster, app_id: str) -> Iterator[Blazing]:
    with at_work(cluster.url, app_id) as made:
        yield made


def slot_of(app: Blazing) -> int:
    return int(ask_any(app, "CLUSTER", "KEYSLOT", app.store.keys.meta))


def ask_any(app: Blazing, *args: Any) -> Any:
    return app.store.connection().call(*args)


def same(x: int) -> int:
    return x


def slow(x: int) -> int:
    time.sleep(0.002)
    return x


class Load:
    """Enqueues on a thread until told to stop; then every result is asked for."""

    def __init__(self, app: Blazing) -> None:
        self.step = app.step(slow)
        self.batches: list[Any] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            self.batches.append(self.step.map(range(100)))
            self._over.wait(0.05)

    def end(self) -> int:
        """How many operations there were: each has its result."""
        self._over.set()
        self._thread.join()
        for batch in self.batches:
            assert batch.results(60) == list(range(100))
        return 100 * len(self.batches)


def test_r13_keys_of_another_slot_are_refused_by_the_server(app: Blazing) -> None:
    """So a script that took a key of another slot would fail in all tests that run on the cluster."""
    text = "#!lua\nreturn redis.call('GET', KEYS[1] .. '{other}') or redis.call('GET', 'bz:{other:0}:meta')"
    with pytest.raises(ScriptRefused, match=r"non local|to the same slot"):
        app.store.connection().call("EVAL", text, 1, app.store.keys.meta)


@pytest.mark.parametrize("verb", acl.verbs())
def test_r13_a_script_has_the_line_that_makes_the_server_refuse(verb: str) -> None:
    head = script.load(verb).text.splitlines()[0]
    assert head.startswith("#!lua") and "cross" not in head


def test_r11_a_wrong_idea_of_who_has_the_slot_is_corrected(cluster: Cluster, app: Blazing) -> None:
    connection, slot = app.store.connection(), slot_of(app)
    route = app.store._route
    wrong = next(port for port in cluster.primaries() if port != cluster.owner(slot))
    route._slots[slot] = (HOST, wrong)
    assert app.step(same).enqueue(1).result(10) == 1
    assert route._slots[slot] == (HOST, cluster.owner(slot))
    assert connection.call("HGET", app.store.keys.meta, "version") is not None


def test_r11_what_is_not_there_any_more_is_asked_for_at_the_other_node(cluster: Cluster, app: Blazing) -> None:
    connection, slot = app.store.connection(), slot_of(app)
    source = cluster.owner(slot)
    to = next(port for port in cluster.primaries() if port != source)
    key = app.store.keys.prefix + "gone"
    ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.name(source))
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.name(to))
    try:
        connection.call("SET", key, "there", "PX", 60_000)
        assert connection.call("GET", key) == b"there"
        refused = Connection(f"redis://{HOST}:{source}", deadline_s=0.0)
        with pytest.raises(StoreUnsuitable, match="redis\\+cluster"):
            refused.call("GET", key)
        refused.close()
    finally:
        connection.call("DEL", key)
        for port in (to, source):
            ask(port, "CLUSTER", "SETSLOT", slot, "STABLE")


def test_r11_a_script_in_a_slot_that_is_moving_changes_nothing_and_is_repeated(cluster: Cluster, app: Blazing) -> None:
    step = app.step(same)
    assert step.enqueue(0).result(10) == 0
    slot = slot_of(app)
    source = cluster.owner(slot)
    to = next(port for port in cluster.primaries() if port != source)
    ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.name(source))
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.name(to))
    before = app.store.connection().call("HGETALL", f"{app.store.keys.prefix}stats:same")
    with pytest.raises(StoreUnavailable, match="its slot is being handed over"):
        text = script.load("pause").text
        Connection(cluster.url, deadline_s=0.0).call("EVAL", text, 1, app.store.keys.meta, "", b"\x82")
    timer = threading.Timer(0.5, lambda: [ask(p, "CLUSTER", "SETSLOT", slot, "STABLE") for p in (to, source)])
    timer.start()
    assert app.store.connection().call("HGETALL", f"{app.store.keys.prefix}stats:same") == before
    assert step.enqueue(1).result(10) == 1
    timer.join()


def test_r11_a_slot_moves_and_comes_back_under_load(cluster: Cluster, app: Blazing) -> None:
    load, slot = Load(app), slot_of(app)
    here = cluster.owner(slot)
    there = next(port for port in cluster.primaries() if port != here)
    until(lambda: len(load.batches) > 2)
    for to in (there, here):
        seen = len(load.batches)
        cluster.move(slot, to, keys_at_once=2, pause_s=0.02)
        until(lambda seen=seen: len(load.batches) > seen + 2)
    count = load.end()
    steps = app.snapshot().steps[0]
    assert (steps.enqueued, steps.finished) == (count, count)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "pause"])
def test_r11_a_primary_that_dies_is_followed_by_its_replica(cluster: Cluster, app: Blazing, how: str) -> None:
    step = app.step(slow)
    first = step.map(range(2000))
    port = cluster.owner(slot_of(app))
    until(lambda: b"connected_slaves:1" in ask(port, "INFO", "replication"))
    assert app.store.connection().call("WAIT", 1, 2000) == 1
    getattr(cluster, how)(port)
    began = time.monotonic()
    assert step.enqueue(-1).result(60) == -1
    took = time.monotonic() - began
    assert first.results(60) == list(range(2000))
    cluster.heal()
    assert (
        took < NODE_TIMEOUT_S + 3 + 5
    )  # what it promises is measured by tests.fault.cluster_failover, on a quiet machine
