"""An app of several shards: its operations are spread, and everything that is asked of it is asked of all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from blazing_nb import Blazing, Worker, current
from blazing_nb.client.results import Results
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.shard import shard_of, shard_of_key
from blazing_nb.core.snapshot import Step, merge_steps
from blazing_nb.errors import BatchExists, NotSharded, ShardsFixed, UsageError
from blazing_nb.store import query
from blazing_nb.store.query import RollUp, totalled
from blazing_nb.store.shards import open_store
from blazing_nb.store.store import Store
from tests.condition import until

N = 3
NODES = [next(f"n{i}" for i in range(100) if shard_of(f"n{i}", N) == shard) for shard in range(N)]
"""One of each shard."""


@pytest.fixture
def app(url: str, app_id: str) -> Iterator[Blazing]:
    with Blazing(app_id, url=url, node_id=NODES[0], shards=N) as made:
        yield made


@pytest.fixture
def apps(app: Blazing, url: str) -> Iterator[list[Blazing]]:
    """The same app as a node of each shard sees it."""
    others = [Blazing(app.app_id, url=url, node_id=node).connect() for node in NODES[1:]]
    yield [app, *others]
    for other in others:
        other.close()


@pytest.fixture
def worker(url: str, app: Blazing) -> Iterator[Worker]:
    made = Worker(app.app_id, url=url, threads=2).start()
    yield made
    made.close()


def same(x: Any) -> Any:
    return x


def broken(x: int) -> int:
    if x % 2:
        raise ValueError(x)
    return x


RAN: list[tuple[str, int]] = []
"""Of each execution of `slow`, in order: its node, and how many ran then."""
_running: set[str] = set()


def slow(x: int) -> int:
    operation = current().operation
    _running.add(operation)
    RAN.append((operation.split(":")[2], len(_running)))
    time.sleep(0.005)
    _running.discard(operation)
    return x


def counts() -> None:
    current().effect.incr("n")


def test_the_number_is_fixed_when_the_app_is_created(app: Blazing, url: str) -> None:
    with Blazing(app.app_id, url=url) as other:
        assert other.store.count == N
    for wrong in (1, 2):
        with pytest.raises(ShardsFixed, match="has 3 shards"):
            Blazing(app.app_id, url=url, shards=wrong).connect()
    with pytest.raises(ShardsFixed):
        Store(app.app_id, url).check()
    with Blazing(app.app_id + "-old", url=url) as old:
        old.step(same).enqueue(1)
        with pytest.raises(ShardsFixed, match="has 1 shard"):
            Blazing(old.app_id, url=url, shards=2).connect()
    for impossible in (0, 2000):
        with pytest.raises(UsageError, match="1 to 1024"):
            open_store(app.app_id, url, shards=impossible)


def test_each_node_has_its_shard_and_a_worker_serves_all(apps: list[Blazing], worker: Worker) -> None:
    batches = [each.step(same).map(range(300)) for each in apps]
    for batch in batches:
        assert batch.results(30) == list(range(300))
    found = apps[0].snapshot()
    assert sorted(segment.node for segment in found.segments) == sorted(NODES)
    (step,) = found.steps
    assert (step.enqueued, step.succeeded, len(found.workers)) == (3 * 300, 3 * 300, 1)
    for shard, batch in zip(apps[0].store.shards, batches, strict=True):
        assert shard.snapshot().steps[0].enqueued == 300
        assert {row.status for row in shard.status(batch.ids())} == {"FINAL"}
    assert worker.done == 900


def test_a_key_names_one_operation_from_whichever_node(apps: list[Blazing], worker: Worker) -> None:
    handles = [each.step(same).options(key=f"k{i}").enqueue(i) for i in range(12) for each in apps]
    assert [handle.result(20) for handle in handles] == [i for i in range(12) for _ in apps]
    assert len({handle.id for handle in handles}) == 12
    assert {handle.op.node for handle in handles} == {f"@{shard_of_key('same', f'k{i}', N)}" for i in range(12)}


def test_handles_are_attached_to_and_listed_from_any_node(apps: list[Blazing], worker: Worker) -> None:
    handles = [each.step(broken).enqueue(i) for i, each in enumerate(apps * 2)]
    for handle in handles:
        handle.wait(20)
    ids = [handle.id for handle in handles]
    for each in apps:
        assert [each.attach(id_).wait(20) for id_ in ids[::2]] == [each.attach(id_).wait(20) for id_ in ids[::2]]
        assert [str(status) for status in each.statuses(ids)] == ["SUCCEEDED", "FAILED"] * 3
        assert {row.op.text for row in each.operations(status="FAILED").rows} == set(ids[1::2])
        assert {op.text for op in query.failed(each.store, "broken", 10)} == set(ids[1::2])
    retried = handles[1].retry()
    assert retried.op.node == f"@{shard_of(handles[1].op.node, N)}"
    retried.wait(20)
    assert str(apps[2].attach(retried.id).status) == "FAILED"


def test_a_pause_a_cancel_and_a_drain_hold_in_every_shard(apps: list[Blazing], worker: Worker) -> None:
    for each in apps:
        assert each.step(same).enqueue(0).result(20) == 0
    assert apps[1].step(same).pause()
    waiting = [each.step(same).enqueue(1) for each in apps]
    time.sleep(0.3)
    assert {str(handle.status) for handle in waiting} == {"PENDING"}
    assert {str(status) for status in [apps[0].attach(handle.id).cancel() for handle in waiting[1:]]} == {"CANCELLED"}
    assert apps[2].step(same).resume()
    assert waiting[0].result(20) == 1
    assert apps[0].store.drain(True)
    for each in apps:
        with pytest.raises(Exception, match="drained"):
            each.step(same).enqueue(2)
    assert apps[1].resume()


def test_budgets_are_exact_and_no_shard_is_starved(apps: list[Blazing], url: str) -> None:
    """Two threads, three shards with work: never more than two at once, and each gets its turn."""
    RAN.clear()
    batches = [each.step(slow).map(range(40)) for each in apps]
    worker = Worker(apps[0].app_id, url=url, threads=2).start()
    assert [batch.results(30) for batch in batches] == [list(range(40))] * N
    assert max(at_once for _, at_once in RAN) <= 2
    first_half = [node for node, _ in RAN[:60]]
    assert min(first_half.count(node) for node in NODES) >= 10
    worker.close()


def test_a_named_batch_belongs_to_the_shard_of_its_node(apps: list[Blazing], worker: Worker) -> None:
    first = apps[1].step(same).map(range(10), name="b")
    assert first.results(20) == list(range(10))
    assert apps[0].attach("b").results(20) == list(range(10))
    with pytest.raises(BatchExists):
        apps[0].step(same).map(range(10), name="b")
    with pytest.raises(BatchExists, match="node of another shard"):
        apps[0].step(same).map(range(20), name="b", resume=True)
    assert apps[1].step(same).map(range(20), name="b", resume=True).results(20) == list(range(20))
    assert first.forget() == 10
    assert query.batches(apps[2].store, 5) == []


def test_a_workflow_and_a_flow_stay_in_their_shard(apps: list[Blazing], worker: Worker) -> None:
    def plus(x: int) -> int:
        return x + 1

    for each in apps:
        step = each.step(plus)

        async def twice(x: int, step: Any = step) -> int:
            return int(await step(await step(x)))

        assert each.workflow(twice, name="twice").enqueue(1).result(30) == 3
        flow = step >> each.step(same)
        assert flow.map(range(5)).results(30) == [1, 2, 3, 4, 5]


def test_what_would_have_to_be_atomic_over_shards_is_refused(apps: list[Blazing], worker: Worker) -> None:
    theirs = apps[1].step(same).enqueue(1)
    before = apps[0].store.shards[0].snapshot().steps
    with pytest.raises(NotSharded, match="is in another shard"):
        apps[0].step(same).enqueue(apps[0].attach(theirs.id))
    many = apps[1].step(same).map(range(300))
    with pytest.raises(NotSharded, match="is in another shard"):
        apps[0].step(same).enqueue(apps[0].attach(many[0].id))
    with pytest.raises(NotSharded, match="is in another shard"):
        apps[0].step(same).enqueue([apps[0].attach(op.text) for op in many.ids()])
    for options in ({"rate": "5/s"}, {"max_in_flight": 2}):
        with pytest.raises(NotSharded, match="one shard"):
            apps[0].step(same, name="bounded", **options).enqueue(1)
    assert [step.enqueued for step in before] == [0] * len(before)
    with pytest.raises(UsageError, match="one shard"):
        apps[0].step(counts).enqueue().result(20)


def test_a_shard_whose_claims_are_lost_gets_them_back(apps: list[Blazing], url: str) -> None:
    worker = Worker(apps[0].app_id, url=url, lease=0.6).start()
    for each in apps:
        assert each.step(same).enqueue(0).result(20) == 0
    last = apps[2].store.shards[2]
    (name,) = last.homed(worker.consumer)
    assert last.retire(name)
    assert apps[2].step(same).enqueue(1).result(20) == 1
    until(lambda: last.homed(worker.consumer) not in ([], [name]))
    assert apps[0].step(same).enqueue(2).result(20) == 2
    apps[0].store.retire(worker.consumer)
    worker.close()
    assert all(not query.workers(shard) for shard in apps[0].store.shards)


def test_totals_of_shards_are_sums() -> None:
    parts = [[Step("f", enqueued=2, run={1: 1})], [Step("f", enqueued=3, run={1: 2, 4: 1}), Step("g", lost=1)]]
    assert merge_steps(parts) == [Step("f", enqueued=5, run={1: 3, 4: 1}), Step("g", lost=1)]
    one = [RollUp("f", 1, {"n": 10}), RollUp("f", 5, {"n": 12})]
    other = [RollUp("f", 3, {"n": 100}), RollUp("f", 4, {"n": 101})]
    sums = [(row.second, row.totals["n"]) for row in totalled([one, other])]
    assert sums == [(1, 110), (3, 110), (4, 111), (5, 113)]


def test_operations_of_several_shards_fill_the_places_that_were_named(apps: list[Blazing], worker: Worker) -> None:
    operations = [app.step(same).enqueue(number) for number, app in enumerate(apps)]
    results = Results(N)
    apps[0].listener.attach([operation.op.range for operation in operations], results, slots=[2, 0, 1])
    assert results.wait_for(lambda: results.missing == 0, 20)
    assert [apps[0].attach(op.id).result(20) for op in operations] == [0, 1, 2]
    assert [decode_outcome(record or b"").payload[-1] for record in results.records] == [1, 2, 0]
