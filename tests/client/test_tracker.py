"""Which slots a completion fills: those of everybody who awaits it, however their ranges lie."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blazing_nb import Batch, Blazing, Worker
from blazing_nb.client.results import Results
from blazing_nb.client.tracker import Tracker
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.errors import StoreUnavailable
from blazing_nb.store.reply import StatusRow
from tests.client.test_option import same

MOST = 40
SPANS = st.lists(st.tuples(st.integers(1, MOST), st.integers(1, MOST)).map(sorted), max_size=12)


@given(SPANS, st.lists(st.integers(1, MOST), unique=True), st.data())
def test_each_record_fills_every_slot_that_awaits_it_and_no_other(
    spans: list[list[int]], counters: list[int], data: st.DataObject
) -> None:
    tracker, awaited = Tracker(own=True), []
    for first, last in spans:
        results = Results(last - first + 1)
        tracker.add(Range("f", "n", "n1", 7, first, last), results, 0)
        awaited.append((first, results))
    left, removed = data.draw(st.integers(0, len(awaited))), None
    if left < len(awaited):
        first, removed = awaited.pop(left)
        tracker.remove(Range("f", "n", "n1", 7, first, first + len(removed) - 1), removed)
    touched, absent = tracker.deliver([part for counter in counters for part in (counter, b"S%d" % counter)])
    assert absent == []
    for first, results in awaited:
        expected = [b"S%d" % c if c in counters else None for c in range(first, first + len(results))]
        assert results.records == expected
        assert (results in touched) >= any(expected)
    assert removed is None or removed.missing == len(removed)
    missing = {(op.counter, slot) for op, _, slot in tracker.missing()}
    assert missing == {(f + s, s) for f, r in awaited for s in range(len(r)) if f + s not in counters}
    tracker.prune()
    assert bool(tracker) == any(results.missing for _, results in awaited)


@pytest.mark.parametrize("before", [True, False])
def test_an_operation_of_a_batch_that_is_attached_in_the_same_kernel_hears_of_its_end(
    app: Blazing, url: str, before: bool
) -> None:
    """As the batch does, whichever of them is awaited first."""
    batch = app.step(same).map(range(10), name="whole")
    operations = [app.attach(op.text) for op in batch.ids()[2:7:2]]
    again = app.attach("whole")
    worker = Worker(app.app_id, url=url).start()
    if before:
        assert batch.results(20) == list(range(10))
    assert [operation.result(20) for operation in operations] == [2, 4, 6]
    assert isinstance(again, Batch)
    assert batch.results(20) == again.results(20) == list(range(10))
    worker.close()


def test_while_the_store_is_asked_where_to_follow_from_nobody_else_is_held_up(
    app: Blazing, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, asked, go = app.step(same), threading.Event(), threading.Event()
    with Blazing(app.app_id, url=url, node_id="n2") as other:
        operation = other.step(same).enqueue(1)
    position = app.store.position

    def slow(node: str, incarnation: int) -> str:
        asked.set()
        go.wait(20)
        return position(node, incarnation)

    monkeypatch.setattr(app.store, "position", slow)
    attaching = threading.Thread(target=app.attach, args=(operation.id,))
    attaching.start()
    assert asked.wait(20)
    step.enqueue(2)
    assert attaching.is_alive()
    go.set()
    attaching.join()


def test_an_outcome_that_could_not_be_read_is_asked_for_again(
    app: Blazing, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one does not travel with the completion: it is read by a question of its own, which may fail."""
    status, failures = app.store.status, []

    def failing(operations: Sequence[OperationId]) -> list[StatusRow]:
        if threading.current_thread().name == "bz-listener" and not failures:
            failures.append(operations)
            raise StoreUnavailable("away for a moment")
        return status(operations)

    monkeypatch.setattr(app.store, "status", failing)
    large = "x" * 300_000
    assert app.step(same).enqueue(large).result(20) == large
    assert failures
