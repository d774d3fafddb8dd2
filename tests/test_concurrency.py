"""Many at once: nodes that write, workers that claim, apps that know nothing of each other, a channel between two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from blazing_nb import Blazing, Worker, current, errors
from blazing_nb.store.request import Chunk
from blazing_nb.store.store import Store


@contextmanager
def working(url: str, *apps: str) -> Iterator[list[Worker]]:
    """A worker for each, until the end."""
    workers = [Worker(app, url=url).start() for app in apps]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.close()


def at_once(functions: list[Any]) -> list[Any]:
    """Call each in a thread of its own, all at the same moment; what they returned."""
    gate, results = threading.Barrier(len(functions)), [None] * len(functions)

    def run(i: int) -> None:
        gate.wait(20)
        results[i] = functions[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def square(x: int) -> int:
    current().effect.incr("squared")
    return x * x


def test_three_nodes_write_three_segments_and_one_worker_drains_them(url: str, app_id: str) -> None:
    nodes = ["node-a", "node-b", "node-c"]

    def enqueue(node: str) -> list[int]:
        with Blazing(app_id, url=url, node_id=node) as app:
            batch = app.step(square).map(range(100), name=node)
            assert {range_.node for range_ in app.store.batch(node)} == {node}
            return [int(batch[i].id.rpartition("-")[2]) for i in (0, 99)]

    counters = at_once([lambda node=node: enqueue(node) for node in nodes])
    assert counters == [[1, 100]] * 3
    with Blazing(app_id, url=url) as app:
        depths = app.segments().set_index("node")["waiting"].to_dict()
        assert depths == dict.fromkeys(nodes, 100)
        with working(url, app_id):
            for node in nodes:
                assert app.attach(node).results(30) == [x * x for x in range(100)]
        assert app.snapshot().waiting == 0
        assert app.shared().counter("squared").value == 300


def test_five_workers_claim_at_once_and_one_wins(url: str, app_id: str) -> None:
    store = Store(app_id, url)
    node = store.open_node("n")
    workers = {f"w{i}.{inc}": inc for i in range(5) for inc in [store.open_worker(f"w{i}", 10_000)]}
    for n in range(1, 31):
        store.enqueue(Chunk("f", "n", "n", node, n, [b"x"]))
        turns = at_once([lambda w=w, i=i: store.turn(w, i, [], [], [(5, ["f"])]) for w, i in workers.items()])
        claimed = [claim.entries[0][0] for turn in turns for claim in turn.claims]
        assert claimed == [b"%d-%d" % (node, n)]
    pending = store.connection().call("XPENDING", f"{store.keys.prefix}seg:f:n:n", "w", "-", "+", 100)
    assert [row[3] for row in pending] == [1] * 30, "each was claimed once"
    store.close()


def test_five_workers_share_the_work_and_each_operation_is_committed_once(url: str, app_id: str) -> None:
    with Blazing(app_id, url=url) as app, working(url, *[app_id] * 5) as workers:
        assert app.step(square).map(range(1000)).results(60) == [x * x for x in range(1000)]
        stats = app.snapshot().steps[0]
        assert (stats.claimed, stats.succeeded, stats.fenced) == (1000, 1000, 0)
        assert app.shared().counter("squared").value == 1000
    assert sum(worker.done for worker in workers) == 1000


def test_five_apps_at_once_in_isolation(url: str, app_id: str) -> None:
    """I16: the same names everywhere, and nothing of one in another."""
    names = [f"{app_id}-{n}" for n in range(5)]

    def run(n: int, app: Blazing) -> list[int]:
        step = app.step(lambda x: (current().effect.incr("n"), x + 1000 * n)[1], name="same", max_in_flight=n + 1)
        app.channel("same").publish(n)
        return list(step.map(range(100), name="same").results(60))

    with working(url, *names), ExitStack() as stack:
        apps = [stack.enter_context(Blazing(name, url=url, node_id="same")) for name in names]
        results = at_once([lambda n=n, app=app: run(n, app) for n, app in enumerate(apps)])
        assert results == [[x + 1000 * n for x in range(100)] for n in range(5)]
        for n, app in enumerate(apps):
            [stats] = app.snapshot().steps
            assert (stats.enqueued, stats.succeeded, stats.failed) == (100, 100, 0)
            assert app.shared().counter("n").value == 100
            assert list(app.channel("same")) == [n]
            assert len(app.attach("same")) == 100
        theirs = apps[1].attach("same")[0].id
        with pytest.raises(errors.OperationUnknown):
            apps[0].attach(theirs)
        with pytest.raises(errors.ReferenceUnknown):
            apps[0].get(apps[1].put([1]))
        with pytest.raises(errors.NotShared):
            apps[0].channel("same", owner=names[1])
        assert len({app.ring.sign(b"x") for app in apps}) == 5


def relay(x: int) -> int:
    current().effect.publish("orders", {"order": x})
    return x


def test_a_channel_between_two_apps_carries_what_the_commit_of_one_says_to_the_other(url: str, app_id: str) -> None:
    shop, depot = f"{app_id}-shop", f"{app_id}-depot"
    with Blazing(shop, url=url) as selling, Blazing(depot, url=url) as sending, working(url, shop, depot):
        selling.channel("orders", share_with=[depot])
        subscription = sending.channel("orders", owner=shop).subscribe("first", idle=20)
        selling.step(relay).map(range(20)).results(30)
        pack = sending.step(lambda order: f"packed {order}", name="pack")
        packed = []
        for message in subscription:
            packed.append(pack.options(key=message.position).enqueue(message.value["order"]))
            if len(packed) == 20:
                break
        subscription.close()
        assert sorted(op.result(20) for op in packed) == sorted(f"packed {n}" for n in range(20))
        again = sending.channel("orders", owner=shop).subscribe("first", idle=0)
        repeated = [pack.options(key=message.position).enqueue(0).id for message in again]
        assert repeated == [op.id for op in packed], "a position is a good idempotency key"
